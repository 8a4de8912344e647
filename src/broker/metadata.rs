//! Metadata and DescribeCluster: the node, the topics, and that every partition's leader is the node.

use super::authorise::{cluster_operations, topic_operations};
use super::failure::{Failure, expect};
use super::names::{self, Topic};
use super::service::{NODE, reply_to};
use super::session::Context;
use super::{errors, leader_epoch, topics};
use crate::core::{Command, Refusal};
use crate::net::Authority;
use crate::shard::Answer;
use crate::store::ReadView;
use crate::types::{HashMap, LeaderEpoch, TopicId, TopicName};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;

/// Topics that one request may bring into being. A client asks for those it uses; this many at once is no client.
const CREATED_MAX: usize = 1_000;
/// Topics that are looked up where the request is; more are looked up on a thread of their own.
const INLINE_MAX: usize = 64;
/// What says that authorised operations were not asked for.
const NOT_ASKED: i32 = i32::MIN;

pub(super) async fn accept(
    cx: Context,
    request: MetadataRequest,
) -> Result<impl Future<Output = Result<MetadataResponse, Failure>> + Send + 'static, Failure> {
    let MetadataRequest { topics: asked, allow_auto_topic_creation: create, .. } = &request;
    let asked = asked.as_deref().unwrap_or_default();
    cx.check_listed(asked.len())?;
    let created = match create {
        true => create_missing(&cx, asked).await?,
        false => HashMap::default(),
    };
    Ok(answer(cx, request, created))
}

/// Asks for the topics that are named and do not exist, where that is configured: then anybody's request makes them.
async fn create_missing(
    cx: &Context,
    asked: &[MetadataRequestTopic],
) -> Result<HashMap<String, Answer>, Failure> {
    let mut created = HashMap::default();
    if !cx.node.config.auto_create_topics || cx.node.shard.space_is_short() {
        return Ok(created);
    }
    let view = cx.view();
    for name in
        asked.iter().filter(|topic| topic.topic_id == TopicId::NIL).filter_map(|topic| topic.name.as_ref())
    {
        let Ok(valid) = TopicName::new(name) else { continue };
        if created.len() >= CREATED_MAX
            || created.contains_key(name)
            || names::by_name(&view, name)?.is_some()
        {
            continue;
        }
        let topic = topics::automatic(valid, cx.node.config.partitions_default);
        let answer = cx.ask(Command::CreateTopic { topic, validate_only: false }).await?;
        created.insert(name.clone(), answer);
    }
    Ok(created)
}

async fn answer(
    cx: Context,
    request: MetadataRequest,
    created: HashMap<String, Answer>,
) -> Result<MetadataResponse, Failure> {
    let mut refused = HashMap::default();
    for (name, answer) in created {
        match expect::done(reply_to(answer).await?)? {
            // Somebody else was faster: then it is there.
            Ok(()) | Err(Refusal::TopicExists) => {}
            Err(refusal) => {
                refused.insert(name, errors::code(refusal, cx.api, cx.version)?);
            }
        }
    }
    let authority = cx.caller.connection.authority;
    let look_up = LookUp {
        version: cx.version,
        topic_operations: match request.include_topic_authorized_operations {
            true => topic_operations(authority),
            false => NOT_ASKED,
        },
        leader_epoch: leader_epoch::current(&cx.view())?,
        refused,
    };
    let topics = match request.topics {
        None => cx.node.scan(move |view| look_up.all(&view)).await?,
        Some(asked) if asked.is_empty() && cx.version == 0 => {
            cx.node.scan(move |view| look_up.all(&view)).await?
        }
        Some(asked) if asked.len() <= INLINE_MAX => look_up.each(&cx.view(), &asked)?,
        Some(asked) => cx.node.scan(move |view| look_up.each(&view, &asked)).await?,
    };
    let at = cx.node.advertised();
    let node =
        MetadataResponseBroker { node_id: NODE.0, host: at.host.clone(), port: at.port.into(), rack: None };
    Ok(MetadataResponse {
        brokers: vec![node],
        cluster_id: cx.node.cluster_id(&cx.view())?,
        controller_id: NODE.0,
        topics,
        cluster_authorized_operations: operations_of_cluster(
            authority,
            request.include_cluster_authorized_operations,
        ),
        ..Default::default()
    })
}

fn operations_of_cluster(authority: Authority, asked: bool) -> i32 {
    if asked { cluster_operations(authority) } else { NOT_ASKED }
}

