---- MODULE ExpiryWithoutFence ----
(* A timeout aborts but leaves the epoch: the producer that was late begins anew under the same one. *)
EXTENDS MC

NotRaised(row) == [pid |-> row.pid, epoch |-> row.epoch, last |-> row.last, prev |-> row.prev]
====
