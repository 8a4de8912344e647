-------------------------------- MODULE Eos --------------------------------
(***************************************************************************)
(* The whole: clients, network, the deciding core, durability, crashes.    *)
(*                                                                         *)
(* Clients are transactional producers as the real ones are: one request   *)
(* to the coordinator at a time, commit only when everything is            *)
(* acknowledged, and after an error abort.  Each record that a client      *)
(* sends has a name of its own, op = <<client, transaction, partition, n>>,*)
(* which the core carries along and never reads; the properties are about  *)
(* these names.                                                            *)
(*                                                                         *)
(* The network is the set of all messages ever sent. A message may be      *)
(* received at any time, again, or never. Only the types in Ordered are    *)
(* received at most once and in order per connection, as on TCP; they can  *)
(* still be late: a client that has given up on a connection opens         *)
(* another, and what it sent on the first may arrive after what it sends   *)
(* on the second.                                                          *)
(*                                                                         *)
(* Durability (section 10 of spec/transactions.md): `core` is decided;     *)
(* `blocks` are decided and not yet durable, oldest first; `durable` is    *)
(* what a power cut leaves; `view` is what readers see; `held` are replies *)
(* that wait. With Durability = FALSE every decision is durable and        *)
(* visible at once, which is how the models about the protocol are small.  *)
(***************************************************************************)
EXTENDS TxnCoordinator

CONSTANTS
    Ordered,            \* request types that count only in the order of their connection (E10)
    Durability,
    TransactionsMax,    \* per client
    RecordsMax,         \* per transaction and partition
    OffsetCommits,      \* how many times a transaction sends group offsets, at most
    TwoPhase,           \* TRUE: clients may prepare
    RetriesMax,         \* reconnections of all clients together, crashes apart
    ExpirationsMax, ForcesMax, CrashesMax, RebalancesMax, BlocksMax,
    Keeps,              \* what a client may say of a prepared transaction that it takes over (P10): a subset of {None, TRUE, FALSE}
    PrepareTimeouts,    \* TRUE: a prepare may have a timeout (D3)
    DeletionsMax,       \* topics that are deleted and made again
    TruncationsMax,     \* log starts that move (DeleteRecords, retention)
    ForgetsMax,         \* producers and transactional ids that expire
    RestoresMax,
    Lossy               \* TRUE: any reply can be lost

VARIABLES
    core,       \* the decided state (TxnCoordinator)
    blocks,     \* Seq of [core, rows]
    durable, view,
    held,       \* set of [m, answer, at]: waits until block `at` of `blocks` is durable; 0: may leave
    up,
    msgs,       \* every request ever sent
    clients,
    acked,      \* set of [op, p, offset]: what clients were told is stored; offset None if not told
    newest,     \* per transactional id and kind of coordinator the newest connection or 0 (volatile)
    seen,       \* per connection the number of the last request received on it
    spent,      \* counters that bound the environment
    saved,      \* None, or the state that a backup has
    fenced,     \* history: clients that a successor has fenced; <<pid, epoch>> that a timeout has fenced
    zombie      \* history: what a fenced client did nevertheless

vars == <<core, blocks, durable, view, held, up, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

----------------------------------------------------------------------------
(* What the properties look at *)

View == IF Durability THEN view ELSE core           \* what is visible
Kept_ == IF Durability THEN durable ELSE core       \* what nothing undoes

Offsets == 1 .. 3           \* positions in the input partition
Kinds == {"transaction", "group"}
KindOf(type) == IF type = "TxnOffsetCommit" THEN "group" ELSE "transaction"
Connections == 0 .. Cardinality(Clients) * (CrashesMax + RestoresMax + 1) + RetriesMax
ClosedForGood == 1000       \* larger than any request's number

----------------------------------------------------------------------------
(* Clients *)

