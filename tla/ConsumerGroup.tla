--------------------------- MODULE ConsumerGroup ---------------------------
(***************************************************************************)
(* One group of the consumer protocol (KIP-848): sections 10 to 17 of      *)
(* spec/groups.md. The broker assigns; each member moves to its assignment *)
(* by heartbeats, and nobody waits for all the others.                     *)
(*                                                                         *)
(* Everybody subscribes to everything, and the target is any distribution  *)
(* at all: which one an assignor prefers decides nothing here. A decision  *)
(* is durable before it is told (S1, R5), so one step is both.             *)
(*                                                                         *)
(* group = [epoch, targetEpoch, row], row per member None or               *)
(*   [target, held], held = [epoch, previous, assigned, revoking]          *)
(*                                                                         *)
(* What a member sends is received in order, heartbeats at most once, as on *)
(* the connection that they come by; an answer can be lost, and the member *)
(* then asks again.                                                        *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    None,
    Members,            \* member ids
    Bearers,            \* those of them that are lives of one static member, all with its instance id
    Parts,              \* partitions of the topics that the group reads
    EpochMax,           \* bounds the run: so often do members come and go
    BeatsMax,           \* heartbeats of a member
    Commits,            \* TRUE: members commit offsets
    CommitsInOrder,     \* TRUE: by the connection of their heartbeats; else they may arrive at any time, also long after
    Wayward,            \* TRUE: who has gone may come back under its id, and who is no static member may say that it is away
    AtOnce              \* TRUE: a heartbeat is sent, received and answered in one step, and they are not counted (liveness)

VARIABLES group, clients, msgs, seen, strayed
groupVars == <<group, clients, msgs, seen, strayed>>

Joining == 0
Leaving == -1
Away == -2

Nothing == [epoch |-> 0, previous |-> 0, assigned |-> {}, revoking |-> {}]
EmptyGroup == [epoch |-> 0, targetEpoch |-> 0, row |-> [m \in Members |-> None]]
Present(g) == {m \in Members : g.row[m] # None}
Holds(g, m) == IF g.row[m] = None THEN {} ELSE g.row[m].held.assigned \cup g.row[m].held.revoking
MayRaise == group.epoch < EpochMax

----------------------------------------------------------------------------
(* C2, C3, C6: who a heartbeat comes from. b = [type, m, n, epoch, owned] *)

BearersIn(g, m) == IF m \in Bearers THEN Present(g) \cap Bearers ELSE {}
IsAway(g, m) == g.row[m].held.epoch = Away
(* Its answer may have been lost: who has only just joined asks once more and gets the same. *)
HasJustJoined(held) == held.previous = 0 /\ held.revoking = {}
OwnEpoch(held, b) == b.epoch = held.epoch
AnswerLost(held, b) == held.epoch # Away /\ b.epoch = held.previous /\ b.owned \subseteq held.assigned

ArrivalOfJoiner(g, b) ==
    LET bearers == BearersIn(g, b.m)
    IN  IF \E n \in bearers : IsAway(g, n) THEN "successor"
        ELSE IF bearers \ {b.m} # {} THEN "UNRELEASED_INSTANCE_ID"
        ELSE IF g.row[b.m] = None THEN "newcomer"
        ELSE IF HasJustJoined(g.row[b.m].held) THEN "known" ELSE "again"

BearsItsInstance(g, m) == m \in Bearers => BearersIn(g, m) \subseteq {m}
Arrival(g, b) ==
    IF b.epoch = Joining THEN ArrivalOfJoiner(g, b)
    ELSE IF ~BearsItsInstance(g, b.m) THEN "FENCED_INSTANCE_ID"
    ELSE IF g.row[b.m] = None THEN "UNKNOWN_MEMBER_ID"
    ELSE IF OwnEpoch(g.row[b.m].held, b) \/ AnswerLost(g.row[b.m].held, b) THEN "known"
    ELSE "FENCED_MEMBER_EPOCH"
Arrives == {"newcomer", "again", "successor", "known"}

----------------------------------------------------------------------------
(* The group with the member in it: who is new, or begins anew, raises the epoch. *)

Entered(g, b, arrival) ==
    CASE arrival = "newcomer" ->
            [g EXCEPT !.epoch = @ + 1, !.row[b.m] = [target |-> {}, held |-> Nothing]]
      [] arrival = "again" ->
            [g EXCEPT !.epoch = @ + 1, !.row[b.m].held = Nothing]
      [] arrival = "successor" ->
            LET former == CHOOSE n \in BearersIn(g, b.m) : IsAway(g, n)
                row == g.row[former]
            IN  [g EXCEPT !.row = [[@ EXCEPT ![former] = None] EXCEPT
                    ![b.m] = [row EXCEPT !.held = [Nothing EXCEPT !.assigned = row.held.assigned]]]]
      [] arrival = "known" -> g

(* T1. share: which member each partition is to go to *)
TargetIsOld(g) == g.epoch > g.targetEpoch
Distributions(g) == IF TargetIsOld(g) THEN [Parts -> Present(g)] ELSE {None}
AssignTarget(g, share) ==
    IF ~TargetIsOld(g) THEN g
    ELSE [g EXCEPT
            !.targetEpoch = g.epoch,
            !.row = [m \in Members |->
                IF @[m] = None THEN None ELSE [@[m] EXCEPT !.target = {p \in Parts : share[p] = m}]]]

(* K1 to K3. owned is what the member says that it owns, None if it does not say. *)
HasRevoked(owned, revoking) == revoking = {} \/ (owned # None /\ owned \cap revoking = {})
Free(g, m) == Parts \ UNION {Holds(g, n) : n \in Members \ {m}}
Reconcile(g, m, owned) ==
    LET held == g.row[m].held
        target == g.row[m].target
        revoking == held.assigned \ target
    IN  IF ~HasRevoked(owned, held.revoking) THEN g
        ELSE IF ~HasRevoked(owned, revoking)
        THEN [g EXCEPT !.row[m].held = [held EXCEPT !.assigned = @ \cap target, !.revoking = revoking]]
        ELSE [g EXCEPT !.row[m].held =
                [epoch |-> g.targetEpoch,
                 previous |-> IF g.targetEpoch = held.epoch THEN held.previous ELSE held.epoch,
                 assigned |-> (held.assigned \cap target) \cup (target \cap Free(g, m)),
                 revoking |-> {}]]

OwnedSaid(b, arrival) ==
    IF arrival # "known" THEN {}            \* it has nothing, whatever it says
    ELSE IF b.epoch = Joining THEN None     \* that it owns nothing, it may have said before it was told of anything
    ELSE b.owned

HeartbeatDecided(g, b, arrival, share) ==
    Reconcile(AssignTarget(Entered(g, b, arrival), share), b.m, OwnedSaid(b, arrival))

(* C4, C7: what it held is free. C5: it keeps its place. *)
Left(g, m) == [g EXCEPT !.epoch = @ + 1, !.row[m] = None]
WentAway(g, m) == [g EXCEPT !.row[m].held = [@ EXCEPT !.epoch = Away, !.revoking = {}]]

(* G9 *)
MayCommit(g, b) == g.row[b.m] # None /\ (g.row[b.m] # None => b.epoch = g.row[b.m].held.epoch)

----------------------------------------------------------------------------
(* Members *)

(* phase: "out", it may begin; "in"; "dead", it has gone for good. *)
NewMember == [phase |-> "out", n |-> 0, req |-> None, epoch |-> Joining, told |-> {}, owned |-> {}]
Beat(cl, m) == [type |-> "beat", m |-> m, n |-> cl.n + 1, epoch |-> cl.epoch, owned |-> cl.owned]
GivesUp(cl) == [cl EXCEPT !.req = None, !.epoch = Joining, !.told = {}, !.owned = {}]

(* A later life of a static member begins when the former has gone. *)
MayBegin(m) ==
    m \in Bearers => \A n \in Bearers \ {m} : clients[n].phase # "in"
Begin(m) ==
    /\ clients[m].phase = "out" /\ MayBegin(m)
    /\ clients' = [clients EXCEPT ![m].phase = "in"]
    /\ UNCHANGED <<group, msgs, seen, strayed>>

Counts(cl) == IF AtOnce THEN cl ELSE [cl EXCEPT !.n = @ + 1]
MaySend(cl) == AtOnce \/ cl.n < BeatsMax

SendBeat(m) ==
    LET cl == clients[m]
    IN  /\ ~AtOnce /\ cl.phase = "in" /\ MaySend(cl)
        /\ msgs' = msgs \cup {Beat(cl, m)}
        /\ clients' = [clients EXCEPT ![m] = [Counts(cl) EXCEPT !.req = Beat(cl, m)]]
        /\ UNCHANGED <<group, seen, strayed>>

(* It goes: it uses nothing any more from then on. *)
SendLast(m, epoch) ==
    LET cl == clients[m]
        b == [Beat(cl, m) EXCEPT !.epoch = epoch, !.owned = {}]
    IN  /\ ~AtOnce /\ cl.phase = "in" /\ MaySend(cl)
        /\ msgs' = msgs \cup {b}
        /\ clients' = [clients EXCEPT ![m] = [GivesUp(Counts(cl)) EXCEPT !.phase = IF Wayward THEN "out" ELSE "dead"]]
        /\ UNCHANGED <<group, seen, strayed>>

(* It revokes what it is no longer assigned and takes over what it is, while no heartbeat is under way: one that says less *)
(* than the member uses by the time it arrives would be taken for a revocation. *)
TakeOver(m) ==
    /\ clients[m].req = None
    /\ clients' = [clients EXCEPT ![m].owned = clients[m].told]
    /\ UNCHANGED <<group, msgs, seen, strayed>>

SendCommit(m, p) ==
    /\ Commits /\ p \in clients[m].owned
    /\ msgs' = msgs \cup {[type |-> "commit", m |-> m, n |-> clients[m].n, epoch |-> clients[m].epoch, p |-> p]}
    /\ UNCHANGED <<group, clients, seen, strayed>>

Answered(cl, g, m) == [cl EXCEPT !.req = None, !.epoch = g.row[m].held.epoch, !.told = g.row[m].held.assigned]

----------------------------------------------------------------------------
(* The broker *)

Deliverable(b) == b.n > seen[b.m]
Noted(b) == seen' = IF AtOnce THEN seen ELSE [seen EXCEPT ![b.m] = b.n]

Decided(b, arrival) ==
    \E share \in Distributions(Entered(group, b, arrival)) :
        /\ group' = HeartbeatDecided(group, b, arrival, share)
        /\ \/ clients[b.m].req = b /\ clients' = [clients EXCEPT ![b.m] = Answered(@, group', b.m)]
           \/ (~AtOnce \/ clients[b.m].req # b) /\ clients' = clients         \* the answer is lost
Refused(b) ==
    /\ group' = group
    /\ clients' = IF clients[b.m].req = b THEN [clients EXCEPT ![b.m] = GivesUp(@)] ELSE clients

Hear(b) ==
    LET arrival == Arrival(group, b)
    IN  IF arrival \in Arrives
        THEN (arrival \in {"newcomer", "again"} => MayRaise) /\ Decided(b, arrival)
        ELSE Refused(b)

ConsumerHeartbeat(b) ==
    /\ b.type = "beat" /\ b.epoch >= Joining /\ Deliverable(b)
    /\ Hear(b) /\ Noted(b)
    /\ UNCHANGED <<msgs, strayed>>

LeaveConsumerGroup(b) ==
    /\ b.epoch \in {Leaving, Away} /\ Deliverable(b)
    /\ Noted(b)
    /\ IF group.row[b.m] = None \/ ~BearsItsInstance(group, b.m) THEN group' = group
       ELSE IF b.epoch = Away THEN group' = IF b.m \in Bearers THEN WentAway(group, b.m) ELSE group
       ELSE MayRaise /\ group' = Left(group, b.m)
    /\ UNCHANGED <<clients, msgs, strayed>>

(* A member may be silent for too long, or not revoke in time. *)
ExpireMember(m) ==
    /\ group.row[m] # None /\ MayRaise
    /\ group' = Left(group, m)
    /\ UNCHANGED <<clients, msgs, seen, strayed>>

(* Topics come or go, or a member subscribes to others. *)
Resubscribe ==
    /\ Present(group) # {} /\ MayRaise
    /\ group' = [group EXCEPT !.epoch = @ + 1]
    /\ UNCHANGED <<clients, msgs, seen, strayed>>

(* history: commits of partitions that somebody else had been given *)
CommitOffsets(b) ==
    /\ b.type = "commit" /\ MayCommit(group, b)
    /\ CommitsInOrder => seen[b.m] <= b.n
    /\ strayed' = IF \E n \in Members \ {b.m} : b.p \in Holds(group, n) THEN strayed \cup {b} ELSE strayed
    /\ strayed' # strayed       \* what it stores, no rule of the group reads
    /\ UNCHANGED <<group, clients, msgs, seen>>

(* A heartbeat whose sender waits for the answer *)
HeartbeatAtOnce(m) ==
    LET cl == clients[m]
        b == Beat(cl, m)
        arrival == Arrival(group, b)
    IN  /\ AtOnce /\ cl.phase = "in"
        /\ IF arrival \in Arrives
           THEN /\ arrival \in {"newcomer", "again"} => MayRaise
                /\ \E share \in Distributions(Entered(group, b, arrival)) :
                    /\ group' = HeartbeatDecided(group, b, arrival, share)
                    /\ clients' = [clients EXCEPT ![m] = Answered(cl, group', m)]
           ELSE group' = group /\ clients' = [clients EXCEPT ![m] = GivesUp(cl)]
        /\ UNCHANGED <<msgs, seen, strayed>>

