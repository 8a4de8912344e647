---- MODULE KeysKeptOnAbort ----
(* An abort does not give the keys back: what was never paid can not be paid any more. *)
EXTENDS KeyModel

FreesNever(outcome) == FALSE
====