NewClient ==
    [phase |-> "new", pid |-> None, epoch |-> None, k |-> 0,
     next |-> [p \in Partitions |-> 0],         \* the next sequence
     sent |-> [p \in Partitions |-> 0],         \* records of this transaction
     unacked |-> {},                            \* produce requests without a reply
     added |-> {}, grouped |-> FALSE,           \* enrolled with AddPartitionsToTxn, AddOffsetsToTxn
     offsets |-> 0,                             \* how many times this transaction has sent offsets
     broken |-> FALSE,                          \* can only abort
     heir |-> FALSE,                            \* has taken over what another had prepared (P10)
     req |-> None,                              \* the coordinator request without a reply
     conn |-> 0, n |-> 0,
     told |-> [k \in 1 .. TransactionsMax |-> "open"]]

IsOrdered(type) == type \in Ordered
InTxn(cl) == cl.phase \in {"ready", "open"} /\ cl.req = None /\ ~cl.broken
Opened(cl) == IF cl.phase = "open" THEN cl ELSE [cl EXCEPT !.phase = "open", !.k = @ + 1]
MayOpen(cl) == cl.phase = "open" \/ cl.k < TransactionsMax

(* A request to a coordinator: the client then waits for its reply. *)
Ask(c, cl, m) ==
    LET ordered == IsOrdered(m.type)
        conn    == IF ~ordered THEN 0 ELSE IF cl.conn = 0 THEN spent.conns + 1 ELSE cl.conn
        req     == m @@ [c |-> c, tid |-> ClientTid[c], k |-> cl.k,
                         conn |-> conn, n |-> IF ordered THEN cl.n + 1 ELSE 0]
    IN  /\ msgs' = msgs \cup {req}
        /\ clients' = [clients EXCEPT ![c] =
                        [cl EXCEPT !.req = req, !.conn = IF ordered THEN conn ELSE cl.conn,
                                   !.n = IF ordered THEN @ + 1 ELSE @]]
        /\ spent' = [spent EXCEPT !.conns = IF ordered /\ cl.conn = 0 THEN @ + 1 ELSE @]
        /\ UNCHANGED <<core, blocks, durable, view, held, up, acked, newest, seen, saved, fenced, zombie>>

(* The clients of the same id that have finished their InitProducerId: what this one will fence. *)
Predecessors(c) ==
    {d \in Clients \ {c} : ClientTid[d] = ClientTid[c] /\ clients[d].pid # None}

SendInit(c) ==
    /\ clients[c].phase \in {"new", "reinit"} /\ clients[c].req = None
    /\ \E keep \in Keeps :
        Ask(c, clients[c], [type |-> "InitProducerId", pid |-> clients[c].pid, epoch |-> clients[c].epoch, keep |-> keep,
                            predecessors |-> Predecessors(c)])

SendAddPartitions(c, p) ==
    LET cl == clients[c]
    IN  /\ Version = 1 /\ InTxn(cl) /\ MayOpen(cl) /\ p \notin cl.added
        /\ Ask(c, Opened(cl), [type |-> "AddPartitionsToTxn", pid |-> cl.pid, epoch |-> cl.epoch, p |-> p])

SendAddOffsets(c) ==
    LET cl == clients[c]
    IN  /\ Version = 1 /\ OffsetCommits > 0 /\ InTxn(cl) /\ MayOpen(cl) /\ ~cl.grouped
        /\ Ask(c, Opened(cl), [type |-> "AddOffsetsToTxn", pid |-> cl.pid, epoch |-> cl.epoch])

SendProduce(c, p) ==
    LET cl == Opened(clients[c])
        m  == [type |-> "Produce", c |-> c, tid |-> ClientTid[c], k |-> cl.k, pid |-> cl.pid, epoch |-> cl.epoch,
               p |-> p, first |-> cl.next[p], last |-> cl.next[p], op |-> <<c, cl.k, p, cl.sent[p]>>]
    IN  /\ InTxn(clients[c]) /\ MayOpen(clients[c])
        /\ Version = 1 => p \in cl.added
        /\ cl.sent[p] < RecordsMax
        /\ \A u \in cl.unacked : u.p # p
        /\ msgs' = msgs \cup {m}
        /\ clients' = [clients EXCEPT ![c] =
                        [cl EXCEPT !.unacked = @ \cup {m}, !.next[p] = Following(@), !.sent[p] = @ + 1]]
        /\ UNCHANGED <<core, blocks, durable, view, held, up, acked, newest, seen, spent, saved, fenced, zombie>>

