---- MODULE KeysInMemory ----
(* Keys are held in memory only: a crash forgets them, and their records stay. *)
EXTENDS KeyModel

Memoryless(s) == [s EXCEPT !.row = [k \in Keys |-> None], !.holds = {}, !.freed = {}]
====
