---- MODULE OffsetsKeptOnAbort ----
(* An abort leaves the pending offsets: they stay unstable, or the next commit takes them (Redpanda #6423 in kind). *)
EXTENDS MC

OffsetsResolvedOnCommit(group, tid, number) ==
    LET p == group.pending[tid]
        txn == [tid |-> tid, number |-> number]
    IN  IF p = None THEN group
        ELSE [group EXCEPT !.pending[tid] = None, !.committed = [offset |-> p.offset, txn |-> txn, op |-> p.op],
                           !.applied = @ \cup {[txn |-> txn, op |-> p.op]}]
KeptOnAbort(group, tid, number, outcome) ==
    IF outcome = "commit" THEN OffsetsResolvedOnCommit(group, tid, number) ELSE group
====
