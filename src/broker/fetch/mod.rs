//! Fetch: what is planned from the index alone ([`plan`]), waited for and read ([`serve`]), and remembered between the
//! fetches of one client ([`sessions`], [`skips`], [`watched`]).

mod plan;
mod reading;
mod serve;
mod sessions;
mod skips;
mod watched;

pub(super) use sessions::FetchSessions;
pub(super) use skips::Skips;
pub(super) use watched::{LastFetch, WatchedRoom};

use super::failure::Failure;
use super::list_offsets::READ_COMMITTED;
use super::session::Context;
use crate::net::Reply;
use crate::types::TopicId;
use crate::wire::Message;
use crate::wire::messages::FetchRequest;
use bytes::Bytes;
use std::sync::Arc;

/// A partition as a client names it, by name or by id as its version has it, and what it wants of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    topic: TopicRef,
    index: i32,
    fetch_offset: i64,
    bytes_max: i32,
    leader_epoch: i32,
}

/// A topic as a client names it. The half that its version does not have is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TopicRef {
    name: Arc<str>,
    id: TopicId,
}

impl TopicRef {
    fn new(name: &str, id: TopicId) -> TopicRef {
        TopicRef { name: name.into(), id }
    }
}

pub(super) fn accept(cx: Context, body: Bytes) -> Result<Reply, Failure> {
    let request = FetchRequest::decode_leading(body, cx.version)?;
    let listed = request.topics.iter().map(|topic| 1 + topic.partitions.len());
    let forgotten = request.forgotten_topics_data.iter().map(|topic| 1 + topic.partitions.len());
    cx.check_listed(listed.chain(forgotten).sum())?;
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        return Err(Failure::protocol("a fetch in the name of a replica: this node has no followers"));
    }
    if !(0..=READ_COMMITTED).contains(&request.isolation_level) {
        return Err(Failure::protocol(format!("{} is no isolation level", request.isolation_level)));
    }
    Ok(Reply::Later(Box::pin(async move { Ok(serve::serve(cx, request).await?) })))
}
