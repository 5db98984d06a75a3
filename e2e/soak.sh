#!/bin/bash
# The fault run: produces records while it kills every process, then compares what arrived with a plain recount.
# With ABUSE=1 it runs the attacks of one tenant instead, and prints how long another tenant beside it waits;
# ATTACKS="long answers" runs only the attacks whose names contain these words.
# usage: soak.sh [--short]      RECORDS, RATE, MINUTES, SEED, KILLS and REBALANCES set the run. If the shell points at a cluster of
# the test bed (eval of `testbed env`), it uses that cluster; otherwise it starts one and removes it at the end.
# DATABASE=postgres HUBS=3: three hubs over PostgreSQL, which is stopped at once and cut off from them on the way.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
[ "${HUBS:-1}" = 1 ] || export DATABASE=postgres

if [ -n "${BELFRY_IMAGE:-}" ]; then
  say "fault run: left out, because it kills processes on the node, which works on the test bed only"
  exit 0
fi
need_compilers
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
if ! port_open "$BELFRY_NODE_IP" 8090; then
  export RECEIVED=$TESTBED/receivers
  mkdir -p "$RECEIVED"
  beside "$BELFRY_CLUSTER" sink "$PWD/$(target_dir)/debug/belfry-sink" --file "$RECEIVED/received.jsonl"
  await_ports 8090
fi
kubectl -n belfry-system get deploy belfry-hub >/dev/null 2>&1 || e2e/install.sh "$BELFRY_CLUSTER"
say "fault run"
"$(target_dir)/debug/belfry-soak" "$@"
say "done"
