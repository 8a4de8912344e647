---------------------------- MODULE GroupOffsets ----------------------------
(***************************************************************************)
(* Committed and pending offsets of one group and one input partition, and *)
(* the group's generation. Section 7 of spec/transactions.md.              *)
(*                                                                         *)
(* A group is [generation, committed, pending]:                            *)
(*   committed  None or [offset, txn, op]; txn is None for OffsetCommit    *)
(*   pending    per transactional id None or [offset, number, op]          *)
(*   applied    history: every [txn, op] that ever took effect; no rule    *)
(*              reads it                                                   *)
(***************************************************************************)
EXTENDS Types

EmptyGroup ==
    [generation |-> 1, committed |-> None, pending |-> [t \in TransactionalIds |-> None], applied |-> {}]

GenerationCurrent(group, generation) == generation = group.generation

(* G2 *)
OffsetsStaged(group, txn, offset, op) ==
    [group EXCEPT !.pending[txn.tid] = [offset |-> offset, number |-> txn.number, op |-> op]]

(* G1 *)
OffsetsCommitted(group, offset) == [group EXCEPT !.committed = [offset |-> offset, txn |-> None, op |-> None]]

(* G3: in the same step as the outcome *)
OffsetsResolved(group, txn, outcome) ==
    LET p == group.pending[txn.tid]
    IN  IF p = None THEN group
        ELSE IF outcome # "commit" THEN [group EXCEPT !.pending[txn.tid] = None]
        ELSE [group EXCEPT
                !.pending[txn.tid] = None,
                !.committed = [offset |-> p.offset, txn |-> txn, op |-> p.op],
                !.applied = @ \cup {[txn |-> txn, op |-> p.op]}]

(* G4 *)
Stable(group) == \A t \in TransactionalIds : group.pending[t] = None
=============================================================================
