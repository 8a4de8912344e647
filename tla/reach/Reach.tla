------------------------------- MODULE Reach -------------------------------
(***************************************************************************)
(* What must be reachable, so that nothing holds for want of anything      *)
(* happening. The smoke models are run through this module: the invariant  *)
(* ReachNotes is always true and prints a line the first time that one of  *)
(* the situations below is met; reach/expected.tsv says which model must   *)
(* print which. (One worker: the notes are kept in TLC's registers.)       *)
(***************************************************************************)
EXTENDS MC

Can(action) == up /\ \E m \in msgs : Deliverable(m) /\ ~FromOlderConnection(m) /\ Decide(core, m).action = action
Says(type, error) ==
    up /\ \E m \in msgs : m.type = type /\ Deliverable(m) /\ ~FromOlderConnection(m) /\ Decide(core, m).answer.error = error
Has(outcome, n) == \E o \in core.outcomes : o.outcome = outcome /\ Cardinality(o.enrolled) = n
Ended(c, k, told) == clients[c].told[k] = told

ASSUME \A i \in 1 .. 62 : TLCSet(i, FALSE)

Note(i, name, situation) ==
    IF TLCGet(i) THEN TRUE
    ELSE IF situation THEN TLCSet(i, TRUE) /\ PrintT("REACHED " \o name)
    ELSE TRUE

ReachNotes ==
    /\ Note(1, "InitProducerId",
            Can("InitProducerId"))
    /\ Note(2, "FenceProducer",
            Can("FenceProducer"))
    /\ Note(3, "RotateProducerId",
            Can("RotateProducerId"))
    /\ Note(4, "EnrolPartitions",
            Can("EnrolPartitions"))
    /\ Note(5, "EnrolGroup",
            Can("EnrolGroup"))
    /\ Note(6, "AppendBatch",
            Can("AppendBatch"))
    /\ Note(7, "AppendDuplicate",
            Can("AppendDuplicate"))
    /\ Note(8, "RefuseAppend",
            Can("RefuseAppend"))
    /\ Note(9, "RefuseEnrolment",
            Can("RefuseEnrolment"))
    /\ Note(10, "RefuseInit",
            Can("RefuseInit"))
    /\ Note(11, "StageOffsets",
            Can("StageOffsets"))
    /\ Note(12, "RefuseOffsets",
            Can("RefuseOffsets"))
    /\ Note(13, "EndTransaction",
            Can("EndTransaction"))
    /\ Note(14, "RetryEndTransaction",
            Can("RetryEndTransaction"))
    /\ Note(15, "RefuseEndTransaction",
            Can("RefuseEndTransaction"))
    /\ Note(16, "PrepareTransaction",
            Can("PrepareTransaction"))
    /\ Note(17, "ExpireTransaction",
            \E t \in TransactionalIds : Expires(core, core.txn[t]) /\ spent.expirations < ExpirationsMax)
    /\ Note(18, "RefuseOlderConnection",
            \E m \in msgs : Deliverable(m) /\ FromOlderConnection(m))
    /\ Note(19, "WriteMarker",
            \E w \in core.owed : w.p # None)
    /\ Note(20, "CompleteTransaction",
            \E t \in TransactionalIds : CanComplete(core, t))
    /\ Note(21, "ProcessCrash",
            ~up)
    /\ Note(22, "CrashKeepsUnsynced",
            ~up /\ blocks # << >>)
    /\ Note(23, "CrashLosesDecided",
            ~up /\ blocks = << >> /\ \E m \in msgs : Decide(core, m).core # core /\ m.type # "InitProducerId")
    /\ Note(24, "CommitOverTwoPartitions",
            Has("commit", 2))
    /\ Note(25, "AbortOverTwoPartitions",
            Has("abort", 2))
    /\ Note(26, "AbortOfNothing",
            \E c \in Clients : \E k \in 1 .. TransactionsMax :
                                    Ended(c, k, "aborted") /\ \A o \in core.outcomes : o.enrolled = {})
    /\ Note(27, "EveryTransactionCommitted",
            \A c \in Clients : \A k \in 1 .. TransactionsMax : Ended(c, k, "committed"))
    /\ Note(28, "CommittedAndAborted",
            \E c, d \in Clients : \E k, l \in 1 .. TransactionsMax :
                                    Ended(c, k, "committed") /\ Ended(d, l, "aborted"))
    /\ Note(29, "OutcomeUnknownButCommitted",
            \E c \in Clients : \E k \in 1 .. TransactionsMax :
                                    Ended(c, k, "open") /\ clients[c].phase = "open" /\ Has("commit", 1))
    /\ Note(30, "ZombieSendsLateBatch",
            \E m \in msgs : m.type = "Produce" /\ IsZombie(m) /\ Deliverable(m))
    /\ Note(31, "ZombieAsksForCommit",
            \E m \in msgs : m.type = "EndTxn" /\ m.commit /\ IsZombie(m) /\ Deliverable(m))
    /\ Note(32, "LateBatchAfterMarker",
            \E m \in msgs : m.type = "Produce" /\ m \notin clients[m.c].unacked
                                    /\ MarkersAt(core, m.p) # {} /\ Decide(core, m).answer.error # "NONE"
                                    /\ \A i \in DataAt(core, m.p) : Entries(core, m.p)[i].op # m.op)
    /\ Note(33, "SameEpochNextTransaction",
            \E t \in TransactionalIds : core.txn[t] # None /\ core.txn[t].number = 2
                                    /\ core.txn[t].epoch = 0 /\ core.txn[t].pid = 0)
    /\ Note(34, "RotatedInUse",
            \E t \in TransactionalIds : core.txn[t] # None /\ core.txn[t].state = "Ongoing"
                                    /\ \E o \in core.outcomes : o.tid = t /\ o.pid # core.txn[t].pid)
    /\ Note(35, "OpenBelowCommitted",
            \E p \in Partitions : \E i \in MarkersAt(View, p) :
                                    i > LastStableOffset(View.part[p]) /\ Entries(View, p)[i].outcome = "commit")
    /\ Note(36, "AbortedBelowCommitted",
            \E p \in Partitions : View.part[p].aborted # {} /\ Read(View, p) # {})
    /\ Note(37, "OffsetsCommitted",
            core.group.applied # {})
    /\ Note(38, "OffsetsOfOldGeneration",
            Says("TxnOffsetCommit", "ILLEGAL_GENERATION"))
    /\ Note(39, "OffsetsDropped",
            \E m \in msgs : m.type = "TxnOffsetCommit" /\ Ended(m.c, m.k, "aborted"))
    /\ Note(40, "DuplicateAfterRestart",
            spent.crashes > 0 /\ Can("AppendDuplicate"))
    /\ Note(41, "RetryOfEndAfterRestart",
            spent.crashes > 0 /\ Can("RetryEndTransaction"))
    /\ Note(42, "PreparedAcrossCrash",
            spent.crashes > 0 /\ up /\ \E t \in TransactionalIds :
                                    core.txn[t] # None /\ core.txn[t].state = "Prepared")
    /\ Note(43, "PreparedRefusesNewHolder",
            Says("InitProducerId", "INVALID_TXN_STATE"))
    /\ Note(44, "PreparedCommitted",
            \E m \in msgs : m.type = "PrepareTxn" /\ Ended(m.c, m.k, "committed"))
    /\ Note(45, "RefusalWaits",
            \E h \in held : h.at > 0 /\ h.answer.error # "NONE")
    /\ Note(46, "DuplicateWaits",
            \E h, g \in held : h.m = g.m /\ h # g)
    /\ Note(47, "TwoBlocksUndurable",
            Len(blocks) >= 2)
    /\ Note(48, "ViewBehindDurable",
            Durability /\ view # durable)
    /\ Note(49, "PreparingSeenHalf",
            \E w \in core.owed : \E p \in Partitions : \E i \in MarkersAt(core, p) :
                                    Entries(core, p)[i].txn = w.txn)
    /\ Note(50, "ConcurrentTransactions",
            \E m \in msgs : Deliverable(m) /\ Decide(core, m).answer.error = "CONCURRENT_TRANSACTIONS")
    /\ Note(51, "RetryInitProducerId",
            Can("RetryInitProducerId"))
    /\ Note(52, "RecoveredAfterTimeout",
            \E c \in Clients : clients[c].phase = "open" /\ \E i \in fenced \cap (ProducerIds \X (0 .. EpochLast)) : i[1] = clients[c].pid)
    /\ Note(53, "ForceAbort",
            \E t \in TransactionalIds : ForceAborts(core, core.txn[t]) /\ spent.forces < ForcesMax)
    /\ Note(54, "PreparedTakenOver",
            TwoPhase /\ \E c \in Clients : clients[c].heir)
    /\ Note(55, "PreparedCommittedByHeir",
            TwoPhase /\ \E m \in msgs : m.type = "EndTxn" /\ m.commit /\ m.heir /\ Ended(m.c, m.k, "committed"))
    /\ Note(56, "PreparedAbortedByNewHolder",
            \E m \in msgs : m.type = "InitProducerId" /\ m.keep = FALSE /\ core.txn[m.tid] # None
                                    /\ core.txn[m.tid].state = "Prepared" /\ Deliverable(m)
                                    /\ Decide(core, m).answer.error = "NONE")
    /\ Note(57, "PreparedExpires",
            spent.expirations < ExpirationsMax /\ \E t \in TransactionalIds :
                                    Expires(core, core.txn[t]) /\ core.txn[t].state = "Prepared")
    /\ Note(58, "DeletedInTransaction",
            spent.deletions > 0 /\ \E m \in msgs : m.type = "Produce" /\ core.part[m.p].life > 0
                                    /\ Identity(core, m) = "NONE" /\ core.txn[m.tid].state = "Ongoing")
    /\ Note(59, "StartInOpenTransaction",
            spent.truncations > 0 /\ \E p \in Partitions : \E i \in ProducerIds :
                                    LET row == core.part[p].producer[i]
                                    IN  row # None /\ row.open # None /\ row.open.first < core.part[p].start)
    /\ Note(60, "ForgottenIdReturns",
            spent.forgets > 0 /\ \E o \in core.outcomes : core.txn[o.tid] # None /\ core.txn[o.tid].epoch = 0
                                    /\ core.txn[o.tid].pid # o.pid /\ core.txn[o.tid].state = "Ongoing")
    /\ Note(61, "RestoredInTransaction",
            spent.restores > 0 /\ \E t \in TransactionalIds : core.txn[t] # None /\ core.txn[t].state = "Ongoing"
                                    /\ PredatesRestore(core, core.txn[t].pid))
    /\ Note(62, "CommitOfWhatIsGone",
            spent.restores > 0 /\ \E m \in msgs : m.type = "EndTxn" /\ m.commit /\ core.txn[m.tid] # None
                                    /\ PredatesRestore(core, m.pid))
=============================================================================
