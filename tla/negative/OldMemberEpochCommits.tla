---- MODULE OldMemberEpochCommits ----
(* Who is a member may commit, with whichever epoch it once had. *)
EXTENDS MemberModel

AnyEpoch(g, commit) == g.row[commit.m] # None
====
