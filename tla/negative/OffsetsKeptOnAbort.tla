---- MODULE OffsetsKeptOnAbort ----
(* An abort leaves the pending offsets: they stay unstable, or the next commit takes them (Redpanda #6423 in kind). *)
EXTENDS MC

KeptOnAbort(group, txn, outcome) ==
    LET p == group.pending[txn.tid]
    IN  IF p = None \/ outcome # "commit" THEN group
        ELSE [group EXCEPT !.pending[txn.tid] = None, !.committed = [offset |-> p.offset, txn |-> txn, op |-> p.op],
                           !.applied = @ \cup {[txn |-> txn, op |-> p.op]}]
====
