#!/bin/bash
# Builds the binaries and the image, loads the image into the test bed's cluster, and installs the chart.
# usage: install.sh NAME [--if-changed]      On another cluster (BELFRY_IMAGE is set) the image must be there already.
# --if-changed, on the test bed: does nothing if the cluster has these binaries and this chart already.
# BELFRY_CLIENT_AUTH=1, on the test bed: only the API server, which shows a certificate, may call the webhook.
# DATABASE=postgres, on the test bed: the ledger is in a PostgreSQL beside the cluster, with a Redis, and HUBS (1) says how many hubs there are.
# Without it, one hub has a file of SQLite.
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
name=$1

say "building operator, hub and worker"
build
bin=$(target_dir)/$(profile_dir)
mkdir -p target/image
for binary in belfry-operator belfry-hub belfry-worker belfry; do
  cmp -s "$bin/$binary" "target/image/built.$binary" && continue
  cp "$bin/$binary" "target/image/built.$binary"
  strip -o "target/image/$binary" "target/image/built.$binary"
done

# This file in the cluster's folder holds a hash of what was installed last. It is removed with the cluster.
stamp=${TESTBED:+$TESTBED/installed}
now=$({ cat target/image/belfry-* target/image/belfry && find -L charts/belfry -type f | LC_ALL=C sort | xargs cat && echo "${BELFRY_CLIENT_AUTH:-} ${DATABASE:-} ${HUBS:-}"; } | sha256sum)
if [ "${2:-}" = --if-changed ] && [ "$(cat "${stamp:-/nonexistent}" 2>/dev/null)" = "$now" ] &&
  helm -n belfry-system status belfry >/dev/null 2>&1; then
  say "installed already, and nothing changed"
  exit 0
fi
[ -z "$stamp" ] || rm -f "$stamp"

case ${DATABASE:-sqlite} in
  postgres) [ -n "${TESTBED:-}" ] || die "DATABASE=postgres needs the test bed's cluster; on yours, docs/operations/scale.md says how" ;;
  sqlite) [ "${HUBS:-1}" = 1 ] || die "HUBS=$HUBS needs DATABASE=postgres: a file of SQLite serves one hub" ;;
  *) die "DATABASE is sqlite or postgres, not $DATABASE" ;;
esac
repository=${BELFRY_IMAGE:-belfry.dev/belfry}
version=$(sed -n 's/^appVersion: //p' charts/belfry/Chart.yaml)
values=()
if [ -z "${BELFRY_IMAGE:-}" ]; then
  tag=$version
  # If the release exists already, only another tag makes its pods restart.
  if helm -n belfry-system status belfry >/dev/null 2>&1; then
    tag=$(cat target/image/belfry-* | sha256sum | cut -c1-12)
    values=(--set "image.tag=$tag")
  fi
  say "loading the image $repository:$tag"
  "$testbed" image "$name" "$repository:$tag" '[]' --user 65532:65532 \
    target/image/belfry-operator:belfry-operator target/image/belfry-hub:belfry-hub target/image/belfry-worker:belfry-worker \
    target/image/belfry:belfry \
    /etc/ssl/certs/ca-certificates.crt:etc/ssl/certs/ca-certificates.crt
else
  values=(--set "image.repository=${repository%:*}" --set "image.tag=${repository##*:}")
fi

if [ -n "${BELFRY_CLIENT_AUTH:-}" ]; then
  kubectl create namespace belfry-system --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl -n belfry-system create configmap api-servers --from-file="ca.crt=$TESTBED/pki/ca.crt" --dry-run=client -o yaml |
    kubectl apply -f - >/dev/null
  values+=(--set admission.clientAuth.configMap=api-servers --set "admission.clientAuth.names={kube-apiserver-belfry}")
fi
if [ "${DATABASE:-}" = postgres ]; then
  e2e/database.sh "$name"
  values+=(--set "hub.replicas=${HUBS:-1}" --set hub.database.existingSecret=belfry-db --set hub.redis.existingSecret=belfry-redis)
fi
say "installing the chart"
helm upgrade --install belfry charts/belfry -n belfry-system --create-namespace "${values[@]}" --wait --timeout 3m >target/image/helm.log 2>&1 ||
  { cat target/image/helm.log >&2; kubectl -n belfry-system get pods >&2; kubectl -n belfry-system logs --tail=20 -l app.kubernetes.io/part-of=belfry --all-containers >&2; die "the chart did not become ready"; }
[ -z "$stamp" ] || echo "$now" >"$stamp"
say "installed: $(kubectl -n belfry-system get deploy -o name | tr '\n' ' ')"
