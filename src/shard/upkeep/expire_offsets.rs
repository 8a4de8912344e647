//! Forgets the offsets of groups that nobody has used for long, and then the groups (`spec/groups.md`, G8): slice by slice,
//! each a decision of its own, which looks again.

use super::{COMMANDS_PER_TURN_MAX, Duty, Turn};
use crate::core::{Command, ConsumerGroupRow, GroupRow, GroupUse, Now, PartitionRow, may_expire};
use crate::store::{ReadView, StoreError};
use crate::types::{GroupId, PartitionId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long to rest after a round. Offsets live for days.
const PERIOD: Duration = Duration::from_secs(60);

/// Rows looked at in one turn.
const ROWS_PER_TURN: usize = 1_000;

/// Where the next look begins.
#[derive(Debug)]
enum Place {
    /// Behind the offset of this group and partition.
    Offsets(Option<(GroupId, PartitionId)>),
    /// Behind this group of the classic protocol.
    Groups(Option<GroupId>),
    /// Behind this group of the consumer protocol.
    ConsumerGroups(Option<GroupId>),
}

/// See the module.
#[derive(Debug)]
pub(in crate::shard) struct ExpireOffsets {
    retention: Duration,
    at: Place,
}

impl ExpireOffsets {
    pub(in crate::shard) fn new(retention: Duration) -> ExpireOffsets {
        ExpireOffsets { retention, at: Place::Offsets(None) }
    }

    fn look_at_offsets(
        &mut self,
        view: &ReadView,
        now: Now,
        after: Option<&(GroupId, PartitionId)>,
    ) -> Result<Vec<Command>, StoreError> {
        let mut due: BTreeMap<GroupId, Vec<PartitionId>> = BTreeMap::new();
        let mut known: Option<(GroupId, GroupUse)> = None;
        let mut last = None;
        let mut looked = 0;
        for offset in view.all_group_offsets(after).take(ROWS_PER_TURN) {
            let (group, partition, committed) = offset?;
            looked += 1;
            let used = match known.take().filter(|(of, _)| *of == group) {
                Some((_, used)) => used,
                None => group_use(view, &group)?,
            };
            let deleted = view.get::<PartitionRow>(&partition)?.is_none();
            if deleted || may_expire(used, &committed, self.retention, now) {
                due.entry(group.clone()).or_default().push(partition);
            }
            known = Some((group.clone(), used));
            last = Some((group, partition));
            if due.len() >= COMMANDS_PER_TURN_MAX {
                break;
            }
        }
        let ended = looked < ROWS_PER_TURN && due.len() < COMMANDS_PER_TURN_MAX;
        self.at = if ended { Place::Groups(None) } else { Place::Offsets(last) };
        let retention = self.retention;
        let expire = |(group, partitions)| Command::ExpireOffsets { group, partitions, retention };
        Ok(due.into_iter().map(expire).collect())
    }

    fn look_at_groups(
        &mut self,
        view: &ReadView,
        now: Now,
        groups: impl Iterator<Item = Result<(GroupId, GroupUse), StoreError>>,
        (at, next): (impl Fn(Option<GroupId>) -> Place, Place),
    ) -> Result<Vec<Command>, StoreError> {
        let retention = self.retention;
        let mut commands = Vec::new();
        let mut last = None;
        let mut looked = 0;
        for group in groups.take(ROWS_PER_TURN) {
            let (group, used) = group?;
            looked += 1;
            if used.is_over(retention, now) && view.group_offsets(&group).next().transpose()?.is_none() {
                commands.push(Command::ExpireGroup { group: group.clone(), retention });
            }
            last = Some(group);
            if commands.len() >= COMMANDS_PER_TURN_MAX {
                break;
            }
        }
        let ended = looked < ROWS_PER_TURN && commands.len() < COMMANDS_PER_TURN_MAX;
        self.at = if ended { next } else { at(last) };
        Ok(commands)
    }
}

/// Who uses a group, as far as the view has it.
fn group_use(view: &ReadView, group: &GroupId) -> Result<GroupUse, StoreError> {
    if let Some(row) = view.get::<ConsumerGroupRow>(group)? {
        return Ok(GroupUse::of_consumers(&row));
    }
    Ok(view.get::<GroupRow>(group)?.map_or(GroupUse::Never, |row| GroupUse::of_classic(&row)))
}

impl Duty for ExpireOffsets {
    fn name(&self) -> &'static str {
        "expire-offsets"
    }

    fn period(&self) -> Duration {
        PERIOD
    }

    fn turn(&mut self, view: &ReadView, now: Now) -> Result<Turn, StoreError> {
        let commands = match std::mem::replace(&mut self.at, Place::Offsets(None)) {
            Place::Offsets(after) => self.look_at_offsets(view, now, after.as_ref())?,
            Place::Groups(after) => {
                let groups = view.groups_after(after.as_ref());
                let groups = groups.map(|group| group.map(|(id, row)| (id, GroupUse::of_classic(&row))));
                let places = (Place::Groups, Place::ConsumerGroups(None));
                self.look_at_groups(view, now, groups, places)?
            }
            Place::ConsumerGroups(after) => {
                let groups = view.consumer_groups_after(after.as_ref());
                let groups = groups.map(|group| group.map(|(id, row)| (id, GroupUse::of_consumers(&row))));
                let places = (Place::ConsumerGroups, Place::Offsets(None));
                self.look_at_groups(view, now, groups, places)?
            }
        };
        // A round ends where it began.
        let more = !matches!(self.at, Place::Offsets(None));
        Ok(Turn { commands, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::*;
    use crate::log::RealDisk;
    use crate::shard::{Origin, Running, ShardLimits, start};
    use crate::types::*;
    use std::sync::Arc;

    const RETENTION: Duration = Duration::from_secs(3600);

    async fn ask(running: &Running, command: Command) -> Reply {
        let origin = Origin::new(ConnectionId(1));
        running.shard.ask(&origin, command, vec![]).await.unwrap().await.unwrap()
    }

    /// Rounds of the duty at a time; how many commands it has asked.
    async fn rounds(running: &Running, now: Now) -> usize {
        let mut duty = ExpireOffsets::new(RETENTION);
        let mut asked = 0;
        loop {
            let turn = duty.turn(&running.shard.view(), now).unwrap();
            assert!(turn.commands.len() <= COMMANDS_PER_TURN_MAX);
            for command in turn.commands {
                ask(running, command).await;
                asked += 1;
            }
            if !turn.more {
                return asked;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_due_is_proposed_and_decided_again() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), Arc::new(RealDisk), &ShardLimits::default()).unwrap();
        let topic = TopicId(uuid::Uuid::new_v4());
        let name = TopicName::new("t").unwrap();
        let new = NewTopic { id: topic, name, partitions: 3, config: TopicConfig::new() };
        ask(&running, Command::CreateTopic { topic: new, validate_only: false }).await;
        let groups = 100;
        for group in 0..groups {
            let offset = |index| OffsetToCommit {
                partition: PartitionId::new(topic, PartitionIndex(index)),
                offset: Offset(1),
                leader_epoch: LeaderEpoch(-1),
                metadata: String::new(),
            };
            let member = GroupMember::nobody(GroupId::new(&format!("g{group}")));
            ask(&running, Command::CommitOffsets { member, offsets: (0..3).map(offset).collect() }).await;
        }
        let left = || running.shard.view().all_group_offsets(None).count();
        let at = |served| Now { served, wall: Timestamp(0) };
        assert_eq!(rounds(&running, at(ServedTime(0).plus(RETENTION / 2))).await, 0);
        // The duty's clock is ahead of the shard's: what it proposes is looked at again, and stays.
        assert!(rounds(&running, at(ServedTime(0).plus(RETENTION * 2))).await >= groups);
        assert_eq!(left(), groups * 3);
        // A deleted topic's offsets go at any time.
        ask(&running, Command::DeleteTopic { topic }).await;
        assert!(rounds(&running, at(ServedTime(0))).await >= groups);
        assert_eq!(left(), 0);
        running.stop().await.unwrap();
    }
}
