"""librdkafka, through confluent-kafka."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import actor

SECONDS = 60


def settings(access):
    return {
        "bootstrap.servers": access["bootstrap"],
        "security.protocol": "ssl",
        "ssl.ca.location": access["ca"],
        "ssl.certificate.location": access["cert"],
        "ssl.key.location": access["key"],
    }


# What the names of the assignors of the consumer protocol (KIP-848) begin with here.
CONSUMER_PROTOCOL = "consumer:"


class Member:
    def __init__(self, consumer):
        self.consumer = consumer
        self.rebalances = 0

    def assigned(self, consumer, partitions):
        self.rebalances += 1


class Client:
    def __init__(self, access):
        self.settings = settings(access)
        self.producers = {}
        self.transactional = set()
        self.members = {}

    def topic(self, name, partitions, config=None):
        admin = AdminClient(self.settings)
        admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(SECONDS)

    def producer(self, id, transactional_id=None, compression="none", timeout_ms=60_000, singly=False):
        config = {**self.settings, "enable.idempotence": True, "compression.type": compression, "linger.ms": 5}
        if singly:
            # A batch for each record, as many in flight as there may be.
            config |= {"batch.num.messages": 1, "linger.ms": 0, "max.in.flight": 5}
        if transactional_id is not None:
            config |= {"transactional.id": transactional_id, "transaction.timeout.ms": timeout_ms}
        self.producers[id] = Producer(config)
        if transactional_id is not None:
            self.transactional.add(id)
            self.producers[id].init_transactions(SECONDS)

    def begin(self, id):
        self.producers[id].begin_transaction()

    def commit(self, id):
        self.producers[id].commit_transaction(SECONDS)

    def abort(self, id):
        self.producers[id].abort_transaction(SECONDS)

    def close(self, id):
        self.transactional.discard(id)
        self.producers.pop(id).flush(SECONDS)

    def send_keyed(self, id, topic, records):
        producer = self.producers[id]
        outcomes = [None] * len(records)
        refused = []

        def report(place):
            def delivered(error, message):
                outcomes[place] = [message.offset()] if error is None else [error.name(), error.str()]
                if error is not None:
                    refused.append(place)

            return delivered

        for place, (partition, key, value) in enumerate(records):
            headers = [("semel-idempotency-key", key.encode())]
            try:
                producer.produce(topic, value, None, partition, on_delivery=report(place), headers=headers)
            except KafkaException as failed_before:
                outcomes[place] = [name_of(failed_before), str(failed_before)]
            producer.poll(0)
        deadline = time.monotonic() + SECONDS
        while producer.flush(0.05) != 0:
            if refused and id in self.transactional:
                # A transaction that failed sends no more: what is queued waits for the abort.
                break
            if time.monotonic() > deadline:
                raise TimeoutError("records without an acknowledgement")
        queued = ["_QUEUED", "queued when the transaction failed"]
        return {"outcomes": [outcome or queued for outcome in outcomes]}

    def send(self, id, topic, records):
        producer = self.producers[id]
        offsets = [None] * len(records)
        errors = []

        def report(place):
            def delivered(error, message):
                if error is not None:
                    errors.append(error)
                else:
                    offsets[place] = message.offset()

            return delivered

        for place, (partition, key, value) in enumerate(records):
            producer.produce(topic, value, key, partition, on_delivery=report(place))
            producer.poll(0)
        if producer.flush(SECONDS) != 0:
            raise TimeoutError("records without an acknowledgement")
        if errors:
            raise KafkaException(errors[0])
        return {"offsets": offsets}

    def send_group_offset(self, id, group, topic, partition, offset):
        # A consumer that is no member of its group: only the group's name counts.
        consumer = Consumer({**self.settings, "group.id": group})
        metadata = consumer.consumer_group_metadata()
        offsets = [TopicPartition(topic, partition, offset)]
        self.producers[id].send_offsets_to_transaction(offsets, metadata, SECONDS)
        consumer.close()

    def read(self, topic, partitions, isolation):
        consumer = Consumer({
            **self.settings,
            "group.id": "reader",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        })
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        rows = []
        open_partitions = set(range(partitions))
        while open_partitions:
            message = consumer.poll(SECONDS)
            if message is None:
                raise TimeoutError(f"no end of partitions {open_partitions}")
            if message.error() is None:
                place = [message.partition(), message.offset()]
                rows.append(place + [actor.text(message.key()), actor.text(message.value())])
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(message.partition())
            else:
                raise KafkaException(message.error())
        consumer.close()
        return {"rows": rows}

    def subscribe(self, id, topic, group, assignor, instance=None, session_ms=10_000):
        config = {
            **self.settings,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # A broker that comes back is found long before the session ends.
            "reconnect.backoff.max.ms": 500,
        }
        if assignor.startswith(CONSUMER_PROTOCOL):
            config["group.protocol"] = "consumer"
            config["group.remote.assignor"] = assignor.removeprefix(CONSUMER_PROTOCOL)
        else:
            config["partition.assignment.strategy"] = assignor
            config["session.timeout.ms"] = session_ms
            config["heartbeat.interval.ms"] = 500
        if instance is not None:
            config["group.instance.id"] = instance
        member = Member(Consumer(config))
        member.consumer.subscribe([topic], on_assign=member.assigned)
        self.members[id] = member

    def poll(self, id, ms):
        member = self.members[id]
        rows = []
        end = time.monotonic() + ms / 1000
        while (left := end - time.monotonic()) > 0:
            message = member.consumer.poll(left)
            if message is not None and message.error() is None:
                rows.append([message.partition(), message.offset(), actor.text(message.value())])
        assigned = sorted(place.partition for place in member.consumer.assignment())
        return {"rows": rows, "assigned": assigned, "rebalances": member.rebalances}

    def commit_read(self, id):
        self.members[id].consumer.commit(asynchronous=False)

    def leave(self, id):
        self.members.pop(id).consumer.close()

    def describe_group(self, group):
        admin = AdminClient(self.settings)
        listed = [found.group_id for found in admin.list_consumer_groups().result(SECONDS).valid]
        found = admin.describe_consumer_groups([group])[group].result(SECONDS)
        return {"listed": group in listed, "state": found.state.name.lower(), "members": len(found.members)}

    def delete_group(self, group):
        admin = AdminClient(self.settings)
        admin.delete_consumer_groups([group])[group].result(SECONDS)

    def group_offset(self, group, topic, partition):
        consumer = Consumer({**self.settings, "group.id": group})
        [found] = consumer.committed([TopicPartition(topic, partition)], SECONDS)
        consumer.close()
        if found.error is not None:
            raise KafkaException(found.error)
        return {"offset": found.offset if found.offset >= 0 else None}


def name_of(error):
    is_kafka = isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError)
    return error.args[0].name() if is_kafka else type(error).__name__


if __name__ == "__main__":
    actor.serve(Client(actor.access()), name_of)
