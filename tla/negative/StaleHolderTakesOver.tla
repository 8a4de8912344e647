---- MODULE StaleHolderTakesOver ----
(* InitProducerId with an old epoch aborts and fences the present holder before it is itself looked at (Kafka, P7). *)
EXTENDS MC

WhoeverAsks(row, m) == TRUE
====
