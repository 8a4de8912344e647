//! `semel group reset` and `semel group delete-offsets`.

use super::CliError;
use super::group::{ShowArgs, group_id};
use super::output::{number, print_table, text};
use super::topic::topic_name;
use crate::client::{
    Admin, Client, ClientError, Isolation, OffsetQuery, OffsetToCommit, Start, TopicPartition,
};
use crate::types::{GroupId, Offset, PartitionIndex, Timestamp, TopicName};
use clap::Args;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// `semel group reset`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints what it would do, and does it only with --execute. A group with members is not moved: \
                        they alone know where they are."
)]
pub struct ResetArgs {
    /// The group
    #[arg(value_parser = group_id)]
    group: GroupId,
    /// In which topic, or only in some of its partitions, such as payments:0,2; may be repeated
    #[arg(long, required = true, value_name = "TOPIC[:PARTITION,..]", value_parser = selection)]
    topic: Vec<Selection>,
    #[command(flatten)]
    target: TargetArgs,
    /// Do it
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    pub(super) show: ShowArgs,
}

/// Where to move a group; one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// To the first record
    #[arg(long)]
    to_earliest: bool,
    /// To the last stable offset: behind all records but those of open transactions and what follows them
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or the end that is nearest to it
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later, such as 2026-05-01T12:00:00Z; to the end if there is none
    #[arg(long, value_name = "TIME", value_parser = datetime)]
    to_datetime: Option<Timestamp>,
    /// By so many offsets forward, or back if negative
    #[arg(long, value_name = "OFFSETS", allow_hyphen_values = true)]
    shift_by: Option<i64>,
}

/// `semel group delete-offsets`.
#[derive(Debug, Args)]
pub struct DeleteOffsetsArgs {
    /// The group
    #[arg(value_parser = group_id)]
    group: GroupId,
    /// Of which topic, or only of some of its partitions, such as payments:0,2; may be repeated
    #[arg(long, required = true, value_name = "TOPIC[:PARTITION,..]", value_parser = selection)]
    topic: Vec<Selection>,
    #[command(flatten)]
    pub(super) show: ShowArgs,
}

/// A topic, and which of its partitions; all if none is named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    topic: TopicName,
    partitions: Vec<PartitionIndex>,
}

fn selection(text: &str) -> Result<Selection, String> {
    let (topic, partitions) = match text.split_once(':') {
        None => (text, Vec::new()),
        Some((topic, list)) => {
            let index = |text: &str| match text.parse() {
                Ok(index @ 0..) => Ok(PartitionIndex(index)),
                _ => Err("write TOPIC, or TOPIC:PARTITION,.. such as payments:0,2".to_owned()),
            };
            (topic, list.split(',').map(index).collect::<Result<_, _>>()?)
        }
    };
    Ok(Selection { topic: topic_name(topic)?, partitions })
}

fn datetime(text: &str) -> Result<Timestamp, String> {
    let time = text.parse::<jiff::Timestamp>();
    time.map(|time| Timestamp(time.as_millisecond()))
        .map_err(|_| "write a time with its zone, such as 2026-05-01T12:00:00Z".to_owned())
}

/// Where a group is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(Offset),
    Time(Timestamp),
    Shift(i64),
}

impl TargetArgs {
    /// The one that is given: the parser sees to that.
    fn target(&self) -> Target {
        match (self.to_offset, self.to_datetime, self.shift_by) {
            (Some(offset), _, _) => Target::Offset(Offset(offset)),
            (_, Some(time), _) => Target::Time(time),
            (_, _, Some(by)) => Target::Shift(by),
            _ if self.to_latest => Target::Latest,
            _ => Target::Earliest,
        }
    }
}

/// Which end of a partition a move stops at, because it would have gone beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    First,
    End,
}

impl Limit {
    fn word(self) -> &'static str {
        match self {
            Limit::First => "first",
            Limit::End => "end",
        }
    }
}

/// What is done in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    partition: TopicPartition,
    from: Option<Offset>,
    to: Offset,
    limit: Option<Limit>,
}

/// The place nearest to `wanted` that a partition from `first` to `end` has.
fn within(wanted: Offset, first: Offset, end: Offset) -> (Offset, Option<Limit>) {
    if wanted < first {
        (first, Some(Limit::First))
    } else if wanted > end {
        (end, Some(Limit::End))
    } else {
        (wanted, None)
    }
}

