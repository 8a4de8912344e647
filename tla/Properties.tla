----------------------------- MODULE Properties -----------------------------
(***************************************************************************)
(* The promises, under the names they have everywhere                      *)
(* (spec/transactions.md, section 12).                                     *)
(***************************************************************************)
EXTENDS Eos

Entries(state, p) == state.part[p].log
DataAt(state, p) == {i \in DOMAIN Entries(state, p) : Entries(state, p)[i].kind = "data"}
MarkersAt(state, p) == {i \in DOMAIN Entries(state, p) : Entries(state, p)[i].kind = "marker"}
NameOf(o) == [tid |-> o.tid, pid |-> o.pid, number |-> o.number]
Outcomes(state, txn) == {o.outcome : o \in {x \in state.outcomes : NameOf(x) = txn}}

ClientOf(op) == op[1]
TransactionOf(op) == op[2]
ToldOf(op) == clients[ClientOf(op)].told[TransactionOf(op)]
(* By the client itself, or by who has taken over what it had prepared (P10) *)
CommitAsked(op) ==
    \E m \in msgs :
        /\ m.type = "EndTxn" /\ m.commit
        /\ IF m.heir THEN m.tid = ClientTid[ClientOf(op)] ELSE m.c = ClientOf(op) /\ m.k = TransactionOf(op)
(* What an owner of the id, or the timeout that it chose, may have made of what client c has prepared *)
OutcomeChosen(c) ==
    \E m \in msgs :
        /\ m.tid = ClientTid[c]
        /\ \/ m.type = "EndTxn" /\ (m.heir \/ (m.c = c /\ m.k = clients[c].k))
           \/ m.type = "PrepareTxn" /\ m.timed
           \/ m.type = "InitProducerId" /\ m.keep = FALSE

