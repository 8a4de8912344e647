//! What must be true of every decision, under the names of the properties (`spec/transactions.md`, section 12;
//! `spec/groups.md`, sections 9 and 17). Comes in: a [`Step`], the rows that a decision found, its events, and what it makes
//! of the rows. Goes out: nothing, or the first [`Violation`].
//!
//! Properties speak of histories; what stands here can be said of one step alone, from the rows that it changes and from a
//! few others that it knows. What is not known, nothing is said of. So a defect shows at the step that makes it, with the
//! rows before and after, and not when some client or judge at last sees something of it.
//!
//! In debug builds and in tests, so in every step of a simulated world, each decision is held against all of this, and a
//! violation panics. A release build has none of it.
//!
//! This must never change anything: a decision is the same with and without it.

mod as_one;
mod consumers;
mod ends;
mod facts;
mod groups;
mod keys;
mod offsets;
mod open;
mod partitions;
mod producers;
mod requests;
mod step;
mod transactions;

pub(crate) use step::Step;

use super::commands::Command;
use std::fmt;
use step::Verdict;

/// Something that is true of every decision.
pub(crate) struct Invariant {
    /// Which property it is part of.
    pub(crate) property: &'static str,
    /// What it says.
    pub(crate) says: &'static str,
    holds: fn(&Step<'_>) -> Verdict,
}

impl Invariant {
    fn held_by(&self, step: &Step<'_>) -> Result<(), Violation> {
        let Invariant { property, says, holds } = self;
        holds(step).map_err(|rows| Violation { property, says, rows })
    }

