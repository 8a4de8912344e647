//! Transactions from a shell: which are open or prepared, what they hold back, how they ended; and to end them.

use semel::client::{
    Client, ClientConfig, CommitError, ProducerRecord, TlsFiles, TransactionConfig, TransactionalProducer,
};
use semel::types::{PartitionIndex, TopicName, TransactionalId};
use serde_json::{Value, json};

use crate::common::broker::Broker;
use crate::groups::refused;
use crate::{Semel, objects};

async fn holder(client: &Client, id: &str) -> TransactionalProducer {
    let id = TransactionalId::new(id).unwrap();
    TransactionalProducer::init(client, id, TransactionConfig::default()).await.unwrap()
}

fn record(partition: i32) -> ProducerRecord {
    ProducerRecord::new(TopicName::new("t").unwrap(), "v").partition(PartitionIndex(partition))
}

/// These fields of each object, in the order of the first.
fn fields(objects: &[Value], names: &[&str]) -> Vec<Vec<Value>> {
    let of = |object: &Value| names.iter().map(|name| object[name].clone()).collect();
    let mut rows: Vec<Vec<Value>> = objects.iter().map(of).collect();
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

/// What `semel txn` tells, as objects.
fn told(semel: &Semel, words: &[&str]) -> Vec<Value> {
    objects(&semel.done(&[&["txn"], words, &["--output", "json"]].concat(), ""))
}

fn outcomes(semel: &Semel, words: &[&str]) -> Vec<Vec<Value>> {
    fields(&told(semel, &[&["outcome"], words].concat()), &["number", "outcome", "reason"])
}

/// "one" is open in partition 0, "other" is prepared with a record in partition 1.
fn they_are_seen(semel: &Semel, id: &str) {
    let told = |words: &[&str]| told(semel, words);
    let names = |words: &[&str]| fields(&told(words), &["transactional_id", "state"]);
    let is_open = || vec![json!("one"), json!("Ongoing")];
    let is_prepared = || vec![json!("other"), json!("Prepared")];
    assert_eq!(names(&["list"]), [is_open(), is_prepared()]);
    assert_eq!(names(&["list", "--state", "Ongoing"]), [is_open()]);
    assert_eq!(names(&["list", "--pattern", "oth.*"]), [is_prepared()]);
    assert_eq!(names(&["list", "--producer-id", id]), [is_open()]);
    assert_eq!(names(&["list", "--open-for", "86400"]), [[Value::Null; 0]; 0]);
    assert_eq!(names(&["prepared"]), [is_prepared()]);
    let described = told(&["describe", "one"]).remove(0);
    assert_eq!(
        (&described["partitions"], described["producer_id"].to_string()),
        (&json!([["t", 0]]), id.into())
    );
    assert!(described["began_ms"].as_i64().unwrap() > 0 && described["timeout_ms"].as_i64().unwrap() > 0);
    for words in [&["blockers"][..], &["blockers", "t"]] {
        let held = told(words);
        assert_eq!(
            fields(&held, &["partition", "first_offset"]),
            [[json!(0), json!(0)], [json!(1), json!(0)]]
        );
        for blocker in &held {
            let (began, age) = (&blocker["transaction"]["began_ms"], &blocker["transaction"]["age_ms"]);
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
            let longest = i64::try_from(now).unwrap() - began.as_i64().unwrap();
            assert!((0..=longest).contains(&age.as_i64().unwrap()), "{age} of {longest}");
        }
        let by = held.iter().map(|blocker| blocker["transaction"]["transactional_id"].clone());
        assert_eq!(by.collect::<Vec<_>>(), ["one", "other"]);
    }
    let table = semel.done(&["txn", "blockers"], "").join("\n");
    assert!(table.contains("HELD AT") && table.contains("one") && table.contains("Prepared"), "{table}");
    assert_eq!(outcomes(semel, &["one"]), [[json!(1), json!("open"), Value::Null]]);
    assert_eq!(outcomes(semel, &["other", "--number", "1"]), [[json!(1), json!("prepared"), Value::Null]]);
}

fn they_are_ended(semel: &Semel, id: &str, epoch: &str) {
    let told = |words: &[&str]| told(semel, words);
    refused(semel, &["txn", "commit", "one"], "INVALID_TXN_STATE");
    refused(semel, &["txn", "abort", "one", "--number", "7"], "INVALID_TXN_STATE");
    refused(semel, &["txn", "abort", "nobody"], "TRANSACTIONAL_ID_NOT_FOUND");
    refused(semel, &["txn", "outcome", "nobody"], "TRANSACTIONAL_ID_NOT_FOUND");
    let aborted = told(&["abort", "one", "--number", "1"]);
    assert_eq!(aborted, [json!({"transactional_id": "one", "outcome": "aborted"})]);
    let committed = told(&["commit", "other"]);
    assert_eq!(committed, [json!({"transactional_id": "other", "outcome": "committed"})]);

    let by_identity = ["one", "--producer-id", id, "--epoch", epoch];
    assert_eq!(outcomes(semel, &by_identity), [[json!(1), json!("aborted"), json!("operator")]]);
    assert_eq!(outcomes(semel, &["other"]), [[json!(1), json!("committed"), json!("operator")]]);
    let on_record = told(&["outcome", "other"]).remove(0);
    assert!(on_record["operator"].as_str().unwrap().contains("semel-client"), "{on_record}");
    let missing = json!({"transactional_id": "one", "outcome": "not begun"});
    assert_eq!(told(&["outcome", "one", "--number", "9"]), [missing]);
    assert_eq!(told(&["describe", "one"])[0]["state"], "CompleteAbort");
    assert_eq!((told(&["blockers"]).len(), told(&["prepared"]).len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_transactions_and_ends_them() {
    if !Broker::runs_semel() {
        return;
    }
    let broker = Broker::start_with(&["--two-phase-commit", "true"]);
    let semel = Semel::of(&broker);
    semel.done(&["topic", "create", "t", "--partitions", "2"], "");
    let endpoint = semel.bootstrap.parse().unwrap();
    let files = TlsFiles::under(&broker.data_dir());
    let client = Client::connect(ClientConfig::new(endpoint, files)).await.unwrap();
    let (mut one, mut other) = (holder(&client, "one").await, holder(&client, "other").await);
    let (producer, epoch) = one.identity().await;
    let mut open = one.begin().await.unwrap();
    open.send(record(0)).await.unwrap();
    open.flush().await.unwrap();
    let mut prepared = other.begin().await.unwrap();
    prepared.send(record(1)).await.unwrap();
    prepared.prepare(None).await.unwrap();
    drop(prepared);

    let (id, epoch) = (producer.to_string(), epoch.0.to_string());
    they_are_seen(&semel, &id);
    they_are_ended(&semel, &id, &epoch);
    assert!(matches!(open.commit().await, Err(CommitError::Fenced(_))));
}
