#!/bin/bash
# Starts PostgreSQL and Redis beside a cluster of the test bed, and gives their URLs to the hubs as Secrets belfry-db and belfry-redis.
# usage: database.sh NAME
set -euo pipefail
cd "$(dirname "$0")/.."
. e2e/common.sh
. e2e/postgres.sh
postgres_programs >/dev/null || get_postgres
"$testbed" postgres-start "$1" "$(postgres_programs)"
kubectl create namespace belfry-system --dry-run=client -o yaml | kubectl apply -f - >/dev/null
"$testbed" redis-start "$1" "$(redis_program)"
kubectl -n belfry-system create secret generic belfry-redis --from-file="url=$TESTBED/pki/redis.url" --dry-run=client -o yaml |
  kubectl apply -f - >/dev/null
kubectl -n belfry-system create secret generic belfry-db --from-file="url=$TESTBED/pki/postgres.url" \
  --from-file="ca.crt=$TESTBED/pki/ca.crt" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
