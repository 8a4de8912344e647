"""librdkafka's administration client, through confluent-kafka. Ends in "done" if all is well."""

import json
import sys

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
)

from librdkafka import SECONDS, settings

TOPIC = "administered-by-librdkafka"


def is_(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def fails(code, attempt):
    try:
        attempt()
    except KafkaException as failure:
        is_(failure.args[0].name(), code)
    else:
        raise AssertionError(f"no {code}")


class Administrator:
    def __init__(self, access):
        self.settings = settings(access)
        self.admin = AdminClient(self.settings)

    def create(self, name, config):
        self.admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(SECONDS)

    def entry(self, name):
        resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC)
        return self.admin.describe_configs([resource])[resource].result(SECONDS)[name]

    def alter(self, name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def replace(self, **config):
        resource = ConfigResource(ConfigResource.Type.TOPIC, TOPIC, set_config=config)
        self.admin.alter_configs([resource])[resource].result(SECONDS)

    def delete(self, before):
        partition = TopicPartition(TOPIC, 0, before)
        (deleted,) = self.admin.delete_records([partition]).values()
        return deleted.result(SECONDS).low_watermark

    def offset(self, spec):
        (found,) = self.admin.list_offsets({TopicPartition(TOPIC, 0): spec}).values()
        return found.result(SECONDS).offset

    def run(self):
        self.create(TOPIC, {"retention.ms": "86400000"})
        fails("INVALID_CONFIG", lambda: self.create("refused", {"cleanup.policy": "compress"}))
        is_(self.entry("retention.ms").value, "86400000")
        is_(self.entry("retention.ms").source, ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
        self.alter("retention.bytes", "1000000", AlterConfigOpType.SET)
        is_(self.entry("retention.bytes").value, "1000000")
        self.alter("retention.ms", None, AlterConfigOpType.DELETE)
        is_(self.entry("retention.ms").is_default, True)
        fails("INVALID_CONFIG", lambda: self.alter("preallocate", "true", AlterConfigOpType.SET))
        self.replace(**{"message.timestamp.type": "LogAppendTime"})
        is_(self.entry("retention.bytes").is_default, True)
        is_(self.entry("message.timestamp.type").value, "LogAppendTime")

        producer = Producer(self.settings)
        for number in range(10):
            producer.produce(TOPIC, f"value {number}", partition=0)
        is_(producer.flush(SECONDS), 0)
        is_(self.delete(4), 4)
        is_(self.offset(OffsetSpec.earliest()), 4)
        fails("OFFSET_OUT_OF_RANGE", lambda: self.delete(11))
        is_(self.delete(-1), 10)
        is_(self.offset(OffsetSpec.latest()), 10)


Administrator(json.loads(sys.argv[1])).run()
print("done")
