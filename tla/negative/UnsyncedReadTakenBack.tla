---- MODULE UnsyncedReadTakenBack ----
(* The same; a crash then takes back what was read (KIP-320 in kind). *)
EXTENDS MC

Newest == core
====
