----------------------------- MODULE MemberModel -----------------------------
(* ConsumerGroup by itself. *)
EXTENDS ConsumerGroup

CONSTANTS m1, m2, m3, a, b

(* Members that are no lives of a static one, and partitions, are alike: no operator chooses among them but by what they hold. *)
Alike == Permutations(Parts)
AllAlike == Permutations(Members) \cup Permutations(Parts)

(* A constraint: two members, one with three heartbeats, who hear that they have joined, stay, and commit once. *)
OneCommitOfThoseWhoStay ==
    /\ Cardinality({x \in msgs : x.type = "commit"}) <= 1
    /\ clients[m1].n + clients[m2].n <= 5
    /\ \A m \in Members :
        clients[m].phase # "dead" /\ (seen[m] > 0 => clients[m].epoch # Joining /\ group.row[m] # None)

(* What must be reachable (reach/expected.tsv) *)
ASSUME \A i \in 1 .. 12 : TLCSet(i, FALSE)
Note(i, name, situation) ==
    IF TLCGet(i) THEN TRUE
    ELSE IF situation THEN TLCSet(i, TRUE) /\ PrintT("REACHED " \o name)
    ELSE TRUE
Comes(x) == x.type = "beat" /\ Deliverable(x)
Arriving(arrival) == \E x \in msgs : Comes(x) /\ x.epoch >= Joining /\ Arrival(group, x) = arrival
ReachNotes ==
    /\ Note(1, "MemberJoins", Arriving("newcomer"))
    /\ Note(2, "MemberGoesOn", Arriving("known"))
    /\ Note(3, "MemberJoinsAgain", Arriving("again"))
    /\ Note(4, "MemberFenced", Arriving("FENCED_MEMBER_EPOCH"))
    /\ Note(5, "MemberUnknown", Arriving("UNKNOWN_MEMBER_ID"))
    /\ Note(6, "MemberRevokes", \E m \in Present(group) : group.row[m].held.revoking # {})
    /\ Note(7, "TwoMembersStable", Cardinality(Present(group)) = 2 /\ IsStable(group)
            /\ \A m \in Present(group) : Holds(group, m) # {})
    /\ Note(8, "AnswerLost", \E x \in msgs : Comes(x) /\ group.row[x.m] # None /\ x.epoch > Joining
            /\ x.epoch # group.row[x.m].held.epoch /\ AnswerLost(group.row[x.m].held, x))
    /\ Note(9, "CommitRefused", \E x \in msgs : x.type = "commit" /\ ~MayCommit(group, x))
    /\ Note(10, "StillHeldByAnother", \E m, n \in Present(group) : m # n
            /\ group.row[m].held.epoch = group.targetEpoch /\ group.row[m].target \cap Holds(group, n) # {})
    /\ Note(11, "StaticMemberReplaced", Arriving("successor"))
    /\ Note(12, "InstanceNotReleased", Arriving("UNRELEASED_INSTANCE_ID"))
=============================================================================
