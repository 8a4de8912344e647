---- MODULE IdsReusedAfterRestore ----
(* A restore goes on with the producer ids of its backup: two producers have one. *)
EXTENDS MC

OfTheBackup(c) == saved.nextPid
====
