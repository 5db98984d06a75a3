# shellcheck shell=bash
# Functions that the scripts beside this file share. They source it from the repository's root.

testbed=$PWD/e2e/testbed/testbed
export BELFRY_TESTBED=$testbed
started=$(date +%s)

say() { printf '%s [%4ds] %s\n' "==>" "$(($(date +%s) - started))" "$*"; }
die() { printf 'belfry: %s\n' "$*" >&2; exit 1; }

# need COMMAND HOW_TO_GET_IT: ends the script with that advice if the command is not installed.
need() {
  command -v "$1" >/dev/null || die "$1 is needed and not here: $2"
}

# Checks what every build needs, but for OpenSSL, which librdkafka uses for TLS (`have_openssl`). On macOS the openssl crate
# finds Homebrew's OpenSSL by itself.
need_compilers() {
  need cargo "install Rust 1.95 or newer, such as with rustup"
  need cc "install a C compiler, such as Debian's package gcc: SQLite and librdkafka are compiled from source"
}
have_openssl() {
  pkg-config --exists openssl 2>/dev/null || { [ "$(uname -s)" = Darwin ] && brew --prefix openssl@3 >/dev/null 2>&1; }
}
no_openssl="OpenSSL's static library and pkg-config are needed: install libssl-dev and pkg-config, or what your distribution calls them (Homebrew: openssl@3)"
# For scripts that need the test bed anyway: if OpenSSL is missing, the test bed installs Debian's packages.
need_openssl() { have_openssl || "$testbed" packages || die "$no_openssl"; }

# Builds all binaries. With BELFRY_TESTS_TOO it builds the tests as well: their dependencies ask for more features, and cargo
# would otherwise build most dependencies twice.
build() { cargo build --locked --quiet --profile "${BELFRY_PROFILE:-dev}" --workspace --bins ${BELFRY_TESTS_TOO:+--tests}; }

# Runs `cargo test`, always for the whole workspace, so that dependencies are built once, with one set of features.
tests() { cargo test --locked --workspace --quiet "$@"; }

# The folder into which cargo builds for this machine.
target_dir() { printf 'target/%s' "$(rustc -vV | sed -n 's/^host: //p')"; }
profile_dir() { [ "${BELFRY_PROFILE:-dev}" = dev ] && echo debug || echo "$BELFRY_PROFILE"; }

# start_receivers CLUSTER: starts the receivers beside the cluster: the HTTP sink (port 8080, control 8090) and two SMTP servers
# (2525 with login, 2526 with STARTTLS and login). They write what they receive to files in $RECEIVED.
start_receivers() {
  export RECEIVED=${TESTBED:-$PWD/target}/receivers
  mkdir -p "$RECEIVED"
  [ -f "$RECEIVED/smtp.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -keyout "$RECEIVED/smtp.key" -out "$RECEIVED/smtp.crt" -subj /CN=smtp.test \
    -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=DNS:smtp.t-channels.svc,DNS:smtp.payments.svc" 2>/dev/null
  beside "$1" sink "$PWD/$(target_dir)/$(profile_dir)/belfry-sink" --file "$RECEIVED/received.jsonl"
  # Only Debian's python3 sees Debian's aiosmtpd, and another Python may come first in PATH.
  local python=/usr/bin/python3
  "$python" -c 'import aiosmtpd' 2>/dev/null || python=python3
  beside "$1" smtp "$python" "$PWD/e2e/receivers/smtp.py" 2525 "$RECEIVED/mail.jsonl" --login belfry not-a-real-password
  beside "$1" smtps "$python" "$PWD/e2e/receivers/smtp.py" 2526 "$RECEIVED/mail-tls.jsonl" \
    --starttls "$RECEIVED/smtp.crt" "$RECEIVED/smtp.key" --login belfry not-a-real-password
  # Only the test bed's broker knows the key that signs these tokens. A token lasts 12 s, so that tests see renewals.
  [ -z "${TESTBED:-}" ] || beside "$1" tokens "$python" "$PWD/e2e/receivers/tokens.py" 9097 "$TESTBED/pki" \
    "$RECEIVED/tokens.jsonl" alerts "$(<"$KAFKA_CLIENT_SECRET_FILE")" 12
}

# prepare CLUSTER SUITE [--if-changed]: starts the receivers and installs Belfry, built from the code as it is now, for a suite of
# tests (`line` or another).
prepare() {
  start_receivers "$1"
  # In suite `line`, only the API server may call the webhook. In the others, anybody may.
  unset BELFRY_CLIENT_AUTH
  [ "$2" != line ] || export BELFRY_CLIENT_AUTH=1
  e2e/install.sh "$1" ${3:+"$3"}
}

# beside CLUSTER TITLE CMD...: starts a process beside the cluster: in the test bed's node, or, if the cluster is `existing`, on
# this machine.
beside() {
  local cluster=$1 title=$2
  shift 2
  if [ "$cluster" = existing ]; then
    "$@" >"$RECEIVED/$title.log" 2>&1 &
  else
    "$testbed" run "$cluster" --as "$title" -- "$@" >/dev/null
  fi
}

port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# await_ports PORT...: waits until the receivers beside the test bed's cluster listen at these ports, at most 20 s.
await_ports() {
  local port deadline=$((SECONDS + 20))
  for port in "$@"; do
    until port_open "$BELFRY_NODE_IP" "$port"; do
      [ $SECONDS -lt $deadline ] || die "nobody listens at $BELFRY_NODE_IP:$port; the receivers' logs are $TESTBED/log/run-*.log"
      sleep 0.1
    done
  done
}
