---- MODULE DelayedEndTxn ----
(* KAFKA-17754: in version 1 a delayed EndTxn from a connection that its client has given up ends the next transaction. *)
EXTENDS MC

AnyConnection(m) == FALSE
====
