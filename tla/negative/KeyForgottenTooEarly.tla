---- MODULE KeyForgottenTooEarly ----
(* A key is forgotten within its window. *)
EXTENDS KeyModel

Anytime(s, k, time) == s.row[k] # None /\ s.state[1] # "open" /\ s.state[2] # "open"
====
