---- MODULE ForceWithoutFence ----
(* An operator's abort leaves the epoch: the producer that it has aborted goes on under the same one, unaware. *)
EXTENDS MC

EpochKept(c, row) == [pid |-> row.pid, epoch |-> row.epoch, recoverable |-> None]
====