(* What a read_committed reader is given of a partition: entries, by the broker's own last stable offset and ranges *)
Read(state, p) == {Entries(state, p)[o + 1] : o \in ReadCommitted(state.part[p])}

----------------------------------------------------------------------------
(* What is acknowledged is stored and, outside aborted transactions, read by everybody who reads its offset. *)
NoLostWrite ==
    /\ \A a \in acked : a.offset = Gone \/ IsStored(Kept_, a)
    /\ \A p \in Partitions : \A i \in DataAt(View, p) :
        (/\ View.part[p].start < i /\ i <= LastStableOffset(View.part[p])
         /\ "abort" \notin Outcomes(View, Entries(View, p)[i].txn))
            => i - 1 \in ReadCommitted(View.part[p])

(* A record is in a partition at most once. *)
NoDuplicate ==
    \A p \in Partitions : \A i, j \in DataAt(core, p) :
        i # j => LET e == Entries(core, p)[i]
                     f == Entries(core, p)[j]
                 IN  e.op # f.op /\ <<e.pid, e.epoch, e.first>> # <<f.pid, f.epoch, f.first>>

(* A producer's batches in a partition and epoch have no gap and no reordering. *)
SeqContiguous ==
    \A p \in Partitions : \A i \in DataAt(core, p) :
        LET e == Entries(core, p)[i]
            before == {j \in DataAt(core, p) : j < i /\ Entries(core, p)[j].pid = e.pid /\ Entries(core, p)[j].epoch = e.epoch}
        IN  e.first = IF before = {} THEN 0 ELSE Following(Entries(core, p)[Max(before)].last)

(* Readers of committed records are shown none of an aborted transaction. *)
NoAbortedRead ==
    \A p \in Partitions : \A e \in Read(View, p) :
        "abort" \notin Outcomes(View, e.txn) /\ ToldOf(e.op) # "aborted" /\ CommitAsked(e.op)

(* Readers of committed records are shown none of an open transaction. *)
NoUncommittedRead ==
    \A p \in Partitions : \A e \in Read(View, p) : Outcomes(View, e.txn) # {}

(* The outcome of a transaction is one decision, and it is one transaction of a client, whole. *)
NoTornTxn ==
    LET all == UNION {{Entries(core, p)[i] : i \in DataAt(core, p)} : p \in Partitions}
        shownBy(p) == {[txn |-> Entries(core, p)[i].txn, outcome |-> Entries(core, p)[i].outcome] : i \in MarkersAt(core, p)}
        shown == UNION {shownBy(p) : p \in Partitions}
    IN  /\ \A o, x \in core.outcomes : NameOf(o) = NameOf(x) => o = x
        /\ \A m, n \in shown : m.txn = n.txn => m.outcome = n.outcome
        /\ \A e, f \in all :
            e.txn = f.txn <=> ClientOf(e.op) = ClientOf(f.op) /\ TransactionOf(e.op) = TransactionOf(f.op)
        /\ \A a \in acked :
            ToldOf(a.op) = "committed" =>
               \E i \in DataAt(Kept_, a.p) :
                LET e == Entries(Kept_, a.p)[i] IN e.op = a.op /\ Outcomes(Kept_, e.txn) = {"commit"}
        (* What a client was told is prepared stays so until that client, its owner, decides (O10), if no restore loses it. *)
        /\ \A c \in Clients :
            (clients[c].phase = "prepared" /\ clients[c].pid >= core.restored /\ ~OutcomeChosen(c)) =>
                LET row == core.txn[ClientTid[c]]
                IN  /\ row.state = "Prepared"
                    /\ clients[c].heir \/ row.prepared.by = <<clients[c].pid, clients[c].epoch>>

(* Each enrolled partition has one marker for each transaction, with its outcome. *)
MarkerExactlyOnce ==
    \A p \in Partitions :
        /\ \A o \in core.outcomes :
            Cardinality({i \in MarkersAt(core, p) : Entries(core, p)[i].txn = NameOf(o)
                                                    /\ Entries(core, p)[i].outcome = o.outcome})
                = IF p \in o.enrolled /\ ~(\E w \in core.owed : w.p = p /\ w.txn = NameOf(o))
                  THEN 1 ELSE 0
        /\ \A i \in MarkersAt(core, p) : Outcomes(core, Entries(core, p)[i].txn) = {Entries(core, p)[i].outcome}
        (* In version 2 a partition is enrolled with its first record (E3). *)
        /\ Version = 2 => \A i \in MarkersAt(core, p) : \E j \in DataAt(core, p) :
                j < i /\ Entries(core, p)[j].txn = Entries(core, p)[i].txn

(* Group offsets sent in a transaction take effect if and only if it commits. *)
OffsetsAtomicWithTxn ==
    /\ \A x \in core.group.applied : Outcomes(core, x.txn) = {"commit"} /\ CommitAsked(x.op) /\ ToldOf(x.op) # "aborted"
    /\ \A t \in TransactionalIds :
        core.group.pending[t] # None =>
            /\ core.group.pending[t].number = core.txn[t].number
            /\ core.txn[t].state \in {"Ongoing", "Prepared", "PrepareCommit", "PrepareAbort"}
    (* What a committed transaction sent last is what took effect: nothing older that came late. *)
    /\ \A m \in msgs :
        (/\ m.type = "TxnOffsetCommit" /\ clients[m.c].told[m.k] = "committed"
         /\ \A n \in msgs : (n.type = m.type /\ n.c = m.c /\ n.k = m.k) => n.op[3] <= m.op[3]
         /\ ~(\E w \in Kept_.owed : w.p = None))
            => \E x \in Kept_.group.applied : x.op = m.op

(* After a fence, nothing of the old holder takes effect. *)
FenceZombie == zombie = {}

AsksAnew(c, m) ==
    m.type = "InitProducerId" /\ m.c = c /\ m.pid # None /\ m.pid = clients[c].pid /\ m.epoch = clients[c].epoch
AsksForNew(c, m) == m.type = "InitProducerId" /\ m.tid = ClientTid[c] /\ m.pid = None
AbortsOwn(c, m) == m.type = "EndTxn" /\ ~m.commit /\ m.c = c /\ m.k = clients[c].k
(* Who alone has asked for an id is not refused its identity when it asks anew (P5, P6), nor the abort of what it sent (O7, O9). *)
SoleHolderGoesOn ==
    \A c \in Clients : (clients[c].phase = "dead" /\ \E m \in msgs : AsksAnew(c, m) \/ AbortsOwn(c, m)) =>
        \/ Cardinality({m \in msgs : AsksForNew(c, m)}) > 1
        \/ spent.forces + spent.forgets + spent.restores > 0
        \/ ~HasProducerId(core)

(* Nothing is answered or read that a power cut could undo. *)
DurableBeforeVisible ==
    Durability =>
        /\ \A p \in Partitions :
            view.part[p].life = durable.part[p].life => IsPrefix(view.part[p].log, durable.part[p].log)
        /\ \A o \in view.outcomes : o.outcome \in Outcomes(durable, NameOf(o))
        /\ \A a \in acked : a.offset = Gone \/ IsStored(durable, a)
        /\ \A c \in Clients :
            clients[c].pid # None =>
                LET row == durable.txn[ClientTid[c]]
                IN  \/ row = None /\ spent.forgets > 0
                    \/ clients[c].pid < durable.restored
                    \/ row # None /\ (row.pid > clients[c].pid \/ (row.pid = clients[c].pid /\ row.epoch >= clients[c].epoch))

TypeOK ==
    /\ \A t \in TransactionalIds :
        core.txn[t] # None =>
            /\ core.txn[t].state \in {"Empty", "Ongoing", "Prepared", "PrepareCommit", "PrepareAbort",
                                      "CompleteCommit", "CompleteAbort"}
            /\ core.txn[t].epoch \in 0 .. EpochFencedForGood
            /\ core.txn[t].pid \in ProducerIds
            /\ (core.txn[t].prepared # None) <=> (core.txn[t].state = "Prepared")
    /\ \A p \in Partitions : LastStableOffset(core.part[p]) \in core.part[p].start .. core.part[p].next
    /\ \A c \in Clients : clients[c].epoch \in {None} \cup 0 .. EpochLast
    /\ \A p \in Partitions : \A i \in ProducerIds :
        LET row == core.part[p].producer[i]
        IN  (row # None /\ row.open # None) =>
                /\ core.txn[row.open.tid].state \in {"Ongoing", "Prepared", "PrepareCommit", "PrepareAbort"}
                /\ core.txn[row.open.tid].number = row.open.number
                /\ RunsUnder(core.txn[row.open.tid])[1] = i \/ IsPreparing(core.txn[row.open.tid])

----------------------------------------------------------------------------
(* Of steps *)

(* Steps are looked at only if they change what is looked at: TLC asks for the subscript last. A restore goes back (B1). *)
Moved == View' # View /\ View'.restored = View.restored

(* An id that was forgotten (P11) begins anew, with a producer id that was never given out. *)
Anew(b, next) == b = None \/ b.pid >= next
NotBack(a, b, next) ==
    IF a = None THEN Anew(b, next)
    ELSE \/ ForgetsMax > 0 /\ Anew(b, next)
         \/ (/\ b # None
             /\ (b.pid > a.pid \/ (b.pid = a.pid /\ b.epoch >= a.epoch))
             /\ b.number >= a.number)
(* Producer id, epoch and transaction number of a transactional id never go back. *)
EpochMonotone ==
    [][Moved => \A t \in TransactionalIds : NotBack(View.txn[t], View'.txn[t], View.nextPid)]_<<core, view>>

(* What was read at an offset never changes; high watermark and last stable offset never go back. *)
CommittedPrefixStable ==
    [][Moved => \A p \in Partitions :
        LET old == View.part[p]
            new == View'.part[p]
        IN  old = new \/ old.life # new.life \/
            /\ HighWatermark(new) >= HighWatermark(old)
            /\ LastStableOffset(new) >= LastStableOffset(old)
            /\ IsPrefix(old.log, new.log)
            /\ new.start >= old.start
            /\ {o \in ReadCommitted(old) : o >= new.start}
                 = {o \in ReadCommitted(new) : o < LastStableOffset(old)}]_<<core, view>>

----------------------------------------------------------------------------
(* Liveness: under the fairness of LiveSpec *)

Settled == \A p \in Partitions : LastStableOffset(View.part[p]) = HighWatermark(View.part[p])
NotPrepared == \A t \in TransactionalIds : core.txn[t] = None \/ core.txn[t].state # "Prepared"
(* Every open transaction that is not prepared ends, and then nothing holds readers back. *)
LsoAdvances == <>[](NotPrepared => Settled)
(* Every request is answered, or its connection is closed. *)
NoHang == \A c \in Clients : (clients[c].req # None) ~> (clients[c].req = None)
=============================================================================
