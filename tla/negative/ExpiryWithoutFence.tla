---- MODULE ExpiryWithoutFence ----
(* A timeout aborts but leaves the epoch: the producer that was late begins anew under the same one. *)
EXTENDS MC

NotRaised(c, row) == [pid |-> row.pid, epoch |-> row.epoch, recoverable |-> None]
====
