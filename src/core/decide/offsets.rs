//! Consumed offsets: committed at once, or with a transaction (`spec/transactions.md`, "Offsets").

use super::groups::may_commit;
use super::transactions::{check_enrols, enrolment, find_coordinated, state_group};
use crate::core::commands::{GroupMember, Now, OffsetToCommit, Protocol, Refusal, StageOffsets};
use crate::core::draft::{Draft, Need};
use crate::core::events::Event;
use crate::core::limits::{GROUP_ID_BYTES_MAX, OFFSET_METADATA_BYTES_MAX, OFFSETS_PER_TRANSACTION_MAX};
use crate::core::rows::*;
use crate::types::*;

/// `CommitOffsets`: each on its own merits.
pub(super) fn commit_offsets(
    rows: &mut Draft<'_>,
    now: Now,
    member: &GroupMember,
    offsets: &[OffsetToCommit],
) -> Result<Vec<Result<(), Refusal>>, Need> {
    let (accepted, answers) = check(rows, now, &member.group, offsets)?;
    if let Err(refusal) = may_commit(rows, now, member, false)? {
        return Ok(vec![Err(refusal); offsets.len()]);
    }
    if !accepted.is_empty() {
        rows.state(Event::OffsetsCommitted { offsets: accepted })?;
    }
    Ok(answers)
}

/// `StageOffsets`: they wait for the end of the transaction.
pub(super) fn stage_offsets(
    rows: &mut Draft<'_>,
    now: Now,
    stage: &StageOffsets,
) -> Result<Vec<Result<(), Refusal>>, Need> {
    let all = |refusal| Ok(vec![Err(refusal); stage.offsets.len()]);
    let id = &stage.producer.transactional_id;
    let row = match find_coordinated(rows, &stage.producer, CoordinatorKind::Group)? {
        Ok(row) => row,
        Err(refusal) => return all(refusal),
    };
    if let Err(refusal) = check_enrols(row) {
        return all(refusal);
    }
    let (enrolled, staged) = match &row.state {
        TransactionState::Ongoing(ongoing) => {
            (ongoing.groups.contains(&stage.member.group), ongoing.offsets.len())
        }
        _ => (false, 0),
    };
    if staged + stage.offsets.len() > OFFSETS_PER_TRANSACTION_MAX {
        return all(Refusal::TransactionTooLarge);
    }
    if stage.protocol == Protocol::V1 && !enrolled {
        return all(Refusal::NotEnrolled);
    }
    let (accepted, answers) = check(rows, now, &stage.member.group, &stage.offsets)?;
    if let Err(refusal) = may_commit(rows, now, &stage.member, true)? {
        return all(refusal);
    }
    if accepted.is_empty() {
        return Ok(answers);
    }
    if let Err(refusal) = state_group(rows, now, &stage.producer, &stage.member.group)? {
        return all(refusal);
    }
    if let Some(row) = rows.get::<TransactionRow>(id)? {
        let enrolment = enrolment(id, row, now);
        rows.state(Event::OffsetsStaged { enrolment, offsets: accepted })?;
    }
    Ok(answers)
}

type Accepted = Vec<(GroupOffsetKey, CommittedOffset)>;

fn check(
    rows: &Draft<'_>,
    now: Now,
    group: &GroupId,
    offsets: &[OffsetToCommit],
) -> Result<(Accepted, Vec<Result<(), Refusal>>), Need> {
    rows.require(offsets.iter().map(|offset| PartitionRow::key(&offset.partition)))?;
    let mut accepted = Vec::with_capacity(offsets.len());
    let mut answers = Vec::with_capacity(offsets.len());
    for offset in offsets {
        let answer = if group.as_str().len() > GROUP_ID_BYTES_MAX {
            Err(Refusal::InvalidName)
        } else if offset.metadata.len() > OFFSET_METADATA_BYTES_MAX {
            Err(Refusal::MetadataTooLarge)
        } else if rows.get::<PartitionRow>(&offset.partition)?.is_none() {
            Err(Refusal::UnknownPartition)
        } else {
            let committed = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                committed_at: now.wall,
                since: now.served,
            };
            accepted.push((GroupOffsetKey { group: group.clone(), partition: offset.partition }, committed));
            Ok(())
        };
        answers.push(answer);
    }
    Ok((accepted, answers))
}
