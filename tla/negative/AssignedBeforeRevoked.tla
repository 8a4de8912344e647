---- MODULE AssignedBeforeRevoked ----
(* A member is assigned its whole target at once, whoever still holds it. *)
EXTENDS MemberModel

AllOfThem(g, m) == Parts
====
