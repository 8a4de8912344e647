//! What a client does and what must come of it, told once for all clients.

use std::time::{Duration, Instant};

use crate::common::actor::{Actor, Producer, Record};

/// Topics of one broker carry the story's and the teller's name, so that stories can share a broker.
fn topic(story: &str, writer: &Actor, partitions: i32) -> String {
    let name = format!("{story}-{}", writer.name());
    writer.create_topic(&name, partitions);
    name
}

fn id(story: &str, writer: &Actor) -> String {
    format!("{story}-{}", writer.name())
}

/// NoTornTxn, NoAbortedRead: one transaction over three partitions commits, one aborts, a third commits.
pub fn a_transaction_over_three_partitions_is_seen_whole_or_never(writer: &Actor, reader: &Actor) {
    let topic = topic("whole", writer, 3);
    let producer = writer.transactional(&id("whole", writer));

    producer.begin();
    producer
        .send(&topic, &[(0, Some("alice"), "debit 5"), (1, Some("bob"), "credit 5"), (2, None, "note 5")]);
    producer.commit();

    producer.begin();
    producer
        .send(&topic, &[(0, Some("alice"), "debit 99"), (1, Some("bob"), "credit 99"), (2, None, "note 99")]);
    producer.abort();

    producer.begin();
    producer
        .send(&topic, &[(2, None, "note 7"), (0, Some("carol"), "debit 7"), (1, Some("dave"), "credit 7")]);
    producer.commit();
    producer.close();

    let committed = reader.read_committed(&topic, 3);
    assert_eq!(committed.values(), [["debit 5", "debit 7"], ["credit 5", "credit 7"], ["note 5", "note 7"]]);
    assert_eq!(committed.rows[&0][1].key.as_deref(), Some("carol"));
    assert_eq!(committed.rows[&2][1].key, None);

    let all = reader.read_uncommitted(&topic, 3);
    assert_eq!(all.values()[0], ["debit 5", "debit 99", "debit 7"]);
    assert_eq!(all.values()[1], ["credit 5", "credit 99", "credit 7"]);
    assert_eq!(all.values()[2], ["note 5", "note 99", "note 7"]);
    // Each end left one marker: record, marker, record, marker, record.
    assert_eq!(all.rows[&0].iter().map(|row| row.offset).collect::<Vec<_>>(), [0, 2, 4]);
}

/// NoUncommittedRead, CommittedPrefixStable: transactions of three producers and a plain one interleave in a partition.
pub fn overlapping_transactions_show_only_what_was_committed(writer: &Actor, reader: &Actor) {
    let topic = topic("overlap", writer, 1);
    let holder = |name: &str| writer.transactional(&format!("{}-{name}", id("overlap", writer)));
    let (first, second, third) = (holder("first"), holder("second"), holder("third"));
    let plain = writer.producer("none");
    let send = |producer: &Producer<'_>, value: &str| producer.send(&topic, &[(0, None, value)]);
    let committed =
        || reader.read_committed(&topic, 1).values()[0].iter().map(|v| v.to_string()).collect::<Vec<_>>();

    send(&plain, "before");
    first.begin();
    send(&first, "first 1");
    second.begin();
    send(&second, "second 1");
    send(&plain, "between");
    third.begin();
    send(&third, "third 1");
    send(&first, "first 2");
    assert_eq!(committed(), ["before"], "all three are open");

    second.commit();
    assert_eq!(committed(), ["before"], "the first one still holds back the last stable offset");
    send(&third, "third 2");
    third.abort();
    second.begin();
    send(&second, "second 2");
    first.commit();
    assert_eq!(committed(), ["before", "first 1", "second 1", "between", "first 2"]);

    third.begin();
    send(&third, "third 3");
    second.abort();
    assert_eq!(committed(), ["before", "first 1", "second 1", "between", "first 2"]);
    third.commit();
    send(&plain, "after");
    assert_eq!(committed(), ["before", "first 1", "second 1", "between", "first 2", "third 3", "after"]);

    let all = reader.read_uncommitted(&topic, 1);
    let sent = [
        "before", "first 1", "second 1", "between", "third 1", "first 2", "third 2", "second 2", "third 3",
        "after",
    ];
    assert_eq!(all.values()[0], sent);
}

/// OffsetsAtomicWithTxn: a group's offset moves when the transaction commits, and only then.
pub fn group_offsets_take_effect_with_the_transaction(client: &Actor) {
    let topic = topic("offsets", client, 2);
    let group = id("group", client);
    let producer = client.transactional(&id("offsets", client));
    let offset = |partition| client.group_offset(&group, &topic, partition);
    assert_eq!(offset(0), None);

    producer.begin();
    producer.send(&topic, &[(1, None, "result 1")]);
    producer.send_group_offset(&group, &topic, 0, 10);
    producer.commit();
    assert_eq!(offset(0), Some(10));

    producer.begin();
    producer.send(&topic, &[(1, None, "result 2")]);
    producer.send_group_offset(&group, &topic, 0, 20);
    producer.abort();
    assert_eq!(offset(0), Some(10), "the transaction was aborted");

    // Nothing but an offset: a consumer that filtered everything out.
    producer.begin();
    producer.send_group_offset(&group, &topic, 0, 30);
    producer.commit();
    assert_eq!((offset(0), offset(1)), (Some(30), None));
}

