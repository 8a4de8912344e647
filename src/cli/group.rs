//! `semel group`: which groups there are, how far they are behind and why; and to move, forget and delete what they know.

use super::CliError;
use super::connect::ConnectArgs;
use super::group_offsets::{self, DeleteOffsetsArgs, ResetArgs};
use super::output::{number, print_table, safe_text, text, time_text};
use super::topic::{TableFormat, is_json};
use super::txn;
use crate::client::{
    Admin, Blocker, Client, GroupDescription, GroupFilter, GroupMemberDescription, PartitionProgress,
    TopicPartition,
};
use crate::types::GroupId;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Kafka's names of the states that a group can be in.
const STATES: [&str; 8] = [
    "Stable",
    "PreparingRebalance",
    "CompletingRebalance",
    "Empty",
    "Dead",
    "Assigning",
    "Reconciling",
    "NotReady",
];
/// Kafka's names of the types of groups.
const TYPES: [&str; 4] = ["classic", "consumer", "share", "streams"];

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups and their states
    List(ListArgs),
    /// Show a group's members, what they are assigned, how far it is behind, and what holds back its readers
    Describe(DescribeArgs),
    /// Move a group without members to other offsets
    Reset(ResetArgs),
    /// Delete groups without members, and all offsets that they have committed
    Delete(DeleteArgs),
    /// Forget the offsets that a group has committed for topics
    DeleteOffsets(DeleteOffsetsArgs),
}

/// `semel group list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those in this state, such as Stable or Empty; may be repeated
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<&'static str>,
    /// Only those of this type, classic or consumer; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Vec<&'static str>,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel group describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The group
    #[arg(value_parser = group_id)]
    group: GroupId,
    #[command(flatten)]
    show: ShowArgs,
}

/// `semel group delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The groups
    #[arg(required = true, value_parser = group_id)]
    groups: Vec<GroupId>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// How it is written, and where to.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// How to write it [default: a table on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
    #[command(flatten)]
    connect: ConnectArgs,
}

impl ShowArgs {
    pub(super) fn is_json(&self) -> bool {
        is_json(self.output)
    }

    pub(super) fn connection(&self) -> &ConnectArgs {
        &self.connect
    }
}

pub(super) fn group_id(id: &str) -> Result<GroupId, String> {
    match id.is_empty() {
        true => Err("a group's name is not empty".to_owned()),
        false => Ok(GroupId::new(id)),
    }
}

fn state(name: &str) -> Result<&'static str, String> {
    one_of(&STATES, name)
}

fn kind(name: &str) -> Result<&'static str, String> {
    one_of(&TYPES, name)
}

