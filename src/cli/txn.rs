//! `semel txn`: which transactions are open, what they hold back, how they ended; and to end them.

use super::CliError;
use super::connect::ConnectArgs;
use super::output::{number, print_table, text, time_text};
use super::topic::{TableFormat, topic_name};
use crate::client::{
    Admin, Blocker, Client, OutcomeQuery, Outcomes, TransactionDescription, TransactionFilter,
    TransactionOutcome,
};
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TopicName, TransactionalId};
use clap::{Args, Subcommand};
use serde_json::json;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What to do with transactions.
#[derive(Debug, Subcommand)]
pub enum TxnCommand {
    /// List transactional ids and where their newest transactions stand
    List(ListArgs),
    /// List the transactions that are prepared: their outcome is decided outside
    Prepared(PreparedArgs),
    /// Show one transactional id: its holder, its open transaction, where that is enrolled
    Describe(IdArgs),
    /// Show how the newest transactions of an id ended
    Outcome(OutcomeArgs),
    /// Show what holds back the last stable offsets of topics
    Blockers(BlockersArgs),
    /// Abort the open transaction of an id, and fence its producer
    Abort(EndArgs),
    /// Commit the prepared transaction of an id, in place of its coordinator
    Commit(EndArgs),
}

/// How it is written, and where to.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// How to write it
    #[arg(long, value_enum, default_value = "table")]
    output: TableFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel txn list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state, such as Ongoing or CompleteAbort; may be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only those whose whole id matches this pattern
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
    /// Only those of this producer id; may be repeated
    #[arg(long, value_name = "ID")]
    producer_id: Vec<i64>,
    /// Only those that have been open for more than so many seconds
    #[arg(long, value_name = "SECONDS")]
    open_for: Option<u64>,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel txn prepared`.
#[derive(Debug, Args)]
pub struct PreparedArgs {
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel txn describe`.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The transactional id
    #[arg(value_parser = transactional_id)]
    id: TransactionalId,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel txn outcome`.
#[derive(Debug, Args)]
pub struct OutcomeArgs {
    /// The transactional id
    #[arg(value_parser = transactional_id)]
    id: TransactionalId,
    /// Only the transaction of this number
    #[arg(long, conflicts_with_all = ["producer_id", "epoch"])]
    number: Option<u64>,
    /// Only what ran under this producer id and --epoch
    #[arg(long, requires = "epoch", value_name = "ID")]
    producer_id: Option<i64>,
    /// Only what ran under --producer-id and this epoch
    #[arg(long, requires = "producer_id")]
    epoch: Option<i16>,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel txn blockers`.
