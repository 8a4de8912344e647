---- MODULE ConcurrentForEver ----
(* The end of a transaction is answered CONCURRENT_TRANSACTIONS for ever (Redpanda #23656). *)
EXTENDS MC

Again(c, m) == Refuse("RefuseEndTransaction", c, "CONCURRENT_TRANSACTIONS")
====
