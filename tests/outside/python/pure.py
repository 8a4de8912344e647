"""kafka-python: another protocol implementation in Python, with the new, flexible versions."""

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.structs import OffsetAndMetadata

import actor

SECONDS = 60


class Client:
    def __init__(self, access):
        self.settings = {
            "bootstrap_servers": access["bootstrap"],
            "security_protocol": "SSL",
            "ssl_cafile": access["ca"],
            "ssl_certfile": access["cert"],
            "ssl_keyfile": access["key"],
            "ssl_check_hostname": True,
        }
        self.producers = {}

    def topic(self, name, partitions):
        admin = KafkaAdminClient(**self.settings)
        admin.create_topics([NewTopic(name, partitions, 1)])
        admin.close()

    def producer(self, id, transactional_id=None, compression="none", timeout_ms=60_000):
        producer = KafkaProducer(
            **self.settings,
            acks="all",
            enable_idempotence=True,
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            compression_type=None if compression == "none" else compression,
            linger_ms=5,
        )
        if transactional_id is not None:
            producer.init_transactions()
        self.producers[id] = producer

    def begin(self, id):
        self.producers[id].begin_transaction()

    def commit(self, id):
        self.producers[id].commit_transaction()

    def abort(self, id):
        self.producers[id].abort_transaction()

    def close(self, id):
        self.producers.pop(id).close()

    def send(self, id, topic, records):
        producer = self.producers[id]
        sent = [
            producer.send(topic, actor.data(value), actor.data(key), partition=partition)
            for partition, key, value in records
        ]
        producer.flush(SECONDS)
        return {"offsets": [acknowledged.get(SECONDS).offset for acknowledged in sent]}

    def send_group_offset(self, id, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)}
        self.producers[id].send_offsets_to_transaction(offsets, group)

    def read(self, topic, partitions, isolation):
        consumer = KafkaConsumer(**self.settings, isolation_level=isolation, auto_offset_reset="none")
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        ends = consumer.end_offsets(places)
        rows = []
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=100).items():
                for record in records:
                    rows.append([place.partition, record.offset, actor.text(record.key), actor.text(record.value)])
        consumer.close()
        return {"rows": rows}

    def group_offset(self, group, topic, partition):
        consumer = KafkaConsumer(**self.settings, group_id=group, enable_auto_commit=False)
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        offset = consumer.committed(place)
        consumer.close()
        return {"offset": offset}


if __name__ == "__main__":
    actor.serve(Client(actor.access()))
