//! Administration of what a topic holds: its configuration, and where its partitions begin.

use super::admin::{Admin, first};
use super::error::ClientError;
use super::metadata::TopicPartition;
use crate::types::{Offset, TopicName};
use crate::wire::messages::{
    AlterConfigsResource, AlterableConfig, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    IncrementalAlterConfigsRequest,
};

/// Kafka's number of a topic among the resources that have a configuration.
const TOPIC: i8 = 2;
/// Kafka's numbers of what may be done to a configuration.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Kafka's number of "set for this topic" among the places a value may come from.
const FROM_TOPIC: i8 = 1;
/// What stands for the high watermark where an offset is expected.
const HIGH_WATERMARK: i64 = -1;

/// One configuration of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; none if the broker keeps it to itself.
    pub value: Option<String>,
    /// Whether the topic says so itself, and does not go by a default.
    pub own: bool,
    /// What it does, from brokers that say so.
    pub documentation: Option<String>,
}

impl From<DescribeConfigsResourceResult> for ConfigEntry {
    fn from(entry: DescribeConfigsResourceResult) -> ConfigEntry {
        ConfigEntry {
            own: entry.config_source == FROM_TOPIC,
            name: entry.name,
            value: entry.value,
            documentation: entry.documentation,
        }
    }
}

impl Admin {
    /// A topic's configuration, by name.
    pub async fn describe_topic_config(&self, topic: &TopicName) -> Result<Vec<ConfigEntry>, ClientError> {
        let resource = DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.as_str().to_owned(),
            configuration_keys: None,
        };
        let request = &DescribeConfigsRequest {
            resources: vec![resource],
            include_documentation: true,
            ..DescribeConfigsRequest::default()
        };
        let context = format!("describing the configuration of topic {topic}");
        let describe = || async {
            let answer = self.client().any_broker().await?.call(request).await?;
            first(answer.results, &context)
        };
        let result = self.client().retry(&context, describe).await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, result.error_message))?;
        let mut entries: Vec<ConfigEntry> = result.configs.into_iter().map(ConfigEntry::from).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Changes a topic's configuration, all of it or nothing: a value is set, none brings the default back. The rest stays.
    pub async fn alter_topic_config(
        &self,
        topic: &TopicName,
        changes: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        let configs = changes.iter().map(|(name, value)| AlterableConfig {
            name: name.clone(),
            config_operation: if value.is_some() { SET } else { DELETE },
            value: value.clone(),
        });
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.as_str().to_owned(),
            configs: configs.collect(),
        };
        let request = &IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let context = format!("changing the configuration of topic {topic}");
        // To set the same twice is to set it once: what was lost is repeated.
        let alter = || async {
            let answer = self.client().any_broker().await?.call(request).await?;
            first(answer.responses, &context)
        };
        let result = self.client().retry(&context, alter).await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, result.error_message))
    }

    /// Deletes a partition's records below `before`, or all that there are, up to the high watermark. Returns the offset at
    /// which the partition begins now.
    pub async fn delete_records(
        &self,
        partition: &TopicPartition,
        before: Option<Offset>,
    ) -> Result<Offset, ClientError> {
        let asked = DeleteRecordsPartition {
            partition_index: partition.partition.0,
            offset: before.map_or(HIGH_WATERMARK, |offset| offset.0),
        };
        let name = partition.topic.as_str().to_owned();
        let request = &DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic { name, partitions: vec![asked] }],
            timeout_ms: self.timeout_ms(),
        };
        let context = format!("deleting records of {partition}");
        let delete = || async {
            let leader = self.client().leader(partition).await?;
            let answer = self.client().control(leader).await?.call(request).await?;
            first(first(answer.topics, &context)?.partitions, &context)
        };
        let result = self.at_controller(&context, delete).await?;
        result.error_code.ok().map_err(|code| ClientError::broker(&context, code, None))?;
        Ok(Offset(result.low_watermark))
    }
}
