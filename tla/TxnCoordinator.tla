--------------------------- MODULE TxnCoordinator ---------------------------
(***************************************************************************)
(* The state machine of transactional ids, over the partitions and the     *)
(* group that they write. Sections 2, 4, 5, 6 of spec/transactions.md.     *)
(*                                                                         *)
(* Everything here is a pure function of the core's state `c`; the answer  *)
(* to a request is Step(action, state after it, answer). Nothing is known  *)
(* of clients, the network or durability: that is Eos.                     *)
(*                                                                         *)
(* c = [txn, part, group, nextPid, outcomes, owed]                         *)
(*   txn       per transactional id None or a row                          *)
(*             [state, pid, epoch, last, prev, number, enrolled, grouped,  *)
(*              begunAt]                                                   *)
(*             last: the epoch before the last raise its holder asked for, *)
(*             prev: the id before a rotation; begunAt: the (pid, epoch)   *)
(*             under which a transaction last began                        *)
(*   part      per partition a partition of IdempotentLog                  *)
(*   group     a group of GroupOffsets                                     *)
(*   nextPid   the next producer id to hand out                            *)
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

Identity(c, m) ==
    LET row == c.txn[m.tid]
    IN  IF row = None THEN "INVALID_PRODUCER_ID_MAPPING"
        ELSE IF ~ProducerIdCurrent(row, m) THEN "INVALID_PRODUCER_ID_MAPPING"
        ELSE IF ~EpochCurrent(row, m) THEN "FENCED"
        ELSE "NONE"

----------------------------------------------------------------------------
(* Enrolment: E1, E3 to E9 *)

Begun(row) ==
    [row EXCEPT !.state = "Ongoing", !.number = @ + 1, !.enrolled = {}, !.grouped = FALSE,
                !.begunAt = <<row.pid, row.epoch>>]
InTransaction(row) == IF row.state = "Ongoing" THEN row ELSE Begun(row)
Enrols(row) == row.state \in {"Empty", "Ongoing", "CompleteCommit", "CompleteAbort"}
Enrolled(c, tid, p) == c.txn[tid].state = "Ongoing" /\ p \in c.txn[tid].enrolled

EnrolPartition(c, tid, p) == [c EXCEPT !.txn[tid] = [InTransaction(@) EXCEPT !.enrolled = @ \cup {p}]]
EnrolGroup(c, tid) == [c EXCEPT !.txn[tid] = [InTransaction(@) EXCEPT !.grouped = TRUE]]

OnAddPartitions(c, m) ==
    LET id == Identity(c, m)
    IN  IF id # "NONE" THEN Refuse("RefuseEnrolment", c, id)
        ELSE IF IsPreparing(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(c.txn[m.tid]) THEN Refuse("RefuseEnrolment", c, "INVALID_TXN_STATE")
        ELSE Step("EnrolPartition", EnrolPartition(c, m.tid, m.p), Ok(<< >>))

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

AppendBatch(c, m) ==
    [c EXCEPT !.part[m.p] = Stored(@, m, [tid |-> m.tid, number |-> c.txn[m.tid].number], m.op)]

OriginalOffset(row, b) == (CHOOSE x \in ExactlyRemembered(row, b) : TRUE).offset

OnProduce(c, m) ==
    LET id == Identity(c, m)
    IN  IF id = "FENCED" THEN Refuse("RefuseAppend", c, "INVALID_PRODUCER_EPOCH")
        ELSE IF id # "NONE" THEN Refuse("RefuseAppend", c, id)
        ELSE IF IsPreparing(c.txn[m.tid]) THEN Refuse("RefuseAppend", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF ~Enrols(c.txn[m.tid]) \/ (~Implicit /\ ~EnrolledForAppend(c, m))
             THEN Refuse("RefuseAppend", c, "INVALID_TXN_STATE")
        ELSE LET row == c.part[m.p].producer[m.pid]
                 judgement == Judge(row, m, FALSE)
             IN  IF judgement = "append"
                 THEN Step("AppendBatch",
                           AppendBatch(IF Implicit THEN EnrolPartition(c, m.tid, m.p) ELSE c, m),
                           Ok([offset |-> Len(c.part[m.p].log)]))
                 ELSE IF judgement = "duplicate"
                 THEN Step("AppendDuplicate", c, Ok([offset |-> OriginalOffset(row, m)]))
                 ELSE Refuse("RefuseAppend", c, judgement)

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
             IN  Step("AddPendingOffsets",
                      [e EXCEPT !.group = OffsetsPending(@, m.tid, e.txn[m.tid].number, m.offset, m.op)],
                      Ok(<< >>))

----------------------------------------------------------------------------
(* Outcome: O1 to O9. One decision; the markers and the offsets are part of it unless Sharded. *)

Txn(tid, row) == [tid |-> tid, number |-> row.number]

MarkersOf(tid, row, epoch, commit) ==
    [p \in row.enrolled |->
        [p |-> p, pid |-> row.pid, epoch |-> epoch, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit)]]

WriteMarker(c, w) == [c EXCEPT !.part[w.p] = Marked(@, w.pid, w.epoch, w.txn, w.outcome)]

WithMarkers(parts, markers) ==
    [p \in Partitions |->
        IF p \in DOMAIN markers
        THEN LET w == markers[p] IN Marked(parts[p], w.pid, w.epoch, w.txn, w.outcome)
        ELSE parts[p]]

ResolveOffsets(c, tid, row, commit) ==
    [c EXCEPT !.group = OffsetsResolved(@, tid, row.number, OutcomeName(commit))]

OutcomeRow(tid, row, commit) ==
    [tid |-> tid, number |-> row.number, outcome |-> OutcomeName(commit), pid |-> row.pid, epoch |-> row.epoch,
     enrolled |-> row.enrolled]

(* The raised epoch goes into the markers. The row then has `identity` = [pid, epoch, last, prev]. *)
WithOutcome(c, tid, commit, markerEpoch, identity) ==
    LET row     == c.txn[tid]
        markers == MarkersOf(tid, row, markerEpoch, commit)
        group   == [p |-> None, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit)]
        ended   == [c EXCEPT
                     !.outcomes = @ \cup {OutcomeRow(tid, row, commit)},
                     !.txn[tid] = [identity @@ row EXCEPT
                                     !.state = IF Sharded THEN Preparing(commit) ELSE Completed(commit)]]
    IN  IF Sharded
        THEN [ended EXCEPT !.owed = @ \cup Range(markers) \cup (IF row.grouped THEN {group} ELSE {})]
        ELSE ResolveOffsets([ended EXCEPT !.part = WithMarkers(@, markers)], tid, row, commit)

KeepsEpoch(row) == [pid |-> row.pid, epoch |-> row.epoch, last |-> row.last, prev |-> row.prev]
RaisedByHolder(row) == [pid |-> row.pid, epoch |-> row.epoch + 1, last |-> row.epoch, prev |-> row.prev]
RaisedByFence(row) == [pid |-> row.pid, epoch |-> row.epoch + 1, last |-> None, prev |-> row.prev]
Rotated(c, row, last) == [pid |-> c.nextPid, epoch |-> 0, last |-> last, prev |-> row.pid]
WithNextPid(c) == [c EXCEPT !.nextPid = @ + 1]
Exhausted(row) == row.epoch >= EpochLast
MarkerEpoch(row) == row.epoch + 1       \* at most EpochFencedForGood

(* O1 to O3; P9 when the epoch to hand out would pass EpochLast *)
EndTransaction(c, tid, commit) ==
    LET row == c.txn[tid]
    IN  IF Version = 1 THEN WithOutcome(c, tid, commit, row.epoch, KeepsEpoch(row))
        ELSE IF Exhausted(row)
        THEN WithNextPid(WithOutcome(c, tid, commit, MarkerEpoch(row), Rotated(c, row, row.epoch)))
        ELSE WithOutcome(c, tid, commit, MarkerEpoch(row), RaisedByHolder(row))

(* O5 *)
AbortWithFencing(c, tid) ==
    LET row == c.txn[tid] IN WithOutcome(c, tid, FALSE, MarkerEpoch(row), RaisedByFence(row))

(* O7 *)
AbortNothing(c, tid) ==
    LET row == c.txn[tid]
    IN  IF Exhausted(row)
        THEN WithNextPid([c EXCEPT !.txn[tid] = [Rotated(c, row, row.epoch) @@ row EXCEPT !.state = "CompleteAbort"]])
        ELSE [c EXCEPT !.txn[tid] = [RaisedByHolder(row) @@ row EXCEPT !.state = "CompleteAbort"]]

(* O4. After a rotation the previous id stands in for the row's. *)
RetryAfterRotation(row, m) ==
    /\ row.prev = m.pid /\ m.epoch = EpochLast
    /\ row.last = EpochLast /\ row.epoch = 0
RetryOfEnd(row, m) ==
    /\ row.state \in {Completed(m.commit), Preparing(m.commit)}
    /\ IF Version = 1 THEN row.pid = m.pid /\ row.epoch = m.epoch
       ELSE (row.pid = m.pid /\ row.last = m.epoch) \/ RetryAfterRotation(row, m)

Ends(row) == row.state \in {"Ongoing", "Prepared"}
AbortsNothing(row, m) ==
    Version = 2 /\ ~m.commit /\ row.state \in {"Empty", "CompleteCommit", "CompleteAbort"}

Handed(row) == Ok([pid |-> row.pid, epoch |-> row.epoch])

OnEndTxn(c, m) ==
    LET id == Identity(c, m)
        row == c.txn[m.tid]
    IN  IF row # None /\ RetryOfEnd(row, m)
        THEN IF IsPreparing(row) THEN Refuse("RefuseEndTransaction", c, "CONCURRENT_TRANSACTIONS")
             ELSE Step("RetryEndTransaction", c, Handed(row))
        ELSE IF id # "NONE" THEN Refuse("RefuseEndTransaction", c, id)
        ELSE IF Version = 2 /\ Exhausted(row) /\ ~HasProducerId(c)
        THEN Refuse("RefuseEndTransaction", c, "COORDINATOR_NOT_AVAILABLE")
        ELSE IF Ends(row)
        THEN LET after == EndTransaction(c, m.tid, m.commit)
             IN  Step("EndTransaction", after, Handed(after.txn[m.tid]))
        ELSE IF AbortsNothing(row, m)
        THEN LET after == AbortNothing(c, m.tid) IN Step("EndTransaction", after, Handed(after.txn[m.tid]))
        ELSE Refuse("RefuseEndTransaction", c, "INVALID_TXN_STATE")

(* O10 *)
OnPrepare(c, m) ==
    LET id == Identity(c, m)
        row == c.txn[m.tid]
    IN  IF id # "NONE" THEN Refuse("RefusePrepare", c, id)
        ELSE IF row.state = "Prepared" THEN Step("PrepareTransaction", c, Ok(<< >>))
        ELSE IF row.state # "Ongoing" THEN Refuse("RefusePrepare", c, "INVALID_TXN_STATE")
        ELSE Step("PrepareTransaction", [c EXCEPT !.txn[m.tid].state = "Prepared"], Ok(<< >>))

(* O9 *)
DeliverOwed(c, w) ==
    LET after == IF w.p = None
                 THEN [c EXCEPT !.group = OffsetsResolved(@, w.txn.tid, w.txn.number, w.outcome)]
                 ELSE WriteMarker(c, w)
    IN  [after EXCEPT !.owed = @ \ {w}]
OwedBy(c, tid) == {w \in c.owed : w.txn.tid = tid}
CanComplete(c, tid) == c.txn[tid] # None /\ IsPreparing(c.txn[tid]) /\ OwedBy(c, tid) = {}
CompleteTransaction(c, tid) == [c EXCEPT !.txn[tid].state = Completed(@ = "PrepareCommit")]

----------------------------------------------------------------------------
(* D2 *)

Expires(row) == row # None /\ row.state = "Ongoing"
ExpireTransaction(c, tid) == AbortWithFencing(c, tid)

----------------------------------------------------------------------------
(* InitProducerId: P3 to P10 *)

NewRow(pid) ==
    [state |-> "Empty", pid |-> pid, epoch |-> 0, last |-> None, prev |-> None, number |-> 0,
     enrolled |-> {}, grouped |-> FALSE, begunAt |-> None]

Unused(row) == row.begunAt # <<row.pid, row.epoch>>
RetryOfInit(row, m) ==
    /\ m.pid # None
    /\ (m.pid = row.pid /\ m.epoch = row.last) \/ RetryAfterRotation(row, m)
    /\ Unused(row)
MayTakeOver(row, m) == m.pid = None \/ (m.pid = row.pid /\ m.epoch = row.epoch)

(* The transaction, if there is one, is aborted first, its markers carrying the raised epoch. *)
WithNewHolder(c, tid, last) ==
    LET row     == c.txn[tid]
        raised  == [pid |-> row.pid, epoch |-> row.epoch + 1, last |-> last, prev |-> row.prev]
        to      == IF Exhausted(row) THEN Rotated(c, row, last) ELSE raised
        after   == IF row.state \in {"Ongoing", "Prepared"} THEN WithOutcome(c, tid, FALSE, MarkerEpoch(row), to)
                   ELSE [c EXCEPT !.txn[tid] = to @@ row]
        numbered == IF Exhausted(row) THEN WithNextPid(after) ELSE after
    IN  IF IsPreparing(numbered.txn[tid]) THEN numbered
        ELSE [numbered EXCEPT !.txn[tid].state = "Empty", !.txn[tid].enrolled = {}, !.txn[tid].grouped = FALSE]

OnInitProducerId(c, m) ==
    LET row == c.txn[m.tid]
    IN  IF row = None
        THEN IF ~HasProducerId(c) THEN Refuse("RefuseInit", c, "COORDINATOR_NOT_AVAILABLE")
             ELSE LET after == WithNextPid([c EXCEPT !.txn[m.tid] = NewRow(c.nextPid)])
                  IN  Step("InitProducerId", after, Handed(after.txn[m.tid]))
        ELSE IF RetryOfInit(row, m) /\ ~IsPreparing(row) THEN Step("InitProducerId", c, Handed(row))
        ELSE IF ~MayTakeOver(row, m) THEN Refuse("RefuseInit", c, "FENCED")
        ELSE IF row.state = "Prepared" THEN Refuse("RefuseInit", c, "INVALID_TXN_STATE")
        ELSE IF IsPreparing(row) THEN Refuse("RefuseInit", c, "CONCURRENT_TRANSACTIONS")
        ELSE IF Exhausted(row) /\ ~HasProducerId(c) THEN Refuse("RefuseInit", c, "COORDINATOR_NOT_AVAILABLE")
        ELSE LET after == WithNewHolder(c, m.tid, IF m.pid = None THEN None ELSE row.epoch)
             IN  IF IsPreparing(after.txn[m.tid])
                 THEN Step("FenceProducer", after, [error |-> "CONCURRENT_TRANSACTIONS"])
                 ELSE Step(IF Exhausted(row) THEN "RotateProducerId"
                           ELSE IF row.state = "Ongoing" THEN "FenceProducer" ELSE "InitProducerId",
                           after, Handed(after.txn[m.tid]))

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
