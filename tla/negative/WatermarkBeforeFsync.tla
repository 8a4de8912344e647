---- MODULE WatermarkBeforeFsync ----
(* Readers are shown what is decided, not what is durable. *)
EXTENDS MC

Newest == core
====