----------------------------------------------------------------------------
GroupInit ==
    /\ group = EmptyGroup
    /\ clients = [m \in Members |-> NewMember]
    /\ msgs = {} /\ seen = [m \in Members |-> 0] /\ strayed = {}
GroupNext ==
    \/ \E m \in Members :
        \/ Begin(m) \/ SendBeat(m) \/ TakeOver(m) \/ ExpireMember(m) \/ HeartbeatAtOnce(m)
        \/ SendLast(m, Leaving) \/ ((Wayward \/ m \in Bearers) /\ SendLast(m, Away))
        \/ \E p \in Parts : SendCommit(m, p)
    \/ \E b \in msgs : ConsumerHeartbeat(b) \/ LeaveConsumerGroup(b) \/ CommitOffsets(b)
    \/ Resubscribe
GroupSpec == GroupInit /\ [][GroupNext]_groupVars

(* Members come when they should, and take over what they are told. *)
GroupFairness ==
    \A m \in Members : WF_groupVars(Begin(m)) /\ WF_groupVars(HeartbeatAtOnce(m)) /\ WF_groupVars(TakeOver(m))
GroupLiveSpec == GroupSpec /\ GroupFairness

----------------------------------------------------------------------------
(* The properties: spec/groups.md, section 17 *)

(* What a client uses while the broker takes it for a member: as far as anybody can say, it is in its newest epoch. *)
Uses(m) ==
    IF group.row[m] # None /\ clients[m].epoch # Joining
    THEN IF clients[m].epoch \in {group.row[m].held.epoch, group.row[m].held.previous} THEN clients[m].owned ELSE {}
    ELSE {}

