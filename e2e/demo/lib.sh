# Role: what the demo is made of: showing commands with their real output, waiting for conditions, the receivers'
# manners, and what became of a notification. Sourced by demo.sh, after common.sh.
# shellcheck shell=bash

inside='' # set by demo.sh: how to get into the test bed's cluster
bold='' plain=''
[ ! -t 1 ] || bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)

chapter() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '   %s\n' "$*"; }

# Shows a command and its output, as a user would see it.
show() {
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@" 2>&1 | cut -c1-200
}

# wait_until SECONDS WHAT CMD...: until CMD succeeds. Says every 10 s that it still waits; at the end of its patience,
# what it waited for and where to look.
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

# patiently WHAT CMD...: a long command with its output in a file; says every 15 s how far it is.
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

# expose NAMESPACE SERVICE ADDRESS PORT...: a Service that leads to a process beside the cluster.
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

# ready NAMESPACE KIND/NAME...
ready() {
  local namespace=$1 object
  shift
  for object in "$@"; do
    wait_until 120 "$object in $namespace is Ready" is_ready "$namespace" "$object"
  done
}

# Whether a namespace's Deployments run the image that is installed now, all of it.
up_to_date() {
  local image
  image=$(kubectl -n belfry-system get deploy belfry-hub -o 'jsonpath={.spec.template.spec.containers[0].image}')
  kubectl -n "$1" get deploy -l app.kubernetes.io/managed-by=belfry -o json | jq -e --arg image "$image" '
    .items | length > 0 and all(.[]; .spec.template.spec.containers[0].image == $image and
      .status.observedGeneration == .metadata.generation and .status.updatedReplicas == .spec.replicas and
      .status.replicas == .spec.replicas and .status.availableReplicas == .spec.replicas)'
}

# Ready at its present generation.
is_ready() {
  kubectl -n "$1" get "$2" -o json | jq -e '
    .status.observedGeneration == .metadata.generation and
    any(.status.conditions[]?; .type == "Ready" and .status == "True")'
}

sink() { curl -sS --fail --noproxy '*' "http://$BELFRY_NODE_IP:8090$1" "${@:2}"; }

# behave PATH JSON: how the receiver answers from now on.
behave() { sink /behaviours -X PUT -H 'content-type: application/json' -d "{\"$1\": $2}"; }

# How many requests have come so far.
received_so_far() { sink /received | jq length; }

# arrived PATH AFTER [JQ]: whether a request came to a path after the first AFTER ones, answered well, for which JQ holds.
arrived() {
  sink "/received?after=$2" | jq -e --arg path "$1" "any(.[]; .path == \$path and .status == 200 and (${3:-true}))"
}

# What the receiver saw at a path, one line a request.
seen() {
  sink "/received?after=$2" | jq -r --arg path "$1" '.[] | select(.path == $path) |
    "   \(.time_ms / 1000 | floor | strftime("%H:%M:%S"))  answered \(.status)  webhook-id \(.headers["webhook-id"])  \(.body | fromjson | .data.title)"'
}

# What a person types; the kubeconfig is all that it needs.
belfry() { "$PWD/$(target_dir)/debug/belfry" "$@"; }

# told CHANNEL [FLAG...]: the newest notifications to a channel of platform, a JSON object a line.
told() { belfry list -n platform --channel "$1" -o json "${@:2}"; }

# story CHANNEL: the newest notifications to a channel, and what became of the one that took most attempts.
story() {
  local id
  id=$(told "$1" --limit 3 | jq -rs --arg channel "$1" \
    'max_by([.deliveries[] | select(.channel == $channel) | .attempts | length] | add) | .notification.id')
  show belfry list -n platform --channel "$1" --limit 3
  # It ends with 1 while not all have arrived.
  show belfry ask "$id" -n platform || true
}

# in_state CHANNEL STATE: how many deliveries over the channel are in a state, as the hub knows. A channel's status tells
# counts up to half a minute later.
in_state() {
  local all
  # Of a hub that gives no answer nothing is known: that is not none.
  all=$(told "$1" --state "$2" --limit 500) || return 1
  jq -s --arg channel "$1" --arg state "$2" \
    '[.[].deliveries[] | select(.channel == $channel and .state == $state)] | length' <<<"$all"
}
none_pending() { [ "$(in_state "$1" Pending)" = 0 ]; }
at_least() { [ "$(in_state "$1" "$2")" -ge "$3" ]; }
none_dead() { [ "$(in_state "$1" Dead)" = 0 ]; }
status_is() { kubectl -n platform get nch "$1" -o json | jq -e ".status.deliveries | $2"; }