SendOffsets(c) ==
    LET cl == clients[c]
    IN  /\ InTxn(cl) /\ MayOpen(cl) /\ cl.offsets < OffsetCommits
        /\ Version = 1 => cl.grouped
        /\ Ask(c, [Opened(cl) EXCEPT !.offsets = @ + 1],
               [type |-> "TxnOffsetCommit", pid |-> cl.pid, epoch |-> cl.epoch, generation |-> 1,
                offset |-> Opened(cl).k, op |-> <<c, Opened(cl).k, cl.offsets + 1>>])

SendPrepare(c) ==
    LET cl == clients[c]
    IN  /\ TwoPhase /\ cl.phase = "open" /\ cl.req = None /\ ~cl.broken /\ cl.unacked = {}
        /\ \E timed \in {FALSE, PrepareTimeouts} :
            Ask(c, cl, [type |-> "PrepareTxn", pid |-> cl.pid, epoch |-> cl.epoch, timed |-> timed])

SendEnd(c, commit) ==
    LET cl == clients[c]
    IN  /\ cl.phase \in {"open", "prepared"} /\ cl.req = None
        /\ commit => ~cl.broken /\ cl.unacked = {}
        /\ Ask(c, cl, [type |-> "EndTxn", pid |-> cl.pid, epoch |-> cl.epoch, commit |-> commit, heir |-> cl.heir])

(* A client that gives up on a connection sends the same request on a new one. *)
ConnectionDead(conn) == conn <= spent.dead \/ seen[conn] = ClosedForGood
Reconnect(c) ==
    LET cl   == clients[c]
        conn == spent.conns + 1
        req  == [cl.req EXCEPT !.conn = conn, !.n = cl.n + 1]
    IN  /\ cl.req # None /\ IsOrdered(cl.req.type)
        /\ conn \in Connections
        /\ ConnectionDead(cl.conn) \/ spent.retries < RetriesMax
        /\ msgs' = msgs \cup {req}
        /\ clients' = [clients EXCEPT ![c] = [cl EXCEPT !.req = req, !.conn = conn, !.n = @ + 1]]
        /\ spent' = [spent EXCEPT !.conns = conn, !.retries = IF ConnectionDead(cl.conn) THEN @ ELSE @ + 1]
        /\ UNCHANGED <<core, blocks, durable, view, held, up, acked, newest, seen, saved, fenced, zombie>>

