---- MODULE AbortedRangeOfAll ----
(* The filter drops what lies in an aborted range whoever wrote it. *)
EXTENDS MC

OfAll(part, entry, offset) == \E a \in part.aborted : a.first <= offset /\ offset <= a.last
====
