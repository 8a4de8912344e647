--------------------------- MODULE IdempotentLog ---------------------------
(***************************************************************************)
(* One partition: its log, its producer rows, what readers make of them.   *)
(* Sections 3, 5 (O6) and 8 of spec/transactions.md.                       *)
(*                                                                         *)
(* A partition is [life, start, next, log, producer, aborted]:             *)
(*   life      how often a topic of this name was deleted before this one: *)
(*             a topic made again is another one (X1); no rule reads it    *)
(*   start     the log start: what lies below it was deleted               *)
(*   next      the offset of the next record: the end of the log           *)
(*   log       sequence of entries, each with its offset; no rule reads it *)
(*   producer  per producer id None or a row                               *)
(*             [epoch, stored, batches, open]: the epoch; how many records *)
(*             it has stored here; the remembered batches, oldest first,   *)
(*             each [first, last, offset]; the open transaction            *)
(*             [tid, number, first] or None                                *)
(*   A transaction's name is [tid, pid, number]: of a transactional id that *)
(*   was forgotten (P11) numbers begin anew, with another producer id.     *)
(*   aborted   set of ranges [pid, first, last], last the marker's offset  *)
(***************************************************************************)
EXTENDS Types

EmptyPartition ==
    [life |-> 0, start |-> 0, next |-> 0, log |-> << >>, producer |-> [i \in ProducerIds |-> None], aborted |-> {}]

----------------------------------------------------------------------------
(* Sequences, modulo SequenceSpace *)

Following(s) == (s + 1) % SequenceSpace
Distance(a, b) == (b - a) % SequenceSpace
Behind(a, b) == 0 < Distance(a, b) /\ Distance(a, b) < SequenceSpace \div 2
BatchLength(b) == Distance(b.first, b.last) + 1
SequencesOf(b) == {(b.first + i) % SequenceSpace : i \in 0 .. BatchLength(b) - 1}

----------------------------------------------------------------------------
(* The judgement of a batch b = [pid, epoch, first, last] against the producer's row: rules A2 to A10 *)

EpochFenced(row, b) == b.epoch < row.epoch
ExactlyRemembered(row, b) == {x \in Range(row.batches) : x.first = b.first /\ x.last = b.last}
StartsEpoch(row, b) == b.epoch > row.epoch \/ row.batches = << >>
MayStart(b) == b.first = 0
FollowsLast(row, b) == b.first = Following(Last(row.batches).last)
RECURSIVE RecordsOf(_)
RecordsOf(batches) == IF batches = << >> THEN 0 ELSE BatchLength(Head(batches)) + RecordsOf(Tail(batches))
(* A9. Both ends are compared: a batch can straddle the point that is half a lap away. *)
StoredBefore(row, b) ==
    /\ Behind(b.first, row.batches[1].first)
    /\ Behind(b.last, row.batches[1].first)
    /\ Distance(b.first, row.batches[1].first) <= row.stored - RecordsOf(row.batches)

Judge(row, b, forgotten) ==
    IF row = None
    THEN IF MayStart(b) \/ forgotten THEN "append" ELSE "OUT_OF_ORDER_SEQUENCE_NUMBER"
    ELSE IF EpochFenced(row, b) THEN "INVALID_PRODUCER_EPOCH"
    ELSE IF b.epoch = row.epoch /\ ExactlyRemembered(row, b) # {} THEN "duplicate"
    ELSE IF StartsEpoch(row, b)
         THEN IF MayStart(b) THEN "append" ELSE "OUT_OF_ORDER_SEQUENCE_NUMBER"
    ELSE IF FollowsLast(row, b) THEN "append"
    ELSE IF StoredBefore(row, b) THEN "DUPLICATE_SEQUENCE_NUMBER"
    ELSE "OUT_OF_ORDER_SEQUENCE_NUMBER"

----------------------------------------------------------------------------
(* Steps of a partition *)

(* A11. txn is None or [tid, pid, number]; op is the client's own name for the record, which no rule reads. *)
Stored(part, b, txn, op) ==
    LET row    == part.producer[b.pid]
        fresh  == row = None \/ StartsEpoch(row, b)
        offset == part.next
        batch  == [first |-> b.first, last |-> b.last, offset |-> offset]
        open   == IF row = None THEN None ELSE row.open
    IN  [part EXCEPT
            !.next = @ + BatchLength(b),
            !.log = Append(@, [kind |-> "data", offset |-> offset, pid |-> b.pid, epoch |-> b.epoch, first |-> b.first,
                               last |-> b.last, txn |-> txn, op |-> op]),
            !.producer[b.pid] =
                [epoch   |-> b.epoch,
                 stored  |-> (IF fresh THEN 0 ELSE row.stored) + BatchLength(b),
                 batches |-> LastUpTo(Append(IF fresh THEN << >> ELSE row.batches, batch), Remembered),
                 open    |-> IF txn = None \/ open # None THEN open
                             ELSE [tid |-> txn.tid, number |-> txn.number, first |-> offset]]]

(* O6. The marker closes the open transaction of its own number; where it raises the epoch, sequences start anew. *)
MarkerCloses(row, txn) == row # None /\ row.open # None /\ row.open.tid = txn.tid /\ row.open.number = txn.number
AbortedRange(pid, row, offset) == [pid |-> pid, first |-> row.open.first, last |-> offset]
EpochOfMarkerRow(row, epoch) == IF row = None \/ epoch > row.epoch THEN epoch ELSE row.epoch

Marked(part, pid, epoch, txn, outcome) ==
    LET row    == part.producer[pid]
        closes == MarkerCloses(row, txn)
        offset == part.next
    IN  [part EXCEPT
            !.next = @ + 1,
            !.log = Append(@, [kind |-> "marker", offset |-> offset, pid |-> pid, epoch |-> epoch, txn |-> txn,
                               outcome |-> outcome]),
            !.producer[pid] =
                IF row = None THEN [epoch |-> epoch, stored |-> 0, batches |-> << >>, open |-> None]
                ELSE [epoch   |-> EpochOfMarkerRow(row, epoch),
                      stored  |-> IF EpochOfMarkerRow(row, epoch) > row.epoch THEN 0 ELSE row.stored,
                      batches |-> IF EpochOfMarkerRow(row, epoch) > row.epoch THEN << >> ELSE row.batches,
                      open    |-> IF closes THEN None ELSE row.open],
            !.aborted = IF closes /\ outcome = "abort" THEN @ \cup {AbortedRange(pid, row, offset)} ELSE @]

(* A12 *)
MayForgetProducer(row) == row = None \/ row.open = None
ProducerForgotten(part, pid) == [part EXCEPT !.producer[pid] = None]

(* A13: a batch without producer id *)
PlainStored(part, records) ==
    [part EXCEPT !.next = @ + records, !.log = Append(@, [kind |-> "plain", offset |-> part.next, records |-> records])]

(* X3, X7: the log start moves; open transactions do not hold it back, and nothing of a producer is forgotten. *)
MayDeleteBelow(part, offset) == offset > part.start /\ offset <= part.next
DeletedBelow(part, offset) == [part EXCEPT !.start = offset]
(* X1: whatever comes for the name from now on is judged by the new topic, which knows nobody. *)
MadeAgain(part) == [EmptyPartition EXCEPT !.life = part.life + 1]

----------------------------------------------------------------------------
(* What readers of the partition see: rules R1 to R4 *)

HighWatermark(part) == part.next
OpenFirsts(part) ==
    {part.producer[i].open.first :
        i \in {j \in ProducerIds : part.producer[j] # None /\ part.producer[j].open # None}}
LastStableOffset(part) ==
    IF OpenFirsts(part) = {} THEN HighWatermark(part) ELSE Max({part.start, Min(OpenFirsts(part))})
InAbortedRange(part, entry, offset) ==
    \E a \in part.aborted : a.pid = entry.pid /\ a.first <= offset /\ offset <= a.last
Kept(part, offset) ==
    LET entry == part.log[offset + 1]
    IN  entry.kind = "data" /\ ~InAbortedRange(part, entry, offset)
(* The offsets of the records that a read_committed reader is given; it may read below the last stable offset. *)
ReadCommitted(part) == {o \in part.start .. LastStableOffset(part) - 1 : Kept(part, o)}
=============================================================================
