//! Apache Kafka's own administration of transactions: list, describe, find who holds back a partition, abort.

use std::time::Duration;

use crate::common::actor::{Access, Actor};
use crate::common::broker::Broker;
use crate::common::process::pipe;
use crate::common::tools;

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn kafkas_administration_finds_what_holds_readers_back_and_aborts_all_of_it() {
    let broker = Broker::start();
    let (Some(java), Some(reader)) = (tools::java(), Actor::java(&broker)) else { return };
    let mut command = java.command(&[], "Transactions");
    command.arg(Access::from(&broker).to_json().to_string());
    let told = pipe("Transactions", command, b"", DEADLINE);
    assert!(told.status.success(), "{}\n{}", told.status, told.errors);
    let seen: serde_json::Value = serde_json::from_str(told.lines.last().unwrap()).unwrap();
    assert_eq!(seen["before"], serde_json::json!({"listed": 1, "state": "Ongoing", "partitions": 2}));
    assert_eq!(seen["start"], 0);
    assert!(seen["timestamp"].as_i64().unwrap() > 1_000_000_000_000, "{seen}");
    assert_eq!(seen["after"], serde_json::json!({"listed": 1, "state": "CompleteAbort", "partitions": 0}));
    assert_eq!(seen["commit"], "ProducerFencedException");
    // One partition was named, and both have ended.
    assert_eq!(reader.read_committed("operated", 2).values(), [[""; 0], [""; 0]]);
}
