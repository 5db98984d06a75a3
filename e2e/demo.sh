#!/bin/bash
# Installs Belfry, shows it on real input up to a message that provably arrived, and leaves it running.
# usage: demo.sh      Starts the test bed's cluster `demo`, or repairs the one that is there. To use another cluster, set
# KUBECONFIG, BELFRY_IMAGE, KAFKA_BOOTSTRAP, BELFRY_NODE_IP (the address at which pods reach this machine) and BELFRY_LOGS (the
# files of JSON logs to ship).
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
. e2e/demo/lib.sh

machine() {
  chapter "What this machine needs"
  need_compilers
  need_openssl
  if [ -n "${BELFRY_IMAGE:-}" ]; then
    name=existing
    : "${KUBECONFIG:?says which cluster}" "${KAFKA_BOOTSTRAP:?is the broker, ADDRESS:PORT, as pods and this machine reach it}"
    : "${BELFRY_NODE_IP:?is this machine, as pods reach it}" "${BELFRY_LOGS:?lists the files of JSON logs to ship}"
    for command in kubectl helm jq curl kcat python3; do need "$command" "it is used against your cluster"; done
    return
  fi
  need go "install Go 1.26 (go.dev/doc/install): it builds Kubernetes"
  need java "install Java 17 or newer, such as Debian's package openjdk-17-jre-headless: Kafka runs on it"
  need apt-get "the test bed installs containerd and the like by Debian's package client; elsewhere use a cluster of your own: KUBECONFIG and BELFRY_IMAGE"
  [ "$(id -u)" = 0 ] || die "root is needed, for namespaces and packages: run it with sudo, or use a cluster of your own: KUBECONFIG and BELFRY_IMAGE"
  name=demo
  unset KUBECONFIG
  "$testbed" install python3 python3-aiosmtpd jq kcat curl
  note "all there"
}

build() {
  chapter "Belfry, built from source"
  patiently "compiling (about 8 minutes the first time, then seconds)" \
    cargo build --locked --workspace --bins
}

cluster() {
  chapter "A cluster and a broker"
  if [ "$name" = demo ]; then
    "$testbed" up demo >/dev/null
    eval "$("$testbed" env demo)"
    # shellcheck disable=SC2016
    inside='eval "$(e2e/testbed/testbed env demo)"'
    logs=("$TESTBED"/log/kube*.log)
  else
    read -ra logs <<<"$BELFRY_LOGS"
  fi
  export RECEIVED=${TESTBED:-$PWD/target}/receivers
  start_what_is_missing
  show kubectl get nodes -o wide
}

# Starts the receivers and makes the topics that are not there. What an earlier run started goes on.
start_what_is_missing() {
  if port_open "$BELFRY_NODE_IP" 8090 && port_open "$BELFRY_NODE_IP" 2525 && port_open "$BELFRY_NODE_IP" 2526; then
    note "receivers: running"
  else
    [ "$name" = existing ] || for title in sink smtp smtps tokens; do "$testbed" stop "$name" "$title"; done
    start_receivers "$name"
    for port in 8080 8090 2525 2526; do
      wait_until 20 "the receiver at port $port" port_open "$BELFRY_NODE_IP" "$port"
    done
    note "receivers: HTTP at $BELFRY_NODE_IP:8080, SMTP at $BELFRY_NODE_IP:2525"
  fi
  for topic in cluster-logs service-logs payment-events; do
    kcat -L -b "$KAFKA_BOOTSTRAP" -t "$topic" 2>/dev/null | grep -q 'with [1-9][0-9]* partition' && continue
    [ "$name" = demo ] || die "topic $topic is missing at $KAFKA_BOOTSTRAP: make it, with 3 partitions"
    "$testbed" kafka-topic demo "$topic" 3
  done
  note "topics: cluster-logs, service-logs, payment-events"
}

# Whether the shipper of an earlier run still runs on this machine.
still_shipping() {
  local pid
  while read -r pid; do
    ! tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'kcat -P .* cluster-logs ' || return 0
  done < <(cat "$RECEIVED/pids" 2>/dev/null)
  return 1
}

ship() {
  chapter "Real input: the JSON logs of the cluster's own components, line by line"
  local shipping
  if [ "$name" = existing ] && still_shipping; then
    note "still shipping, since an earlier run"
  elif [ "$name" = existing ]; then
    beside existing shipper e2e/demo/ship.sh cluster-logs "${logs[@]}"
    jobs -p >>"$RECEIVED/pids"
    note "shipping ${#logs[@]} files to topic cluster-logs, as they are"
  elif shipping=$("$testbed" run demo --as shipper -- "$PWD/e2e/demo/ship.sh" cluster-logs "${logs[@]}" 2>&1); then
    note "shipping ${#logs[@]} files to topic cluster-logs, as they are"
  else
    [[ $shipping == *"already running"* ]] || die "the shipper does not start: $shipping"
    note "still shipping, since an earlier run"
  fi
  note "such as:"
  grep -h '"err"' "${logs[@]}" | tail -n 1 | cut -c1-190
}

