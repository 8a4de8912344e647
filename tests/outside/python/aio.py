"""aiokafka: its own protocol code in Python, with the old versions of most requests."""

import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

import actor

SECONDS = 60


ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


class Member(ConsumerRebalanceListener):
    def __init__(self, consumer):
        self.consumer = consumer
        self.assigned = []
        self.rebalances = 0
        # What was asked for when the last poll was over, and has not come yet.
        self.polling = None

    def on_partitions_assigned(self, assigned):
        self.assigned = sorted(place.partition for place in assigned)
        self.rebalances += 1

    def on_partitions_revoked(self, revoked):
        self.assigned = []

    async def poll(self, seconds):
        """Comes back in time also while the group rebalances: who is asked next may be whom the group waits for."""
        if self.polling is None:
            self.polling = asyncio.ensure_future(self.consumer.getmany(timeout_ms=int(seconds * 1000)))
        await asyncio.wait({self.polling}, timeout=2 * seconds)
        if not self.polling.done():
            return {}
        polled, self.polling = self.polling, None
        return polled.result()

    async def leave(self):
        if self.polling is not None:
            self.polling.cancel()
        await self.consumer.stop()


class Client:
    def __init__(self, access):
        # Members send their heartbeats also while nobody asks for anything.
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        context = create_ssl_context(cafile=access["ca"], certfile=access["cert"], keyfile=access["key"])
        context.check_hostname = True
        self.settings = {
            "bootstrap_servers": access["bootstrap"],
            "security_protocol": "SSL",
            "ssl_context": context,
        }
        self.producers = {}
        self.members = {}

    def wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, SECONDS), self.loop).result()

    def topic(self, name, partitions):
        async def create():
            admin = AIOKafkaAdminClient(**self.settings)
            await admin.start()
            try:
                answer = await admin.create_topics([NewTopic(name, partitions, 1)])
                for _, code, *message in answer.topic_errors:
                    if code != 0:
                        raise KafkaError(f"create_topics: error {code} {message}")
            finally:
                await admin.close()

        self.wait(create())

    def producer(self, id, transactional_id=None, compression="none", timeout_ms=60_000):
        async def start():
            producer = AIOKafkaProducer(
                **self.settings,
                enable_idempotence=True,
                transactional_id=transactional_id,
                transaction_timeout_ms=timeout_ms,
                compression_type=None if compression == "none" else compression,
                linger_ms=5,
            )
            await producer.start()
            self.producers[id] = producer

        self.wait(start())

    def begin(self, id):
        self.wait(self.producers[id].begin_transaction())

    def commit(self, id):
        self.wait(self.producers[id].commit_transaction())

    def abort(self, id):
        self.wait(self.producers[id].abort_transaction())

    def close(self, id):
        self.wait(self.producers.pop(id).stop())

    def send(self, id, topic, records):
        async def send():
            producer = self.producers[id]
            sent = [
                await producer.send(topic, actor.data(value), actor.data(key), partition)
                for partition, key, value in records
            ]
            return [(await acknowledged).offset for acknowledged in sent]

        return {"offsets": self.wait(send())}

    def send_group_offset(self, id, group, topic, partition, offset):
        offsets = {TopicPartition(topic, partition): offset}
        self.wait(self.producers[id].send_offsets_to_transaction(offsets, group))

    def read(self, topic, partitions, isolation):
        async def read():
            consumer = AIOKafkaConsumer(**self.settings, isolation_level=isolation, auto_offset_reset="none")
            await consumer.start()
            try:
                places = [TopicPartition(topic, partition) for partition in range(partitions)]
                consumer.assign(places)
                for place in places:
                    consumer.seek(place, 0)
                ends = await consumer.end_offsets(places)
                rows = []
                while any([await consumer.position(place) < ends[place] for place in places]):
                    for place, records in (await consumer.getmany(timeout_ms=100)).items():
                        for record in records:
                            content = [actor.text(record.key), actor.text(record.value)]
                            rows.append([place.partition, record.offset] + content)
                return rows
            finally:
                await consumer.stop()

        return {"rows": self.wait(read())}

    def subscribe(self, id, topic, group, assignor, instance=None, session_ms=10_000):
        async def start():
            consumer = AIOKafkaConsumer(
                **self.settings,
                group_id=group,
                group_instance_id=instance,
                partition_assignment_strategy=[ASSIGNORS[assignor]],
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=500,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
            )
            member = self.members[id] = Member(consumer)
            await consumer.start()
            consumer.subscribe([topic], listener=member)

        self.wait(start())

    def poll(self, id, ms):
        member = self.members[id]
        polled = self.wait(member.poll(ms / 1000))
        rows = [
            [place.partition, record.offset, actor.text(record.value)]
            for place, records in polled.items()
            for record in records
        ]
        return {"rows": rows, "assigned": member.assigned, "rebalances": member.rebalances}

    def commit_read(self, id):
        self.wait(self.members[id].consumer.commit())

    def leave(self, id):
        self.wait(self.members.pop(id).leave())

    def group_offset(self, group, topic, partition):
        async def ask():
            consumer = AIOKafkaConsumer(**self.settings, group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                place = TopicPartition(topic, partition)
                consumer.assign([place])
                return await consumer.committed(place)
            finally:
                await consumer.stop()

        return {"offset": self.wait(ask())}


if __name__ == "__main__":
    actor.serve(Client(actor.access()))
