# The command `up`: makes a cluster that answers, or repairs one that is there.
# shellcheck shell=bash

up() {
  need_root
  select_cluster "$@"
  local owner=''
  [ "${2:-}" != --owner ] || owner=${3:?--owner needs a PID}
  install
  until locked begin; do sleep 0.5; done # another `up` of this cluster is at work
  trap 'rm -f "$W/up"' EXIT
  [ -z "$owner" ] || record "$W/owner" "$owner"

  if [ -e "$W/complete" ]; then
    if mend; then
      cat "$W/env"
      return 0
    fi
    say "cluster '$NAME' can't be mended, starting anew"
    take_down
    locked begin
    [ -z "$owner" ] || record "$W/owner" "$owner"
  fi
  bring_up
  cat "$W/env"
}

# Claims the folder for this process; fails if another `up` is at work on it. Removes stale clusters first, perhaps this one too. The
# caller holds the lock.
begin() {
  ! alive "$W/up" || return 1
  (gc)
  mkdir -p "$W"
  record "$W/up" $$
}

# Repairs a complete cluster whose holder lives: starts the daemons that don't run, then all of them must answer. Fails if the tools
# have changed or something does not answer.
mend() {
  addresses "$(<"$W/slot")"
  [ "$(readlink "$W/tools")" = "$TOOLS" ] || return 1
  (launch_everything && apiserver_ready >/dev/null && node_ready && kafka_answers) ||
    (await_apiserver && await_node && await_dns && await_kafka) || return 1
  say "cluster '$NAME' is up: Kubernetes https://$NODE_IP:6443, Kafka $NODE_IP:9092"
}

launch_everything() {
  launch_etcd
  launch_apiserver
  launch_containerd
  launch_controllers
  await_containerd
  launch_kubelet
  launch_dns
  launch_kafka
  launch_recycler
}

bring_up() {
  ln -sfn "$TOOLS" "$W/tools"
  locked claim_slot
  addresses "$(<"$W/slot")"
  start_node
  say "node: $NODE_IP, pods $POD_CIDR, services $SERVICE_CIDR, folder $W"
  launch_etcd
  make_settings
  launch_containerd
  make_pki
  make_kafka_credentials
  kafka_environment >>"$W/env"
  launch_apiserver
  write_image "$W/pause.tar" belfry.test/pause:1 '["/pause"]' "$TOOLS/bin/pause:pause"
  await_containerd
  import_image "$W/pause.tar"
  await_apiserver
  say "API server: ready"
  launch_controllers
  launch_kubelet
  make_volumes
  { cat "$W/conf/base.yaml" && volume_manifests; } | k apply -f - >/dev/null
  launch_dns
  launch_kafka
  launch_recycler
  await_node
  say "node: Ready"
  await_dns
  wait_for 30 k get serviceaccount default -n default || die_with_log kube-controller-manager "no default service account appears"
  await_kafka
  say "Kafka: listening at $NODE_IP:9092"
  kafka_user testbed "$(<"$W/pki/kafka.password")"
  say "Kafka: user testbed can log in at $NODE_IP:9094 and a client with a certificate connect at $NODE_IP:9095"
  touch "$W/complete"
  say "cluster '$NAME' is up"
}

list() {
  local folder
  for folder in "$BELFRY_WORK"/*/; do
    [ -d "$folder" ] || continue
    of_folder "$(readlink -f "$folder")"
    printf '%-20s %-10s %-14s %s\n' "$NAME" "$(cluster_state)" "10.99.$(cat "$W/slot" 2>/dev/null || echo '?').2" "$W"
  done
}
