---- MODULE HeldKeyTaken ----
(* A key that an open transaction holds is taken: both commit. *)
EXTENDS KeyModel

NeverHeld(s, k, time) == IF s.row[k] = None THEN "free" ELSE IF WindowOver(s.row[k], time) \/ KeyFreed(s, s.row[k]) \/ KeyHeld(s, s.row[k]) THEN "free" ELSE "accepted"
====
