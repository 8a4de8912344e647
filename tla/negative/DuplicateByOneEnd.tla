---- MODULE DuplicateByOneEnd ----
(* DUPLICATE_SEQUENCE_NUMBER is said of a batch whose last record only is behind: a batch half a lap away was never stored. *)
EXTENDS Idempotence

LastOnly(row, b) == Behind(b.last, row.batches[1].first) /\ ~Behind(b.first, row.first)
====
