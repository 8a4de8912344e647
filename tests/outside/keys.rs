//! Idempotency keys as other people's clients meet them, five batches in flight: a refused batch costs its own records, and
//! none of those behind it.

use crate::common::actor::Actor;
use crate::common::broker::Broker;

const RECORDS: usize = 400;
const HEADER: (&str, &str) = ("semel.idempotency.key.header", "semel-idempotency-key");

/// Every seventh record has the key of one that is stored already, the first of all among them.
fn is_known(n: usize) -> bool {
    n.is_multiple_of(7)
}

fn records(known: impl Fn(usize) -> bool) -> Vec<(i32, String, String)> {
    let key = |n| if known(n) { format!("known-{}", n % 5) } else { format!("new-{n}") };
    (0..RECORDS).map(|n| (0, key(n), format!("value {n}"))).collect()
}

fn a_refused_batch_costs_its_own_records_only(client: &Actor, refusal: &str) {
    let topic = format!("keys-{}", client.name());
    client.create_topic_with(&topic, 2, &[HEADER]);
    let before = client.producer_singly(None);
    let known: Vec<_> = (0..5).map(|n| (1, format!("known-{n}"), "first".to_owned())).collect();
    let offsets = before.send_keyed(&topic, &known);
    assert!(offsets.iter().all(Result::is_ok), "{offsets:?}");

    let producer = client.producer_singly(None);
    let outcomes = producer.send_keyed(&topic, &records(is_known));
    let mut stored = Vec::new();
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(offset) => {
                assert!(!is_known(n), "record {n} is stored again");
                stored.push((*offset, format!("value {n}")));
            }
            Err(failure) => {
                assert!(is_known(n), "record {n}: {failure:?}\n{}", client.log());
                assert_eq!(failure.error, refusal, "{failure:?}");
                let place = format!("partition 1, offset {}", offsets[n % 5].as_ref().unwrap());
                let says = client.name() == "librdkafka" || failure.message.contains(&place);
                assert!(says, "{failure:?}");
            }
        }
    }
    let read = client.read_committed(&topic, 2);
    let rows: Vec<_> = read.rows[&0].iter().map(|row| (row.offset, row.value.clone())).collect();
    assert_eq!(rows, stored, "what is not known is stored once and in order");
    let again = producer.send_keyed(&topic, &[(0, "after".to_owned(), "after".to_owned())]);
    assert!(again[0].is_ok(), "the producer goes on: {again:?}");
}

fn a_transaction_with_a_known_key_is_aborted_and_frees_its_others(client: &Actor, refusal: &str) {
    let topic = format!("keys-in-transactions-{}", client.name());
    client.create_topic_with(&topic, 1, &[HEADER]);
    let plain = client.producer_singly(None);
    assert!(plain.send_keyed(&topic, &[(0, "known-1".to_owned(), "first".to_owned())])[0].is_ok());
    let producer = client.producer_singly(Some(&topic));
    producer.begin();
    let outcomes = producer.send_keyed(&topic, &records(|n| n == 21));
    assert_eq!(outcomes[21].as_ref().unwrap_err().error, refusal, "{:?}", outcomes[21]);
    assert!(producer.try_commit().is_err(), "a record is missing");
    producer.abort();
    // If nothing was in flight behind the refused batch, librdkafka leaves its sequence number out, and its next transaction
    // fails, too (`spec/transactions.md`, 7a).
    let anew = (client.name() == "librdkafka").then(|| client.producer_singly(Some(&topic)));
    let producer = anew.unwrap_or(producer);
    producer.begin();
    let outcomes = producer.send_keyed(&topic, &records(|_| false));
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    producer.commit();
    assert_eq!(client.read_committed(&topic, 1).rows[&0].len(), 1 + RECORDS);
}

#[test]
fn librdkafka() {
    let broker = Broker::start();
    let Some(client) = Actor::librdkafka(&broker) else { return };
    a_refused_batch_costs_its_own_records_only(&client, "INVALID_RECORD");
    a_transaction_with_a_known_key_is_aborted_and_frees_its_others(&client, "INVALID_RECORD");
}

#[test]
fn java() {
    let broker = Broker::start();
    let Some(client) = Actor::java(&broker) else { return };
    a_refused_batch_costs_its_own_records_only(&client, "InvalidRecordException");
    a_transaction_with_a_known_key_is_aborted_and_frees_its_others(&client, "InvalidRecordException");
}