fn one_of(names: &[&'static str], name: &str) -> Result<&'static str, String> {
    let found = names.iter().find(|known| known.eq_ignore_ascii_case(name)).copied();
    found.ok_or_else(|| format!("write one of {}", names.join(", ")))
}

pub(super) async fn run(command: GroupCommand) -> Result<(), CliError> {
    let client = command.connection().connect().await?;
    let done = match command {
        GroupCommand::List(arguments) => list(&client, arguments).await,
        GroupCommand::Describe(arguments) => describe(&client, &arguments).await,
        GroupCommand::Reset(arguments) => group_offsets::reset(&client, &arguments).await,
        GroupCommand::Delete(arguments) => delete(&client, &arguments).await,
        GroupCommand::DeleteOffsets(arguments) => group_offsets::delete(&client, &arguments).await,
    };
    client.close().await;
    done
}

impl GroupCommand {
    fn connection(&self) -> &ConnectArgs {
        match self {
            GroupCommand::List(arguments) => arguments.show.connection(),
            GroupCommand::Describe(arguments) => arguments.show.connection(),
            GroupCommand::Reset(arguments) => arguments.show.connection(),
            GroupCommand::Delete(arguments) => &arguments.connect,
            GroupCommand::DeleteOffsets(arguments) => arguments.show.connection(),
        }
    }
}

async fn list(client: &Client, arguments: ListArgs) -> Result<(), CliError> {
    let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    let filter = GroupFilter { states: names(arguments.state), types: names(arguments.kind) };
    let groups = Admin::new(client).list_groups(&filter).await?;
    if arguments.show.is_json() {
        let mut out = io::stdout().lock();
        for group in &groups {
            let line = json!({
                "group": group.group.as_str(),
                "state": group.state,
                "type": group.kind,
                "protocol_type": group.protocol_type,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    let safe = |text: &str| safe_text(text.as_bytes());
    let rows = groups.iter().map(|group| {
        [group.group.as_str(), &group.state, &group.kind, &group.protocol_type].map(safe).to_vec()
    });
    let columns = [text("GROUP"), text("STATE"), text("TYPE"), text("PROTOCOL TYPE")];
    print_table(&columns, &rows.collect::<Vec<_>>())?;
    if groups.is_empty() {
        writeln!(io::stderr(), "there is no such group")?;
    }
    Ok(())
}

async fn delete(client: &Client, arguments: &DeleteArgs) -> Result<(), CliError> {
    for group in &arguments.groups {
        Admin::new(client).delete_group(group).await?;
        writeln!(io::stdout(), "deleted {group}")?;
    }
    Ok(())
}

async fn describe(client: &Client, arguments: &DescribeArgs) -> Result<(), CliError> {
    let admin = Admin::new(client);
    let group = admin.describe_group(&arguments.group).await?;
    let progress = admin.group_progress(&group).await?;
    if arguments.show.is_json() {
        return Ok(writeln!(io::stdout(), "{}", group_json(&group, &progress))?);
    }
    let safe = |text: &str| safe_text(text.as_bytes());
    let mut heading = format!("group {}  {}", safe(group.group.as_str()), safe(&group.state));
    for more in [&group.protocol_type, &group.protocol] {
        if !more.is_empty() {
            heading = format!("{heading}  {}", safe(more));
        }
    }
    if let Some(epochs) = group.epochs {
        heading = format!("{heading}  epoch {}, target {}", epochs.group, epochs.target);
    }
    writeln!(io::stdout(), "{heading}")?;
    if group.members.is_empty() {
        writeln!(io::stderr(), "the group has no members")?;
    } else {
        print_members(&group)?;
    }
    if progress.is_empty() {
        writeln!(io::stderr(), "the group has committed no offsets")?;
        return Ok(());
    }
    Ok(print_progress(&group, &progress)?)
}

fn print_members(group: &GroupDescription) -> io::Result<()> {
    let has_targets = group.epochs.is_some();
    let row = |member: &GroupMemberDescription| {
        let assigned = member.assigned.as_ref().map_or_else(|| "?".to_owned(), |all| partitions_text(all));
        let instance = member.instance_id.as_deref().unwrap_or_default();
        let mut row = [&member.member_id, instance, &member.client_id, &member.client_host, &assigned]
            .map(|text| safe_text(text.as_bytes()))
            .to_vec();
        if has_targets {
            let target = member.target.as_ref();
            row.push(target.map(|target| partitions_text(&target.partitions)).unwrap_or_default());
            row.push(target.map(|target| target.epoch.to_string()).unwrap_or_default());
        }
        row
    };
    let mut columns = vec![text("MEMBER"), text("INSTANCE"), text("CLIENT"), text("HOST"), text("ASSIGNED")];
    if has_targets {
        columns.extend([text("TARGET"), number("EPOCH")]);
    }
    print_table(&columns, &group.members.iter().map(row).collect::<Vec<_>>())
}

/// Partitions as `semel group reset --topic` takes them.
fn partitions_text(partitions: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic.as_str()).or_default().push(partition.partition.0);
    }
    let topics = topics.into_iter().map(|(topic, mut indexes)| {
        indexes.sort_unstable();
        let indexes: Vec<_> = indexes.iter().map(ToString::to_string).collect();
        format!("{topic}:{}", indexes.join(","))
    });
    topics.collect::<Vec<_>>().join(" ")
}

/// Whose a partition is.
fn owner<'g>(group: &'g GroupDescription, partition: &TopicPartition) -> Option<&'g GroupMemberDescription> {
    group.members.iter().find(|member| member.assigned.iter().flatten().any(|assigned| assigned == partition))
}

fn print_progress(group: &GroupDescription, progress: &[PartitionProgress]) -> io::Result<()> {
    let row = |one: &PartitionProgress| {
        let blocker = one.blocker.as_ref();
        let open = blocker.and_then(|blocker| blocker.transaction.as_ref()).and_then(|open| open.began);
        vec![
            one.partition.topic.to_string(),
            one.partition.partition.to_string(),
            one.committed.as_ref().map(|committed| committed.next.to_string()).unwrap_or_default(),
            one.end.as_ref().map_or_else(|_| "?".to_owned(), ToString::to_string),
            one.lag().map(|lag| lag.to_string()).unwrap_or_default(),
            owner(group, &one.partition)
                .map(|member| safe_text(member.client_id.as_bytes()))
                .unwrap_or_default(),
            blocker.map(|blocker| blocker.first_offset.to_string()).unwrap_or_default(),
            blocker.map(holder_text).unwrap_or_default(),
            open.map(|began| time_text(txn::age(began))).unwrap_or_default(),
        ]
    };
    let columns = [
        text("TOPIC"),
        number("PARTITION"),
        number("COMMITTED"),
        number("END"),
        number("LAG"),
        text("CLIENT"),
        number("HELD AT"),
        text("HELD BY"),
        number("OPEN FOR"),
    ];
    print_table(&columns, &progress.iter().map(row).collect::<Vec<_>>())?;
    for one in progress {
        if let Err(error) = &one.end {
            writeln!(io::stderr(), "the end of {} is not known: {error}", one.partition)?;
        }
    }
    Ok(())
}

fn holder_text(blocker: &Blocker) -> String {
    match &blocker.transaction {
        Some(transaction) => {
            safe_text(format!("{} ({})", transaction.transactional_id, transaction.state).as_bytes())
        }
        None => format!("producer {}", blocker.producer_id),
    }
}

fn group_json(group: &GroupDescription, progress: &[PartitionProgress]) -> Value {
    let assigned = |partitions: &Vec<TopicPartition>| -> Vec<Value> {
        let one = |partition: &TopicPartition| json!([partition.topic.as_str(), partition.partition.0]);
        partitions.iter().map(one).collect()
    };
    let members = group.members.iter().map(|member| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "client_host": member.client_host,
            "partitions": member.assigned.as_ref().map(assigned),
            "target": member.target.as_ref().map(|target| assigned(&target.partitions)),
            "epoch": member.target.as_ref().map(|target| target.epoch),
            "pattern": member.target.as_ref().and_then(|target| target.pattern.as_ref()),
        })
    });
    let partitions = progress.iter().map(|one| {
        json!({
            "topic": one.partition.topic.as_str(),
            "partition": one.partition.partition.0,
            "committed_offset": one.committed.as_ref().map(|committed| committed.next.0),
            "metadata": one.committed.as_ref().map(|committed| &committed.metadata),
            "end_offset": one.end.as_ref().ok().map(|end| end.0),
            "last_stable_offset": one.last_stable.as_ref().ok().map(|last_stable| last_stable.0),
            "lag": one.lag(),
            "member_id": owner(group, &one.partition).map(|member| &member.member_id),
            "blocker": one.blocker.as_ref().map(txn::blocker_json),
            "error": one.end.as_ref().err().map(ToString::to_string),
        })
    });
    json!({
        "group": group.group.as_str(),
        "type": group.kind(),
        "state": group.state,
        "protocol_type": group.protocol_type,
        "protocol": group.protocol,
        "epoch": group.epochs.map(|epochs| epochs.group),
        "target_epoch": group.epochs.map(|epochs| epochs.target),
        "members": members.collect::<Vec<_>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicName};

    #[test]
    fn states_and_types_are_known_by_kafkas_names_in_any_case() {
        assert_eq!(state("stable"), Ok("Stable"));
        assert_eq!(kind("Classic"), Ok("classic"));
        assert!(state("Stabel").unwrap_err().contains("Stable"));
        assert!(group_id("").is_err());
    }

    #[test]
    fn partitions_are_written_as_they_are_asked_for() {
        let partition =
            |topic, index| TopicPartition::new(TopicName::new(topic).unwrap(), PartitionIndex(index));
        let all = [partition("b", 2), partition("a", 0), partition("b", 1)];
        assert_eq!(partitions_text(&all), "a:0 b:1,2");
    }
}