/// How topics are looked up for one request.
struct LookUp {
    version: i16,
    topic_operations: i32,
    leader_epoch: LeaderEpoch,
    /// Topics that could not be created, and why.
    refused: HashMap<String, ErrorCode>,
}

impl LookUp {
    fn all(&self, view: &ReadView) -> Result<Vec<MetadataResponseTopic>, Failure> {
        Ok(names::all(view)?.iter().map(|topic| self.found(topic)).collect())
    }

    fn each(
        &self,
        view: &ReadView,
        asked: &[MetadataRequestTopic],
    ) -> Result<Vec<MetadataResponseTopic>, Failure> {
        asked.iter().map(|topic| self.one(view, topic)).collect()
    }

    fn one(&self, view: &ReadView, asked: &MetadataRequestTopic) -> Result<MetadataResponseTopic, Failure> {
        if asked.topic_id != TopicId::NIL {
            let found = names::by_id(view, asked.topic_id)?;
            return Ok(match found {
                Some(topic) => self.found(&topic),
                None => self.missing(None, asked.topic_id, ErrorCode::UnknownTopicId),
            });
        }
        let Some(name) = &asked.name else {
            return Ok(self.missing(None, TopicId::NIL, ErrorCode::InvalidRequest));
        };
        if TopicName::new(name).is_err() {
            return Ok(self.missing(Some(name), TopicId::NIL, ErrorCode::InvalidTopicException));
        }
        Ok(match names::by_name(view, name)? {
            Some(topic) => self.found(&topic),
            None => {
                let code = self.refused.get(name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition);
                self.missing(Some(name), TopicId::NIL, code)
            }
        })
    }

    fn found(&self, topic: &Topic) -> MetadataResponseTopic {
        MetadataResponseTopic {
            name: Some(topic.row.name.as_str().to_owned()),
            topic_id: topic.id,
            partitions: topic.indexes().map(|index| partition(index, self.leader_epoch)).collect(),
            topic_authorized_operations: self.topic_operations,
            ..Default::default()
        }
    }

    fn missing(&self, name: Option<&str>, topic_id: TopicId, error_code: ErrorCode) -> MetadataResponseTopic {
        // Only from version 12 on can a topic have no name.
        let no_name = if self.version >= 12 { None } else { Some(String::new()) };
        let name = name.map(str::to_owned).or(no_name);
        MetadataResponseTopic { error_code, name, topic_id, ..Default::default() }
    }
}

fn partition(index: i32, leader_epoch: LeaderEpoch) -> MetadataResponsePartition {
    MetadataResponsePartition {
        partition_index: index,
        leader_id: NODE.0,
        leader_epoch: leader_epoch.0,
        replica_nodes: vec![NODE.0],
        isr_nodes: vec![NODE.0],
        ..Default::default()
    }
}

/// What a client wants to know the endpoints of.
mod endpoint_type {
    pub(super) const BROKERS: i8 = 1;
    pub(super) const CONTROLLERS: i8 = 2;
}

pub(super) async fn answer_cluster(
    cx: Context,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Failure> {
    let refused = match request.endpoint_type {
        endpoint_type::BROKERS => None,
        endpoint_type::CONTROLLERS => {
            Some((ErrorCode::MismatchedEndpointType, "this is the endpoint of a broker, not of a controller"))
        }
        _ => Some((
            ErrorCode::UnsupportedEndpointType,
            "endpoints are those of brokers (1) or controllers (2)",
        )),
    };
    if let Some((error_code, message)) = refused {
        let error_message = Some(message.to_owned());
        let endpoint_type = if cx.version >= 1 { request.endpoint_type } else { endpoint_type::BROKERS };
        return Ok(DescribeClusterResponse {
            error_code,
            error_message,
            endpoint_type,
            ..Default::default()
        });
    }
    let at = cx.node.advertised();
    let node = DescribeClusterBroker {
        broker_id: NODE.0,
        host: at.host.clone(),
        port: at.port.into(),
        ..Default::default()
    };
    Ok(DescribeClusterResponse {
        cluster_id: cx.node.cluster_id(&cx.view())?.unwrap_or_default(),
        controller_id: NODE.0,
        brokers: vec![node],
        cluster_authorized_operations: operations_of_cluster(
            cx.caller.connection.authority,
            request.include_cluster_authorized_operations,
        ),
        ..Default::default()
    })
}