(* No partition is held by two members. *)
OneOwner ==
    \A m, n \in Members : m # n =>
        /\ Holds(group, m) \cap Holds(group, n) = {}
        /\ Uses(m) \cap Uses(n) = {}
        /\ Uses(m) \cap Holds(group, n) = {}

(* An instance id is borne by one member. *)
OneBearer == \A m \in Present(group) : BearersIn(group, m) \subseteq {m}

(* Only a static member is away, with nothing to revoke; nobody else is ahead of the target; who is out or dead uses nothing. *)
GroupTypeOK ==
    /\ \A m \in Present(group) :
        LET held == group.row[m].held
        IN  /\ IF held.epoch = Away THEN m \in Bearers /\ held.revoking = {} ELSE held.epoch \in 0 .. group.targetEpoch
            /\ held.assigned \cap held.revoking = {}
    /\ \A m \in Members :
        clients[m].phase # "in" => clients[m].owned = {} /\ clients[m].told = {} /\ clients[m].req = None

(* A commit of a member that is gone or replaced, or with another epoch than its own, never takes effect. *)
FenceMember == strayed = {}

(* The group's epoch never goes back, the target's never overtakes it, a member's only starts again where it joins again. *)
GroupEpochMonotone ==
    [][/\ group'.epoch >= group.epoch /\ group'.targetEpoch >= group.targetEpoch
       /\ group'.targetEpoch <= group'.epoch
       /\ \A m \in Members :
            (group.row[m] # None /\ group'.row[m] # None) =>
                LET old == group.row[m].held
                    new == group'.row[m].held
                IN  \/ new.epoch >= old.epoch \/ new.epoch = Away
                    \/ new.previous = 0]_group

IsStable(g) ==
    /\ ~TargetIsOld(g)
    /\ UNION {Holds(g, m) : m \in Members} = Parts
    /\ \A m \in Present(g) :
        LET held == g.row[m].held
        IN  held.epoch = g.targetEpoch /\ held.revoking = {} /\ held.assigned = g.row[m].target
(* A group whose members come when they should becomes Stable. *)
GroupStabilises == <>[](Present(group) = {} \/ IsStable(group))
=============================================================================
