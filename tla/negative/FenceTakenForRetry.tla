---- MODULE FenceTakenForRetry ----
(* The retry of an end is recognised by its epoch alone: a commit that a fence has turned into an abort is answered with success. *)
EXTENDS MC

RetryOfAnyEnd(row, m) ==
    /\ row.state \in {"CompleteCommit", "CompleteAbort"}
    /\ row.pid = m.pid /\ row.last = m.epoch
FenceRemembered(row) == [pid |-> row.pid, epoch |-> row.epoch + 1, last |-> row.epoch, prev |-> row.prev]
====
