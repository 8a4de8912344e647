---- MODULE CoordinatorNotDurable ----
(* KAFKA-19999: answers are given from state that is not durable; after a crash what they said is gone. *)
EXTENDS MC

AtOnce(h) == TRUE
====