AfterTransaction(cl) ==
    [cl EXCEPT !.req = None, !.sent = [p \in Partitions |-> 0], !.unacked = {}, !.added = {},
               !.heir = FALSE,
               !.grouped = FALSE, !.offsets = 0, !.broken = FALSE,
               (* Version 1 cannot tell what became of unanswered records: a new epoch makes them harmless (KIP-360). *)
               !.phase = IF Version = 1 /\ (cl.unacked # {} \/ cl.broken) THEN "reinit" ELSE "ready"]

WithIdentity(cl, a) ==
    IF cl.pid = a.pid /\ cl.epoch = a.epoch THEN cl
    ELSE [cl EXCEPT !.pid = a.pid, !.epoch = a.epoch, !.next = [p \in Partitions |-> 0]]

Retriable == {"CONCURRENT_TRANSACTIONS"}
Told(m) == IF m.commit THEN "committed" ELSE "aborted"

AwaitedBy(cl, m) == cl.req = m \/ m \in cl.unacked

(* The client after the reply `a` to its request m *)
Answered(cl, m, a) ==
    IF a.error \in Retriable \/ ~AwaitedBy(cl, m) THEN cl
    ELSE
    CASE m.type = "Produce" ->
            [cl EXCEPT !.unacked = @ \ {m}, !.broken = @ \/ a.error \notin {"NONE", "DUPLICATE_SEQUENCE_NUMBER"}]
      [] m.type = "InitProducerId" ->
            IF a.error = "NONE"
            THEN LET after == WithIdentity(AfterTransaction(cl), a)
                 IN  IF "prepared" \in DOMAIN a
                     THEN [after EXCEPT !.phase = "prepared", !.heir = TRUE, !.k = Max({1, @})]
                     ELSE [after EXCEPT !.phase = "ready"]
            ELSE [cl EXCEPT !.req = None, !.phase = "dead"]
      [] m.type = "AddPartitionsToTxn" ->
            IF a.error = "NONE" THEN [cl EXCEPT !.req = None, !.added = @ \cup {m.p}]
            ELSE [cl EXCEPT !.req = None, !.broken = TRUE]
      [] m.type = "AddOffsetsToTxn" ->
            IF a.error = "NONE" THEN [cl EXCEPT !.req = None, !.grouped = TRUE]
            ELSE [cl EXCEPT !.req = None, !.broken = TRUE]
      [] m.type = "TxnOffsetCommit" ->
            [cl EXCEPT !.req = None, !.broken = @ \/ a.error # "NONE"]
      [] m.type = "PrepareTxn" ->
            IF a.error = "NONE" THEN [cl EXCEPT !.req = None, !.phase = "prepared"]
            ELSE [cl EXCEPT !.req = None, !.broken = TRUE]
      [] m.type = "EndTxn" ->
            IF a.error = "NONE"
            THEN [WithIdentity(AfterTransaction(cl), a) EXCEPT !.told[m.k] = Told(m)]
            ELSE [cl EXCEPT !.req = None, !.told[m.k] = "unknown",          \* it may ask to recover (KIP-588)
                            !.phase = IF a.error = "FENCED" THEN "reinit" ELSE "dead"]

Acknowledges(m, a) ==
    IF m.type = "Produce" /\ m \in clients[m.c].unacked
    THEN IF a.error = "NONE" THEN {[op |-> m.op, p |-> m.p, offset |-> a.offset]}
         ELSE IF a.error = "DUPLICATE_SEQUENCE_NUMBER" THEN {[op |-> m.op, p |-> m.p, offset |-> None]}
         ELSE {}
    ELSE {}

(* A new holder fences those before it. Who was fenced itself can only have become one where nobody held the id any more (P3); *)
(* what it did under its former identity stays fenced. *)
NowFenced(m, a) ==
    IF m.type = "InitProducerId" /\ clients[m.c].req = m /\ a.error = "NONE"
    THEN (fenced \ {m.c}) \cup m.predecessors \cup (IF m.c \in fenced THEN {<<m.pid, m.epoch>>} ELSE {})
    ELSE fenced

(* The reply reaches its client. *)
Delivered(m, a) ==
    /\ clients' = [clients EXCEPT ![m.c] = Answered(@, m, a)]
    /\ acked' = acked \cup Acknowledges(m, a)

----------------------------------------------------------------------------
(* The broker receives a request *)

Deliverable(m) == IsOrdered(m.type) => m.conn > spent.dead /\ m.n > seen[m.conn]
NoteSeen(m) == seen' = IF IsOrdered(m.type) THEN [seen EXCEPT ![m.conn] = m.n] ELSE seen

(* E10 *)
FromOlderConnection(m) ==
    /\ IsOrdered(m.type) /\ m.type # "InitProducerId"
    /\ m.conn < newest[m.tid][KindOf(m.type)]
    /\ Identity(core, m) = "NONE"
NoteNewest(m, d) ==
    newest' =
        IF ~IsOrdered(m.type) THEN newest
        ELSE IF m.type = "InitProducerId"
        THEN IF d.answer.error = "NONE" THEN [newest EXCEPT ![m.tid] = [transaction |-> m.conn, group |-> 0]] ELSE newest
        ELSE IF Identity(core, m) = "NONE" THEN [newest EXCEPT ![m.tid][KindOf(m.type)] = m.conn] ELSE newest

(* A new life under the id, InitProducerId without producer id or when nobody holds it, is nobody's zombie. *)
TakesEffect(m, d) == d.core # core /\ ~(m.type = "InitProducerId" /\ (m.pid = None \/ core.txn[m.tid] = None))
IsZombie(m) ==
    \/ m.c \in fenced
    \/ m.type # "InitProducerId" /\ <<m.pid, m.epoch>> \in fenced       \* after a timeout it may still recover (P6)
    \/ m.type = "TxnOffsetCommit" /\ m.generation # core.group.generation

(* S1: the rows that the decision about m reads. What a partition refuses, it refuses before anything else is asked. *)
RowsRead(m) ==
    IF m.type = "ProduceIdempotent" THEN {<<"producer", m.p, m.pid>>}       \* in traces only
    ELSE IF m.type = "Produce"
    THEN {<<"producer", m.p, m.pid>>}
         \cup (IF Judge(core.part[m.p].producer[m.pid], m, ~Implicit) = "append" THEN {<<"txn", m.tid>>} ELSE {})
    ELSE {<<"txn", m.tid>>}
         \cup (IF m.type = "TxnOffsetCommit" /\ Identity(core, m) = "NONE" THEN {<<"group">>} ELSE {})
RowsChanged(before, after) ==
    {<<"txn", t>> : t \in {x \in TransactionalIds : before.txn[x] # after.txn[x]}}
    \cup {<<"producer", r[1], r[2]>> :
            r \in {y \in Partitions \X ProducerIds : before.part[y[1]].producer[y[2]] # after.part[y[1]].producer[y[2]]}}
    \cup (IF before.group # after.group THEN {<<"group">>} ELSE {})
WaitsFor(m, bs) == Max({0} \cup {i \in DOMAIN bs : bs[i].rows \cap RowsRead(m) # {}})

DecideInto(after) ==
    /\ core' = after
    /\ blocks' = IF Durability /\ after # core
                 THEN Append(blocks, [core |-> after, rows |-> RowsChanged(core, after)]) ELSE blocks

MayDecide == up /\ (Durability => Len(blocks) < BlocksMax)
Counted(what) == spent' = [spent EXCEPT ![what] = @ + 1]

(* Neither a change nor a reply that anybody waits for: receiving m again would be a stuttering step. *)
Awaited(m) == AwaitedBy(clients[m.c], m)
NoteLost(m, d) == Lossy /\ (d.core # core \/ IsOrdered(m.type))

Receive(m) ==
    /\ MayDecide /\ Deliverable(m)
    /\ ~FromOlderConnection(m)
    /\ LET d == Decide(core, m)
       IN  /\ d.core # core \/ Awaited(m) \/ IsOrdered(m.type)
           /\ DecideInto(d.core)
           /\ NoteSeen(m) /\ NoteNewest(m, d)
           /\ zombie' = IF IsZombie(m) /\ TakesEffect(m, d) THEN zombie \cup {<<m.c, m.k, m.type>>} ELSE zombie
           /\ IF Durability
              THEN /\ held' = IF Awaited(m) THEN held \cup {[m |-> m, answer |-> d.answer, at |-> WaitsFor(m, blocks')]}
                              ELSE held
                   /\ UNCHANGED <<clients, acked, fenced>>
              ELSE /\ held' = held
                   /\ \/ Awaited(m) /\ Delivered(m, d.answer) /\ fenced' = NowFenced(m, d.answer)
                      \/ (NoteLost(m, d) \/ ~Awaited(m)) /\ UNCHANGED <<clients, acked, fenced>>       \* the reply is lost
    /\ UNCHANGED <<durable, view, up, msgs, spent, saved>>

(* E10: a request from an older connection is not decided; nobody waits for an answer on it. (After a crash no connection is the newest.) *)
RefuseOlderConnection(m) ==
    /\ Deliverable(m) /\ FromOlderConnection(m)
    /\ seen' = [seen EXCEPT ![m.conn] = ClosedForGood]
    /\ UNCHANGED <<core, blocks, durable, view, held, up, msgs, clients, acked, newest, spent, saved, fenced, zombie>>

----------------------------------------------------------------------------
(* The broker by itself *)

Expire(t) ==
    /\ MayDecide /\ Expires(core, core.txn[t]) /\ spent.expirations < ExpirationsMax
    /\ DecideInto(ExpireTransaction(core, t))
    /\ spent' = [spent EXCEPT !.expirations = @ + 1]
    /\ fenced' = IF Durability THEN fenced ELSE fenced \cup {<<core.txn[t].pid, core.txn[t].epoch>>}
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, zombie>>

(* O11. What is prepared an operator may end as well, on its coordinator's behalf: NoTornTxn is about those who do not ask. *)
Force(t) ==
    /\ MayDecide /\ ForceAborts(core, core.txn[t]) /\ spent.forces < ForcesMax
    /\ DecideInto(ForceAbort(core, t))
    /\ spent' = [spent EXCEPT !.forces = @ + 1]
    /\ fenced' = IF Durability THEN fenced ELSE fenced \cup {<<core.txn[t].pid, core.txn[t].epoch>>}
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, zombie>>

(* O9, only if Sharded *)
WriteOwed(w) ==
    /\ MayDecide /\ DecideInto(DeliverOwed(core, w))
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

Complete(t) ==
    /\ MayDecide /\ CanComplete(core, t) /\ DecideInto(CompleteTransaction(core, t))
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

(* The group's members change: what carries the old generation is a zombie's (KIP-447). *)
Rebalanced(c) == [c EXCEPT !.group.generation = @ + 1]
Rebalance ==
    /\ MayDecide /\ spent.rebalances < RebalancesMax
    /\ DecideInto(Rebalanced(core))
    /\ spent' = [spent EXCEPT !.rebalances = @ + 1]
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, fenced, zombie>>

(* X1, X2. What was acknowledged of a deleted topic, and answers still on their way, are gone with it. *)
OfPartition(m, p) == m.type = "Produce" /\ m.p = p
DeleteTopic(p) ==
    /\ MayDecide /\ spent.deletions < DeletionsMax
    /\ DecideInto(TopicDeleted(core, p))
    /\ Counted("deletions")
    /\ acked' = {a \in acked : a.p # p}
    /\ held' = {h \in held : ~OfPartition(h.m, p)}
    /\ UNCHANGED <<durable, view, up, msgs, clients, newest, seen, saved, fenced, zombie>>

(* X3, X7 *)
DeleteRecords(p, offset) ==
    /\ MayDecide /\ spent.truncations < TruncationsMax /\ MayDeleteBelow(core.part[p], offset)
    /\ DecideInto([core EXCEPT !.part[p] = DeletedBelow(@, offset)])
    /\ Counted("truncations")
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, fenced, zombie>>

(* A12 *)
ForgetProducer(p, i) ==
    /\ MayDecide /\ spent.forgets < ForgetsMax
    /\ core.part[p].producer[i] # None /\ MayForgetProducer(core.part[p].producer[i])
    /\ DecideInto([core EXCEPT !.part[p] = ProducerForgotten(@, i)])
    /\ Counted("forgets")
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, fenced, zombie>>

(* P11 *)
ForgetId(t) ==
    /\ MayDecide /\ spent.forgets < ForgetsMax /\ MayForgetId(core.txn[t])
    /\ DecideInto(IdForgotten(core, t))
    /\ Counted("forgets")
    /\ UNCHANGED <<durable, view, held, up, msgs, clients, acked, newest, seen, saved, fenced, zombie>>

----------------------------------------------------------------------------
(* Durability: section 10 *)

ShownWith(state) == view        \* the view moves by itself, later (Publish)
MakeDurable ==
    /\ up /\ blocks # << >>
    /\ durable' = blocks[1].core
    /\ view' = ShownWith(blocks[1].core)
    /\ blocks' = Tail(blocks)
    /\ held' = {[h EXCEPT !.at = IF @ = 0 THEN 0 ELSE @ - 1] : h \in held}
    /\ UNCHANGED <<core, up, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

Publishable == durable
Publish ==
    /\ up /\ view # Publishable
    /\ view' = Publishable
    /\ UNCHANGED <<core, blocks, durable, held, up, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

MayLeave(h) == h.at = 0
Leaves(h) == MayLeave(h) /\ held' = held \ {h}         \* a crash leaves none
Release(h) ==
    /\ Leaves(h)
    /\ \/ Delivered(h.m, h.answer) /\ fenced' = NowFenced(h.m, h.answer)
       \/ Lossy /\ UNCHANGED <<clients, acked, fenced>>
    /\ UNCHANGED <<core, blocks, durable, view, up, msgs, newest, seen, spent, saved, zombie>>

(* The process dies, or the power goes: of what was not durable any prefix may be on the disk nevertheless. *)
Crash ==
    /\ spent.crashes < CrashesMax
    /\ \E j \in 0 .. Len(blocks) : blocks' = SubSeq(blocks, 1, j)
    /\ up' = FALSE
    /\ core' = durable
    /\ held' = {}
    /\ newest' = [t \in TransactionalIds |-> [k \in Kinds |-> 0]]
    /\ spent' = [spent EXCEPT !.crashes = @ + 1, !.dead = spent.conns]
    /\ UNCHANGED <<durable, view, msgs, clients, acked, seen, saved, fenced, zombie>>
ProcessCrash == up /\ Crash
(* Where every decision is durable at once, what a crash takes is what was never logged: the connections and what is known of them. *)
Restart ==
    /\ ~Durability /\ spent.crashes < CrashesMax
    /\ newest' = [t \in TransactionalIds |-> [k \in Kinds |-> 0]]
    /\ spent' = [spent EXCEPT !.crashes = @ + 1, !.dead = spent.conns]
    /\ UNCHANGED <<core, blocks, durable, view, held, up, msgs, clients, acked, seen, saved, fenced, zombie>>
PowerCut == ~up /\ blocks # << >> /\ Crash

(* What is found is made durable before anything is served. *)
Found == IF blocks = << >> THEN durable ELSE Last(blocks).core
Recovered(found) == found
Recover ==
    /\ ~up /\ up' = TRUE
    /\ durable' = Found /\ blocks' = << >>
    /\ core' = Recovered(Found) /\ view' = Recovered(Found)
    /\ UNCHANGED <<held, msgs, clients, acked, newest, seen, spent, saved, fenced, zombie>>

----------------------------------------------------------------------------
(* Backup and restore: B1 to B5. What came after the backup is gone, acknowledged or not. *)

Backup ==
    /\ RestoresMax > 0 /\ saved = None
    /\ saved' = Kept_
    /\ UNCHANGED <<core, blocks, durable, view, held, up, msgs, clients, acked, newest, seen, spent, fenced, zombie>>

IsStored(state, a) == \E i \in DOMAIN state.part[a.p].log :
    state.part[a.p].log[i].kind = "data" /\ state.part[a.p].log[i].op = a.op /\ a.offset \in {None, i - 1}
Gone == -1      \* the offset of what was acknowledged and is gone
AfterLoss(cl) == [cl EXCEPT !.told = [k \in DOMAIN @ |-> IF @[k] = "committed" THEN "gone" ELSE @[k]]]
RestoreLog ==
    /\ saved # None /\ spent.restores < RestoresMax
    /\ LET after == LogRestored(saved, IdsAfterRestore(core))
       IN  /\ core' = after
           /\ durable' = IF Durability THEN after ELSE None
           /\ view' = IF Durability THEN after ELSE None
    /\ blocks' = << >> /\ held' = {} /\ up' = TRUE
    /\ acked' = {IF IsStored(saved, a) THEN a ELSE [a EXCEPT !.offset = Gone] : a \in acked}
    /\ clients' = [c \in Clients |-> AfterLoss(clients[c])]
    /\ newest' = [t \in TransactionalIds |-> [k \in Kinds |-> 0]]
    /\ spent' = [spent EXCEPT !.restores = @ + 1, !.dead = spent.conns]
    /\ fenced' = fenced \cup {c \in Clients : clients[c].pid # None}
    /\ UNCHANGED <<msgs, seen, saved, zombie>>

----------------------------------------------------------------------------
Init ==
    /\ core = EmptyCore
    /\ blocks = << >>
    /\ durable = IF Durability THEN EmptyCore ELSE None
    /\ view = IF Durability THEN EmptyCore ELSE None
    /\ held = {} /\ up = TRUE /\ msgs = {}
    /\ clients = [c \in Clients |-> NewClient]
    /\ acked = {}
    /\ newest = [t \in TransactionalIds |-> [k \in Kinds |-> 0]]
    /\ seen = [n \in Connections |-> 0]
    /\ spent = [conns |-> 0, dead |-> 0, retries |-> 0, expirations |-> 0, forces |-> 0, crashes |-> 0, rebalances |-> 0,
                deletions |-> 0, truncations |-> 0, forgets |-> 0, restores |-> 0]
    /\ saved = None
    /\ fenced = {} /\ zombie = {}

ClientStep ==
    \E c \in Clients :
        \/ SendInit(c) \/ SendAddOffsets(c) \/ SendOffsets(c) \/ SendPrepare(c) \/ Reconnect(c)
        \/ \E p \in Partitions : SendAddPartitions(c, p) \/ SendProduce(c, p)
        \/ \E commit \in BOOLEAN : SendEnd(c, commit)

BrokerStep ==
    \/ \E m \in msgs : Receive(m) \/ RefuseOlderConnection(m)
    \/ \E t \in TransactionalIds : Expire(t) \/ Force(t) \/ Complete(t) \/ ForgetId(t)
    \/ \E p \in Partitions :
        \/ DeleteTopic(p)
        \/ \E offset \in 1 .. core.part[p].next : DeleteRecords(p, offset)
        \/ \E i \in ProducerIds : ForgetProducer(p, i)
    \/ \E w \in core.owed : WriteOwed(w)
    \/ Rebalance

EngineStep ==
    \/ Durability /\ (MakeDurable \/ Publish \/ (\E h \in held : Release(h)) \/ ProcessCrash \/ PowerCut \/ Recover)
    \/ Restart \/ Backup \/ RestoreLog

Next == ClientStep \/ BrokerStep \/ EngineStep
Spec == Init /\ [][Next]_vars

(* Fairness: the broker serves what is asked, deadlines pass, blocks become durable, replies leave, a client whose     *)
(* connection was closed connects again. Nothing is asked of clients otherwise: they may stop anywhere, and the        *)
(* broker must do without them. *)
Serve(c) == clients[c].req # None /\ Receive(clients[c].req)
Fairness ==
    /\ \A c \in Clients : WF_vars(Serve(c)) /\ WF_vars(ConnectionDead(clients[c].conn) /\ Reconnect(c))
    /\ \A t \in TransactionalIds : WF_vars(Expire(t)) /\ WF_vars(Complete(t))
    /\ WF_vars(\E w \in core.owed : WriteOwed(w))
    /\ WF_vars(MakeDurable) /\ WF_vars(Publish) /\ WF_vars(\E h \in held : Release(h)) /\ WF_vars(Recover)
LiveSpec == Spec /\ Fairness
=============================================================================
