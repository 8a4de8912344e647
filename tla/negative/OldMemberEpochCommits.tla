---- MODULE OldMemberEpochCommits ----
(* Whoever was a member may commit, with whichever epoch. *)
EXTENDS MemberModel

AnyEpoch(g, commit) == TRUE
====
