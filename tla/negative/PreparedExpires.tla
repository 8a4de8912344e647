---- MODULE PreparedExpires ----
(* A prepared transaction is ended by its timeout although an outside coordinator may have committed. *)
EXTENDS MC

ExpiresPrepared(c, row) == row # None /\ row.state \in {"Ongoing", "Prepared"}
====
