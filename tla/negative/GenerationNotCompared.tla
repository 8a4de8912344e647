---- MODULE GenerationNotCompared ----
(* KIP-447: offsets of a member that a rebalance has fenced are taken. *)
EXTENDS MC

AnyGeneration(group, generation) == TRUE
====
