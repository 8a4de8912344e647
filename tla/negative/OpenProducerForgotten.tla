---- MODULE OpenProducerForgotten ----
(* A producer is forgotten while its transaction is open: nothing holds readers back any more. *)
EXTENDS MC

Anyone(row) == TRUE
====
