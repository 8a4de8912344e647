//! Orders in, invoices out, each exactly once: a group of processes that share the work, and that may be killed at any time.
//!
//! Start as many as you like, each with a name of its own that it keeps when it is started again:
//!
//! ```text
//! semel serve
//! cargo run --release --example invoices -- --name a
//! cargo run --release --example invoices -- --name b
//! echo '{"id": 1, "customer": "alice", "net_cents": 4200}' | semel produce orders
//! semel consume invoices
//! ```
//! An order that cannot be read goes to `orders-failed`, with headers that say where it comes from and why.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its story")]

use clap::Parser;
use semel::client::{
    Admin, BackoffLimits, Client, ClientConfig, ClientError, ConsumedRecord, Endpoint, GroupConfig, NewTopic,
    ProcessingConfig, ProcessingSession, ProducerRecord, Subscription, TlsFiles,
};
use semel::types::{GroupId, TopicName, TransactionalId};
use semel::wire::ErrorCode;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ORDERS: &str = "orders";
const INVOICES: &str = "invoices";
const FAILED: &str = "orders-failed";
const PARTITIONS: i32 = 4;
const VAT_PERCENT: u64 = 20;

#[derive(Debug, Parser)]
struct Options {
    /// The process's name: no other has it at the same time
    #[arg(long)]
    name: String,
    /// The group that shares the work
    #[arg(long, default_value = "invoices")]
    group: String,
    /// Where a broker is
    #[arg(long, default_value = "quic://127.0.0.1:9092")]
    bootstrap: Endpoint,
    /// Its data directory, for the certificates
    #[arg(long, default_value = "./semel-data")]
    data_dir: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    net_cents: u64,
}

#[derive(Debug, Serialize)]
struct Invoice<'a> {
    order: u64,
    customer: &'a str,
    gross_cents: u64,
}

/// What an order turns into.
fn invoice(order: &ConsumedRecord) -> Result<ProducerRecord, Failure> {
    let value = order.record.value.as_deref().ok_or("an order without a value")?;
    let order: Order = serde_json::from_slice(value)?;
    let gross_cents = order.net_cents + order.net_cents * VAT_PERCENT / 100;
    let invoice = Invoice { order: order.id, customer: &order.customer, gross_cents };
    let invoice = ProducerRecord::new(TopicName::new(INVOICES)?, serde_json::to_vec(&invoice)?);
    Ok(invoice.key(order.customer))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("invoices: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    let config = ClientConfig::new(options.bootstrap, TlsFiles::under(&options.data_dir));
    let client = Client::connect(config).await?;
    create_topics(&client).await?;
    let orders = Subscription::topics([TopicName::new(ORDERS)?]);
    let config = ProcessingConfig {
        quarantine: Some(TopicName::new(FAILED)?),
        // Whether an order can be read does not change with time.
        retry_pauses: BackoffLimits { first: Duration::from_millis(1), longest: Duration::from_millis(1) },
        ..ProcessingConfig::new(GroupConfig::new(GroupId::new(&options.group), orders))
    };
    let id = format!("{}-{}", options.group, options.name);
    let id = TransactionalId::new(&id).ok_or("an empty transactional id")?;
    let session = ProcessingSession::start(&client, id, config).await?;
    println!("{} is at work", options.name);
    let process = |order: ConsumedRecord| async move { invoice(&order).map(|invoice| vec![invoice]) };
    let mut terminated = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    session.run(process, stop).await?;
    client.close().await;
    Ok(())
}

async fn create_topics(client: &Client) -> Result<(), Failure> {
    for (name, partitions) in [(ORDERS, PARTITIONS), (INVOICES, PARTITIONS), (FAILED, 1)] {
        let created =
            Admin::new(client).create_topic(&NewTopic::new(TopicName::new(name)?, partitions)).await;
        let there = |error: &ClientError| error.code() == Some(ErrorCode::TopicAlreadyExists);
        created.or_else(|error| if there(&error) { Ok(Default::default()) } else { Err(error) })?;
    }
    Ok(())
}