pub(super) async fn reset(client: &Client, arguments: &ResetArgs) -> Result<(), CliError> {
    let (admin, group) = (Admin::new(client), &arguments.group);
    refuse_members(&admin, group).await?;
    let partitions = chosen(&admin, &arguments.topic).await?;
    // Pending offsets of a transaction are waited for: its commit would undo the reset.
    let committed = admin.group_offsets(group, OffsetQuery::Stable).await?;
    let from: Vec<_> = partitions
        .into_iter()
        .map(|partition| {
            let from = committed.get(&partition).map(|committed| committed.next);
            (partition, from)
        })
        .collect();
    let moves = plan(&admin, from, arguments.target.target()).await?;
    if arguments.execute {
        let offsets = moves.iter().map(|one| (one.partition.clone(), OffsetToCommit::new(one.to)));
        admin.alter_group_offsets(group, &offsets.collect()).await?;
    }
    show_moves(arguments, &moves)?;
    if !arguments.execute {
        writeln!(io::stderr(), "nothing has been changed; the same with --execute does it")?;
    }
    Ok(())
}

/// A group that is not there has no members either.
async fn refuse_members(admin: &Admin, group: &GroupId) -> Result<(), CliError> {
    match admin.describe_group(group).await {
        Err(ClientError::Unknown { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(found) if found.members.is_empty() && found.state == "Empty" => Ok(()),
        Ok(found) => Err(CliError::Refused {
            problem: format!(
                "group {group} is {}: its members would not notice, and commit over it",
                found.state
            ),
            advice: format!("stop its members first: `semel group describe {group}` names them"),
        }),
    }
}

/// The partitions that are named, each once.
async fn chosen(admin: &Admin, selections: &[Selection]) -> Result<Vec<TopicPartition>, CliError> {
    let mut chosen = BTreeSet::new();
    for Selection { topic, partitions } in selections {
        let described = admin.describe_topic(topic).await?;
        let all: BTreeSet<_> = described.partitions.iter().map(|found| found.index).collect();
        if let Some(missing) = partitions.iter().find(|index| !all.contains(index)) {
            let what = format!("partition {topic}-{missing}: the topic has {}", all.len());
            return Err(ClientError::Unknown { what }.into());
        }
        let indexes = if partitions.is_empty() { all.iter().copied().collect() } else { partitions.clone() };
        chosen.extend(indexes.into_iter().map(|index| TopicPartition::new(topic.clone(), index)));
    }
    Ok(chosen.into_iter().collect())
}

/// Finds out where each partition is to be moved.
async fn plan(
    admin: &Admin,
    from: Vec<(TopicPartition, Option<Offset>)>,
    target: Target,
) -> Result<Vec<Move>, CliError> {
    let asked = |start| from.iter().map(|(partition, _)| (partition.clone(), start)).collect::<Vec<_>>();
    let all = Isolation::ReadUncommitted;
    let firsts = admin.find_offsets(&asked(Start::Earliest), all).await?;
    let ends = admin.find_offsets(&asked(Start::Latest), all).await?;
    let found = match target {
        Target::Latest => admin.find_offsets(&asked(Start::Latest), Isolation::ReadCommitted).await?,
        Target::Time(time) => admin.find_offsets(&asked(Start::Time(time)), all).await?,
        Target::Earliest | Target::Offset(_) | Target::Shift(_) => firsts.clone(),
    };
    let places = firsts.into_iter().zip(ends).zip(found);
    let mut moves = Vec::with_capacity(from.len());
    for ((partition, from), ((first, end), found)) in from.into_iter().zip(places) {
        let (first, end) = (first?, end?);
        let wanted = match (target, found) {
            (Target::Offset(offset), _) => offset,
            (Target::Shift(by), _) => shifted(&partition, from, by)?,
            // No record is that late.
            (Target::Time(_), Err(ClientError::Unknown { .. })) => end,
            (Target::Earliest | Target::Latest | Target::Time(_), found) => found?,
        };
        let (to, limit) = within(wanted, first, end);
        moves.push(Move { partition, from, to, limit });
    }
    Ok(moves)
}

fn shifted(partition: &TopicPartition, from: Option<Offset>, by: i64) -> Result<Offset, CliError> {
    let from = from.ok_or_else(|| CliError::Refused {
        problem: format!("the group has committed no offset of {partition} that could be shifted"),
        advice: "name other partitions with --topic TOPIC:PARTITION,.. or use --to-earliest, --to-latest, --to-offset \
                 or --to-datetime"
            .to_owned(),
    })?;
    Ok(Offset(from.0.saturating_add(by)))
}

fn show_moves(arguments: &ResetArgs, moves: &[Move]) -> io::Result<()> {
    if arguments.show.is_json() {
        let mut out = io::stdout().lock();
        return moves.iter().try_for_each(|one| {
            let line = json!({
                "group": arguments.group.as_str(),
                "topic": one.partition.topic.as_str(),
                "partition": one.partition.partition.0,
                "from_offset": one.from.map(|from| from.0),
                "to_offset": one.to.0,
                "limited_by": one.limit.map(Limit::word),
                "executed": arguments.execute,
            });
            writeln!(out, "{line}")
        });
    }
    let row = |one: &Move| {
        vec![
            one.partition.topic.to_string(),
            one.partition.partition.to_string(),
            one.from.map(|from| from.to_string()).unwrap_or_default(),
            one.to.to_string(),
            one.limit.map(|limit| format!("{} offset", limit.word())).unwrap_or_default(),
        ]
    };
    let columns = [text("TOPIC"), number("PARTITION"), number("FROM"), number("TO"), text("LIMITED BY")];
    print_table(&columns, &moves.iter().map(row).collect::<Vec<_>>())
}

pub(super) async fn delete(client: &Client, arguments: &DeleteOffsetsArgs) -> Result<(), CliError> {
    let (admin, group) = (Admin::new(client), &arguments.group);
    let partitions = chosen(&admin, &arguments.topic).await?;
    let committed = admin.group_offsets(group, OffsetQuery::Latest).await?;
    let results = admin.delete_group_offsets(group, &partitions).await?;
    let mut refused = None;
    let mut forgotten: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for (partition, result) in partitions.into_iter().zip(results) {
        match result {
            Ok(()) => {
                forgotten.extend(committed.get(&partition).map(|committed| (partition, committed.next)))
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    show_forgotten(arguments, &forgotten)?;
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn show_forgotten(
    arguments: &DeleteOffsetsArgs,
    forgotten: &BTreeMap<TopicPartition, Offset>,
) -> io::Result<()> {
    if arguments.show.is_json() {
        let mut out = io::stdout().lock();
        return forgotten.iter().try_for_each(|(partition, offset)| {
            let line = json!({
                "group": arguments.group.as_str(),
                "topic": partition.topic.as_str(),
                "partition": partition.partition.0,
                "forgotten_offset": offset.0,
            });
            writeln!(out, "{line}")
        });
    }
    if forgotten.is_empty() {
        return writeln!(io::stderr(), "no offset has been forgotten");
    }
    let row = |(partition, offset): (&TopicPartition, &Offset)| {
        vec![partition.topic.to_string(), partition.partition.to_string(), offset.to_string()]
    };
    let columns = [text("TOPIC"), number("PARTITION"), number("FORGOTTEN")];
    print_table(&columns, &forgotten.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_named_with_all_or_some_of_their_partitions() {
        let named = |text: &str| selection(text).map(|named| (named.topic.to_string(), named.partitions));
        assert_eq!(named("t"), Ok(("t".to_owned(), vec![])));
        assert_eq!(named("t:2,0"), Ok(("t".to_owned(), vec![PartitionIndex(2), PartitionIndex(0)])));
        for wrong in ["t:", "t:-1", "t:0,", "t:x", ":1", "", "t:0:1"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_need_a_zone() {
        assert_eq!(datetime("2023-11-14T22:13:20Z"), Ok(Timestamp(1_700_000_000_000)));
        assert_eq!(datetime("2023-11-14T23:13:20+01:00"), Ok(Timestamp(1_700_000_000_000)));
        assert!(datetime("2023-11-14T22:13:20").is_err());
    }

    #[test]
    fn shifts_start_from_what_is_committed_and_do_not_overflow() {
        let partition = TopicPartition::new(TopicName::new("t").unwrap(), PartitionIndex(0));
        let shift = |from, by| shifted(&partition, Some(Offset(from)), by).unwrap();
        assert_eq!(
            [shift(7, -2), shift(7, i64::MAX), shift(0, i64::MIN)].map(|offset| offset.0),
            [5, i64::MAX, i64::MIN]
        );
        assert!(shifted(&partition, None, 1).unwrap_err().to_string().contains("t-0"));
    }

    proptest! {
        #[test]
        fn a_move_stays_within_the_partition(wanted: i64, first in 0..1000_i64, length in 0..1000_i64) {
            let (wanted, first, end) = (Offset(wanted), Offset(first), Offset(first + length));
            let (to, limit) = within(wanted, first, end);
            prop_assert!(first <= to && to <= end);
            match limit {
                None => prop_assert_eq!(to, wanted),
                Some(Limit::First) => prop_assert!(wanted < to && to == first),
                Some(Limit::End) => prop_assert!(wanted > to && to == end),
            }
        }
    }
}