    /// How a step breaks it, if it does.
    #[cfg(test)]
    pub(crate) fn broken_by(&self, step: &Step<'_>) -> Option<Violation> {
        self.held_by(step).err()
    }
}

const fn invariant(property: &'static str, says: &'static str, holds: fn(&Step<'_>) -> Verdict) -> Invariant {
    Invariant { property, says, holds }
}

/// What alone is said of two steps that are decided as one: the others are about each of them.
#[rustfmt::skip]
const AS_ONE: Invariant = invariant("NoTornTxn", "a commit with the last records is of all of them, and what both would come to (O13)", as_one::a_commit_with_the_last_records_is_both);

/// All of them. What follows from another one comes after it.
#[rustfmt::skip]
pub(crate) const INVARIANTS: &[Invariant] = &[
    // Producers, and what is appended.
    invariant("EpochMonotone", "a partition's epoch of a producer never goes back", producers::epochs_never_go_back),
    invariant("FenceZombie", "an epoch that was fenced appends nothing", producers::fenced_epochs_append_nothing),
    invariant("SeqContiguous", "a batch follows the one before, or begins its epoch", producers::batches_follow),
    invariant("NoDuplicate", "a partition remembers the newest five batches of a producer (A11)", producers::the_newest_batches_are_remembered),
    invariant("NoDuplicate", "who has something open in a partition is not forgotten there (A12)", producers::who_has_something_open_is_not_forgotten),
    invariant("NoDuplicate", "who is forgotten in a partition was idle (A12)", producers::who_is_forgotten_was_idle),
    invariant("NoLostWrite", "what an epoch has stored is counted (A9)", producers::what_is_stored_is_counted),
    invariant("CommittedPrefixStable", "offsets follow one another and are never reused", partitions::offsets_follow),
    invariant("NoLostWrite", "a partition's totals are those of its batches", partitions::totals_add_up),

    // Who holds an id, and where its transaction stands.
    invariant("EpochMonotone", "an id's holder never goes back", transactions::holders_never_go_back),
    invariant("EpochMonotone", "an id's transaction number never goes back", transactions::numbers_never_go_back),
    invariant("EpochMonotone", "a restore never goes back, and skips the ids of before (B1)", transactions::restores_never_go_back),
    invariant("EpochMonotone", "nothing of before a restore is given out again (B1, B4)", transactions::nothing_of_before_a_restore_is_given_out),
    invariant("NoDuplicate", "a producer id is given out once (P1)", transactions::producer_ids_are_given_once),
    invariant("NoDuplicate", "a producer id that is given out is reserved (P1)", transactions::producer_ids_are_reserved),
    invariant("FenceZombie", "a holder's epoch leaves one to fence it with (P9)", transactions::epochs_can_be_fenced),
    invariant("FenceZombie", "whoever did not ask for the end is fenced (O5)", transactions::who_did_not_ask_is_fenced),
    invariant("FenceZombie", "who was fenced takes nothing over (P7)", requests::who_was_fenced_takes_nothing_over),
    invariant("FenceZombie", "a batch in a transaction is its holder's (E2)", ends::transactions_are_their_holders),
    invariant("NoTornTxn", "a transaction goes along the arrows of its states", transactions::states_go_along_the_arrows),
    invariant("NoTornTxn", "a transaction has one outcome", transactions::one_outcome),
    invariant("NoTornTxn", "a delayed request has no effect (E10)", requests::delayed_requests_have_no_effect),
    invariant("NoTornTxn", "an operator ends what he names, and no other (O11)", requests::operators_end_what_they_name),
    invariant("NoLostWrite", "the outcome that is answered is the outcome (O4, O8)", requests::the_outcome_is_what_is_answered),
    invariant("NoTornTxn", "what is prepared stays as it is (E9)", transactions::prepared_stays_as_it_is),
    invariant("NoTornTxn", "what is prepared waits for its owner (D3)", transactions::prepared_waits_for_its_owner),
    invariant("DeadlineKept", "nothing is ended by time before its deadline (D2)", transactions::nothing_expires_early),
    invariant("DeadlineKept", "a deadline is only moved earlier (D1)", transactions::deadlines_move_earlier),
    invariant("LsoAdvances", "an open transaction's deadline is known, and no other (D4)", transactions::deadlines_are_known),

    // Enrolment, markers, and what they close.
    invariant("LsoAdvances", "nothing is appended without enrolment (E3, E4)", ends::nothing_is_appended_without_enrolment),
    invariant("MarkerExactlyOnce", "partitions beyond a transaction's row are counted", ends::partitions_beyond_the_row_are_counted),
    invariant("MarkerExactlyOnce", "each marker is owed, and once (O6)", ends::each_marker_is_owed_once),
    invariant("MarkerExactlyOnce", "every enrolled partition has its marker (O6)", ends::every_enrolled_partition_has_its_marker),
    invariant("NoTornTxn", "a marker says what was decided", ends::markers_say_what_was_decided),
    invariant("FenceZombie", "a marker carries the raised epoch (O3, O5)", ends::markers_carry_the_raised_epoch),
    invariant("LsoAdvances", "a marker closes its transaction", ends::markers_close_their_transaction),
    invariant("NoAbortedRead", "records of an abort are in its range", ends::aborted_records_are_in_a_range),
    invariant("NoLostWrite", "records of an abort alone are in a range", ends::only_aborted_records_are_in_a_range),

    // What readers see of a partition.
    invariant("NoUncommittedRead", "what a producer has open is among the partition's open transactions", open::what_is_open_is_listed),
    invariant("LsoAdvances", "what is among a partition's open transactions is open", open::what_is_listed_is_open),
    invariant("NoUncommittedRead", "open transactions beyond a partition's row are a list, oldest first", open::what_has_no_room_is_a_list),
    invariant("NoUncommittedRead", "what is open holds readers back", partitions::what_is_open_holds_readers_back),
    invariant("LsoAdvances", "only what is open holds readers back", partitions::only_what_is_open_holds_readers_back),
    invariant("CommittedPrefixStable", "the last stable offset never goes back", partitions::stable_never_goes_back),
    invariant("CommittedPrefixStable", "the last stable offset is within the log", partitions::stable_within_the_log),
    invariant("CommittedPrefixStable", "leader epochs begin one behind the other", partitions::leader_epochs_follow),
    invariant("NoLostWrite", "a log start moves forward, and not past the end", partitions::log_start_moves_forward),
    invariant("NoLostWrite", "retention spares what is not decided (X7)", partitions::retention_spares_what_is_undecided),
    invariant("NoLostWrite", "a topic keeps its partitions", partitions::topics_keep_their_partitions),

    // Offsets of groups.
    invariant("OffsetsAtomicWithTxn", "a commit brings its offsets into effect (G3)", offsets::commits_bring_their_offsets),
    invariant("OffsetsAtomicWithTxn", "only a commit brings offsets into effect (G1, G3)", offsets::only_commits_bring_offsets),
    invariant("OffsetsAtomicWithTxn", "offsets wait for the end of their transaction (G2, G5)", offsets::offsets_wait_for_the_end_of_their_transaction),
    invariant("NoLostWrite", "offsets are forgotten by decision alone", offsets::offsets_are_forgotten_by_decision),

    // Idempotency keys.
    invariant("KeyOnce", "a key is taken while it is free (K1, K5)", keys::keys_are_taken_while_free),
    invariant("KeyOnce", "a key is known for its window (K6)", keys::keys_are_known_for_their_window),
    invariant("KeysAtomicWithTxn", "keys are of the transaction that their batch is in (K4)", keys::keys_are_of_their_batch),
    invariant("KeysAtomicWithTxn", "a transaction's end decides about its keys (K4)", keys::an_end_decides_about_its_keys),
    invariant("KeysAtomicWithTxn", "only an abort frees keys (K4)", keys::only_an_abort_frees_keys),

    // Groups.
    invariant("GenerationMonotone", "a group's generation never goes back", groups::generations_never_go_back),
    invariant("GenerationMonotone", "a generation is formed once", groups::generations_are_formed_once),
    invariant("FenceMember", "a member commits in its own generation or epoch alone (G1, G9)", groups::members_commit_for_themselves),
    invariant("EveryMemberAnswered", "a request that waits no more is answered", groups::who_waits_no_more_is_answered),
    invariant("GroupStabilises", "a group without members is Empty, and no other", groups::groups_without_members_are_empty),
    invariant("GroupStabilises", "sessions, and what waits in rebalances, are counted (J1)", groups::sessions_are_counted),
    invariant("GroupEpochMonotone", "a group's epochs never go back", consumers::epochs_never_go_back),
    invariant("GroupEpochMonotone", "the target never overtakes the group, nor a member the target", consumers::the_target_never_overtakes),
    invariant("GroupEpochMonotone", "a member's epoch never goes back", consumers::members_never_go_back),
    invariant("GroupEpochMonotone", "who is to revoke something has not reached the group's epoch (K1)", consumers::who_revokes_is_behind),
    invariant("GroupEpochMonotone", "a group that changes its protocol goes on from where it was", consumers::epochs_go_on_from_generations),
    invariant("OneOwner", "a group is of one protocol", consumers::groups_are_of_one_protocol),
    invariant("OneOwner", "no partition is held by two members (K2)", consumers::partitions_have_one_owner),
    invariant("OneOwner", "no partition is in the targets of two members", consumers::partitions_are_one_members_target),
    invariant("OneOwner", "what a member is to revoke is its own until it says that it has (K1)", consumers::revocations_are_awaited),
    invariant("OneOwner", "a group that changes its protocol takes nothing from its members (U3)", consumers::an_upgrade_takes_nothing_away),
    invariant("GroupStabilises", "a group's rows name the same members", consumers::rows_name_the_same_members),

    // Two steps.
    AS_ONE,

    // The log.
    invariant("DurableBeforeVisible", "durable rows are made of events alone", facts::durable_rows_are_made_of_events),
];

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which property it is part of.
    pub(crate) property: &'static str,
    /// What it says.
    pub(crate) says: &'static str,
    /// The rows and events that do not go together.
    rows: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { property, says, rows } = self;
        write!(f, "{property}: {says}, but {rows}")
    }
}

