---- MODULE AbortedRangeOneShort ----
(* The aborted range begins after its first record. *)
EXTENDS MC

OneShort(pid, row, offset) == [pid |-> pid, first |-> row.open.first + 1, last |-> offset]
====
