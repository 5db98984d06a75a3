#!/bin/bash
# Runs all tests, unit to end-to-end, on real Kubernetes, Kafka and receivers. usage: test.sh      Leaves nothing running.
# BELFRY_TESTS=check runs what needs neither a cluster nor root: formatting, lints, licenses, unit and component tests;
# BELFRY_TESTS=unit runs those tests alone; BELFRY_TESTS=e2e runs only what needs a cluster.
# With KUBECONFIG, BELFRY_IMAGE, KAFKA_BOOTSTRAP and BELFRY_NODE_IP it uses that cluster instead of new ones, and leaves out the
# tests that break the cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
. e2e/postgres.sh
which=${BELFRY_TESTS:-all}
export BELFRY_TESTS_TOO=1

need_compilers
case $which in
  check | unit) have_openssl || die "$no_openssl" ;; # these install nothing on the machine
  all | e2e) need_openssl ;;
  *) die "BELFRY_TESTS is all, check, unit or e2e, not $which" ;;
esac

unit() {
  local failed=0
  say "unit and component tests"
  tests || failed=1
  if postgres_programs >/dev/null; then
    say "the ledger's tests on PostgreSQL"
    on_postgres tests --test ledger || failed=1
  else
    say "PostgreSQL is not here: the ledger's tests ran on SQLite alone"
  fi
  return "$failed"
}
if [ "$which" = all ] || [ "$which" = check ]; then
  say "formatting and lints"
  cargo fmt --all --check || die "run cargo fmt"
  cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
  # --all-targets does not include these two, because they are `test = false`, so that a plain `cargo test` needs no cluster.
  cargo clippy --locked --workspace --test line --test faults --quiet -- -D warnings
  e2e/deny.sh
fi
if [ "$which" = unit ] || [ "$which" = check ]; then
  unit
  say "done"
  exit 0
fi

line() {
  say "end-to-end tests"
  tests --test line -- --test-threads="${BELFRY_THREADS:-3}"
}
# break_things FILTER...: runs the fault tests whose names contain one of these words.
break_things() {
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

# At most three clusters run side by side, beside the unit tests, because most of the time of an outage is waiting.
unset KUBECONFIG
"$testbed" install python3 python3-aiosmtpd jq
[ "$which" = e2e ] || postgres_programs >/dev/null || get_postgres
trap 'for cluster in one two three four; do "$testbed" down "test-$$-$cluster" >/dev/null 2>&1 || true; done' EXIT
build
[ "$which" = e2e ] || tests --no-run
tests --test line --test faults --no-run

# in_cluster NAME COMMAND: starts a cluster, prepares it for COMMAND, and runs the command there. Clusters start one after the other, so
# that what they share is downloaded and built once.
in_cluster() {
  local name=test-$$-$1
  shift
  (
    flock 9
    (
      "$testbed" up "$name" --owner $$ >/dev/null
      eval "$("$testbed" env "$name")"
      prepare "$name" "$1"
    ) 9>&-
  ) 9>target/clusters.lock
  eval "$("$testbed" env "$name")"
  export RECEIVED=$TESTBED/receivers
  "$@"
}
outages() { break_things outages storage schedules; }
fault_run() {
  e2e/soak.sh --short
  break_things quiet certificates abuse
}
# The fault run with three hubs on PostgreSQL.
several_hubs() { e2e/soak.sh --short; }
say "outages and the fault runs, each in a cluster of its own beside what follows; their output comes at the end"
(
  in_cluster two outages
  "$testbed" down "test-$$-two"
  export DATABASE=postgres HUBS=3
  in_cluster four several_hubs
) >target/test-two.log 2>&1 &
pids=($!)
in_cluster three fault_run >target/test-three.log 2>&1 &
pids+=($!)
failed=''
# A failure here does not end the script, because the other clusters are still at work.
[ "$which" = e2e ] || unit || failed=yes
in_cluster one line &
pids+=($!)
for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
cat target/test-two.log target/test-three.log
[ -z "$failed" ] || die "something failed: see above"
say "done"
