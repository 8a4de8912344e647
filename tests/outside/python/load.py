"""Load for the kill test: producers through librdkafka that write until they are told to pause, whatever happens to
the broker meanwhile. Lines in: `run`, `pause`. Lines out, one JSON array each:

["acked", partition, offset, value]      an idempotent record was acknowledged
["committed", transaction]               commit_transaction said so
["aborted", transaction]                 abort_transaction said so
["unknown", transaction]                 the client gave up: nobody told how it ended
["paused"]                               every producer has come to a stop with nothing in flight

An idempotent record's value is `i PRODUCER NUMBER`; a transaction `PRODUCER.NUMBER` writes the records
`t TRANSACTION INDEX SIZE`, index 0 up to size, over all partitions.
"""

import json
import os
import random
import sys
import threading
import traceback

from confluent_kafka import KafkaException, Producer

import actor
from librdkafka import settings

ACCESS = actor.access()
TOPIC, PARTITIONS = ACCESS["topic"], ACCESS["partitions"]
IDEMPOTENT_PRODUCERS, TRANSACTIONAL_PRODUCERS = 2, 3
PATIENCE = 120

CONFIG = {
    **settings(ACCESS),
    "enable.idempotence": True,
    "linger.ms": 1,
    # The broker is away for a moment: come back soon, and never give a record up.
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 10,
    "message.timeout.ms": PATIENCE * 1000,
    **({"debug": os.environ["LIBRDKAFKA_DEBUG"]} if "LIBRDKAFKA_DEBUG" in os.environ else {}),
}

voice = threading.Lock()


def say(*words):
    with voice:
        print(json.dumps(words), flush=True)


class Gate:
    """Where producers wait while the load is paused; tells when all of them have arrived."""

    def __init__(self, producers):
        self.producers, self.changed = producers, threading.Condition()
        self.open, self.waiting, self.runs = False, 0, 0

    def run(self):
        with self.changed:
            self.open, self.waiting, self.runs = True, 0, self.runs + 1
            self.changed.notify_all()

    def pause(self):
        with self.changed:
            self.open = False

    def pass_through(self, settle=lambda: None):
        """A producer settles what it has in flight before it counts as waiting."""
        if self.open:
            return
        settle()
        with self.changed:
            if self.open:
                return
            run = self.runs
            self.waiting += 1
            if self.waiting == self.producers:
                say("paused")
            self.changed.wait_for(lambda: self.runs != run)


gate = Gate(IDEMPOTENT_PRODUCERS + TRANSACTIONAL_PRODUCERS)


def idempotent(name):
    producer = Producer(CONFIG)
    dice = random.Random(name)

    def delivered(error, message):
        if error is not None:
            raise KafkaException(error)
        say("acked", message.partition(), message.offset(), message.value().decode())

    number = 0
    while True:
        gate.pass_through(settle=producer.flush)
        for _ in range(dice.randrange(1, 20)):
            producer.produce(TOPIC, f"i {name} {number}", partition=number % PARTITIONS, on_delivery=delivered)
            number += 1
        # Not every burst waits for the one before it: several batches are in flight when the broker dies.
        if dice.random() < 0.3:
            producer.flush()
        producer.poll(0)


def transactional(name):
    config = {**CONFIG, "transactional.id": name, "transaction.timeout.ms": PATIENCE * 1000}
    dice = random.Random(name)
    producer, number = None, 0
    while True:
        if producer is None:
            # Ends what the one before it may have left open.
            producer = Producer(config)
            producer.init_transactions(PATIENCE)
        gate.pass_through()
        transaction = f"{name}.{number}"
        number += 1
        try:
            producer.begin_transaction()
            size = dice.randrange(1, 30)
            for index in range(size):
                producer.produce(TOPIC, f"t {transaction} {index} {size}", partition=index % PARTITIONS)
            if dice.random() < 0.25:
                producer.flush(PATIENCE)
                abort(producer)
                say("aborted", transaction)
            else:
                commit(producer)
                say("committed", transaction)
        except KafkaException as error:
            print(f"{transaction}: {error}", file=sys.stderr, flush=True)
            producer = end_somehow(producer, error, transaction)


def commit(producer):
    retry(producer.commit_transaction)


def abort(producer):
    retry(producer.abort_transaction)


def retry(end):
    """The client says itself that the same call may be made again."""
    while True:
        try:
            return end(PATIENCE)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise


def end_somehow(producer, error, transaction):
    """Aborts if the client asks for that; else drops the producer, and nobody knows how the transaction ended."""
    if error.args[0].txn_requires_abort():
        try:
            abort(producer)
            say("aborted", transaction)
            return producer
        except KafkaException as worse:
            print(f"{transaction}: {worse}", file=sys.stderr, flush=True)
    say("unknown", transaction)
    return None


def start(part, name):
    """A producer that fails is the end of the load, and so of the test."""

    def play():
        try:
            part(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=play, daemon=True).start()


def main():
    for number in range(IDEMPOTENT_PRODUCERS):
        start(idempotent, f"idempotent{number}")
    for number in range(TRANSACTIONAL_PRODUCERS):
        start(transactional, f"transactional{number}")
    for line in sys.stdin:
        gate.run() if line.strip() == "run" else gate.pause()


main()
