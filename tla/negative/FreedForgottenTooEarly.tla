---- MODULE FreedForgottenTooEarly ----
(* The word that the keys of a transaction are free goes while their rows are still there. *)
EXTENDS KeyModel

AtOnce(s, t, time) == t \in s.freed
====
