---- MODULE RestoredAtItsWord ----
(* After a restore, a producer that the partition does not know is taken at its word (A5): what went before is gone, and nobody hears of it. *)
EXTENDS Idempotence

Always == TRUE
====
