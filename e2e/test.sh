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

unit() {
  say "unit and component tests"
  cargo test --locked --workspace --quiet
}
if [ "$which" != e2e ]; then
  say "formatting and lints"
  cargo fmt --all --check || die "run cargo fmt"
  cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
  # Not among all targets: `cargo test` without a cluster leaves them out.
  cargo clippy --locked --workspace --test line --test faults --quiet -- -D warnings
  e2e/deny.sh
fi
if [ "$which" = unit ]; then
  unit
  say "done"
  exit 0
fi

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
  [ "$which" = e2e ] || unit
  build
  start_receivers existing
  e2e/install.sh existing
  line
  say "done; faults and fault run are left out: they need a cluster of the test bed"
  exit 0
fi

# Clusters of their own beside each other, and beside the unit tests, since most of an outage is waiting.
unset KUBECONFIG
"$testbed" install python3 python3-aiosmtpd jq
trap 'for lane in one two three; do "$testbed" down "test-$$-$lane" >/dev/null 2>&1 || true; done' EXIT
build
[ "$which" = e2e ] || tests --no-run
tests --test line --test faults --no-run

# Runs commands in a cluster of its own. Clusters come up one at a time: what they share is downloaded and built once.
lane() { # lane NAME COMMAND...
  local name=test-$$-$1
  shift
  (
    flock 9
    (
      "$testbed" up "$name" --owner $$ >/dev/null
      eval "$("$testbed" env "$name")"
      start_receivers "$name"
      # Where users try what they do, only the API server may ask the webhook; where things break, anybody.
      [ "$1" != line ] || export BELFRY_CLIENT_AUTH=1
      e2e/install.sh "$name"
    ) 9>&-
  ) 9>target/lanes.lock
  eval "$("$testbed" env "$name")"
  export RECEIVED=$TESTBED/receivers
  "$@"
}
two() { break_things outages storage schedules; }
three() {
  e2e/soak.sh --short
  break_things quiet certificates abuse
}
say "outages and the fault run, each in a cluster of its own beside what follows; their output comes at the end"
lane two two >target/test-two.log 2>&1 &
pids=($!)
lane three three >target/test-three.log 2>&1 &
pids+=($!)
failed=''
# A failure here ends nothing: the other clusters are at work.
[ "$which" = e2e ] || unit || failed=yes
lane one line &
pids+=($!)
for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
cat target/test-two.log target/test-three.log
[ -z "$failed" ] || die "something failed: see above"
say "done"
