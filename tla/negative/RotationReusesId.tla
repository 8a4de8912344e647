---- MODULE RotationReusesId ----
(* KAFKA-20090 and its kin: the epochs are used up and begin again at 0 under the same producer id. *)
EXTENDS MC

SameId(c, row, recoverable) == [pid |-> row.pid, epoch |-> 0, recoverable |-> recoverable]
====
