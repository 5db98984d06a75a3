#!/bin/bash
# The fault run: produces records while it kills everything, then holds what arrived against a plain recount.
# With ABUSE=1 it is not that run but one tenant's worst beside another, which prints how long the other waits;
# ATTACKS="long answers" runs only the attacks whose name has these words.
# usage: soak.sh [--short]      RECORDS, RATE, MINUTES, SEED, KILLS and REBALANCES are settable. In a cluster of the test bed
# (eval of `testbed env`) it uses that; otherwise it brings one up and takes it down.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh

if [ -n "${BELFRY_IMAGE:-}" ]; then
  say "fault run: left out; it kills processes on the node, which it can do on the test bed only"
  exit 0
fi
need cargo "install Rust 1.95 or newer, such as with rustup"
need cc "install a C compiler, such as Debian's package gcc: librdkafka is compiled from source"
need_openssl

if [ -z "${BELFRY_CLUSTER:-}" ] || [ -z "${TESTBED:-}" ]; then
  unset KUBECONFIG
  BELFRY_CLUSTER=soak-$$
  trap '"$testbed" down "$BELFRY_CLUSTER" >/dev/null 2>&1 || true' EXIT
  say "bringing up cluster $BELFRY_CLUSTER"
  "$testbed" up "$BELFRY_CLUSTER" --owner $$ >/dev/null
  eval "$("$testbed" env "$BELFRY_CLUSTER")"
fi
build
if ! (exec 3<>"/dev/tcp/$BELFRY_NODE_IP/8090") 2>/dev/null; then
  export RECEIVED=$TESTBED/receivers
  mkdir -p "$RECEIVED"
  beside "$BELFRY_CLUSTER" sink "$PWD/$(target_dir)/debug/belfry-sink" --file "$RECEIVED/received.jsonl"
  deadline=$((SECONDS + 20))
  until (exec 3<>"/dev/tcp/$BELFRY_NODE_IP/8090") 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || die "the receiver does not listen at $BELFRY_NODE_IP:8090; its log is $TESTBED/log/run-sink.log"
    sleep 0.1
  done
fi
kubectl -n belfry-system get deploy belfry-hub >/dev/null 2>&1 || e2e/install.sh "$BELFRY_CLUSTER"
say "fault run"
"$(target_dir)/debug/belfry-soak" "$@"
say "done"
