#!/bin/bash
# Ships log files to a topic, each line as a record, unchanged: Belfry decodes it.
# usage: ship.sh TOPIC FILE...      The broker is $KAFKA_BOOTSTRAP. This process becomes kcat; tail ends with it.
set -euo pipefail
topic=$1
shift
# message.timeout.ms=0 means no timeout, so no line is lost while the broker is away.
exec kcat -P -b "$KAFKA_BOOTSTRAP" -t "$topic" -X message.timeout.ms=0 -X linger.ms=20 -X enable.idempotence=true \
  < <(exec tail --pid=$$ -q -n +1 -F "$@" 2>/dev/null)
