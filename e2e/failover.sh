#!/bin/bash
# Measures how long nothing arrives while hubs are killed. usage: failover.sh NAME
# On the running demo with several hubs (DATABASE=postgres HUBS=3 make demo): a record comes every tenth of a second and each is a
# notification; every 6 s one hub that is ready is killed with SIGKILL, and its pod removed, KILLS times (50). Prints the gaps between arrivals.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
name=${1:-demo}
eval "$("$testbed" env "$name")"
kills=${KILLS:-50}
arrived=$(mktemp)
trap 'rm -f "$arrived"' EXIT
first=$(curl -s "http://$BELFRY_NODE_IP:8090/received" | jq '.[-1].number // 0')
run=failover-$$
# kcat sends once it has read a block: each record fills one.
pad=$(head -c 1200 /dev/zero | tr '\0' x)
records=$((kills * 60 + 50))
for ((n = 0; n < records; n++)); do
  printf '{"type": "chargeback", "amount": 250.0, "accountId": "%s-%s", "pad": "%s"}\n' "$run" "$n" "$pad"
  sleep 0.1
done | kcat -P -b "$KAFKA_BOOTSTRAP" -t payment-events -X linger.ms=0 &
done=0
while [ "$done" -lt "$kills" ]; do
  pod=$(kubectl -n belfry-system get pods -l app.kubernetes.io/component=hub --no-headers | awk '$2 == "1/1" && $3 == "Running" { print $1 }' | shuf -n 1)
  uid=$(kubectl -n belfry-system get pod "$pod" -o 'jsonpath={.metadata.uid}')
  for pid in $(pgrep -f '^/belfry-hub'); do
    if grep -q "$uid" "/proc/$pid/cgroup" && kill -9 "$pid"; then done=$((done + 1)); fi
  done
  # Removed, or the kubelet would wait longer and longer before it starts it again.
  kubectl -n belfry-system delete pod "$pod" --force --grace-period=0 --wait=false >/dev/null 2>&1
  sleep 6
done
wait
deadline=$((SECONDS + 60))
until curl -s "http://$BELFRY_NODE_IP:8090/received?after=$first" >"$arrived" &&
  [ "$(grep -o "$run-[0-9]*" "$arrived" | sort -u | wc -l)" -ge "$records" ]; do
  [ $SECONDS -lt $deadline ] || break
  sleep 1
done
jq -r --arg run "$run" --argjson kills "$done" --argjson records "$records" '
  [.[] | select(tostring | contains($run))] as $all
  | ($all | map(.time_ms) | sort) as $at
  | ([range(1; $at | length) as $n | $at[$n] - $at[$n - 1]] | sort) as $gaps
  | "kills \($kills), records \($records), arrived \($all | map(.headers["webhook-id"]) | unique | length) (\($all | length) requests); gap between arrivals: p50 \($gaps[($gaps | length) / 2 | floor]) ms, p99 \($gaps[($gaps | length) * 0.99 | floor]) ms, longest \($gaps[-1]) ms"' "$arrived"
