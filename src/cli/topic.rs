//! `semel topic`.

use super::CliError;
use super::connect::ConnectArgs;
use super::output::{number, print_table, text};
use super::topic_settings::{self, ConfigArgs, DeleteRecordsArgs};
use crate::client::{
    Admin, Client, ClientError, Isolation, NewTopic, Start, TopicDescription, TopicPartition,
};
use crate::types::{Offset, TopicName};
use crate::wire::ErrorCode;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::io::{self, IsTerminal, Write};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic
    Create(CreateArgs),
    /// List the topics
    List(ListArgs),
    /// Show a topic's partitions, their leaders and offsets
    Describe(DescribeArgs),
    /// Delete topics and everything in them
    Delete(DeleteArgs),
    /// Give a topic more partitions
    AddPartitions(AddPartitionsArgs),
    /// Show and change a topic's configuration
    Config(ConfigArgs),
    /// Delete the records of a partition below an offset
    DeleteRecords(DeleteRecordsArgs),
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// A table.
    Table,
    /// One JSON object per line.
    Json,
}

/// People look at a terminal; everything else is a program.
pub(super) fn is_json(output: Option<TableFormat>) -> bool {
    match output {
        Some(format) => format == TableFormat::Json,
        None => !io::stdout().is_terminal(),
    }
}

