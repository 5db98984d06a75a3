#!/bin/bash
# All tests, unit to end-to-end, on real parts. usage: test.sh      Keeps nothing running.
# BELFRY_TESTS=unit runs only what needs no cluster; BELFRY_TESTS=e2e only what does.
# KUBECONFIG with BELFRY_IMAGE, KAFKA_BOOTSTRAP and BELFRY_NODE_IP takes that cluster instead of a new one.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
which=${BELFRY_TESTS:-all}
export BELFRY_TESTS_TOO=1
# Always the whole workspace: dependencies are built once, with one set of features.

need cargo "install Rust 1.95 or newer, such as with rustup"
need cc "install a C compiler, such as Debian's package gcc: SQLite and librdkafka are compiled from source"

if [ "$which" != e2e ]; then
  say "formatting and lints"
  cargo fmt --all --check || die "run cargo fmt"
  cargo clippy --locked --workspace --all-targets --test line --test faults --quiet -- -D warnings
  e2e/deny.sh
  say "unit and component tests"
  cargo test --locked --workspace --quiet
fi
[ "$which" != unit ] || { say "done"; exit 0; }

if [ -n "${BELFRY_IMAGE:-}" ]; then
  need kubectl "KUBECONFIG is to be used, but there is no kubectl"
  need helm "KUBECONFIG is to be used, but there is no helm"
  : "${KUBECONFIG:?}" "${KAFKA_BOOTSTRAP:?is the broker, as pods and this machine reach it}" "${BELFRY_NODE_IP:?is this machine, as pods reach it}"
  name=existing
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
else
  unset KUBECONFIG
  name=test-$$
  "$testbed" install python3 python3-aiosmtpd jq
  trap '"$testbed" down "$name" >/dev/null 2>&1 || true' EXIT
  say "bringing up cluster $name"
  "$testbed" up "$name" --owner $$
  eval "$("$testbed" env "$name")"
fi
build
start_receivers "$name"
e2e/install.sh "$name"
say "end-to-end tests"
cargo test --locked --workspace --quiet --test line -- --test-threads="${BELFRY_THREADS:-3}"
say "breaking things, one at a time"
cargo test --locked --workspace --quiet --test faults -- --test-threads=1
say "fault run"
e2e/soak.sh --short
say "done"