/// FenceZombie: a second holder of a transactional id ends the first one's transaction, and the first one for good.
pub fn a_new_holder_of_the_id_fences_the_old_one(writer: &Actor, reader: &Actor) {
    let topic = topic("fence", writer, 1);
    let zombie = writer.transactional(&id("fence", writer));
    zombie.begin();
    zombie.send(&topic, &[(0, None, "of the zombie")]);

    let successor = writer.transactional(&id("fence", writer));
    successor.begin();
    successor.send(&topic, &[(0, None, "of the successor")]);
    let refusal = zombie.try_commit().expect_err("a zombie committed");
    let named = format!("{} {}", refusal.error, refusal.message).to_lowercase();
    assert!(["fence", "epoch", "newer producer"].iter().any(|word| named.contains(word)), "{refusal:?}");
    successor.commit();

    assert_eq!(reader.read_committed(&topic, 1).values(), [["of the successor"]]);
}

/// LsoAdvances: a transaction that nobody ends is ended by the broker, and its producer cannot commit it any more.
pub fn an_abandoned_transaction_is_ended_by_the_broker(writer: &Actor, reader: &Actor) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    const DEADLINE: Duration = Duration::from_secs(60);
    let topic = topic("abandoned", writer, 1);
    let abandoned = writer.transactional_within(&id("abandoned", writer), TIMEOUT);
    abandoned.begin();
    abandoned.send(&topic, &[(0, None, "never finished")]);
    let plain = writer.producer("none");
    plain.send(&topic, &[(0, None, "behind it")]);

    let abandoned_at = Instant::now();
    while reader.read_committed(&topic, 1).values() != [["behind it"]] {
        assert!(abandoned_at.elapsed() < DEADLINE, "still open after {DEADLINE:?}");
    }
    abandoned.try_commit().expect_err("a transaction that had timed out was committed");
    assert_eq!(reader.read_committed(&topic, 1).values(), [["behind it"]]);
}

/// NoDuplicate, SeqContiguous: many batches in flight, each record once, at the offset its acknowledgement told.
pub fn idempotent_batches_arrive_once_and_in_order(writer: &Actor, reader: &Actor) {
    const RECORDS: usize = 2_000;
    const PARTITIONS: usize = 4;
    let topic = topic("idempotent", writer, 4);
    let values = (0..RECORDS).map(|n| format!("{n}-{}", "x".repeat(n % 500))).collect::<Vec<_>>();
    let record = |n: usize| -> Record<'_> { (i32::try_from(n % PARTITIONS).unwrap(), None, &values[n]) };
    let producer = writer.producer("none");
    let offsets = producer.send(&topic, &(0..RECORDS).map(record).collect::<Vec<_>>());
    producer.close();

    let read = reader.read_committed(&topic, 4);
    for (n, offset) in offsets.into_iter().enumerate() {
        let rows = &read.rows[&record(n).0];
        let place = n / PARTITIONS;
        assert_eq!(offset, i64::try_from(place).unwrap(), "record {n}");
        assert_eq!((rows[place].offset, &rows[place].value), (offset, &values[n]), "record {n}");
    }
    assert!(read.rows.values().all(|rows| rows.len() == RECORDS / PARTITIONS));
}

/// A batch is kept as it came, in whatever codec.
pub fn every_codec_is_kept(writer: &Actor, reader: &Actor, codecs: &[&str]) {
    let topic = topic("codecs", writer, 1);
    let mut sent = Vec::new();
    for codec in codecs {
        let values = (0..50).map(|n| format!("{codec} {n} {}", "packs well ".repeat(40))).collect::<Vec<_>>();
        let producer = writer.transactional_with(&format!("{}-{codec}", id("codecs", writer)), codec);
        producer.begin();
        producer
            .send(&topic, &values.iter().map(|value| (0, Some("key"), value.as_str())).collect::<Vec<_>>());
        producer.commit();
        producer.close();
        sent.extend(values);
    }
    assert_eq!(reader.read_committed(&topic, 1).values(), [sent]);
}

/// Every writer commits and aborts in the same partitions, turn and turn about; every reader sees the same.
pub fn all_write_and_all_read_the_same(writers: &[&Actor], readers: &[&Actor]) {
    const ROUNDS: usize = 3;
    let topic = topic("all", writers[0], 2);
    let producers = writers.iter().map(|writer| writer.transactional(&id("all", writer))).collect::<Vec<_>>();
    let commits = |number: usize, round: usize| (number + round).is_multiple_of(2);
    let (mut committed, mut sent) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        producers.iter().for_each(Producer::begin);
        for (number, (writer, producer)) in writers.iter().zip(&producers).enumerate() {
            let value = format!("{} {round}", writer.name());
            producer.send(&topic, &[(0, None, &value), (1, None, &value)]);
            sent.push(value.clone());
            if commits(number, round) {
                committed.push(value);
            }
        }
        // Ended in the opposite order: the list of aborted transactions gets long and mixed.
        for (number, producer) in producers.iter().enumerate().rev() {
            if commits(number, round) { producer.commit() } else { producer.abort() }
        }
    }
    let twice = |values: Vec<String>| [values.clone(), values];
    let (committed, sent) = (twice(committed), twice(sent));
    for reader in readers {
        assert_eq!(reader.read_committed(&topic, 2).values(), committed, "{} reads committed", reader.name());
        assert_eq!(reader.read_uncommitted(&topic, 2).values(), sent, "{} reads uncommitted", reader.name());
    }
}
