# Role: the Kafka broker: one KRaft process on the node's address, apart from the cluster, with data that outlives it.
# shellcheck shell=bash

launch_kafka() {
  [ -d "$W/kafka" ] || cp -r "$TOOLS/kafka/data" "$W/kafka"
  mkdir -p "$W/kafka-tmp"
  render kafka/server.properties >"$W/conf/kafka.properties"
  daemon kafka java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData -Djava.io.tmpdir="$W/kafka-tmp" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
    -cp "$TOOLS/kafka/lib/*" kafka.Kafka "$W/conf/kafka.properties"
}

await_kafka() {
  wait_for 60 kafka_answers || failed kafka "Kafka does not answer at $NODE_IP:9092"
}

kafka_answers() { ! dead kafka && port_open "$NODE_IP" 9092; }

kafka_start() { launch_kafka && await_kafka && say "kafka: listening at $NODE_IP:9092"; }
kafka_stop() { stop_daemon kafka && say "kafka: stopped"; }
kafka_kill() { stop_daemon kafka KILL && say "kafka: killed"; }

kafka_topic() {
  [ $# -ge 2 ] || die "usage: testbed kafka-topic NAME TOPIC PARTITIONS [KEY=VALUE...]"
  local topic=$1 partitions=$2 setting settings=()
  shift 2
  for setting in "$@"; do settings+=(--config "$setting"); done
  enter java -Xmx128m -XX:-UsePerfData -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$TOOLS/kafka/lib/*" org.apache.kafka.tools.TopicCommand \
    --bootstrap-server "$NODE_IP:9092" --create --if-not-exists --topic "$topic" --partitions "$partitions" \
    "${settings[@]}" >&2
}
