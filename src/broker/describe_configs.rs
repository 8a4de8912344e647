//! DescribeConfigs: the settings of topics and of this node.

use super::authorise::{Operation, authorise};
use super::config::BrokerConfig;
use super::failure::Failure;
use super::limits::{FETCH_ANSWER_BYTES_MAX, FETCH_SESSIONS_MAX, MESSAGE_BYTES_MAX};
use super::names;
use super::service::NODE;
use super::session::Context;
use super::topic_config::{SETTINGS, Setting, ValueType};
use crate::core::limits::{GROUP_MEMBERS_MAX, OFFSET_METADATA_BYTES_MAX};
use crate::core::{Assignor, TopicConfig};
use crate::types::TopicName;
use crate::wire::ErrorCode;
use crate::wire::messages::*;

/// Kafka's numbers of resources that have settings.
pub(super) mod resource {
    pub(in crate::broker) const TOPIC: i8 = 2;
    pub(in crate::broker) const BROKER: i8 = 4;
}

/// Kafka's numbers of where a value comes from.
mod from {
    pub(super) const TOPIC: i8 = 1;
    pub(super) const STATIC_BROKER: i8 = 4;
    pub(super) const DEFAULT: i8 = 5;
}

/// Where the value of a topic's setting comes from: the topic's own, or the default.
pub(super) fn source(own: bool) -> i8 {
    if own { from::TOPIC } else { from::DEFAULT }
}

pub(super) async fn answer(
    cx: Context,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Failure> {
    cx.check_listed(request.resources.len())?;
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let wanted = Wanted {
            names: resource.configuration_keys.filter(|names| !names.is_empty()),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let described = match resource.resource_type {
            resource::TOPIC => topic(&cx, &resource.resource_name, &wanted)?,
            resource::BROKER => broker(&cx, &resource.resource_name, &wanted),
            _ => Err((
                ErrorCode::InvalidRequest,
                "only topics (2) and brokers (4) have settings here".to_owned(),
            )),
        };
        let (error_code, error_message, configs) = match described {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, message)) => (code, Some(message), Vec::new()),
        };
        results.push(DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
        });
    }
    Ok(DescribeConfigsResponse { results, ..Default::default() })
}

/// What a client wants to see of a resource.
struct Wanted {
    /// These settings; all if none.
    names: Option<Vec<String>>,
    synonyms: bool,
    documentation: bool,
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name))
    }
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn topic(cx: &Context, name: &str, wanted: &Wanted) -> Result<Described, Failure> {
    if let Err(error) = TopicName::new(name) {
        return Ok(Err((ErrorCode::InvalidTopicException, error.to_string())));
    }
    let Some(topic) = names::by_name(&cx.view(), name)? else {
        return Ok(Err((ErrorCode::UnknownTopicOrPartition, "no such topic".to_owned())));
    };
    let settings = SETTINGS.iter().filter(|setting| wanted.has(setting.name));
    Ok(Ok(settings.map(|setting| topic_setting(setting, &topic.row.config, wanted)).collect()))
}

fn topic_setting(setting: &Setting, config: &TopicConfig, wanted: &Wanted) -> DescribeConfigsResourceResult {
    let (value, own) = setting.of(config);
    let mut synonyms = Vec::new();
    if wanted.synonyms {
        if own {
            synonyms.push(synonym(setting.name, value, from::TOPIC));
        }
        synonyms.push(synonym(setting.broker_name, setting.default, from::DEFAULT));
    }
    DescribeConfigsResourceResult {
        name: setting.name.to_owned(),
        value: Some(value.to_owned()),
        read_only: false,
        config_source: source(own),
        is_sensitive: false,
        synonyms,
        config_type: setting.value_type.number(),
        documentation: wanted.documentation.then(|| setting.documentation.to_owned()),
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value: Some(value.to_owned()), source }
}

fn broker(cx: &Context, name: &str, wanted: &Wanted) -> Described {
    if !authorise(cx.caller.connection.authority, Operation::DescribeBroker) {
        return Err((
            ErrorCode::ClusterAuthorizationFailed,
            "not allowed to see the broker's settings".to_owned(),
        ));
    }
    match name {
        // The defaults of all brokers: none can be set.
        "" => return Ok(Vec::new()),
        "0" => {}
        _ => {
            let message = format!("{name:?} is no broker here: the only one is {NODE}");
            return Err((ErrorCode::InvalidRequest, message));
        }
    }
    let settings = broker_settings(cx);
    let settings = settings.into_iter().filter(|setting| wanted.has(setting.name));
    Ok(settings
        .map(|setting| DescribeConfigsResourceResult {
            name: setting.name.to_owned(),
            synonyms: match wanted.synonyms {
                true => vec![synonym(setting.name, &setting.value, from::STATIC_BROKER)],
                false => Vec::new(),
            },
            value: Some(setting.value),
            read_only: true,
            config_source: from::STATIC_BROKER,
            is_sensitive: false,
            config_type: setting.value_type.number(),
            documentation: wanted.documentation.then(|| setting.documentation.to_owned()),
        })
        .collect())
}

