#!/bin/bash
# Measures the figures of docs/benchmarks.md with release builds, on the test bed, and prints them.
# usage: bench.sh [engine|calendar|conflicts|admission|size|latency|dispatch|consume]
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
need_compilers
need_openssl
if [ "${1:-engine}" = engine ]; then
  say "the alert engine alone"
  cargo run --locked --quiet --release -p belfry-alerting --example figures
  [ "${1:-}" != engine ] || exit 0
fi
if [ "${1:-conflicts}" = conflicts ]; then
  say "bookings, beside PostgreSQL's exclusion constraint"
  command -v initdb /usr/lib/postgresql/*/bin/initdb >/dev/null || "$testbed" install postgresql
  cargo run --locked --quiet --release -p belfry-calendar --example occupancy
  say "searches for other times"
  cargo run --locked --quiet --release -p belfry-calendar --example suggest
  [ "${1:-}" != conflicts ] || exit 0
fi
if [ "${1:-calendar}" = calendar ]; then
  say "the calendar alone"
  cargo run --locked --quiet --release -p belfry-calendar --example expansion
  cargo run --locked --quiet --release -p belfry-calendar --example cron_lines
  [ "${1:-}" != calendar ] || exit 0
fi
if [ "${1:-admission}" = admission ]; then
  say "admission with 10,000 Schedules, in one process"
  cargo run --locked --quiet --release -p belfry-controllers --example admission
  # `bench.sh admission` goes on and measures the same against a real API server.
fi
name=bench
"$testbed" install python3 python3-aiosmtpd python3-confluent-kafka prometheus-alertmanager
"$testbed" down "$name" >/dev/null 2>&1 || true
trap '"$testbed" down "$name" >/dev/null 2>&1 || true' EXIT
"$testbed" up "$name" --owner $$ >/dev/null
eval "$("$testbed" env "$name")"
export BELFRY_PROFILE=release
say "building with optimisation, about 10 minutes the first time"
build
BELFRY_BIN=$PWD/$(target_dir)/release
export BELFRY_BIN
start_receivers "$name"
e2e/install.sh "$name"
"$BELFRY_BIN/belfry-bench" "$@"
