//! Classic consumer groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and what operators ask (`spec/groups.md`).

mod describe;
mod forget;
mod membership;
mod subscription;

pub(super) use describe::{accept_describe, answer_list};
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
