//! Groups (`spec/groups.md`): of the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup), of the consumer protocol
//! (ConsumerGroupHeartbeat), and what operators ask.

mod consumers;
mod describe;
mod describe_consumers;
mod forget;
mod membership;
mod subscription;

pub(super) use consumers::accept as accept_consumer;
pub(super) use describe::{accept_describe, answer_list};
pub(super) use describe_consumers::accept as accept_describe_consumers;
pub(super) use forget::{answer_delete, answer_offset_delete};
pub(super) use membership::{accept_heartbeat, accept_join, accept_leave, accept_sync};

use crate::core::GroupMember;
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
