---- MODULE OffsetsBeforeOutcome ----
(* Offsets take effect when they are sent, not with the outcome. *)
EXTENDS MC

AtOnce(group, txn, offset, op) ==
    [group EXCEPT !.committed = [offset |-> offset, txn |-> txn, op |-> op],
                  !.applied = @ \cup {[txn |-> txn, op |-> op]}]
====