/// A setting of the node, under Kafka's name for it.
struct BrokerSetting {
    name: &'static str,
    value: String,
    value_type: ValueType,
    documentation: &'static str,
}

fn broker_settings(cx: &Context) -> Vec<BrokerSetting> {
    let config = &cx.node.config;
    let at = cx.node.advertised();
    let mut settings = group_settings(&cx.node.config);
    settings.extend([
        setting(
            "advertised.listeners",
            ValueType::List,
            format!("SSL://{}:{}", at.host, at.port),
            "Where clients reach this node: TLS over TCP, and QUIC, on the same port.",
        ),
        setting(
            "auto.create.topics.enable",
            ValueType::Boolean,
            config.auto_create_topics.to_string(),
            "Whether a topic comes into being when a client first asks for it.",
        ),
        setting(
            "default.replication.factor",
            ValueType::Int,
            "1".to_owned(),
            "Replicas of a partition: there is one node.",
        ),
        setting(
            "fetch.max.bytes",
            ValueType::Int,
            FETCH_ANSWER_BYTES_MAX.to_string(),
            "Record bytes of one fetch answer, unless its first batch alone is larger.",
        ),
        setting(
            "max.incremental.fetch.session.cache.slots",
            ValueType::Int,
            FETCH_SESSIONS_MAX.to_string(),
            "Fetch sessions at a time.",
        ),
        setting(
            "message.max.bytes",
            ValueType::Int,
            MESSAGE_BYTES_MAX.to_string(),
            "The largest max.message.bytes that a topic may have.",
        ),
        setting("node.id", ValueType::Int, NODE.to_string(), "The number of this node."),
        setting(
            "num.partitions",
            ValueType::Int,
            config.partitions_default.to_string(),
            "Partitions of a topic whose creator does not say how many.",
        ),
        setting(
            "offset.metadata.max.bytes",
            ValueType::Int,
            OFFSET_METADATA_BYTES_MAX.to_string(),
            "The longest metadata text of a committed offset.",
        ),
        setting(
            "transaction.max.timeout.ms",
            ValueType::Int,
            config.transaction_timeout_max.as_millis().to_string(),
            "The longest transaction timeout that a producer may ask for.",
        ),
    ]);
    settings
}

fn setting(
    name: &'static str,
    value_type: ValueType,
    value: String,
    documentation: &'static str,
) -> BrokerSetting {
    BrokerSetting { name, value, value_type, documentation }
}

fn group_settings(config: &BrokerConfig) -> Vec<BrokerSetting> {
    vec![
        setting(
            "group.consumer.assignors",
            ValueType::List,
            Assignor::ALL.map(Assignor::name).join(","),
            "What distributes partitions over the members of groups of the consumer protocol; the first by default.",
        ),
        setting(
            "group.consumer.heartbeat.interval.ms",
            ValueType::Int,
            config.consumer_heartbeat_interval.as_millis().to_string(),
            "How often a member of a group of the consumer protocol is to be heard of.",
        ),
        setting(
            "group.consumer.session.timeout.ms",
            ValueType::Int,
            config.consumer_session_timeout.as_millis().to_string(),
            "How long a member of a group of the consumer protocol may be silent.",
        ),
        setting(
            "group.initial.rebalance.delay.ms",
            ValueType::Int,
            config.group_initial_rebalance_delay.as_millis().to_string(),
            "How long an empty group waits for more members than the first.",
        ),
        setting(
            "group.max.session.timeout.ms",
            ValueType::Int,
            config.group_session_timeout.end().as_millis().to_string(),
            "The longest session timeout that a member of a group may ask for.",
        ),
        setting("group.max.size", ValueType::Int, GROUP_MEMBERS_MAX.to_string(), "Members of one group."),
        setting(
            "group.min.session.timeout.ms",
            ValueType::Int,
            config.group_session_timeout.start().as_millis().to_string(),
            "The shortest session timeout that a member of a group may ask for.",
        ),
    ]
}
