------------------------------ MODULE Thorough ------------------------------
(***************************************************************************)
(* What makes the models of two producers, two partitions and two          *)
(* transactions each small enough to be searched to the end. The smoke     *)
(* models do without, and the negative controls run on them.               *)
(*                                                                         *)
(* VIEW Unsettled: states that differ only in what is settled count as one.*)
(* Settled is what no later step reads or changes, and what no property    *)
(* can find at fault later, if it does not now:                            *)
(*                                                                         *)
(*  - Entries below the last stable offset of what nothing undoes (Kept_): *)
(*    no rule reads a log, it only grows, and aborted ranges below are     *)
(*    complete. Of entries above it, offsets count from there. Whether a   *)
(*    record may be stored again is in the producer rows, which are whole. *)
(*  - Outcomes of transactions without such entries and without owed       *)
(*    markers; what groups have applied; what clients were told of         *)
(*    transactions that are over, and whether they asked for it: all this  *)
(*    only grows, and the answer to a retry comes from the coordinator's   *)
(*    row, which is kept. With an entry or a pending offset that is not    *)
(*    settled stands what its client asked and was told.                   *)
(*  - Transaction numbers but for how old a transaction is: they are only  *)
(*    compared with one another, and grow.                                 *)
(*  - Messages that can change nothing any more: those of a connection     *)
(*    that is past them (they are received in order, or not at all);       *)
(*    those of an identity older than the holder's in what nothing undoes: *)
(*    E2 refuses them for good (in version 2 every end raises the epoch,   *)
(*    so ended transactions are among these). What a client still waits    *)
(*    for stands in its own state.                                         *)
(*                                                                         *)
(* If Closely, as well, where requests are ordered:                        *)
(*                                                                         *)
(*  - Which connection it is, and how many requests came on it. A client   *)
(*    has no more than one that lives (RetriesMax = 0: it opens another    *)
(*    when a crash has taken the last), and an id has one client, so no    *)
(*    request comes from an older one; what was received on a connection   *)
(*    that lives is whatever was sent on it, but for what is in messages.  *)
(*  - With every decision durable at once: where in its numbers a producer *)
(*    is. A sequence counts from what the partition expects of that        *)
(*    client; the batches before are stored.                               *)
(*  - Messages with batches that are stored in what nothing undoes: A6 and *)
(*    A9 keep them away for as long as the row has their epoch, and A2     *)
(*    does when it has a later one (rows are not forgotten here, and       *)
(*    numbers do not come half around).                                    *)
(*                                                                         *)
(* TLC looks at the invariants of a state only if its view is new. So the  *)
(* view has whether they hold: one that breaks any is never taken for one  *)
(* that does not. Properties of steps are looked at in every step.         *)
(*                                                                         *)
(* PromptSpec: what is sent is received at once, but for LateMax messages, *)
(* which come at any later time or never; whatever was received may come   *)
(* again as ever. Sending changes nothing that anybody else could see, so  *)
(* it might as well have happened just before the receipt: only a message  *)
(* that its own client overtakes is truly late, and the bound is on those. *)
(*                                                                         *)
(* Replies leave as soon as they may: a slow reply is a slow client, which *)
(* the interleaving of clients has anyway. A reply is lost by the crash    *)
(* only: with Durability by one just before the block was synced which     *)
(* leaves it on the disk; without, by one that follows the decision. Where *)
(* every decision is durable at once there is no other crash: with no      *)
(* reply on its way it takes only connections, and with each the requests  *)
(* on it and what is known of it, so nothing happens that could not have   *)
(* happened before.                                                        *)
(*                                                                         *)
(* What is sent on a connection that a crash has taken, nobody receives,   *)
(* and its client connects anew before anything else happens: one that     *)
(* does not is, for all others, one that stopped before.                   *)
(*                                                                         *)
(* A transaction across shards is complete as soon as nothing is owed      *)
(* (Complete). Until then its id answers every request as it did before    *)
(* the last marker, and changes nothing: so what is asked in between might *)
(* as well have been asked before. All others neither see nor change what  *)
(* Complete does.                                                          *)
(*                                                                         *)
(* The group is rebalanced just before offsets arrive for it (Rebalance):  *)
(* nothing else reads its generation, so a rebalance at any earlier time,  *)
(* and one after which no offsets come, is this one moved later.           *)
(*                                                                         *)
(* AtOnce: the view moves with its block. An older view was the newest one *)
(* in an earlier state, and what clients have heard since only grows.      *)
(*                                                                         *)
(* EnrolsToWrite, in version 1: a client enrols a partition when it has    *)
(* written to those that it has enrolled before. Enrolled earlier, nobody  *)
(* sees it before the end; so what is left out is a transaction that ends  *)
(* with two enrolled partitions and no record in either.                   *)
(*                                                                         *)
(* BeginsFirst, UsedFirst: c1 is the client that begins first, and 1 the   *)
(* partition that is used first. Neither clients (each with an id of its   *)
(* own) nor partitions differ in anything else, so every behaviour is one  *)
(* of these under other names. TLC's SYMMETRY would compare whole states,  *)
(* settled or not.                                                         *)
(*                                                                         *)
(* Crosswise, instead of UsedFirst where that is still too much: in each   *)
(* transaction c1 writes partition 1 before 2, if at all, and c2 2 before  *)
(* 1. This is a bound: two orders in which two transactions meet in a log, *)
(* not all.                                                                *)
(*                                                                         *)
(* The view, Complete and Rebalance are searched with and without on small *)
(* models, and come to the same (Reduction.tla).                           *)
(***************************************************************************)
EXTENDS MC

CONSTANT LateMax

(* What the arguments above take for granted *)
ASSUME /\ \A c, d \in Clients : ClientTid[c] = ClientTid[d] => c = d
       /\ RetriesMax = 0 /\ DeletionsMax = 0 /\ ForgetsMax = 0 /\ RestoresMax = 0
       /\ 2 * TransactionsMax * RecordsMax < SequenceSpace
       /\ RebalancesMax = 0 \/ LateMax = 0

VARIABLES
    call,       \* None, or the message that was just sent
    late,       \* how many were left to come later
    dying       \* a reply was lost: what follows is the crash that it was lost by

Closely == FALSE
Yes == TRUE
AtOnce(state) == state
Ready == {h \in held : MayLeave(h)}
Uses(m) == m.type \in {"Produce", "AddPartitionsToTxn"}
BeginsFirst == clients[c1] = NewClient => clients'[c2] = NewClient
UsedFirst == (\A m \in msgs : ~Uses(m)) => \A m \in msgs' : Uses(m) => m.p = 1
First(c) == IF c = c1 THEN 1 ELSE 2
Crosswise == \A c \in Clients : (\E p \in Partitions : clients'[c].sent[p] > 0) => clients'[c].sent[First(c)] > 0
Sent == msgs' \ msgs
EnrolsToWrite ==
    \A m \in Sent : m.type = "AddPartitionsToTxn" => \A p \in clients[m.c].added : clients[m.c].sent[p] > 0
Send ==
    /\ MayDecide /\ ClientStep
    /\ BeginsFirst /\ UsedFirst /\ EnrolsToWrite
    /\ \/ IF Sent = {} THEN call' = None ELSE call' \in Sent
       \/ Sent # {} /\ late < LateMax /\ call' = None
    /\ late' = IF Sent # {} /\ call' = None THEN late + 1 ELSE late
    /\ dying' = FALSE

LostWithCrash(m, d) ==
    /\ ~Durability /\ call = m /\ spent.crashes < CrashesMax
    /\ d.answer.error \notin Retriable             \* else it changes nothing for the client anyway
    /\ d.core # core \/ IsOrdered(m.type)
OnDead(m) == IsOrdered(m.type) /\ m.conn <= spent.dead
ConnectAnew == Reconnect(call.c) /\ call' \in Sent /\ UNCHANGED <<late, dying>>
RebalanceBefore == call.type = "TxnOffsetCommit" /\ Rebalance /\ UNCHANGED <<call, late, dying>>
Serving ==
    /\ Receive(call) \/ RefuseOlderConnection(call)
    /\ call' = None /\ late' = late
    /\ dying' = (~Durability /\ Deliverable(call) /\ ~FromOlderConnection(call) /\ clients' = clients
                 /\ Decide(core, call).answer.error \notin Retriable)

Completable == {t \in TransactionalIds : CanComplete(core, t)}
ByItself == (BrokerStep /\ core'.group.generation = core.group.generation) \/ (Durability /\ EngineStep)
PromptNext ==
    IF dying THEN Restart /\ dying' = FALSE /\ UNCHANGED <<call, late>>
    ELSE IF Ready # {} THEN (\E h \in Ready : Release(h)) /\ UNCHANGED <<call, late, dying>>
    ELSE IF call # None THEN IF OnDead(call) THEN ConnectAnew ELSE RebalanceBefore \/ Serving
    ELSE IF Completable # {} THEN (\E t \in Completable : Complete(t)) /\ UNCHANGED <<call, late, dying>>
    ELSE Send \/ (ByItself /\ UNCHANGED <<call, late, dying>>)
PromptSpec == Init /\ call = None /\ late = 0 /\ dying = FALSE /\ [][PromptNext]_<<vars, call, late, dying>>

Older(row, m) == row # None /\ (row.pid > m.pid \/ (row.pid = m.pid /\ row.epoch > m.epoch))
IsStoredFor(m) ==
    /\ Closely /\ m.type = "Produce" /\ Kept_.part[m.p].producer[m.pid] # None
    /\ Judge(Kept_.part[m.p].producer[m.pid], m, FALSE) \in {"duplicate", "DUPLICATE_SEQUENCE_NUMBER"}
IsLive(m) ==
    /\ Deliverable(m) /\ ~IsStoredFor(m)
    /\ m.type = "InitProducerId" \/ ~Older(Kept_.txn[m.tid], m)

(* The sequence that a partition expects of a client *)
Expected(c, p) ==
    LET row == IF clients[c].pid = None THEN None ELSE core.part[p].producer[clients[c].pid]
    IN  IF row = None THEN 0 ELSE IF row.epoch # clients[c].epoch \/ row.batches = << >> THEN 0
        ELSE Following(Last(row.batches).last)
SequenceView(c, p, s) == IF Durability \/ ~Closely THEN s ELSE Distance(Expected(c, p), s)
IsOfClient(m) == m.pid = clients[m.c].pid /\ m.epoch = clients[m.c].epoch
MessageView(m) ==
    IF ~Closely THEN m
    ELSE IF m.type = "Produce"
    THEN IF IsOfClient(m) THEN [m EXCEPT !.first = SequenceView(m.c, m.p, @), !.last = SequenceView(m.c, m.p, @)] ELSE m
    ELSE IF IsOrdered(m.type) THEN [m EXCEPT !.conn = 0, !.n = @ - clients[m.c].n] ELSE m
ConnectionView(conn) == IF ~Closely THEN conn ELSE IF conn = 0 THEN "none" ELSE IF conn <= spent.dead THEN "dead" ELSE "live"

StableAt(p) == LastStableOffset(Kept_.part[p])
Age(c, tid, number) == IF c.txn[tid] = None THEN number ELSE c.txn[tid].number - number
NameView(c, txn) == <<txn.tid, txn.pid, Age(c, txn.tid, txn.number)>>
Meant(op) == <<op, ToldOf(op), CommitAsked(op)>>
EntryView(c, e) ==
    IF e.kind = "data" THEN <<e.pid, e.epoch, e.first, Meant(e.op), NameView(c, e.txn)>>
    ELSE <<e.pid, e.epoch, e.outcome, NameView(c, e.txn)>>
ProducerView(c, row, stable) ==
    IF row = None THEN None
    ELSE <<row.epoch,
           IF Durability \/ ~Closely THEN <<row.stored, [i \in DOMAIN row.batches |-> <<row.batches[i].first, row.batches[i].last>>]>>
           ELSE row.batches # << >>,
           IF row.open = None THEN None
           ELSE <<row.open.tid, Age(c, row.open.tid, row.open.number), row.open.first - stable>> >>
PartView(c, p) ==
    LET part == c.part[p]
        stable == StableAt(p)
    IN  << [i \in 1 .. Len(part.log) - stable |-> EntryView(c, part.log[i + stable])],
           [i \in ProducerIds |-> ProducerView(c, part.producer[i], stable)],
           {<<a.pid, a.first - stable, a.last - stable>> : a \in {x \in part.aborted : x.last >= stable}} >>

RowView(row) == IF row = None THEN None ELSE [row EXCEPT !.number = 0]
PendingView(c, t) ==
    LET pending == c.group.pending[t]
    IN  IF pending = None THEN None ELSE <<pending.offset, Age(c, t, pending.number), Meant(pending.op)>>
UnsettledNames(c) ==
    {w.txn : w \in c.owed}
    \cup UNION {{c.part[p].log[i].txn : i \in StableAt(p) + 1 .. Len(c.part[p].log)} : p \in Partitions}
CoreView(c) ==
    << [t \in TransactionalIds |-> RowView(c.txn[t])],
       [p \in Partitions |-> PartView(c, p)],
       c.group.generation, [t \in TransactionalIds |-> PendingView(c, t)],
       c.nextPid, c.restored,
       {<<NameView(c, NameOf(o)), o.outcome>> : o \in {x \in c.outcomes : NameOf(x) \in UnsettledNames(c)}},
       {<<w.p, w.outcome, NameView(c, w.txn)>> : w \in c.owed} >>

Current(cl) == cl.phase \in {"open", "prepared"}
ClientView(c) ==
    LET cl == clients[c]
    IN  [cl EXCEPT !.told = None, !.unacked = {u.op : u \in @}, !.next = [p \in Partitions |-> SequenceView(c, p, @[p])],
                   !.conn = ConnectionView(@), !.n = IF Closely THEN 0 ELSE @, !.req = IF @ = None THEN None ELSE MessageView(@)]
(* The invariants that the configurations of this module have. *)
Holds ==
    /\ TypeOK /\ NoLostWrite /\ NoDuplicate /\ SeqContiguous /\ NoAbortedRead /\ NoUncommittedRead /\ NoTornTxn
    /\ MarkerExactlyOnce /\ OffsetsAtomicWithTxn /\ FenceZombie /\ DurableBeforeVisible
Unsettled ==
    << Holds,
       CoreView(core),
       [i \in DOMAIN blocks |-> <<CoreView(blocks[i].core), blocks[i].rows>>],
       IF Durability THEN CoreView(durable) ELSE None,
       {<<MessageView(h.m), h.answer, h.at>> : h \in held}, up,
       {MessageView(m) : m \in {x \in msgs : IsLive(x)}},
       [c \in Clients |-> ClientView(c)],
       {a.op : a \in {x \in acked : Current(clients[x.op[1]]) /\ clients[x.op[1]].k = x.op[2]}},
       IF Closely THEN [spent EXCEPT !.conns = 0, !.dead = 0]
       ELSE <<spent, newest, [n \in Connections |-> IF n <= spent.dead THEN 0 ELSE seen[n]]>>,
       fenced, zombie,
       IF call = None THEN None ELSE MessageView(call), late, dying >>
=============================================================================
