#!/bin/bash
# Removes everything that the demo made. On the test bed that is the whole cluster. On another cluster (BELFRY_IMAGE is set) it is
# the Helm release, its CustomResourceDefinitions, the demo's namespaces, and the processes on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
if [ -z "${BELFRY_IMAGE:-}" ]; then
  "$testbed" down demo
  exit 0
fi
: "${KUBECONFIG:?says which cluster}"
need kubectl "it is used against your cluster"
need helm "it is used against your cluster"
kubectl delete namespace payments platform shop --ignore-not-found
helm -n belfry-system uninstall belfry --ignore-not-found
kubectl delete crd notificationchannels.belfry.dev alertrules.belfry.dev schedules.belfry.dev bookableresources.belfry.dev --ignore-not-found
kubectl delete namespace belfry-system --ignore-not-found
while read -r pid; do
  # Another process may have this pid by now.
  if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -Eq 'belfry-sink|smtp\.py|kcat -P .* cluster-logs'; then
    # SIGTERM would not do: kcat would first wait for a line to read, and for the broker.
    kill -9 "$pid"
  fi
done < <(cat target/receivers/pids 2>/dev/null)
rm -rf target/receivers
say "removed"