examples() {
  chapter "What a team writes: examples/payments.yaml"
  local kafka=${KAFKA_BOOTSTRAP%:*}
  show kubectl apply -f examples/payments.yaml
  expose payments kafka "$kafka" 9092
  expose payments sink "$BELFRY_NODE_IP" 8080
  expose payments smtp "$BELFRY_NODE_IP" 2525
  show kubectl apply -f e2e/demo/platform.yaml
  expose platform kafka "$kafka" 9092
  expose platform sink "$BELFRY_NODE_IP" 8080
  remind
  wait_until 120 "the workers of payments run" up_to_date payments
  wait_until 120 "the workers of platform run" up_to_date platform
  ready payments nch/slack nch/mail nch/hook alr/payment-errors alr/chargeback sch/standup sch/month-close
  ready platform nch/oncall nch/pager nch/ticket alr/component-errors alr/image-missing sch/coffee
  show kubectl get nch,alr,sch -n payments
  show kubectl get deployments,cronjobs -n payments
}

# Applies a Schedule whose reminder is due at the first whole minute that is at least 20 s away.
remind() {
  local due=$((($(date +%s) + 20 + 59) / 60 * 60))
  due_at=$due before_reminder=$(received_so_far)
  note "a Schedule whose reminder is due at $(date -u -d "@$due" +%H:%M:%S) UTC, 10 minutes before it starts"
  kubectl apply -f - <<END
apiVersion: belfry.dev/v1alpha1
kind: Schedule
metadata: {name: coffee, namespace: platform}
spec:
  title: Coffee with the team that is on call
  timeZone: Etc/UTC
  start: "$(date -u -d "@$((due + 600))" +%Y-%m-%dT%H:%M:%S)"
  duration: 15m
  reminders:
    - before: 10m
      notify: [{channelRef: {name: oncall}}]
END
}

things_go_wrong() {
  chapter "A rollout goes wrong, two receivers fail"
  note "the pager's receiver answers 503 twice, the ticket system's 500 for ever"
  behave /pager '{"status": 503, "times": 2}'
  behave /ticket '{"status": 500}'
  before=$(received_so_far)
  kubectl delete namespace shop --ignore-not-found --wait=true >/dev/null 2>&1
  show kubectl apply -f e2e/demo/shop.yaml
  wait_until 90 "the alert component-errors at the receiver of channel oncall" \
    arrived /oncall "$before" '.body | contains("component-errors")'
  note "the receiver of channel oncall:"
  seen /oncall "$before"

  chapter "A receiver that fails at first: tried again, delivered"
  wait_until 120 "a message at channel pager, after two failures" arrived /pager "$before"
  wait_until 60 "channel pager has nothing left to deliver" none_pending pager
  note "its receiver:"
  seen /pager "$before"
  story pager
}

dead_deliveries() {
  chapter "A receiver that fails for good: dead deliveries"
  wait_until 90 "three dead deliveries at channel ticket" at_least ticket Dead 3
  wait_until 45 "channel ticket shows them" status_is ticket '.dead >= 3'
  show kubectl get nch -n platform
  show kubectl describe nch ticket -n platform
  story ticket

  chapter "The receiver is mended: the dead deliveries are sent again"
  behave /ticket '{"status": 200}'
  local mended
  mended=$(received_so_far)
  show kubectl annotate nch ticket -n platform --overwrite "belfry.dev/resend=all@$(date +%s)"
  wait_until 90 "a message at channel ticket" arrived /ticket "$mended"
  wait_until 60 "channel ticket has no dead deliveries" none_dead ticket
  wait_until 60 "channel ticket has nothing left to deliver" none_pending ticket
  note "its receiver, the same ids as before:"
  seen /ticket "$mended"
  story ticket
}

reminder() {
  chapter "A reminder within the minute"
  wait_until 150 "the reminder due at $(date -u -d "@$due_at" +%H:%M:%S) UTC" \
    arrived /oncall "$before_reminder" '.body | contains("coffee")'
  seen /oncall "$before_reminder" | grep Coffee
  show kubectl get sch -n platform
}

last_words() {
  kubectl delete namespace shop --wait=false >/dev/null 2>&1
  chapter "The answers at 3 a.m."
  wait_until 45 "channel ticket shows that all was delivered" status_is ticket '.dead + .pending + .retrying == 0'
  show kubectl get nch,alr,sch -A
  show kubectl describe alr component-errors -n platform
  cat <<END

$(say "All of it works, and is left running.")

Look at it:
  ${inside:-export KUBECONFIG=$KUBECONFIG KAFKA_BOOTSTRAP=$KAFKA_BOOTSTRAP BELFRY_NODE_IP=$BELFRY_NODE_IP}
  kubectl get nch,alr,sch -A
  kubectl explain alertrule.spec
  kubectl -n payments annotate nch hook belfry.dev/send-test=\$(date +%s) --overwrite
  echo '{"type": "chargeback", "amount": 250.0, "accountId": "a-1"}' | kcat -P -b \$KAFKA_BOOTSTRAP -t payment-events
  curl -s http://\$BELFRY_NODE_IP:8090/received | jq '.[-1]'        # what the receivers got
  kubectl -n belfry-system logs deploy/belfry-hub
What became of each notification (the kubeconfig is all it needs):
  export PATH=$PWD/$(target_dir)/debug:\$PATH
  belfry list -n platform
  belfry ask rule/component-errors -n platform

Remove it all: make demo-down
END
}

machine
build
cluster
chapter "Belfry, installed by its chart"
e2e/install.sh "$name"
show kubectl -n belfry-system get deployments,pods
ship
examples
things_go_wrong
dead_deliveries
reminder
last_words