/// `semel topic create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The topic's name
    #[arg(value_parser = topic_name)]
    name: TopicName,
    /// How many partitions [default: the broker's choice]
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas [default: the broker's choice]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A topic configuration; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Do nothing, successfully, if there is such a topic
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel topic list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show the cluster's own topics too
    #[arg(long)]
    internal: bool,
    /// How to write it
    #[arg(long, value_enum, default_value = "table")]
    output: TableFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel topic describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The topic's name
    #[arg(value_parser = topic_name)]
    name: TopicName,
    /// How to write it
    #[arg(long, value_enum, default_value = "table")]
    output: TableFormat,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel topic delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The topics' names
    #[arg(required = true, value_parser = topic_name)]
    names: Vec<TopicName>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// `semel topic add-partitions`.
#[derive(Debug, Args)]
pub struct AddPartitionsArgs {
    /// The topic's name
    #[arg(value_parser = topic_name)]
    name: TopicName,
    /// How many partitions it is to have in total
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    total: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) fn topic_name(name: &str) -> Result<TopicName, String> {
    TopicName::new(name).map_err(|error| error.to_string())
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(command: TopicCommand) -> Result<(), CliError> {
    let client = command.connection().connect().await?;
    let done = match command {
        TopicCommand::Create(arguments) => create(&client, arguments).await,
        TopicCommand::List(arguments) => list(&client, arguments).await,
        TopicCommand::Describe(arguments) => describe(&client, arguments).await,
        TopicCommand::Delete(arguments) => delete(&client, arguments).await,
        TopicCommand::AddPartitions(arguments) => add_partitions(&client, arguments).await,
        TopicCommand::Config(arguments) => topic_settings::config(&client, arguments).await,
        TopicCommand::DeleteRecords(arguments) => topic_settings::delete_records(&client, arguments).await,
    };
    client.close().await;
    done
}

impl TopicCommand {
    fn connection(&self) -> &ConnectArgs {
        match self {
            TopicCommand::Create(arguments) => &arguments.connect,
            TopicCommand::List(arguments) => &arguments.connect,
            TopicCommand::Describe(arguments) => &arguments.connect,
            TopicCommand::Delete(arguments) => &arguments.connect,
            TopicCommand::AddPartitions(arguments) => &arguments.connect,
            TopicCommand::Config(arguments) => &arguments.connect,
            TopicCommand::DeleteRecords(arguments) => &arguments.connect,
        }
    }
}

async fn create(client: &Client, arguments: CreateArgs) -> Result<(), CliError> {
    let name = arguments.name.clone();
    let topic = NewTopic {
        name: arguments.name,
        partitions: arguments.partitions,
        replication_factor: arguments.replication_factor,
        configs: arguments.config.into_iter().collect(),
    };
    match Admin::new(client).create_topic(&topic).await {
        Ok(_) => Ok(writeln!(io::stdout(), "created {name}")?),
        Err(ClientError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) if arguments.if_not_exists => {
            Ok(writeln!(io::stdout(), "{name} is there already")?)
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(client: &Client, arguments: ListArgs) -> Result<(), CliError> {
    let mut topics = Admin::new(client).list_topics().await?;
    topics.retain(|topic| arguments.internal || !topic.internal);
    if arguments.output == TableFormat::Json {
        let mut out = io::stdout().lock();
        for topic in topics {
            let (name, id) = (topic.name.as_str(), topic.id.to_string());
            let line = json!({"topic": name, "id": id, "partitions": topic.partitions.len(), "internal": topic.internal});
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let rows: Vec<_> = topics
        .iter()
        .map(|topic| vec![topic.name.to_string(), topic.partitions.len().to_string(), topic.id.to_string()])
        .collect();
    print_table(&[text("TOPIC"), number("PARTITIONS"), text("ID")], &rows)?;
    if topics.is_empty() {
        writeln!(io::stderr(), "there is no topic yet; create one with `semel topic create NAME`")?;
    }
    Ok(())
}

/// Both ends of each partition.
async fn ends(client: &Client, topic: &TopicDescription) -> Result<Vec<(Offset, Offset)>, CliError> {
    let partition = |index| TopicPartition::new(topic.name.clone(), index);
    let asked =
        |start| topic.partitions.iter().map(|found| (partition(found.index), start)).collect::<Vec<_>>();
    let admin = Admin::new(client);
    let firsts = admin.find_offsets(&asked(Start::Earliest), Isolation::ReadUncommitted).await?;
    let nexts = admin.find_offsets(&asked(Start::Latest), Isolation::ReadUncommitted).await?;
    let both = firsts.into_iter().zip(nexts).map(|(first, next)| Ok((first?, next?)));
    both.collect()
}

async fn describe(client: &Client, arguments: DescribeArgs) -> Result<(), CliError> {
    let topic = Admin::new(client).describe_topic(&arguments.name).await?;
    let ends = ends(client, &topic).await?;
    if arguments.output == TableFormat::Json {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .zip(&ends)
            .map(|(partition, (first, next))| {
                json!({
                    "partition": partition.index.0,
                    "leader": partition.leader.map(|leader| leader.0),
                    "replicas": partition.replicas.iter().map(|node| node.0).collect::<Vec<_>>(),
                    "in_sync": partition.in_sync.iter().map(|node| node.0).collect::<Vec<_>>(),
                    "first_offset": first.0,
                    "next_offset": next.0,
                })
            })
            .collect();
        let (name, id) = (topic.name.as_str(), topic.id.to_string());
        let line = json!({"topic": name, "id": id, "internal": topic.internal, "partitions": partitions});
        return Ok(writeln!(io::stdout(), "{line}")?);
    }
    writeln!(io::stdout(), "topic {}  id {}", topic.name, topic.id)?;
    let rows = topic.partitions.iter().zip(&ends).map(|(partition, (first, next))| {
        let nodes = |nodes: &[crate::types::NodeId]| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        vec![
            partition.index.to_string(),
            partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            nodes(&partition.replicas),
            nodes(&partition.in_sync),
            first.to_string(),
            next.to_string(),
        ]
    });
    let columns = [
        number("PARTITION"),
        number("LEADER"),
        text("REPLICAS"),
        text("IN SYNC"),
        number("FIRST"),
        number("NEXT"),
    ];
    Ok(print_table(&columns, &rows.collect::<Vec<_>>())?)
}

async fn delete(client: &Client, arguments: DeleteArgs) -> Result<(), CliError> {
    for name in &arguments.names {
        Admin::new(client).delete_topic(name).await?;
        writeln!(io::stdout(), "deleted {name}")?;
    }
    Ok(())
}

async fn add_partitions(client: &Client, arguments: AddPartitionsArgs) -> Result<(), CliError> {
    Admin::new(client).add_partitions(&arguments.name, arguments.total).await?;
    Ok(writeln!(io::stdout(), "{} has {} partitions", arguments.name, arguments.total)?)
}
