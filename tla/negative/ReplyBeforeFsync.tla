---- MODULE ReplyBeforeFsync ----
(* A reply leaves before its block is durable (acknowledged before fsync: Jepsen on NATS 2.12). *)
EXTENDS MC

AtOnce(h) == TRUE
====
