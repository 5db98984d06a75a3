#!/bin/bash
# All tests, unit to end-to-end, on real parts. usage: test.sh      Keeps nothing running.
# BELFRY_TESTS=unit runs only what needs no cluster; BELFRY_TESTS=e2e only what does.
# KUBECONFIG with BELFRY_IMAGE, KAFKA_BOOTSTRAP and BELFRY_NODE_IP takes that cluster instead of new ones; what breaks a
# cluster's parts is left out then.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
which=${BELFRY_TESTS:-all}
export BELFRY_TESTS_TOO=1
# Always the whole workspace: dependencies are built once, with one set of features.

need cargo "install Rust 1.95 or newer, such as with rustup"
need cc "install a C compiler, such as Debian's package gcc: SQLite and librdkafka are compiled from source"
need_openssl

if [ "$which" != e2e ]; then
  say "formatting and lints"
  cargo fmt --all --check || die "run cargo fmt"
  cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
  # Not among all targets: `cargo test` without a cluster leaves them out.
  cargo clippy --locked --workspace --test line --test faults --quiet -- -D warnings
  e2e/deny.sh
  say "unit and component tests"
  cargo test --locked --workspace --quiet
fi
[ "$which" != unit ] || { say "done"; exit 0; }

tests() { cargo test --locked --workspace --quiet "$@"; }
line() {
  say "end-to-end tests"
  tests --test line -- --test-threads="${BELFRY_THREADS:-3}"
}
break_things() { # break_things FILTER...
  say "breaking things, one at a time: $*"
  tests --test faults -- --test-threads=1 "$@"
}

if [ -n "${BELFRY_IMAGE:-}" ]; then
  need kubectl "KUBECONFIG is to be used, but there is no kubectl"
  need helm "KUBECONFIG is to be used, but there is no helm"
  : "${KUBECONFIG:?}" "${KAFKA_BOOTSTRAP:?is the broker, as pods and this machine reach it}" "${BELFRY_NODE_IP:?is this machine, as pods reach it}"
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
  build
  start_receivers existing
  e2e/install.sh existing
  line
  say "done; faults and fault run are left out: they need a cluster of the test bed"
  exit 0
fi

# Two clusters, since most of an outage is waiting: while one waits the other works.
first=test-$$-1 second=test-$$-2 log=target/test-second.log
unset KUBECONFIG
"$testbed" install python3 python3-aiosmtpd jq
trap 'for name in $first $second; do "$testbed" down "$name" >/dev/null 2>&1 || true; done' EXIT
build
tests --test line --test faults --no-run
for name in $first $second; do
  say "bringing up cluster $name"
  "$testbed" up "$name" --owner $$ >/dev/null
  (eval "$("$testbed" env "$name")" && start_receivers "$name" && e2e/install.sh "$name")
done
say "in $second beside what follows: outages, fault run; its output comes at the end"
(
  eval "$("$testbed" env "$first")"
  export RECEIVED=$TESTBED/receivers
  line
  break_things --skip outages
) &
one=$!
(
  eval "$("$testbed" env "$second")"
  break_things outages
  e2e/soak.sh --short
) >"$log" 2>&1 &
two=$!
failed=''
wait $one || failed+=" $first"
say "waiting for $second"
wait $two || failed+=" $second"
cat "$log"
[ -z "$failed" ] || die "what ran in$failed failed: see above"
say "done"
