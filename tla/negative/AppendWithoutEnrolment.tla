---- MODULE AppendWithoutEnrolment ----
(* KAFKA-9144, KIP-890: an append is taken although the partition is not enrolled; after the marker it hangs for ever. *)
EXTENDS MC

NotAsked(c, m) == c.txn[m.tid].number > 0
====
