//! Groups (`spec/groups.md`): of the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup), of the consumer protocol
//! (ConsumerGroupHeartbeat), and what operators ask.

mod consumers;
mod describe;
mod describe_consumers;
mod forget;
mod list;
mod matching;
mod membership;
mod subscription;

pub(super) use consumers::accept as accept_consumer;
pub(super) use describe::answer as answer_describe;
pub(super) use describe_consumers::answer as answer_describe_consumers;
pub(super) use forget::{answer_delete, answer_offset_delete};
pub(super) use list::answer as answer_list;
pub(super) use matching::Matching;
pub(super) use membership::{accept_heartbeat, accept_join, accept_leave, accept_sync};

use super::failure::{Failure, expect};
use super::limits::{DESCRIBED_AT_ONCE, DESCRIBED_BYTES_MAX};
use super::service::reply_to;
use super::session::Context;
use crate::core::limits::GROUP_ID_BYTES_MAX;
use crate::core::{AnyGroup, Command, GroupMember, Refusal};
use crate::types::{Generation, GroupId, InstanceId, MemberId};

/// The member that a request says it speaks for.
pub(super) fn member(group: &str, generation: i32, member: &str, instance: Option<&str>) -> GroupMember {
    GroupMember {
        group: GroupId::new(group),
        generation: Generation(generation),
        member: MemberId::new(member),
        instance: instance.map(InstanceId::new),
    }
}

/// Why a group is not described: what was asked for is more than one answer may hold.
const TOO_MUCH: &str = "the groups asked for are too large for one answer: ask for fewer of them at once";

/// Asks for groups, a few at a time, and makes of each what the answer says of it; of none where there is no more room.
async fn describe_each<G>(
    cx: &Context,
    groups: Vec<String>,
    mut describe: impl FnMut(String, Option<AnyGroup>) -> Result<G, Failure>,
) -> Result<Vec<G>, Failure> {
    let mut described = Vec::with_capacity(groups.len());
    let mut bytes = 0_usize;
    for some in groups.chunks(DESCRIBED_AT_ONCE) {
        let mut asked = Vec::with_capacity(some.len());
        for group in some {
            let command = Command::DescribeGroup { group: GroupId::new(group) };
            asked
                .push((group, if bytes > DESCRIBED_BYTES_MAX { None } else { Some(cx.ask(command).await?) }));
        }
        for (group, answer) in asked {
            let found = match answer {
                Some(answer) => Some(expect::group(reply_to(answer).await?)?),
                None => None,
            };
            bytes = bytes.saturating_add(found.as_ref().map_or(0, AnyGroup::weight));
            described.push(describe(group.clone(), found)?);
        }
    }
    Ok(described)
}

/// An answer of the classic protocol has a code and no words: these are in the log.
fn explain(cx: &Context, group: &str, refusal: Refusal) {
    if matches!(refusal, Refusal::GroupFull(_) | Refusal::MemberIdTooLong) {
        let peer = cx.caller.connection.peer;
        cx.node.refusals.line(|held_back| {
            tracing::warn!(%peer, client = ?shortened(&cx.client_id), group = ?shortened(group), api = %cx.api,
                reason = %refusal, held_back, "a member of a group is refused");
        });
    }
}

/// The beginning of a name that may be as long as a text of the protocol: with more around it, it would fit into none.
fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(GROUP_ID_BYTES_MAX)).unwrap_or_default()
}
