---- MODULE KeptPreparedAborted ----
(* A new holder that wants to keep what is prepared gets a new epoch, and the transaction is aborted as for any other (P10). *)
EXTENDS MC

Never(row, m) == FALSE
====
