//! CreateTopics, DeleteTopics, CreatePartitions: each topic on its own merits.

use super::authorise::Operation;
use super::failure::{Failure, expect};
use super::names::{self, Topic};
use super::service::{NODE, reply_to};
use super::session::Context;
use super::{errors, topic_config};
use crate::core::{Command, NewTopic, TopicConfig};
use crate::shard::Answer;
use crate::types::{HashSet, TopicId, TopicName, outside};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;

/// Why one topic of a request is refused before the shard is asked.
pub(super) struct Refused {
    code: ErrorCode,
    message: String,
}

impl Refused {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refused {
        Refused { code, message: message.into() }
    }
}

/// What has become of one topic of a request.
type Asked<T> = Result<(Answer, T), Refused>;

/// The code and the message that one topic's answer carries, and what it was asked with if it went well.
async fn settle<T>(cx: &Context, asked: Asked<T>) -> Result<Result<T, (ErrorCode, Option<String>)>, Failure> {
    match asked {
        Err(Refused { code, message }) => Ok(Err((code, Some(message)))),
        Ok((answer, asked)) => match expect::done(reply_to(answer).await?)? {
            Ok(()) => Ok(Ok(asked)),
            Err(refusal) => Ok(Err((errors::code(refusal, cx.api, cx.version)?, Some(refusal.to_string())))),
        },
    }
}

pub(super) async fn accept_create(
    cx: Context,
    request: CreateTopicsRequest,
) -> Result<impl Future<Output = Result<CreateTopicsResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.topics.len())?;
    let repeated = Repeated::among(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let checked = repeated.check(&topic.name).and_then(|()| check_new(&cx, &topic));
        let outcome = match checked {
            Err(refused) => Err(refused),
            Ok(new) => {
                let command =
                    Command::CreateTopic { topic: new.clone(), validate_only: request.validate_only };
                Ok((cx.ask(command).await?, new))
            }
        };
        asked.push((topic.name, outcome));
    }
    let validate_only = request.validate_only;
    Ok(async move {
        let mut topics = Vec::with_capacity(asked.len());
        for (name, asked) in asked {
            topics.push(match settle(&cx, asked).await? {
                Ok(created) => created_result(name, &created, validate_only),
                Err((error_code, error_message)) => {
                    CreatableTopicResult { name, error_code, error_message, ..Default::default() }
                }
            });
        }
        Ok(CreateTopicsResponse { topics, ..Default::default() })
    })
}

/// The names that come more than once.
struct Repeated(HashSet<String>);

impl Repeated {
    fn among<'a>(names: impl Iterator<Item = &'a str>) -> Repeated {
        let mut seen = HashSet::default();
        Repeated(names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect())
    }

    fn check(&self, name: &str) -> Result<(), Refused> {
        match self.0.contains(name) {
            true => {
                Err(Refused::new(ErrorCode::InvalidRequest, "the request names this topic more than once"))
            }
            false => Ok(()),
        }
    }
}

/// What takes space is refused while the disk's reserve is touched.
fn check_space(cx: &Context) -> Result<(), Refused> {
    if cx.node.shard.space_is_short() {
        let message = "the broker's disk is nearly full: delete topics or records, or make room on it";
        return Err(Refused::new(ErrorCode::KafkaStorageError, message));
    }
    Ok(())
}

fn check_new(cx: &Context, topic: &CreatableTopic) -> Result<NewTopic, Refused> {
    if !cx.may(Operation::CreateTopics) {
        return Err(Refused::new(
            ErrorCode::TopicAuthorizationFailed,
            "not allowed to create topics: the principal is not among the admins",
        ));
    }
    check_space(cx)?;
    let name = TopicName::new(&topic.name)
        .map_err(|error| Refused::new(ErrorCode::InvalidTopicException, error.to_string()))?;
    let partitions = match topic.assignments.as_slice() {
        [] => partitions_of(topic, cx.node.config.partitions_default)?,
        assignments => partitions_assigned(topic, assignments)?,
    };
    let settings = topic.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref()));
    let config = topic_config::check(settings)
        .map_err(|error| Refused::new(ErrorCode::InvalidConfig, error.to_string()))?;
    Ok(NewTopic { id: fresh_topic_id(), name, partitions, config })
}

