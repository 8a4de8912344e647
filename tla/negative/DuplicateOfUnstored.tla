---- MODULE DuplicateOfUnstored ----
(* DUPLICATE_SEQUENCE_NUMBER is said of what lies behind, whether or not this epoch ever stored so much. *)
EXTENDS Idempotence

BehindIsStored(row, b) == Behind(b.last, row.batches[1].first)
====
