"""The actors' protocol: one line of JSON in, one line of JSON out. A client is a class with these operations.

topic(name, partitions, config={})                       creates a topic
producer(id, transactional_id=None, compression="none", timeout_ms=60000, singly=False)
                                                         opens a producer under a number of the caller's; timeout_ms
                                                         is how long the broker waits for the end of a transaction;
                                                         singly: each record in a batch of its own, five in flight
begin(id) / commit(id) / abort(id) / close(id)
send(id, topic, records)                                 records: [[partition, key or null, value]]; waits for all
                                                         acknowledgements -> {"offsets": [...]} in the same order
send_keyed(id, topic, records)                           records: [[partition, idempotency key, value]]; waits for all
                                                         -> {"outcomes": [[offset] or [error, message]]}, in the same
                                                         order. librdkafka and Java only, as are config and singly
send_group_offset(id, group, topic, partition, offset)   within a transaction
read(topic, partitions, isolation)                       partitions 0.. from 0 to the end that the isolation level
                                                         shows -> {"rows": [[partition, offset, key, value]]}
group_offset(group, topic, partition)                    -> {"offset": number or null}
subscribe(id, topic, group, assignor, instance=None, session_ms=10000)
                                                         opens a consumer, a member of the group, from the beginning;
                                                         without commits of its own. assignor: range, roundrobin,
                                                         sticky, cooperative-sticky, as far as the client has them
poll(id, ms)                                             lets it work for about so long -> {"rows": [[partition, offset,
                                                         value]], "assigned": [partitions], "rebalances": how often it
                                                         was assigned something}
commit_read(id)                                          commits what it has read
leave(id)                                                closes it
describe_group(group)                                    -> {"listed": bool, "state": text, "members": number}
forget_group_offset(group, topic, partition)             deletes the group's offset there
delete_group(group)                                      deletes the group

The only argument says where the broker is: {"bootstrap", "ca", "cert", "key", "properties"}.
"""

import json
import sys
import traceback


def access():
    return json.loads(sys.argv[1])


def text(data):
    return None if data is None else data.decode()


def data(text):
    return None if text is None else text.encode()


def serve(client, name_of=lambda error: type(error).__name__):
    """Obeys until standard input closes."""
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(client, request.pop("op"))(**request) or {}
        except Exception as error:  # the test decides whether it was to be expected
            traceback.print_exc()
            answer = {"error": name_of(error), "message": str(error)}
        print(json.dumps(answer), flush=True)