/// A topic that comes into being because somebody asks for it.
pub(super) fn automatic(name: TopicName, partitions: u32) -> NewTopic {
    NewTopic { id: fresh_topic_id(), name, partitions, config: TopicConfig::new() }
}

fn fresh_topic_id() -> TopicId {
    TopicId(outside::uuid())
}

fn partitions_of(topic: &CreatableTopic, default: u32) -> Result<u32, Refused> {
    match topic.replication_factor {
        -1 | 1 => {}
        factor if factor > 1 => {
            let message =
                format!("the replication factor cannot be {factor}: there is one node; say 1 or -1");
            return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
        }
        _ => {
            let message = "the replication factor must be 1, or -1 for the default";
            return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
        }
    }
    match u32::try_from(topic.num_partitions) {
        Ok(0) => {}
        Ok(partitions) => return Ok(partitions),
        Err(_) if topic.num_partitions == -1 => return Ok(default),
        Err(_) => {}
    }
    let message = "the number of partitions must be at least 1, or -1 for the default";
    Err(Refused::new(ErrorCode::InvalidPartitions, message))
}

/// A manual assignment: partitions from 0 on, each on the only node.
fn partitions_assigned(
    topic: &CreatableTopic,
    assignments: &[CreatableReplicaAssignment],
) -> Result<u32, Refused> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message =
            "with a manual assignment, the number of partitions and the replication factor must be -1";
        return Err(Refused::new(ErrorCode::InvalidRequest, message));
    }
    let mut indexes: Vec<i32> = assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes.iter().zip(0..).all(|(index, expected)| *index == expected);
    let here = assignments.iter().all(|assignment| assignment.broker_ids == [NODE.0]);
    if !(consecutive && here) {
        let message = "a manual assignment lists the partitions from 0 on without gaps, each on node 0 alone";
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    u32::try_from(indexes.len())
        .map_err(|_| Refused::new(ErrorCode::InvalidPartitions, "more partitions than there may be"))
}

fn created_result(name: String, created: &NewTopic, validate_only: bool) -> CreatableTopicResult {
    let configs = topic_config::SETTINGS.iter().map(|setting| {
        let (value, own) = setting.of(&created.config);
        CreatableTopicConfigs {
            name: setting.name.to_owned(),
            value: Some(value.to_owned()),
            read_only: false,
            config_source: super::describe_configs::source(own),
            is_sensitive: false,
        }
    });
    CreatableTopicResult {
        name,
        // A topic that was only checked has no identity.
        topic_id: if validate_only { TopicId::NIL } else { created.id },
        num_partitions: i32::try_from(created.partitions).unwrap_or(i32::MAX),
        replication_factor: 1,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}

pub(super) async fn accept_delete(
    cx: Context,
    request: DeleteTopicsRequest,
) -> Result<impl Future<Output = Result<DeleteTopicsResponse, Failure>> + Send + 'static, Failure> {
    let DeleteTopicsRequest { mut topics, topic_names, .. } = request;
    topics.extend(
        topic_names.into_iter().map(|name| DeleteTopicState { name: Some(name), topic_id: TopicId::NIL }),
    );
    cx.check_listed(topics.len())?;
    let repeated = Repeated::among(topics.iter().filter_map(|topic| topic.name.as_deref()));
    let mut asked = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = match topic.name.as_deref().map_or(Ok(()), |name| repeated.check(name)) {
            Ok(()) => find_to_delete(&cx, &topic)?,
            Err(refused) => Err(refused),
        };
        let outcome = match found {
            Err(refused) => Err(refused),
            Ok(found) => Ok((cx.ask(Command::DeleteTopic { topic: found.id }).await?, found)),
        };
        asked.push((topic, outcome));
    }
    Ok(async move {
        let mut responses = Vec::with_capacity(asked.len());
        for (DeleteTopicState { name, topic_id }, asked) in asked {
            responses.push(match settle(&cx, asked).await? {
                Ok(deleted) => DeletableTopicResult {
                    name: Some(deleted.row.name.as_str().to_owned()),
                    topic_id: deleted.id,
                    ..Default::default()
                },
                Err((error_code, error_message)) => {
                    DeletableTopicResult { name, topic_id, error_code, error_message }
                }
            });
        }
        Ok(DeleteTopicsResponse { responses, ..Default::default() })
    })
}

