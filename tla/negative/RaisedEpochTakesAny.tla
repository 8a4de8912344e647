---- MODULE RaisedEpochTakesAny ----
(* After a marker has raised the epoch, the first append of that same epoch may start anywhere. *)
EXTENDS Idempotence

OfAnyEpoch(b) == TRUE
====
