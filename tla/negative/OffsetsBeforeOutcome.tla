---- MODULE OffsetsBeforeOutcome ----
(* Offsets take effect when they are sent, not with the outcome. *)
EXTENDS MC

AtOnce(group, tid, number, offset, op) ==
    [group EXCEPT !.committed = [offset |-> offset, txn |-> [tid |-> tid, number |-> number], op |-> op],
                  !.applied = @ \cup {[txn |-> [tid |-> tid, number |-> number], op |-> op]}]
====
