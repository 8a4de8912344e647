---- MODULE FenceTakenForRetry ----
(* The retry of an end is recognised by its identity alone: a commit that a timeout has turned into an abort is answered with success. *)
EXTENDS MC

RetryOfAnyEnd(row, m) == row.ended # None /\ row.ended.by = <<m.pid, m.epoch>>
====
