//! `semel topic config` and `semel topic delete-records`.

use super::CliError;
use super::connect::ConnectArgs;
use super::output::{number, print_table, text};
use super::topic::{TableFormat, is_json, pair, topic_name};
use crate::client::{Admin, Client, ConfigEntry, TopicPartition};
use crate::types::{Offset, PartitionIndex, TopicName};
use clap::Args;
use serde_json::json;
use std::io::{self, Write};

/// `semel topic config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The topic's name
    #[arg(value_parser = topic_name)]
    name: TopicName,
    /// Set a configuration; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Go back to the default; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// How to write it [default: a table on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// `semel topic delete-records`.
#[derive(Debug, Args)]
pub struct DeleteRecordsArgs {
    /// The topic's name
    #[arg(value_parser = topic_name)]
    name: TopicName,
    /// Which partition [default: all of them, with --before-offset high-watermark]
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Delete the records below this offset; `high-watermark` (or -1) deletes all that there are
    #[arg(long, value_name = "OFFSET", value_parser = before_offset, allow_hyphen_values = true)]
    before_offset: Before,
    /// How to write it [default: a table on a terminal, JSON elsewhere]
    #[arg(long, value_enum)]
    output: Option<TableFormat>,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// Up to where records are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Offset(Offset),
    HighWatermark,
}

fn before_offset(text: &str) -> Result<Before, String> {
    match text {
        "high-watermark" | "-1" => Ok(Before::HighWatermark),
        _ => match text.parse() {
            Ok(offset @ 0..) => Ok(Before::Offset(Offset(offset))),
            _ => Err("write an offset, or high-watermark".to_owned()),
        },
    }
}

pub(super) async fn config(client: &Client, arguments: ConfigArgs) -> Result<(), CliError> {
    let ConfigArgs { name, set, unset, output, .. } = arguments;
    let changes: Vec<(String, Option<String>)> = set
        .into_iter()
        .map(|(name, value)| (name, Some(value)))
        .chain(unset.into_iter().map(|name| (name, None)))
        .collect();
    let admin = Admin::new(client);
    if !changes.is_empty() {
        admin.alter_topic_config(&name, &changes).await?;
    }
    let entries = admin.describe_topic_config(&name).await?;
    if is_json(output) {
        let mut out = io::stdout().lock();
        for ConfigEntry { name, value, own, .. } in entries {
            writeln!(out, "{}", json!({"name": name, "value": value, "source": source(own)}))?;
        }
        return Ok(());
    }
    let rows: Vec<Vec<String>> = entries
        .into_iter()
        .map(|entry| {
            let value = entry.value.unwrap_or_default();
            vec![entry.name, value, source(entry.own).to_owned(), entry.documentation.unwrap_or_default()]
        })
        .collect();
    Ok(print_table(&[text("NAME"), text("VALUE"), text("SOURCE"), text("WHAT IT DOES")], &rows)?)
}

fn source(own: bool) -> &'static str {
    if own { "topic" } else { "default" }
}

pub(super) async fn delete_records(client: &Client, arguments: DeleteRecordsArgs) -> Result<(), CliError> {
    let DeleteRecordsArgs { name, partition, before_offset, output, .. } = arguments;
    let admin = Admin::new(client);
    let partitions = match (partition, before_offset) {
        (Some(partition), _) => vec![PartitionIndex(partition)],
        (None, Before::HighWatermark) => {
            let topic = admin.describe_topic(&name).await?;
            topic.partitions.iter().map(|partition| partition.index).collect()
        }
        (None, Before::Offset(_)) => {
            return Err(CliError::usage(
                "an offset is one partition's, and no partition is named",
                "name it with --partition, or delete everything with --before-offset high-watermark",
            ));
        }
    };
    let before = match before_offset {
        Before::Offset(offset) => Some(offset),
        Before::HighWatermark => None,
    };
    let mut rows = Vec::with_capacity(partitions.len());
    for index in partitions {
        let low = admin.delete_records(&TopicPartition::new(name.clone(), index), before).await?;
        if is_json(output) {
            let line = json!({"topic": name.as_str(), "partition": index.0, "low_watermark": low.0});
            writeln!(io::stdout(), "{line}")?;
        } else {
            rows.push(vec![index.to_string(), low.to_string()]);
        }
    }
    if is_json(output) {
        return Ok(());
    }
    Ok(print_table(&[number("PARTITION"), number("LOW WATERMARK")], &rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_watermark_has_a_name_and_kafkas_number() {
        assert_eq!(before_offset("high-watermark"), Ok(Before::HighWatermark));
        assert_eq!(before_offset("-1"), Ok(Before::HighWatermark));
        assert_eq!(before_offset("7"), Ok(Before::Offset(Offset(7))));
        assert!(before_offset("-2").is_err());
        assert!(before_offset("x").is_err());
    }
}
