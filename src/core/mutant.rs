//! Defects that tests switch on, one at a time, to see that something catches them (`spec/mutants.md`). Outside tests each
//! is a constant `false`: nothing can switch one on, and nothing is left of the question.

/// Declares the mutants with what each of them breaks, for the table.
macro_rules! mutants {
    ($($name:ident: $breaks:literal,)*) => {
        /// A guard that is missing. Each stands where the guard is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Mutant {
            $(#[doc = $breaks] $name,)*
        }

        #[cfg(test)]
        impl Mutant {
            /// All of them.
            pub(crate) const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// What is wrong with it.
            pub(crate) fn breaks(self) -> &'static str {
                match self {
                    $(Mutant::$name => $breaks,)*
                }
            }
        }
    };
}

mutants! {
    // Idempotent append.
    EpochNotCompared: "a partition takes batches of a lower epoch (A2)",
    DuplicateAppended: "a batch that is stored is appended again (A3)",
    FifthBatchForgotten: "a partition remembers four batches of a producer (A11)",
    SequenceGapAccepted: "a batch is appended behind a gap (A10)",
    DuplicateOfUnstored: "DUPLICATE_SEQUENCE_NUMBER is said of records that were never stored (A9)",
    ForgottenTooEarly: "a producer is forgotten while it lives (A12)",
    OffsetReused: "a batch begins at the last offset of the one before",
    // Who holds an id.
    HolderNotCompared: "the epoch in a request is not compared with the holder's (E2)",
    StaleHolderTakesOver: "InitProducerId takes over from whoever asks, also in the name of an old holder (P7)",
    FenceSkipped: "InitProducerId leaves the open transaction of the one before as it is (P8)",
    OlderConnectionCounts: "a request that an older connection delayed counts (E10)",
    EpochNotRaised: "the end of a version-2 transaction does not raise the epoch (O2)",
    MarkerEpochNotRaised: "the marker does not carry the raised epoch, so the partition fences nobody",
    RotationReusesId: "when the epochs are used up, they begin anew under the same producer id (P9)",
    ReservationReused: "after a restart the ids of the last reservation are given out again (P1)",
    IdsReusedAfterRestore: "a restore does not skip the producer ids that were given out after the backup (B1)",
    RestoreForgotten: "an identity from before a restore is taken at its word (B2, B3)",
    EpochsReusedAfterRestore: "after a restore an id's next epoch is one that may have been given out before (B4)",
    // Transactions.
    AppendWithoutEnrolment: "a version-1 append needs no enrolment (E4)",
    CommittedInPart: "a commit with the last records happens though one of them is refused (O13)",
    PreparedEnrols: "a prepared transaction's producer goes on adding (E9)",
    NumberReused: "the next transaction has the number of the one before (E1)",
    NumberNotCompared: "an operator's decision ends whatever transaction is open by now (O11)",
    EnrolledOverlooked: "partitions beyond those that a transaction's row has room for get no marker (O6)",
    QueueOverlooked: "open transactions beyond those that a partition's row has room for hold back no reader",
    MarkerTwice: "a partition gets its marker twice (O6)",
    MarkerSkipped: "a partition is taken for deleted, and gets no marker (O6)",
    MarkerOfOtherOutcome: "an abort's markers say commit (O6)",
    CommitAfterAbort: "a commit that comes after the timeout's abort is answered with success (O4)",
    PreparedExpires: "a prepared transaction without a timeout of its own expires (D3)",
    DeadlineLost: "deadlines are lost at a restart (D2)",
    OffsetsBeforeOutcome: "offsets sent with a transaction are visible at once",
    OffsetsKeptOnAbort: "offsets sent with a transaction take effect when it aborts",
    // Idempotency keys.
    AcceptedKeyTaken: "a key that is accepted is accepted again (K2)",
    HeldKeyTaken: "a key that another transaction holds is taken (K5)",
    KeyOutsideTransaction: "a key counts as accepted whatever becomes of its transaction (K4)",
    KeysFreedOnCommit: "the keys of a transaction that commits are free (K4)",
    KeysKeptOnAbort: "the keys of a transaction that aborts stay taken (K4)",
    KeyForgottenTooEarly: "a key is forgotten before its window is over (K6)",
    // Reading.
    LsoOffByOne: "the last stable offset is one too high",
    LsoOverlooksOthers: "the end of one transaction moves the last stable offset past others that are open",
    AbortedRangeOneShort: "the range of an aborted transaction begins after its first record",
    // A shard: durable before answered, durable before visible.
    ReplyBeforeFsync: "what a block decides is answered before the block is durable (S1)",
    RefusalDoesNotWait: "what changes nothing is answered before what it speaks of is durable (S1)",
    WatermarkBeforeFsync: "readers see a block before it is durable (S2)",
    AbortedRangeNotShown: "the last stable offset moves, and the aborted range is not there yet (S2)",
    LayerDropped: "a layer is dropped before the store has what it changes",
    EvictedBeforeApplied: "a row is let go of before the store has it",
    StaleLoadedRow: "a row that was read replaces one that was decided meanwhile",
    LoadingTakenForAbsent: "a row that has not been read yet is taken for one that is not there",
    OvertakesItsConnection: "a command does not wait behind those of its connection",
    ReplayOneShort: "a restart leaves out the first event of a block",
    TimersForgotten: "a restart does not look for deadlines (D4)",
    // Compaction.
    CompactsUndecided: "records of open transactions are compacted as if they were committed (X8)",
    LastBatchCompacted: "the last batch below the last stable offset is compacted too (X8)",
    TombstoneForgottenAtOnce: "a tombstone goes with the records that it supersedes (X8)",
    AbortedSupersedes: "an aborted record supersedes an older one (X8)",
    AbortedRangeSweptTooEarly: "the word that a transaction was aborted goes while records of it are left (X4)",
    GapNotWritten: "where nothing is left of batches, nothing says so",
    OlderGenerationCounts: "rows that are made anew have the older of two frames for an offset",
    // Groups.
    GenerationGoesBack: "generations begin anew when a group is empty",
    DepartureNotDurable: "that members have left is in memory only",
    OldGenerationCommits: "a member of an older generation commits offsets (M3)",
    AssignedBeforeRevoked: "a partition is assigned while somebody else holds it (K2)",
    RevocationNotAwaited: "what a member is to revoke is free before it says that it has (K1)",
    OldMemberEpochGoesOn: "a member goes on whatever epoch it says that it is in (C3)",
    OldMemberEpochCommits: "a member commits with another epoch than its own (G9)",
    GroupEpochGoesBack: "epochs begin anew when a group of the consumer protocol is empty",
    UpgradeHoldsNothing: "a group changes to the consumer protocol, and what its members have is free (U3)",
    ClassicMemberNotAsked: "a member of the classic protocol is not asked to join again when it has a step to take (U7)",
    LeaverNotAnswered: "who waits for a generation and leaves is never answered",
}

/// Whether tests have this defect switched on.
#[cfg(not(test))]
pub(crate) const fn mutated(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switched::{is_any_on, mutated, with_mutant};

#[cfg(test)]
mod switched {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        /// Of this thread alone: tests run side by side.
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this thread has this defect switched on.
    pub(crate) fn mutated(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// Whether this thread has any defect switched on.
    pub(crate) fn is_any_on() -> bool {
        ON.get().is_some()
    }

    /// Does `work` with a defect, or with none.
    pub(crate) fn with_mutant<T>(mutant: Option<Mutant>, work: impl FnOnce() -> T) -> T {
        ON.set(mutant);
        let result = work();
        ON.set(None);
        result
    }
}
