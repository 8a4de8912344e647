---------------------------- MODULE Idempotence ----------------------------
(***************************************************************************)
(* IdempotentLog by itself: one partition, one producer id, batches of     *)
(* several records, sequences that wrap. Nothing is assumed of the client: *)
(* any batch can come at any time.                                         *)
(***************************************************************************)
EXTENDS IdempotentLog

CONSTANTS
    BatchMax,       \* records in a batch
    LogMax,         \* entries: bounds the run
    Epochs,
    MayRestore,     \* whether the partition may be restored from a backup, with its producer id from before (B2)
    MayForget,      \* whether the row may be forgotten and the id still be used (A5, A12)
    KeepsSpace      \* TRUE: an epoch never stores as much as half the sequence space, as in any real window of retries

NoClientTid == [c \in {} |-> None]

VARIABLES
    part,
    backup      \* [saved, restored, goneOn]: what it has or None; whether it was restored; history: whether a forgotten
                \* producer was taken at its word before that

Pid == 0
Row == part.producer[Pid]

Batches == {[pid |-> Pid, epoch |-> e, first |-> s, last |-> (s + n - 1) % SequenceSpace] :
                e \in Epochs, s \in 0 .. SequenceSpace - 1, n \in 1 .. BatchMax}

Positions(e) == {i \in DOMAIN part.log : part.log[i].kind = "data" /\ part.log[i].epoch = e}
(* Every sequence of this epoch that is in the log, with its position in the producer's own stream *)
RECURSIVE StreamOf(_, _)
StreamOf(log, e) ==
    IF log = << >> THEN << >>
    ELSE (IF Head(log).kind = "data" /\ Head(log).epoch = e
          THEN [i \in 1 .. BatchLength(Head(log)) |-> (Head(log).first + i - 1) % SequenceSpace] ELSE << >>)
         \o StreamOf(Tail(log), e)
SequencesStored(e) == Range(StreamOf(part.log, e))

Come(b) ==
    /\ Len(part.log) < LogMax
    /\ Judge(Row, b, FALSE) = "append"
    /\ KeepsSpace => Len(StreamOf(part.log, b.epoch)) + BatchLength(b) < SequenceSpace
    /\ part' = Stored(part, b, None, None)
    /\ UNCHANGED backup

(* KIP-360: the row was forgotten, the client goes on where it was. B2: not after a restore. *)
TakenAtItsWord == ~backup.restored
ComeForgotten(b) ==
    /\ MayForget /\ Row = None /\ Len(part.log) = 0
    /\ Judge(Row, b, TakenAtItsWord) = "append"
    /\ part' = Stored(part, b, None, None)
    /\ backup' = [backup EXCEPT !.goneOn = @ \/ (MayRestore /\ ~backup.restored)]

Backup ==
    /\ MayRestore /\ backup.saved = None
    /\ backup' = [backup EXCEPT !.saved = part]
    /\ UNCHANGED part
RestoreLog ==
    /\ backup.saved # None /\ ~backup.restored
    /\ part' = backup.saved
    /\ backup' = [backup EXCEPT !.restored = TRUE]

(* A marker that raises the epoch (version 2), or keeps it (version 1) *)
Marker(e) ==
    /\ Len(part.log) < LogMax
    /\ IF Row = None THEN TRUE ELSE e >= Row.epoch
    /\ part' = Marked(part, Pid, e, [tid |-> None, pid |-> Pid, number |-> 1], "commit")
    /\ UNCHANGED backup

Init == part = EmptyPartition /\ backup = [saved |-> None, restored |-> FALSE, goneOn |-> FALSE]
Next ==
    \/ \E b \in Batches : Come(b) \/ ComeForgotten(b)
    \/ \E e \in Epochs : Marker(e)
    \/ Backup \/ RestoreLog
Spec == Init /\ [][Next]_<<part, backup>>

----------------------------------------------------------------------------
(* Whatever batch came now, success would be said only of what is stored: a duplicate's offset holds exactly that       *)
(* batch; what is called a duplicate without offset has each of its sequences in the log. *)
NoLostWrite ==
    \A b \in Batches :
        LET judgement == Judge(Row, b, FALSE)
        IN  /\ judgement = "duplicate" =>
                \E x \in ExactlyRemembered(Row, b) : \E i \in DOMAIN part.log :
                    LET e == part.log[i]
                    IN  e.offset = x.offset /\ e.kind = "data" /\ e.epoch = b.epoch /\ e.first = b.first /\ e.last = b.last
            /\ judgement = "DUPLICATE_SEQUENCE_NUMBER" => SequencesOf(b) \subseteq SequencesStored(b.epoch)

NoDuplicate ==
    KeepsSpace => \A e \in Epochs :
        LET s == StreamOf(part.log, e) IN \A i, j \in DOMAIN s : i # j => s[i] # s[j]

MayGoOn == IF MayRestore THEN backup.goneOn ELSE MayForget
SeqContiguous ==
    \A e \in Epochs :
        LET s == StreamOf(part.log, e)
        IN  /\ \A i \in 1 .. Len(s) - 1 : s[i + 1] = Following(s[i])
            /\ (s # << >> /\ ~(MayGoOn /\ 1 \in Positions(e))) => s[1] = 0

(* Within the log, a producer's epochs do not go back. *)
EpochMonotone ==
    \A i, j \in DOMAIN part.log : i < j => part.log[i].epoch <= part.log[j].epoch

----------------------------------------------------------------------------
(* What must be reachable (reach/expected.tsv) *)
ASSUME \A i \in 1 .. 8 : TLCSet(i, FALSE)
Note(i, name, situation) ==
    IF TLCGet(i) THEN TRUE
    ELSE IF situation THEN TLCSet(i, TRUE) /\ PrintT("REACHED " \o name)
    ELSE TRUE
Judged(verdict) == \E b \in Batches : Judge(Row, b, FALSE) = verdict
ReachNotes ==
    /\ Note(1, "Append", Judged("append"))
    /\ Note(2, "Duplicate", Judged("duplicate"))
    /\ Note(3, "DuplicateSequence", Judged("DUPLICATE_SEQUENCE_NUMBER"))
    /\ Note(4, "OutOfOrder", Judged("OUT_OF_ORDER_SEQUENCE_NUMBER"))
    /\ Note(5, "LowerEpoch", Judged("INVALID_PRODUCER_EPOCH"))
    /\ Note(6, "BatchOverTheWrap", \E i \in DOMAIN part.log :
            part.log[i].kind = "data" /\ part.log[i].last < part.log[i].first)
    /\ Note(7, "DuplicateOverTheWrap", \E b \in Batches : b.last < b.first /\ Judge(Row, b, FALSE) = "duplicate")
    /\ Note(8, "RaisedByMarker", IF Row = None THEN FALSE
            ELSE Row.batches = << >> /\ Positions(Row.epoch) = {} /\ \E b \in Batches :
                    b.epoch = Row.epoch /\ b.first # 0 /\ Judge(Row, b, FALSE) = "OUT_OF_ORDER_SEQUENCE_NUMBER")
=============================================================================
