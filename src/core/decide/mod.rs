//! What each command leads to. One file per family of commands; each decision states its events through a [`Draft`] and
//! returns what the sender is told.

mod expiry;
mod groups;
mod keys;
mod offsets;
mod open;
mod operator;
mod prepared;
mod produce;
mod producer_id;
mod restore;
mod retention;
mod sweep;
mod topics;
mod transactions;

pub use groups::{GroupUse, consumer_group_status, may_expire};
pub use retention::clock_stepped;

use super::commands::{Command, Now, Reply};
use super::draft::{Draft, Drafted, Need, View};
#[cfg(any(test, debug_assertions))]
use super::invariants;
use super::rows::Timer;

/// A command's outcome.
pub struct Decided {
    /// What its sender is told, once `drafted` is durable; none if a later decision answers it
    /// ([`Drafted::answered`]), by the number of its request ([`Command::request`]).
    pub reply: Option<Reply>,
    /// The events, what they change, and whom else they answer.
    pub drafted: Drafted,
}

/// Decides a command at `now` on the rows of `view`, or says which rows it needs first. Pure.
pub fn decide(view: &dyn View, now: Now, command: &Command) -> Result<Decided, Need> {
    let mut draft = Draft::new(view, now.served);
    let reply = reply(&mut draft, now, command)?;
    let decided = Decided { reply, drafted: draft.finish() };
    #[cfg(any(test, debug_assertions))]
    invariants::check(&invariants::Step { view, now, command, decided: &decided });
    Ok(decided)
}

/// What the sender of a command is told; none if it has to wait for another decision.
fn reply(rows: &mut Draft<'_>, now: Now, command: &Command) -> Result<Option<Reply>, Need> {
    Ok(Some(match command {
        Command::FormCluster { id } => Reply::Done(topics::form_cluster(rows, *id)?),
        Command::CreateTopic { topic, validate_only } => {
            Reply::Done(topics::create_topic(rows, topic, *validate_only)?)
        }
        Command::AddPartitions { topic, partitions, validate_only } => {
            Reply::Done(topics::add_partitions(rows, *topic, *partitions, *validate_only)?)
        }
        Command::DeleteTopic { topic } => Reply::Done(topics::delete_topic(rows, *topic)?),
        Command::ConfigureTopic { topic, change, validate_only } => {
            Reply::Done(topics::configure_topic(rows, *topic, change, *validate_only)?)
        }
        Command::DeleteRecords { partition, to } => {
            Reply::Done(retention::delete_records(rows, *partition, *to)?)
        }
        Command::ExpireRecords(expire) => Reply::Done(retention::expire_records(rows, now, expire)?),
        Command::Produce(produce) => Reply::Produced(produce::produce(rows, now, produce)?),
        Command::ProduceAndCommit(commit) => produce::produce_and_commit(rows, now, commit)?,
        Command::InitProducerId(init) => producer_id::init_producer_id(rows, now, init)?,
        Command::Enrol(enrol) => Reply::Each(transactions::enrol_partitions(rows, now, enrol)?),
        Command::EnrolGroup { producer, group } => {
            Reply::Done(transactions::enrol_group(rows, now, producer, group)?)
        }
        Command::StageOffsets(stage) => Reply::Each(offsets::stage_offsets(rows, now, stage)?),
        Command::EndTxn(end) => Reply::Identity(transactions::end_transaction(rows, now, end)?),
        Command::CommitOffsets { member, offsets } => {
            Reply::Each(offsets::commit_offsets(rows, now, member, offsets)?)
        }
        Command::JoinGroup(join) => return groups::join(rows, now, join),
        Command::SyncGroup(sync) => return groups::sync(rows, now, sync),
        Command::Heartbeat(member) => Reply::Done(groups::heartbeat(rows, now, member)?),
        Command::ConsumerHeartbeat(beat) => Reply::Consumer(groups::consumer_heartbeat(rows, now, beat)?),
        Command::LeaveGroup { group, members } => Reply::Each(groups::leave(rows, now, group, members)?),
        Command::DescribeGroup { group } => Reply::Group(groups::describe(rows, now, group)?),
        Command::DeleteGroup { group } => Reply::Done(groups::delete_group(rows, now, group)?),
        Command::ForgetOffsets { group, partitions } => {
            Reply::Done(groups::forget_offsets(rows, group, partitions)?)
        }
        Command::ExpireGroup { group, retention } => {
            Reply::Done(Ok(groups::expire_group_row(rows, now, group, *retention)?))
        }
        Command::ExpireOffsets { group, partitions, retention } => {
            Reply::Done(Ok(groups::expire_offsets(rows, now, group, partitions, *retention)?))
        }
        Command::PrepareTxn(prepare) => Reply::Done(prepared::prepare_transaction(rows, now, prepare)?),
        Command::EndByOperator(end) => Reply::Done(operator::end_by_operator(rows, now, end)?),
        Command::ExpireTransactionalId(expire) => {
            Reply::Done(Ok(expiry::expire_transactional_id(rows, now, expire)?))
        }
        Command::ExpireProducer(expire) => Reply::Done(Ok(expiry::expire_producer(rows, now, expire)?)),
        Command::ForceAbort(abort) => Reply::Each(operator::force_abort(rows, now, abort)?),
        Command::ForgetKeys(forget) => Reply::Done(Ok(keys::forget_keys(rows, now, forget)?)),
        Command::Sweep(dead) => Reply::Done(Ok(sweep::sweep(rows, dead)?)),
        Command::RestoreLog { restore } => Reply::Done(Ok(restore::restore_log(rows, now, *restore)?)),
        Command::Expire { timer } => {
            match timer {
                Timer::Transaction(id) => transactions::expire_transaction(rows, now, id)?,
                Timer::Group(id) => groups::expire_group(rows, now, id)?,
                Timer::Member(key) => groups::expire_member(rows, now, key)?,
                Timer::Revocation(key) => groups::expire_revocation(rows, now, key)?,
            }
            Reply::Done(Ok(()))
        }
    }))
}
