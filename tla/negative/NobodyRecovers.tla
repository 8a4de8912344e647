---- MODULE NobodyRecovers ----
(* KIP-588: a producer whose transaction a timeout has ended is fenced for good. *)
EXTENDS MC

Nobody(row, m) == FALSE
====
