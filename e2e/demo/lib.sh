# Functions of the demo: they show commands with their real output, wait for conditions, set how receivers answer, and tell what
# became of a notification. demo.sh sources this file after common.sh.
# shellcheck shell=bash

inside='' # set by demo.sh: the command that points a shell at the test bed's cluster
bold='' plain=''
[ ! -t 1 ] || bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)

chapter() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s\n' "$*"; }

# show CMD...: prints a command, runs it and prints its output, as a user would see it.
show() {
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@" 2>&1 | cut -c1-200
}

# wait_until SECONDS WHAT CMD...: waits until CMD succeeds, and prints every 10 s that it still waits. After SECONDS it ends the demo:
# it prints what it waited for and where to look.
wait_until() {
  local seconds=$1 what=$2 begun=$SECONDS said=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - begun)) -ge "$seconds" ]; then
      printf '\n' >&2
      kubectl get nch,alr,sch -A >&2 2>/dev/null || true
      kubectl get pods -A >&2 2>/dev/null || true
      die "$what: not within $seconds s. The cluster is left as it is: ${inside:+$inside; }kubectl describe, kubectl logs -n belfry-system deploy/belfry-hub. make demo-down removes it"
    fi
    if [ $((SECONDS - said)) -ge 10 ]; then
      said=$SECONDS
      note "... $what: $((SECONDS - begun)) s"
    fi
    sleep 0.3
  done
}

# patiently WHAT CMD...: runs a long command with its output in a file, and prints the newest line of it every 15 s.
patiently() {
  local what=$1 log begun=$SECONDS said=$SECONDS pid
  shift
  log=$(mktemp -t belfry-demo.XXXXXX)
  say "$what"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # shellcheck disable=SC2064
  trap "kill $pid 2>/dev/null; rm -f $log; exit 130" INT TERM
  while kill -0 $pid 2>/dev/null; do
    sleep 0.3
    if [ $((SECONDS - said)) -ge 15 ]; then
      said=$SECONDS
      note "... $((SECONDS - begun)) s: $(tail -n 1 "$log" | cut -c1-100)"
    fi
  done
  trap - INT TERM
  wait $pid || { tail -n 30 "$log" >&2; rm -f "$log"; die "$what: failed"; }
  rm -f "$log"
}

# expose NAMESPACE SERVICE ADDRESS PORT...: makes a Service that leads to a process beside the cluster.
expose() {
  local namespace=$1 service=$2 address=$3 port ports=''
  shift 3
  for port in "$@"; do ports+="{name: p$port, port: $port}, "; done
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Service
metadata: {name: $service, namespace: $namespace}
spec: {ports: [$ports]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: $service-beside, namespace: $namespace, labels: {kubernetes.io/service-name: $service}}
addressType: IPv4
ports: [$ports]
endpoints: [{addresses: ["$address"]}]
END
}

# ready NAMESPACE KIND/NAME...: waits until each of these objects is Ready.
ready() {
  local namespace=$1 object
  shift
  for object in "$@"; do
    wait_until 120 "$object in $namespace is Ready" is_ready "$namespace" "$object"
  done
}

# up_to_date NAMESPACE: whether all replicas of the namespace's Deployments run the image that is installed now.
up_to_date() {
  local image
  image=$(kubectl -n belfry-system get deploy belfry-hub -o 'jsonpath={.spec.template.spec.containers[0].image}')
  kubectl -n "$1" get deploy -l app.kubernetes.io/managed-by=belfry -o json | jq -e --arg image "$image" '
    .items | length > 0 and all(.[]; .spec.template.spec.containers[0].image == $image and
      .status.observedGeneration == .metadata.generation and .status.updatedReplicas == .spec.replicas and
      .status.replicas == .spec.replicas and .status.availableReplicas == .spec.replicas)'
}

# is_ready NAMESPACE KIND/NAME: whether the object is Ready at its present generation.
is_ready() {
  kubectl -n "$1" get "$2" -o json | jq -e '
    .status.observedGeneration == .metadata.generation and
    any(.status.conditions[]?; .type == "Ready" and .status == "True")'
}

# sink PATH [FLAG...]: asks the control port of the HTTP receiver.
sink() { curl -sS --fail --noproxy '*' "http://$BELFRY_NODE_IP:8090$1" "${@:2}"; }

# behave PATH JSON: sets how the HTTP receiver answers requests to a path from now on.
behave() { sink /behaviours -X PUT -H 'content-type: application/json' -d "{\"$1\": $2}"; }

# Prints how many requests the receiver has got so far.
received_so_far() { sink /received | jq length; }

# arrived PATH AFTER [JQ]: whether the receiver, after the first AFTER requests, got one to this path that it answered with 200 and
# for which JQ holds.
arrived() {
  sink "/received?after=$2" | jq -e --arg path "$1" "any(.[]; .path == \$path and .status == 200 and (${3:-true}))"
}

# seen PATH AFTER: prints the requests that the receiver got at a path after the first AFTER ones, each on a line.
seen() {
  sink "/received?after=$2" | jq -r --arg path "$1" '.[] | select(.path == $path) |
    "   \(.time_ms / 1000 | floor | strftime("%H:%M:%S"))  answered \(.status)  webhook-id \(.headers["webhook-id"])  \(.body | fromjson | .data.title)"'
}

# The command line tool, as a person would run it. It needs nothing but the kubeconfig.
belfry() { "$PWD/$(target_dir)/debug/belfry" "$@"; }

# told CHANNEL [FLAG...]: prints the newest notifications over a channel of namespace platform, each as JSON on a line.
told() { belfry list -n platform --channel "$1" -o json "${@:2}"; }

# story CHANNEL: shows the three newest notifications over a channel, and the history of the one that took most attempts.
story() {
  local id
  id=$(told "$1" --limit 3 | jq -rs --arg channel "$1" \
    'max_by([.deliveries[] | select(.channel == $channel) | .attempts | length] | add) | .notification.id')
  show belfry list -n platform --channel "$1" --limit 3
  # `belfry ask` ends with 1 while not all deliveries have arrived.
  show belfry ask "$id" -n platform || true
}

# in_state CHANNEL STATE: prints how many deliveries over the channel are in a state. It asks the hub, because a channel's status
# shows counts up to half a minute later.
in_state() {
  local all
  # If the hub gives no answer, the number is unknown, which is not 0.
  all=$(told "$1" --state "$2" --limit 500) || return 1
  jq -s --arg channel "$1" --arg state "$2" \
    '[.[].deliveries[] | select(.channel == $channel and .state == $state)] | length' <<<"$all"
}
none_pending() { [ "$(in_state "$1" Pending)" = 0 ]; }
at_least() { [ "$(in_state "$1" "$2")" -ge "$3" ]; }
none_dead() { [ "$(in_state "$1" Dead)" = 0 ]; }
status_is() { kubectl -n platform get nch "$1" -o json | jq -e ".status.deliveries | $2"; }
