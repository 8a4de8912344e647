---- MODULE EpochNotCompared ----
(* The coordinator does not compare the epoch: a fenced holder goes on. *)
EXTENDS MC

EpochNotCompared(row, m) == TRUE
====
