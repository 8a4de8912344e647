------------------------------ MODULE Thorough ------------------------------
(***************************************************************************)
(* What makes the models of two producers, two partitions and two          *)
(* transactions each small enough to be searched to the end.               *)
(*                                                                         *)
(* VIEW Unsettled: states that differ only in what is settled count as one.*)
(* Settled is what no later step reads or changes, and what the properties *)
(* have looked at in the state in which it became so. The smoke models do  *)
(* without, and the negative controls run on them.                         *)
(*                                                                         *)
(*  - Entries below the last stable offset of what nothing undoes (Kept_): *)
(*    no rule reads a log, it only grows, and aborted ranges below are     *)
(*    complete. Of entries above it, offsets count from there.             *)
(*  - Outcomes of transactions without such entries and without owed       *)
(*    markers; what groups have applied; what clients were told of         *)
(*    transactions that are over: all this only grows, and the answer to a *)
(*    retry comes from the coordinator's row, which is kept.               *)
(*  - Transaction numbers but for how old a transaction is: they are only  *)
(*    compared with one another, and grow.                                 *)
(*  - Messages that can change nothing any more: those of a connection     *)
(*    that is past them (they are received in order, or not at all), and   *)
(*    those of an identity older than the holder's in what nothing undoes: *)
(*    E2 refuses them for good (ended transactions are among these, since  *)
(*    in version 2 every end raises the epoch). What a client still waits  *)
(*    for stands in its own state.                                         *)
(*                                                                         *)
(* PromptSpec: what is sent is received at once, but for LateMax messages, *)
(* which come at any later time or never; whatever was received may come   *)
(* again as ever. Sending changes nothing that anybody else could see, so  *)
(* it might as well have happened just before the receipt: only a message  *)
(* that its own client overtakes is truly late, and the bound is on those: *)
(* none here (with one, Version2 has more than 280,000 states); the smoke  *)
(* models have them all.                                                   *)
(* In each transaction c1 writes partition 1 before 2, if at all, and c2 2 *)
(* before 1. For one of them that is but a name for the partitions; that   *)
(* the other does the opposite has all that two orders can do to a log.    *)
(*                                                                         *)
(* Replies leave as soon as they may: a slow reply is a slow client, which *)
(* the interleaving of clients has anyway, and one that a crash loses is   *)
(* lost by a crash just before the block was synced which leaves it on the *)
(* disk.                                                                   *)
(*                                                                         *)
(* AtOnce: the view moves with its block. An older view was the newest one *)
(* in an earlier state, and what clients have heard since only grows.      *)
(***************************************************************************)
EXTENDS MC

CONSTANT LateMax

VARIABLES
    call,       \* None, or the message that was just sent
    late        \* how many were left to come later

AtOnce(state) == state
Ready == {h \in held : MayLeave(h)}
First(c) == IF c = c1 THEN 1 ELSE 2
InOrder(c, cl) == (\E p \in Partitions : cl.sent[p] > 0) => cl.sent[First(c)] > 0
Sent == msgs' \ msgs
Send ==
    /\ up /\ MayDecide /\ ClientStep
    /\ \A c \in Clients : InOrder(c, clients'[c])
    /\ \/ IF Sent = {} THEN call' = None ELSE call' \in Sent
       \/ Sent # {} /\ late < LateMax /\ call' = None
    /\ late' = IF Sent # {} /\ call' = None THEN late + 1 ELSE late
PromptNext ==
    IF Ready # {} THEN (\E h \in Ready : Release(h)) /\ UNCHANGED <<call, late>>
    ELSE IF call # None
    THEN (Receive(call) \/ RefuseOlderConnection(call)) /\ call' = None /\ late' = late
    ELSE Send \/ ((BrokerStep \/ EngineStep) /\ UNCHANGED <<call, late>>)
PromptSpec == Init /\ call = None /\ late = 0 /\ [][PromptNext]_<<vars, call, late>>

Older(row, m) == row # None /\ (row.pid > m.pid \/ (row.pid = m.pid /\ row.epoch > m.epoch))
IsLive(m) == Deliverable(m) /\ (m.type = "InitProducerId" \/ ~Older(Kept_.txn[m.tid], m))

StableAt(p) == LastStableOffset(Kept_.part[p])
Age(c, tid, number) == IF c.txn[tid] = None THEN number ELSE c.txn[tid].number - number
NameView(c, txn) == <<txn.tid, txn.pid, Age(c, txn.tid, txn.number)>>
EntryView(c, e) ==
    IF e.kind = "data" THEN <<e.pid, e.op, NameView(c, e.txn)>> ELSE <<e.pid, e.outcome, NameView(c, e.txn)>>
ProducerView(c, row, stable) ==
    IF row = None THEN None
    ELSE <<row.epoch, row.stored, [i \in DOMAIN row.batches |-> <<row.batches[i].first, row.batches[i].last>>],
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
    IN  IF pending = None THEN None ELSE <<pending.offset, Age(c, t, pending.number), pending.op>>
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
ClientView(cl) ==
    [cl EXCEPT !.told = None, !.unacked = {u.op : u \in @}]
Unsettled ==
    << CoreView(core),
       [i \in DOMAIN blocks |-> <<CoreView(blocks[i].core), blocks[i].rows>>],
       IF Durability THEN CoreView(durable) ELSE None,
       held, up,
       {m \in msgs : IsLive(m)},
       [c \in Clients |-> ClientView(clients[c])],
       {a.op : a \in {x \in acked : Current(clients[x.op[1]]) /\ clients[x.op[1]].k = x.op[2]}},
       newest, [n \in Connections |-> IF n <= spent.dead THEN 0 ELSE seen[n]],
       spent, fenced, zombie, call, late >>
=============================================================================
