---- MODULE KeyOutsideTransaction ----
(* A key counts as accepted from the append on, whatever becomes of its transaction. *)
EXTENDS KeyModel

OfNobody(t) == None
====
