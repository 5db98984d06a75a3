# Volumes for claims, without a provisioner: hostPath volumes made in advance, and a daemon that empties those whose claim is gone and
# offers them again, as a provisioner with reclaim policy Delete would.
# shellcheck shell=bash

VOLUMES=(standard-1 standard-2 standard-3 standard-4 standard-5 standard-6 standard-7 standard-8 tiny)

volume_manifests() {
  local volume
  for volume in "${VOLUMES[@]}"; do
    printf '%s\n' ---
    cat <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: $volume}
spec:
  storageClassName: ${volume%-*}
  capacity: {storage: $([ "$volume" = tiny ] && echo 16Mi || echo 10Gi)}
  accessModes: [ReadWriteOnce, ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: "$W/volumes/$volume", type: Directory}
END
  done
}

# The folders must be writable for everybody, because the kubelet does not give a hostPath volume to a pod's fsGroup.
make_volumes() {
  local volume
  for volume in "${VOLUMES[@]}"; do
    mkdir -p "$W/volumes/$volume"
    chown 65532:65532 "$W/volumes/$volume"
    chmod 777 "$W/volumes/$volume"
  done
}

# reclaim VOLUME: empties a Released volume, then offers it again. While the old claim is still in it, no other claim can bind it. It is
# offered only if its resourceVersion is still the same: a late event of its release must not empty it under the next claim. It is
# emptied inside the node, because `tiny` is mounted only there.
reclaim() {
  local phase version claim
  read -r phase version claim < <(k get pv "$1" \
    -o jsonpath='{.status.phase} {.metadata.resourceVersion} {.spec.claimRef.uid}{"\n"}') || return 0
  [ "$phase" = Released ] && [ -n "$claim" ] || return 0
  enter find "$W/volumes/$1" -mindepth 1 -delete
  k patch pv "$1" --type=merge >/dev/null \
    -p "{\"metadata\":{\"resourceVersion\":\"$version\"},\"spec\":{\"claimRef\":null}}" || return 0
  say "volume $1 is free again"
}

volumes_command() {
  local volume
  for volume in $(k get pv -o jsonpath='{range .items[?(@.status.phase=="Released")]}{.metadata.name} {end}'); do
    reclaim "$volume"
  done
  k get pv
}

launch_recycler() { daemon recycler env BELFRY_WORK="$BELFRY_WORK" "$HERE/testbed" recycle "$NAME"; }

# The recycler daemon. A watch costs nothing while nothing happens. It ends when the API server ends, so it is started again in a loop.
recycle() {
  local volume phase
  while :; do
    k get pv --watch -o jsonpath='{.metadata.name} {.status.phase}{"\n"}' | while read -r volume phase; do
      if [ "$phase" = Released ]; then reclaim "$volume"; fi
    done || true
    sleep 2
  done
}