#[derive(Debug, Args)]
pub struct BlockersArgs {
    /// The topics [default: all]
    #[arg(value_parser = topic_name)]
    topics: Vec<TopicName>,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel txn abort` and `commit`.
#[derive(Debug, Args)]
pub struct EndArgs {
    /// The transactional id
    #[arg(value_parser = transactional_id)]
    id: TransactionalId,
    /// Only if it is the transaction of this number (`semel txn outcome` shows it)
    #[arg(long)]
    number: Option<u64>,
    #[command(flatten)]
    show: ShowArgs,
}

fn transactional_id(id: &str) -> Result<TransactionalId, String> {
    TransactionalId::new(id)
        .ok_or_else(|| format!("a transactional id has 1 to {} bytes", TransactionalId::BYTES_MAX))
}

pub(super) async fn run(command: TxnCommand) -> Result<(), CliError> {
    let client = command.connection().connect().await?;
    let done = match command {
        TxnCommand::List(arguments) => list(&client, arguments).await,
        TxnCommand::Prepared(arguments) => prepared(&client, &arguments).await,
        TxnCommand::Describe(arguments) => describe(&client, &arguments).await,
        TxnCommand::Outcome(arguments) => outcome(&client, &arguments).await,
        TxnCommand::Blockers(arguments) => blockers(&client, &arguments).await,
        TxnCommand::Abort(arguments) => end(&client, &arguments, false).await,
        TxnCommand::Commit(arguments) => end(&client, &arguments, true).await,
    };
    client.close().await;
    done
}

impl TxnCommand {
    fn connection(&self) -> &ConnectArgs {
        match self {
            TxnCommand::List(arguments) => &arguments.show.connect,
            TxnCommand::Prepared(arguments) => &arguments.show.connect,
            TxnCommand::Describe(arguments) => &arguments.show.connect,
            TxnCommand::Outcome(arguments) => &arguments.show.connect,
            TxnCommand::Blockers(arguments) => &arguments.show.connect,
            TxnCommand::Abort(arguments) | TxnCommand::Commit(arguments) => &arguments.show.connect,
        }
    }
}

async fn list(client: &Client, arguments: ListArgs) -> Result<(), CliError> {
    let filter = TransactionFilter {
        states: arguments.state,
        producers: arguments.producer_id.into_iter().map(ProducerId).collect(),
        open_for: arguments.open_for.map(Duration::from_secs),
        pattern: arguments.pattern,
    };
    let listed = Admin::new(client).list_transactions(&filter).await?;
    Ok(show(&listed, arguments.show.output, "there is no such transactional id")?)
}

async fn prepared(client: &Client, arguments: &PreparedArgs) -> Result<(), CliError> {
    let filter = TransactionFilter { states: vec!["Prepared".to_owned()], ..TransactionFilter::default() };
    let listed = Admin::new(client).list_transactions(&filter).await?;
    Ok(show(&listed, arguments.show.output, "no transaction is prepared")?)
}

async fn describe(client: &Client, arguments: &IdArgs) -> Result<(), CliError> {
    let described = Admin::new(client).describe_transaction(&arguments.id).await?;
    show(std::slice::from_ref(&described), arguments.show.output, "")?;
    if arguments.show.output == TableFormat::Table && !described.partitions.is_empty() {
        let rows: Vec<_> = described
            .partitions
            .iter()
            .map(|(topic, partition)| vec![topic.clone(), partition.to_string()])
            .collect();
        print_table(&[text("ENROLLED TOPIC"), number("PARTITION")], &rows)?;
    }
    Ok(())
}

/// How long ago something was, by this machine's clock.
pub(super) fn age(since: Timestamp) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(u64::try_from(since.0).unwrap_or(0)))
}

fn as_json(described: &TransactionDescription) -> serde_json::Value {
    let partitions = described.partitions.iter().map(|(topic, partition)| json!([topic, partition]));
    json!({
        "transactional_id": described.transactional_id,
        "state": described.state,
        "producer_id": described.producer_id.0,
        "epoch": described.epoch.0,
        "timeout_ms": u64::try_from(described.timeout.as_millis()).unwrap_or(u64::MAX),
        "began_ms": described.began.map(|began| began.0),
        "age_ms": described.began.map(|began| u64::try_from(age(began).as_millis()).unwrap_or(u64::MAX)),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

fn show(listed: &[TransactionDescription], format: TableFormat, none: &str) -> io::Result<()> {
    if format == TableFormat::Json {
        let mut out = io::stdout().lock();
        return listed.iter().try_for_each(|described| writeln!(out, "{}", as_json(described)));
    }
    let row = |described: &TransactionDescription| {
        vec![
            described.transactional_id.clone(),
            described.state.clone(),
            described.producer_id.to_string(),
            described.epoch.to_string(),
            described.began.map_or_else(String::new, |began| time_text(age(began))),
            described.partitions.len().to_string(),
        ]
    };
    let columns = [
        text("TRANSACTIONAL ID"),
        text("STATE"),
        number("PRODUCER ID"),
        number("EPOCH"),
        number("OPEN FOR"),
        number("PARTITIONS"),
    ];
    print_table(&columns, &listed.iter().map(row).collect::<Vec<_>>())?;
    if listed.is_empty() {
        writeln!(io::stderr(), "{none}")?;
    }
    Ok(())
}

async fn outcome(client: &Client, arguments: &OutcomeArgs) -> Result<(), CliError> {
    let query = match (arguments.number, arguments.producer_id.zip(arguments.epoch)) {
        (Some(number), _) => OutcomeQuery::Number(number),
        (None, Some((id, epoch))) => {
            OutcomeQuery::Of { producer_id: ProducerId(id), epoch: ProducerEpoch(epoch) }
        }
        (None, None) => OutcomeQuery::All,
    };
    let (known, missing) = match client.describe_outcomes(&arguments.id, query).await? {
        Outcomes::Known(known) => (known, ""),
        Outcomes::NotBegun => (Vec::new(), "not begun"),
        Outcomes::NeverBegun => (Vec::new(), "never begun"),
        Outcomes::Forgotten => (Vec::new(), "forgotten"),
    };
    if arguments.show.output == TableFormat::Json {
        let mut out = io::stdout().lock();
        for one in &known {
            writeln!(out, "{}", outcome_json(&arguments.id, one))?;
        }
        if known.is_empty() {
            writeln!(out, "{}", json!({"transactional_id": arguments.id.as_str(), "outcome": missing}))?;
        }
        return Ok(());
    }
    let row = |one: &TransactionOutcome| {
        vec![
            one.number.to_string(),
            one.producer_id.to_string(),
            one.epoch.to_string(),
            one.standing.word().to_owned(),
            one.reason.unwrap_or_default().to_owned(),
            one.operator.as_ref().map(|(operator, _)| operator.clone()).unwrap_or_default(),
        ]
    };
    let columns = [
        number("NUMBER"),
        number("PRODUCER ID"),
        number("EPOCH"),
        text("OUTCOME"),
        text("REASON"),
        text("OPERATOR"),
    ];
    print_table(&columns, &known.iter().map(row).collect::<Vec<_>>())?;
    if known.is_empty() {
        writeln!(io::stderr(), "{missing}")?;
    }
    Ok(())
}

fn outcome_json(id: &TransactionalId, one: &TransactionOutcome) -> serde_json::Value {
    json!({
        "transactional_id": id.as_str(),
        "number": one.number,
        "producer_id": one.producer_id.0,
        "epoch": one.epoch.0,
        "outcome": one.standing.word(),
        "reason": one.reason,
        "operator": one.operator.as_ref().map(|(operator, _)| operator),
        "decided_ms": one.operator.as_ref().map(|(_, at)| at.0),
    })
}

pub(super) fn blocker_json(blocker: &Blocker) -> serde_json::Value {
    json!({
        "topic": blocker.partition.topic.as_str(),
        "partition": blocker.partition.partition.0,
        "first_offset": blocker.first_offset.0,
        "producer_id": blocker.producer_id.0,
        "transaction": blocker.transaction.as_ref().map(as_json),
    })
}

async fn blockers(client: &Client, arguments: &BlockersArgs) -> Result<(), CliError> {
    let admin = Admin::new(client);
    let topics = match arguments.topics.is_empty() {
        true => admin.list_topics().await?.into_iter().map(|topic| topic.name).collect(),
        false => arguments.topics.clone(),
    };
    let blockers = admin.blockers(&topics).await?;
    if arguments.show.output == TableFormat::Json {
        let mut out = io::stdout().lock();
        for blocker in &blockers {
            writeln!(out, "{}", blocker_json(blocker))?;
        }
        return Ok(());
    }
    let rows = blockers.iter().map(|blocker| {
        let transaction = blocker.transaction.as_ref();
        vec![
            blocker.partition.topic.to_string(),
            blocker.partition.partition.to_string(),
            blocker.first_offset.to_string(),
            blocker.producer_id.to_string(),
            transaction.map(|named| named.transactional_id.clone()).unwrap_or_default(),
            transaction.map(|named| named.state.clone()).unwrap_or_default(),
            transaction.and_then(|named| named.began).map(|began| time_text(age(began))).unwrap_or_default(),
        ]
    });
    let columns = [
        text("TOPIC"),
        number("PARTITION"),
        number("HELD AT"),
        number("PRODUCER ID"),
        text("TRANSACTIONAL ID"),
        text("STATE"),
        number("OPEN FOR"),
    ];
    print_table(&columns, &rows.collect::<Vec<_>>())?;
    if blockers.is_empty() {
        writeln!(io::stderr(), "nothing is held back")?;
    }
    Ok(())
}

async fn end(client: &Client, arguments: &EndArgs, commit: bool) -> Result<(), CliError> {
    client.end_transaction(&arguments.id, arguments.number, commit).await?;
    let done = if commit { "committed" } else { "aborted" };
    let mut out = io::stdout().lock();
    match arguments.show.output {
        TableFormat::Json => {
            writeln!(out, "{}", json!({"transactional_id": arguments.id.as_str(), "outcome": done}))?;
        }
        TableFormat::Table => writeln!(out, "{done} the transaction of {}", arguments.id)?,
    }
    Ok(())
}
