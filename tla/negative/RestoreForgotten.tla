---- MODULE RestoreForgotten ----
(* After a restore everybody is taken at his word: a commit succeeds of which a part is gone. *)
EXTENDS MC

Never(c, pid) == FALSE
====
