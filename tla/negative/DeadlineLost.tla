---- MODULE DeadlineLost ----
(* A deadline never comes (lost at a restart, or kept in memory only: Redpanda #6018): what a dead client left open stays open. *)
EXTENDS MC

NoDeadline(c, row) == FALSE
====
