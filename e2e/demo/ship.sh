#!/bin/bash
# Ships log files to a topic, line by line as they are: what a line means is for Belfry to say.
# usage: ship.sh TOPIC FILE...      The broker is $KAFKA_BOOTSTRAP. This process becomes kcat; tail ends with it.
set -euo pipefail
topic=$1
shift
# Endless patience: a broker that is away loses no line.
exec kcat -P -b "$KAFKA_BOOTSTRAP" -t "$topic" -X message.timeout.ms=0 -X linger.ms=20 -X enable.idempotence=true \
  < <(exec tail --pid=$$ -q -n +1 -F "$@" 2>/dev/null)