fn find_to_delete(cx: &Context, topic: &DeleteTopicState) -> Result<Result<Topic, Refused>, Failure> {
    let view = cx.view();
    let (found, unknown) = match (&topic.name, topic.topic_id) {
        (Some(name), TopicId::NIL) => {
            (names::by_name(&view, name)?, Refused::new(ErrorCode::UnknownTopicOrPartition, "no such topic"))
        }
        (None, id) if id != TopicId::NIL => {
            (names::by_id(&view, id)?, Refused::new(ErrorCode::UnknownTopicId, "no topic has this id"))
        }
        _ => {
            let message = "a topic to delete is named by its name or by its id, not by both";
            return Ok(Err(Refused::new(ErrorCode::InvalidRequest, message)));
        }
    };
    if !cx.may(Operation::DeleteTopics) {
        let message = "not allowed to delete topics: the principal is not among the admins";
        return Ok(Err(Refused::new(ErrorCode::TopicAuthorizationFailed, message)));
    }
    Ok(found.ok_or(unknown))
}

pub(super) async fn accept_grow(
    cx: Context,
    request: CreatePartitionsRequest,
) -> Result<impl Future<Output = Result<CreatePartitionsResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.topics.len())?;
    let repeated = Repeated::among(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let checked = match repeated.check(&topic.name) {
            Ok(()) => check_growth(&cx, &topic)?,
            Err(refused) => Err(refused),
        };
        let outcome = match checked {
            Err(refused) => Err(refused),
            Ok((id, partitions)) => {
                let validate_only = request.validate_only;
                let command = Command::AddPartitions { topic: id, partitions, validate_only };
                Ok((cx.ask(command).await?, ()))
            }
        };
        asked.push((topic.name, outcome));
    }
    Ok(async move {
        let mut results = Vec::with_capacity(asked.len());
        for (name, asked) in asked {
            let (error_code, error_message) = match settle(&cx, asked).await? {
                Ok(()) => (ErrorCode::None, None),
                Err(refused) => refused,
            };
            results.push(CreatePartitionsTopicResult { name, error_code, error_message });
        }
        Ok(CreatePartitionsResponse { results, ..Default::default() })
    })
}

/// The topic that grows, and to how many partitions.
fn check_growth(
    cx: &Context,
    topic: &CreatePartitionsTopic,
) -> Result<Result<(TopicId, u32), Refused>, Failure> {
    if !cx.may(Operation::GrowTopics) {
        let message = "not allowed to change topics: the principal is not among the admins";
        return Ok(Err(Refused::new(ErrorCode::TopicAuthorizationFailed, message)));
    }
    if let Err(refused) = check_space(cx) {
        return Ok(Err(refused));
    }
    let Some(found) = names::by_name(&cx.view(), &topic.name)? else {
        return Ok(Err(Refused::new(ErrorCode::UnknownTopicOrPartition, "no such topic")));
    };
    let before = found.row.partitions;
    let after = match u32::try_from(topic.count) {
        Ok(after) if after > before => after,
        _ => {
            let message = format!("the topic has {before} partitions; the new number must be larger");
            return Ok(Err(Refused::new(ErrorCode::InvalidPartitions, message)));
        }
    };
    if let Some(assignments) = &topic.assignments {
        let here = assignments.iter().all(|assignment| assignment.broker_ids == [NODE.0]);
        if !here || u32::try_from(assignments.len()) != Ok(after - before) {
            let message = "a manual assignment lists each new partition, on node 0 alone";
            return Ok(Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message)));
        }
    }
    Ok(Ok((found.id, after)))
}
