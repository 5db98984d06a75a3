# shellcheck shell=bash
# What the scripts beside this file share. Sourced, from the repository's root.

testbed=$PWD/e2e/testbed/testbed
export BELFRY_TESTBED=$testbed
started=$(date +%s)

say() { printf '%s [%4ds] %s\n' "==>" "$(($(date +%s) - started))" "$*"; }
die() { printf 'belfry: %s\n' "$*" >&2; exit 1; }

need() { # need COMMAND "how to get it"
  command -v "$1" >/dev/null || die "$1 is needed and not here: $2"
}

# librdkafka's TLS is linked from Debian's package, which the test bed installs.
need_openssl() {
  pkg-config --exists openssl 2>/dev/null || "$testbed" packages ||
    die "OpenSSL's static library and pkg-config are needed: install libssl-dev and pkg-config, or what your distribution calls them"
}

# Builds all binaries. In a run of tests as tests do, whose own dependencies ask for more features: otherwise cargo would
# build most dependencies twice.
build() { cargo build --locked --quiet --profile "${BELFRY_PROFILE:-dev}" --workspace --bins ${BELFRY_TESTS_TOO:+--tests}; }

# Where cargo puts what it builds for this machine.
target_dir() { printf 'target/%s' "$(rustc -vV | sed -n 's/^host: //p')"; }
profile_dir() { [ "${BELFRY_PROFILE:-dev}" = dev ] && echo debug || echo "$BELFRY_PROFILE"; }

# Receivers beside the cluster: the HTTP sink (8080, control 8090) and two SMTP servers (2525 with login, 2526 with
# STARTTLS and login). What they received is in $RECEIVED. usage: start_receivers CLUSTER
start_receivers() { # Debian's python3, which has its aiosmtpd
  export RECEIVED=${TESTBED:-$PWD/target}/receivers
  mkdir -p "$RECEIVED"
  [ -f "$RECEIVED/smtp.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -keyout "$RECEIVED/smtp.key" -out "$RECEIVED/smtp.crt" -subj /CN=smtp.test \
    -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=DNS:smtp.t-channels.svc,DNS:smtp.payments.svc" 2>/dev/null
  beside "$1" sink "$PWD/$(target_dir)/$(profile_dir)/belfry-sink" --file "$RECEIVED/received.jsonl"
  # Debian's Python has Debian's packages; another one may come first in PATH.
  local python=/usr/bin/python3
  "$python" -c 'import aiosmtpd' 2>/dev/null || python=python3
  beside "$1" smtp "$python" "$PWD/e2e/receivers/smtp.py" 2525 "$RECEIVED/mail.jsonl" --login belfry not-a-real-password
  beside "$1" smtps "$python" "$PWD/e2e/receivers/smtp.py" 2526 "$RECEIVED/mail-tls.jsonl" \
    --starttls "$RECEIVED/smtp.crt" "$RECEIVED/smtp.key" --login belfry not-a-real-password
  # Only the test bed's broker knows the key that signs its tokens. They last 12 s, so that tests see them renewed.
  [ -z "${TESTBED:-}" ] || beside "$1" tokens "$python" "$PWD/e2e/receivers/tokens.py" 9097 "$TESTBED/pki" \
    "$RECEIVED/tokens.jsonl" alerts "$(<"$KAFKA_CLIENT_SECRET_FILE")" 12
}

# A process beside the cluster: in the test bed's node, or, with another cluster, on this machine.
beside() { # beside CLUSTER TITLE CMD...
  local cluster=$1 title=$2
  shift 2
  if [ "$cluster" = existing ]; then
    "$@" >"$RECEIVED/$title.log" 2>&1 &
  else
    "$testbed" run "$cluster" --as "$title" -- "$@" >/dev/null
  fi
}
