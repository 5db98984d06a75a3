"""Peer of `make bench`: counts records whose level is ERROR with Python's confluent-kafka and json.

usage: consume.py BOOTSTRAP TOPIC PARTITIONS RECORDS
Prints three numbers: seconds per record, processor time per record in microseconds, and how many records matched. The times
leave out the first tenth of the records.
"""
import json, resource, sys, time
from confluent_kafka import Consumer, OFFSET_BEGINNING, TopicPartition

bootstrap, topic, partitions, records = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "python", "enable.auto.commit": False})
consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


seen = matched = 0
start = None
while seen < records:
    for message in consumer.consume(1000, 10):
        if message.error():
            continue
        seen += 1
        if json.loads(message.value()).get("level") == "ERROR":
            matched += 1
    if start is None and seen >= records // 10:
        start, cpu, begun = time.monotonic(), used(), seen
taken = seen - begun
print((time.monotonic() - start) / taken, (used() - cpu) / taken * 1e6, matched)
