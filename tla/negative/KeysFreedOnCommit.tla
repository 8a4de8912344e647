---- MODULE KeysFreedOnCommit ----
(* A commit gives the keys back as an abort does. *)
EXTENDS KeyModel

FreesAlways(outcome) == TRUE
====