/// Holds a decision against all invariants.
fn judge(step: &Step<'_>) -> Result<(), Violation> {
    match step.command {
        Command::ProduceAndCommit(_) => AS_ONE.held_by(step),
        _ => INVARIANTS.iter().try_for_each(|invariant| invariant.held_by(step)),
    }
}

/// Panics where a decision breaks an invariant.
#[expect(clippy::panic, reason = "in debug builds and tests alone: what comes after is worth nothing")]
pub(crate) fn check(step: &Step<'_>) {
    if switch::is_off() {
        return;
    }
    if let Some(violation) = judge(step).err().and_then(switch::noted) {
        panic!("{violation}; decided of {:?}", step.command);
    }
}

#[cfg(not(test))]
mod switch {
    use super::Violation;

    pub(super) const fn is_off() -> bool {
        false
    }

    pub(super) fn noted(violation: Violation) -> Option<Violation> {
        Some(violation)
    }
}

#[cfg(test)]
pub(crate) use switch::{noting, without_invariants};

/// Tests switch them off where rows are damaged on purpose, and have them noted where something is broken on purpose. A
/// mutant is there to be found by others.
#[cfg(test)]
mod switch {
    use super::Violation;
    use crate::core::mutant::is_any_on;
    use std::cell::{Cell, RefCell};

    /// What is done about a violation.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Then {
        Panic,
        Note,
        Nothing,
    }

    thread_local! {
        /// In this thread alone: tests run side by side.
        static THEN: Cell<Then> = const { Cell::new(Then::Panic) };
        /// The first violation: what follows may follow from it.
        static FIRST: RefCell<Option<Violation>> = const { RefCell::new(None) };
    }

    pub(super) fn is_off() -> bool {
        match THEN.get() {
            Then::Panic => is_any_on(),
            Then::Note => false,
            Then::Nothing => true,
        }
    }

    /// The violation, if nobody has it noted.
    pub(super) fn noted(violation: Violation) -> Option<Violation> {
        if THEN.get() == Then::Panic {
            return Some(violation);
        }
        FIRST.with_borrow_mut(|first| *first = first.take().or(Some(violation)));
        None
    }

    fn with<T>(then: Then, work: impl FnOnce() -> T) -> T {
        let before = THEN.replace(then);
        let result = work();
        THEN.set(before);
        result
    }

    /// Does `work` with rows of which nothing can be said.
    pub(crate) fn without_invariants<T>(work: impl FnOnce() -> T) -> T {
        with(Then::Nothing, work)
    }

    /// Does `work`, and gives the first violation with it.
    pub(crate) fn noting<T>(work: impl FnOnce() -> T) -> (T, Option<Violation>) {
        FIRST.take();
        (with(Then::Note, work), FIRST.take())
    }
}
