--------------------------- MODULE TxnCoordinator ---------------------------
(***************************************************************************)
(* The state machine of transactional ids, over the partitions and the     *)
(* group that they write. Sections 2, 4, 5, 6 of spec/transactions.md.     *)
(*                                                                         *)
(* Everything here is a pure function of the core's state `c`; the answer  *)
(* to a request is Step(action, state after it, answer). Nothing is known  *)
(* of clients, the network or durability: that is Eos.                     *)
(*                                                                         *)
(* c = [txn, part, group, nextPid, restored, outcomes, owed]               *)
(*   txn       per transactional id None or a row                          *)
(*             [state, pid, epoch, recoverable, ended, number, enrolled,   *)
(*              grouped, prepared]                                         *)
(*             pid, epoch: who holds the id; recoverable: None or the      *)
(*             <<pid, epoch>> whose owner may still ask for the holder's   *)
(*             (KIP-360, KIP-588); ended: None or how the newest           *)
(*             transaction ended, [by, reason], by: <<pid, epoch>>;        *)
(*             prepared: None or, if it is Prepared, [by, timed]: under    *)
(*             which <<pid, epoch>> it runs, which a later holder does not *)
(*             change (P10), and whether it has a timeout of its own (D3)  *)
(*   part      per partition a partition of IdempotentLog                  *)
(*   group     a group of GroupOffsets                                     *)
(*   nextPid   the next producer id to hand out                            *)
(*   restored  producer ids below it are from before a restore (B1)        *)
(*   outcomes  [tid, number, outcome, pid, epoch, enrolled] of every       *)
(*             transaction that ended                                      *)
(*   owed      markers decided and not yet written (only if Sharded)       *)
(***************************************************************************)
EXTENDS IdempotentLog, GroupOffsets

EmptyCore ==
    [txn |-> [t \in TransactionalIds |-> None],
     part |-> [p \in Partitions |-> EmptyPartition],
     group |-> EmptyGroup,
     nextPid |-> 0,
     restored |-> 0,
     outcomes |-> {},
     owed |-> {}]

EpochFencedForGood == EpochLast + 1
Refuse(name, c, error) == Step(name, c, [error |-> error])
Ok(extra) == [error |-> "NONE"] @@ extra
HasProducerId(c) == c.nextPid \in ProducerIds
Completed(commit) == IF commit THEN "CompleteCommit" ELSE "CompleteAbort"
Preparing(commit) == IF commit THEN "PrepareCommit" ELSE "PrepareAbort"
OutcomeName(commit) == IF commit THEN "commit" ELSE "abort"
IsPreparing(row) == row.state \in {"PrepareCommit", "PrepareAbort"}

----------------------------------------------------------------------------
(* E2: who may do anything at all under a transactional id *)

ProducerIdCurrent(row, m) == row.pid = m.pid
EpochCurrent(row, m) == row.epoch = m.epoch
(* B3: it may speak of what is gone. Without a restore nothing does, not even a number that was never an id. *)
PredatesRestore(c, pid) == c.restored > 0 /\ pid < c.restored

Identity(c, m) ==
    LET row == c.txn[m.tid]
    IN  IF row = None THEN "INVALID_PRODUCER_ID_MAPPING"
        ELSE IF PredatesRestore(c, m.pid) THEN "FENCED"
        ELSE IF ~ProducerIdCurrent(row, m) THEN "INVALID_PRODUCER_ID_MAPPING"
        ELSE IF ~EpochCurrent(row, m) THEN "FENCED"
        ELSE "NONE"

----------------------------------------------------------------------------
(* Enrolment: E1, E3 to E9 *)

Begun(row) ==
    [row EXCEPT !.state = "Ongoing", !.number = @ + 1, !.ended = None, !.enrolled = {}, !.grouped = FALSE]
InTransaction(row) == IF row.state = "Ongoing" THEN row ELSE Begun(row)
Enrols(row) == row.state \in {"Empty", "Ongoing", "CompleteCommit", "CompleteAbort"}
Enrolled(c, tid, p) == c.txn[tid].state = "Ongoing" /\ p \in c.txn[tid].enrolled

EnrolPartitions(c, tid, ps) == [c EXCEPT !.txn[tid] = [InTransaction(@) EXCEPT !.enrolled = @ \cup ps]]
EnrolGroup(c, tid) == [c EXCEPT !.txn[tid] = [InTransaction(@) EXCEPT !.grouped = TRUE]]

OnAddPartitions(c, m) ==
    LET id == Identity(c, m)
    IN  IF id # "NONE" THEN Refuse("RefuseEnrolment", c, id)
        ELSE IF IsPreparing(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "INVALID_TXN_STATE")
        ELSE Step("EnrolPartitions", EnrolPartitions(c, m.tid, {m.p}), Ok(<< >>))

OnAddOffsets(c, m) ==
    LET id == Identity(c, m)
    IN  IF id # "NONE" THEN Refuse("RefuseEnrolment", c, id)
        ELSE IF IsPreparing(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "INVALID_TXN_STATE")
        ELSE Step("EnrolGroup", EnrolGroup(c, m.tid), Ok(<< >>))

----------------------------------------------------------------------------
(* Produce in a transaction: A1 to A11, E3, E4 *)

EnrolledForAppend(c, m) == Enrolled(c, m.tid, m.p)
Implicit == Version = 2
(* A5; of what may be gone nobody is taken at his word (B2). *)
MayGoOn(c, m) == ~PredatesRestore(c, m.pid)

Txn(tid, row) ==
    [tid |-> tid, pid |-> IF row.prepared = None THEN row.pid ELSE row.prepared.by[1], number |-> row.number]

AppendBatch(c, m) ==
    [c EXCEPT !.part[m.p] = Stored(@, m, Txn(m.tid, c.txn[m.tid]), m.op)]

OriginalOffset(row, b) == (CHOOSE x \in ExactlyRemembered(row, b) : TRUE).offset

(* The partition judges first, from what it remembers; only what it would store is held against the transaction. *)
OnProduce(c, m) ==
    LET row == c.part[m.p].producer[m.pid]
        judgement == Judge(row, m, ~Implicit /\ MayGoOn(c, m))
        id == Identity(c, m)
    IN  IF judgement = "duplicate"
        THEN Step("AppendDuplicate", c, Ok([offset |-> OriginalOffset(row, m)]))
        ELSE IF judgement # "append" THEN Refuse("RefuseAppend", c, judgement)
        ELSE IF id = "FENCED" THEN Refuse("RefuseAppend", c, "INVALID_PRODUCER_EPOCH")
        ELSE IF id # "NONE" THEN Refuse("RefuseAppend", c, id)
        ELSE IF IsPreparing(c.txn[m.tid]) THEN Refuse("RefuseAppend", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(c.txn[m.tid]) \/ (~Implicit /\ ~EnrolledForAppend(c, m))
             THEN Refuse("RefuseAppend", c, "INVALID_TXN_STATE")
        ELSE Step("AppendBatch",
                  AppendBatch(IF Implicit THEN EnrolPartitions(c, m.tid, {m.p}) ELSE c, m),
                  Ok([offset |-> c.part[m.p].next]))

(* Outside a transaction: the same judgement, and A1's last clause *)
OnIdempotentProduce(c, m) ==
    LET row == c.part[m.p].producer[m.pid]
        judgement == Judge(row, m, MayGoOn(c, m))
    IN  IF judgement = "duplicate"
        THEN Step("AppendDuplicate", c, Ok([offset |-> OriginalOffset(row, m)]))
        ELSE IF judgement # "append" THEN Refuse("RefuseAppend", c, judgement)
        ELSE IF row # None /\ row.open # None THEN Refuse("RefuseAppend", c, "INVALID_TXN_STATE")
        ELSE Step("AppendBatch", [c EXCEPT !.part[m.p] = Stored(@, m, None, m.op)], Ok([offset |-> c.part[m.p].next]))

----------------------------------------------------------------------------
(* TxnOffsetCommit: G2, E7 *)

OnTxnOffsetCommit(c, m) ==
    LET id == Identity(c, m)
        row == c.txn[m.tid]
    IN  IF id = "FENCED" THEN Refuse("RefuseOffsets", c, "INVALID_PRODUCER_EPOCH")
        ELSE IF id # "NONE" THEN Refuse("RefuseOffsets", c, id)
        ELSE IF IsPreparing(row) THEN Refuse("RefuseOffsets", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(row) \/ (~Implicit /\ ~(row.state = "Ongoing" /\ row.grouped))
             THEN Refuse("RefuseOffsets", c, "INVALID_TXN_STATE")
        ELSE IF ~GenerationCurrent(c.group, m.generation) THEN Refuse("RefuseOffsets", c, "ILLEGAL_GENERATION")
        ELSE LET e == EnrolGroup(c, m.tid)
             IN  Step("StageOffsets",
                      [e EXCEPT !.group = OffsetsStaged(@, Txn(m.tid, e.txn[m.tid]), m.offset, m.op)],
                      Ok(<< >>))

----------------------------------------------------------------------------
(* Outcome: O1 to O9. One decision; the markers and the offsets are part of it unless Sharded. *)

RunsUnder(row) == IF row.prepared = None THEN <<row.pid, row.epoch>> ELSE row.prepared.by

MarkersOf(tid, row, epoch, commit) ==
    [p \in row.enrolled |->
        [p |-> p, pid |-> RunsUnder(row)[1], epoch |-> epoch, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit)]]

WriteMarker(c, w) == [c EXCEPT !.part[w.p] = Marked(@, w.pid, w.epoch, w.txn, w.outcome)]

WithMarkers(parts, markers) ==
    [p \in Partitions |->
        IF p \in DOMAIN markers
        THEN LET w == markers[p] IN Marked(parts[p], w.pid, w.epoch, w.txn, w.outcome)
        ELSE parts[p]]

ResolveOffsets(c, tid, row, commit) ==
    [c EXCEPT !.group = OffsetsResolved(@, Txn(tid, row), OutcomeName(commit))]

OutcomeRow(tid, row, commit) ==
    [tid |-> tid, number |-> row.number, outcome |-> OutcomeName(commit), pid |-> RunsUnder(row)[1],
     epoch |-> RunsUnder(row)[2], enrolled |-> row.enrolled]

NoEnrolments(row) == [row EXCEPT !.enrolled = {}, !.grouped = FALSE, !.prepared = None]

(* The markers carry markerEpoch; the row then has `identity` = [pid, epoch, recoverable]. *)
WithOutcome(c, tid, commit, reason, markerEpoch, identity) ==
    LET row     == c.txn[tid]
        markers == MarkersOf(tid, row, markerEpoch, commit)
        group   == [p |-> None, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit)]
        ended   == [c EXCEPT
                     !.outcomes = @ \cup {OutcomeRow(tid, row, commit)},
                     !.txn[tid] = [identity @@ (IF Sharded THEN [row EXCEPT !.prepared = None] ELSE NoEnrolments(row)) EXCEPT
                                     !.state = IF Sharded THEN Preparing(commit) ELSE Completed(commit),
                                     !.ended = [by |-> <<row.pid, row.epoch>>, reason |-> reason]]]
    IN  IF Sharded
        THEN [ended EXCEPT !.owed = @ \cup Range(markers) \cup (IF row.grouped THEN {group} ELSE {})]
        ELSE ResolveOffsets([ended EXCEPT !.part = WithMarkers(@, markers)], tid, row, commit)

(* P9; B4: the epochs of an id from before a restore may have been given out. *)
Exhausted(c, row) == row.epoch >= EpochLast \/ PredatesRestore(c, row.pid)
MarkerEpoch(c, row) == IF Exhausted(c, row) THEN EpochFencedForGood ELSE row.epoch + 1
(* Who has taken over what was prepared may have another producer id: the old one is then fenced for good. *)
EpochOfMarkers(row, epoch) == IF RunsUnder(row)[1] = row.pid THEN epoch ELSE EpochFencedForGood
KeepsEpoch(row) == [pid |-> row.pid, epoch |-> row.epoch, recoverable |-> None]
Rotated(c, row, recoverable) == [pid |-> c.nextPid, epoch |-> 0, recoverable |-> recoverable]
(* The identity after the row's, and the core after a producer id was taken for it *)
Raised(c, row, recoverable) ==
    IF Exhausted(c, row) THEN Rotated(c, row, recoverable)
    ELSE [pid |-> row.pid, epoch |-> row.epoch + 1, recoverable |-> recoverable]
TakesId(c, row) == Exhausted(c, row)
Taken(c, row) == IF TakesId(c, row) THEN [c EXCEPT !.nextPid = @ + 1] ELSE c
CanRaise(c, row) == ~Exhausted(c, row) \/ HasProducerId(c)

(* Every end that raises the epoch: `identity` is the one after the row's. *)
EndedRaised(c, tid, commit, reason, identity) ==
    LET row == c.txn[tid]
    IN  Taken(WithOutcome(c, tid, commit, reason, EpochOfMarkers(row, MarkerEpoch(c, row)), identity), row)

(* O1 to O3 *)
EndTransaction(c, tid, commit) ==
    LET row == c.txn[tid]
    IN  IF Version = 1
        THEN WithOutcome(c, tid, commit, "Requested", EpochOfMarkers(row, row.epoch), KeepsEpoch(row))
        ELSE EndedRaised(c, tid, commit, "Requested", Raised(c, row, None))

(* O5. Who was only too slow may recover (KIP-588): he gets the raised epoch when he asks, and nothing of the old one. *)
AfterExpiry(c, row) == Raised(c, row, <<row.pid, row.epoch>>)
ExpireTransaction(c, tid) ==
    LET row == c.txn[tid]
    IN  IF PredatesRestore(c, row.pid) /\ row.state = "Ongoing"         \* B5: nobody recovers by it
        THEN EndedRaised(c, tid, FALSE, "Fenced", Raised(c, row, None))
        ELSE EndedRaised(c, tid, FALSE, "Expired", AfterExpiry(c, row))
FenceProducer(c, tid, recoverable) == EndedRaised(c, tid, FALSE, "Fenced", Raised(c, c.txn[tid], recoverable))

(* O11: an operator ends the whole transaction. Nobody recovers by it. Only what is prepared can be committed so. *)
ForceAborts(c, row) == row # None /\ row.state = "Ongoing" /\ CanRaise(c, row)
OperatorEnds(c, row, commit) ==
    row # None /\ CanRaise(c, row) /\ (row.state = "Prepared" \/ (row.state = "Ongoing" /\ ~commit))
AfterForce(c, row) == Raised(c, row, None)
EndByOperator(c, tid, commit) ==
    EndedRaised(c, tid, commit, "Operator", AfterForce(c, c.txn[tid]))
ForceAbort(c, tid) == EndByOperator(c, tid, FALSE)

(* O7 *)
Numbered(row) == [NoEnrolments(row) EXCEPT !.number = @ + 1]
AbortNothing(c, tid) ==
    LET row == Numbered(c.txn[tid])
    IN  Taken([c EXCEPT
                  !.outcomes = @ \cup {OutcomeRow(tid, row, FALSE)},
                  !.txn[tid] = [Raised(c, row, None) @@ row EXCEPT
                      !.state = "CompleteAbort", !.ended = [by |-> <<row.pid, row.epoch>>, reason |-> "Requested"]]], row)

(* X2: nothing is owed to what is deleted; its transactions go on with what they have. *)
WithoutPartition(row, p) == IF row = None THEN None ELSE [row EXCEPT !.enrolled = @ \ {p}]
TopicDeleted(c, p) ==
    [c EXCEPT !.part[p] = MadeAgain(@),
              !.txn = [t \in TransactionalIds |-> WithoutPartition(@[t], p)],
              !.owed = {w \in @ : w.p # p},
              !.outcomes = {[o EXCEPT !.enrolled = @ \ {p}] : o \in @}]

(* B1. `found` is what the backup has; producer ids go on above all that were ever given out. *)
IdsAfterRestore(c) == c.nextPid
LogRestored(found, ids) == [found EXCEPT !.nextPid = ids, !.restored = ids]

(* O4. A version-2 request under the holder's identity speaks of the next transaction, also where version 1 ended the last. *)
EndedBy(row, m) ==
    /\ row.ended # None /\ row.ended.by = <<m.pid, m.epoch>>
    /\ ~(Version = 2 /\ ProducerIdCurrent(row, m) /\ EpochCurrent(row, m))
RetryOfEnd(row, m) ==
    /\ EndedBy(row, m)
    /\ \/ row.ended.reason = "Requested"
       \/ row.ended.reason = "Expired" /\ Version = 2 /\ ~m.commit
       \/ row.ended.reason = "Operator" /\ m.commit
    /\ row.state \in {Completed(m.commit), Preparing(m.commit)}
ContradictsEnd(row, m) ==
    EndedBy(row, m) /\ row.ended.reason = "Requested" /\ row.state \in {Completed(~m.commit), Preparing(~m.commit)}

Ends(row) == row.state \in {"Ongoing", "Prepared"}
AbortsNothing(row, m) ==
    Version = 2 /\ ~m.commit /\ row.state \in {"Empty", "CompleteCommit", "CompleteAbort"}

Handed(row) == Ok([pid |-> row.pid, epoch |-> row.epoch])

OnEndTxn(c, m) ==
    LET id == Identity(c, m)
        row == c.txn[m.tid]
        retry == row # None /\ RetryOfEnd(row, m)
        contradicts == row # None /\ ContradictsEnd(row, m)
    IN  IF row # None /\ PredatesRestore(c, m.pid) THEN Refuse("RefuseEndTransaction", c, "FENCED")
        ELSE IF ~retry /\ ~contradicts /\ id # "NONE" THEN Refuse("RefuseEndTransaction", c, id)
        ELSE IF IsPreparing(row) THEN Refuse("RefuseEndTransaction", c, "CONCURRENT_TRANSACTIONS")      \* O9
        ELSE IF retry THEN Step("RetryEndTransaction", c, Handed(row))
        ELSE IF contradicts \/ (~Ends(row) /\ ~AbortsNothing(row, m))
             THEN Refuse("RefuseEndTransaction", c, "INVALID_TXN_STATE")
        ELSE IF Version = 2 /\ ~CanRaise(c, row) THEN Refuse("RefuseEndTransaction", c, "COORDINATOR_NOT_AVAILABLE")
        ELSE LET after == IF Ends(row) THEN EndTransaction(c, m.tid, m.commit) ELSE AbortNothing(c, m.tid)
             IN  Step("EndTransaction", after, Handed(after.txn[m.tid]))

(* O10 *)
OnPrepare(c, m) ==
    LET id == Identity(c, m)
        row == c.txn[m.tid]
    IN  IF id # "NONE" THEN Refuse("RefusePrepare", c, id)
        ELSE IF row.state = "Prepared" THEN Step("PrepareTransaction", c, Ok(<< >>))
        ELSE IF row.state # "Ongoing" THEN Refuse("RefusePrepare", c, "INVALID_TXN_STATE")
        ELSE Step("PrepareTransaction",
                  [c EXCEPT !.txn[m.tid] =
                      [@ EXCEPT !.state = "Prepared",
                                !.prepared = [by |-> <<row.pid, row.epoch>>, timed |-> m.timed]]],
                  Ok(<< >>))

(* O9 *)
DeliverOwed(c, w) ==
    LET after == IF w.p = None
                 THEN [c EXCEPT !.group = OffsetsResolved(@, w.txn, w.outcome)]
                 ELSE WriteMarker(c, w)
    IN  [after EXCEPT !.owed = @ \ {w}]
OwedBy(c, tid) == {w \in c.owed : w.txn.tid = tid}
CanComplete(c, tid) == c.txn[tid] # None /\ IsPreparing(c.txn[tid]) /\ OwedBy(c, tid) = {}
CompleteTransaction(c, tid) ==
    [c EXCEPT !.txn[tid] = [NoEnrolments(@) EXCEPT !.state = Completed(@ = "PrepareCommit")]]

----------------------------------------------------------------------------
(* D2, D3 *)

TimesOut(row) == row.state = "Ongoing" \/ (row.state = "Prepared" /\ row.prepared.timed)
Expires(c, row) == row # None /\ TimesOut(row) /\ CanRaise(c, row)

----------------------------------------------------------------------------
(* InitProducerId: P3 to P10 *)

NewRow(pid) ==
    [state |-> "Empty", pid |-> pid, epoch |-> 0, recoverable |-> None, ended |-> None, number |-> 0,
     enrolled |-> {}, grouped |-> FALSE, prepared |-> None]

Recovers(row, m) == m.pid # None /\ row.recoverable = <<m.pid, m.epoch>>
(* P10: keep is None without two-phase commit; TRUE keeps what is prepared, FALSE aborts it. *)
KeepsPrepared(row, m) == row.state = "Prepared" /\ m.keep = TRUE
RetryOfInit(row, m) == Recovers(row, m) /\ (row.state \notin {"Ongoing", "Prepared"} \/ KeepsPrepared(row, m))
MayTakeOver(row, m) == m.pid = None \/ (m.pid = row.pid /\ m.epoch = row.epoch)

(* The transaction, if there is one, is aborted first, its markers carrying the raised epoch. *)
WithNewHolder(c, tid, recoverable) ==
    LET row   == c.txn[tid]
        after == IF row.state \in {"Ongoing", "Prepared"} THEN FenceProducer(c, tid, recoverable)
                 ELSE Taken([c EXCEPT !.txn[tid] = Raised(c, row, recoverable) @@ row], row)
    IN  IF IsPreparing(after.txn[tid]) THEN after
        ELSE [after EXCEPT !.txn[tid] = [@ EXCEPT !.state = "Empty", !.ended = None, !.enrolled = {}, !.grouped = FALSE]]
(* P10: what is prepared stays, under the identity that prepared it. *)
WithPreparedKept(c, tid, recoverable) ==
    LET row == c.txn[tid] IN Taken([c EXCEPT !.txn[tid] = Raised(c, row, recoverable) @@ row], row)

HandedKept(row) == Ok([pid |-> row.pid, epoch |-> row.epoch, prepared |-> row.prepared.by])

OnInitProducerId(c, m) ==
    LET row == c.txn[m.tid]
    IN  IF row = None
        THEN IF ~HasProducerId(c) THEN Refuse("RefuseInit", c, "COORDINATOR_NOT_AVAILABLE")
             ELSE LET after == [c EXCEPT !.txn[m.tid] = NewRow(c.nextPid), !.nextPid = @ + 1]
                  IN  Step("InitProducerId", after, Handed(after.txn[m.tid]))
        ELSE IF m.pid # None /\ PredatesRestore(c, m.pid) THEN Refuse("RefuseInit", c, "FENCED")
        ELSE IF RetryOfInit(row, m) /\ KeepsPrepared(row, m)
        THEN Step("RetryInitProducerId", c, HandedKept(row))
        ELSE IF RetryOfInit(row, m) /\ ~IsPreparing(row)
        THEN Step("RetryInitProducerId", [c EXCEPT !.txn[m.tid].state = "Empty", !.txn[m.tid].ended = None], Handed(row))
        ELSE IF IsPreparing(row) /\ (RetryOfInit(row, m) \/ MayTakeOver(row, m))
        THEN Refuse("RefuseInit", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF row.state = "Prepared" /\ m.keep = None /\ (Recovers(row, m) \/ MayTakeOver(row, m))
        THEN Refuse("RefuseInit", c, "INVALID_TXN_STATE")
        ELSE IF ~MayTakeOver(row, m) THEN Refuse("RefuseInit", c, "FENCED")
        ELSE IF ~CanRaise(c, row) THEN Refuse("RefuseInit", c, "COORDINATOR_NOT_AVAILABLE")
        ELSE IF KeepsPrepared(row, m)
        THEN LET after == WithPreparedKept(c, m.tid, IF m.pid = None THEN None ELSE <<m.pid, m.epoch>>)
             IN  Step("InitProducerId", after, HandedKept(after.txn[m.tid]))
        ELSE LET after == WithNewHolder(c, m.tid, IF m.pid = None THEN None ELSE <<m.pid, m.epoch>>)
                 name  == IF Exhausted(c, row) THEN "RotateProducerId"
                          ELSE IF row.state \in {"Ongoing", "Prepared"} THEN "FenceProducer" ELSE "InitProducerId"
             IN  IF IsPreparing(after.txn[m.tid]) THEN Step(name, after, [error |-> "CONCURRENT_TRANSACTIONS"])
                 ELSE Step(name, after, Handed(after.txn[m.tid]))

(* P2 *)
AssignProducerId(c) == [c EXCEPT !.nextPid = @ + 1]

(* P11 *)
MayForgetId(row) == row # None /\ row.state \in {"Empty", "CompleteCommit", "CompleteAbort"}
IdForgotten(c, tid) == [c EXCEPT !.txn[tid] = None]

----------------------------------------------------------------------------
(* The core's answer to a request m *)

Decide(c, m) ==
    CASE m.type = "InitProducerId"    -> OnInitProducerId(c, m)
      [] m.type = "AddPartitionsToTxn" -> OnAddPartitions(c, m)
      [] m.type = "AddOffsetsToTxn"   -> OnAddOffsets(c, m)
      [] m.type = "Produce"           -> OnProduce(c, m)
      [] m.type = "TxnOffsetCommit"   -> OnTxnOffsetCommit(c, m)
      [] m.type = "EndTxn"            -> OnEndTxn(c, m)
      [] m.type = "PrepareTxn"        -> OnPrepare(c, m)
=============================================================================
