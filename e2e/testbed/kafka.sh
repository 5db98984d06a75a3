# The Kafka broker: one KRaft process at the node's address, outside of Kubernetes. Its data outlive the process.
# shellcheck shell=bash

launch_kafka() {
  [ -d "$W/kafka" ] || cp -r "$TOOLS/kafka/data" "$W/kafka"
  mkdir -p "$W/kafka-tmp"
  render kafka/server.properties | sed "s|@PASSWORD@|$(<"$W/pki/kafka.password")|" >"$W/conf/kafka.properties"
  daemon kafka java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:-UsePerfData -Djava.io.tmpdir="$W/kafka-tmp" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.apache.kafka.sasl.oauthbearer.allowed.urls="file://$W/pki/tokens.jwks" \
    -cp "$TOOLS/kafka/lib/*" kafka.Kafka "$W/conf/kafka.properties"
}

await_kafka() {
  wait_for 60 kafka_answers || die_with_log kafka "Kafka does not answer at $NODE_IP:9092"
}

kafka_answers() { ! dead kafka && port_open "$NODE_IP" 9092; }

kafka_start() { launch_kafka && await_kafka && say "kafka: listening at $NODE_IP:9092"; }
kafka_stop() { stop_daemon kafka && say "kafka: stopped"; }
kafka_kill() { stop_daemon kafka KILL && say "kafka: killed"; }

# Makes the broker's certificate, a client's certificate, the password of user `testbed`, and what the token server needs: a client's
# secret, a certificate, the key that signs tokens, and its public half as brokers read it (JWK Set, RFC 7517).
make_kafka_credentials() {
  certificate kafka /CN=kafka "subjectAltName=DNS:localhost,IP:$NODE_IP"
  certificate kafka-client /CN=testbed
  cat "$W/pki/kafka.key" "$W/pki/kafka.crt" >"$W/pki/kafka.pem"
  openssl rand -hex 16 >"$W/pki/kafka.password"
  openssl rand -hex 16 >"$W/pki/tokens.secret"
  certificate tokens /CN=tokens "subjectAltName=DNS:localhost,IP:$NODE_IP"
  openssl genrsa -out "$W/pki/tokens-signing.key" 2048 2>/dev/null
  local modulus
  modulus=$(openssl rsa -in "$W/pki/tokens-signing.key" -noout -modulus)
  modulus=$(printf '%b' "$(sed 's/../\\x&/g' <<<"${modulus#*=}")" | base64 -w0 | tr '+/' '-_' | tr -d =)
  printf '{"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "testbed", "e": "AQAB", "n": "%s"}]}\n' "$modulus" \
    >"$W/pki/tokens.jwks"
}

kafka_environment() {
  cat <<END
export KAFKA_SASL_BOOTSTRAP="$NODE_IP:9094"
export KAFKA_MTLS_BOOTSTRAP="$NODE_IP:9095"
export KAFKA_OAUTH_BOOTSTRAP="$NODE_IP:9096"
export KAFKA_TOKEN_ENDPOINT="https://$NODE_IP:9097/token"
export KAFKA_CLIENT_SECRET_FILE="$W/pki/tokens.secret"
export KAFKA_CA="$W/pki/ca.crt"
export KAFKA_CLIENT_CERTIFICATE="$W/pki/kafka-client.crt"
export KAFKA_CLIENT_KEY="$W/pki/kafka-client.key"
export KAFKA_USER=testbed
export KAFKA_PASSWORD_FILE="$W/pki/kafka.password"
END
}

# kafka_user USER PASSWORD: makes a user that logs in with SCRAM, or changes the user's password.
kafka_user() {
  [ $# -eq 2 ] || die "usage: testbed kafka-user NAME USER PASSWORD"
  local mechanism running=()
  # The broker takes one mechanism of a user in a request.
  for mechanism in SCRAM-SHA-512 SCRAM-SHA-256; do
    kafka_tool kafka.admin.ConfigCommand --alter --entity-type users --entity-name "$1" \
      --add-config "$mechanism=[password=$2]" >&2 &
    running+=($!)
  done
  for mechanism in "${running[@]}"; do wait "$mechanism" || die "Kafka does not take user '$1'"; done
}

# kafka_tool CLASS ARGS...: runs one of Kafka's command line tools against the broker.
kafka_tool() {
  local class=$1
  shift
  enter java -Xmx128m -XX:-UsePerfData -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$TOOLS/kafka/lib/*" "$class" --bootstrap-server "$NODE_IP:9092" "$@"
}

kafka_topic() {
  [ $# -ge 2 ] || die "usage: testbed kafka-topic NAME TOPIC PARTITIONS [KEY=VALUE...]"
  local topic=$1 partitions=$2 setting settings=()
  shift 2
  for setting in "$@"; do settings+=(--config "$setting"); done
  kafka_tool org.apache.kafka.tools.TopicCommand --create --if-not-exists --topic "$topic" --partitions "$partitions" \
    "${settings[@]}" >&2
}
