---- MODULE LateOffsets ----
(* TxnOffsetCommit has no sequence in either version: one that was given up and arrives late replaces a newer one. *)
EXTENDS MC

AnyConnection(m) == FALSE
====
