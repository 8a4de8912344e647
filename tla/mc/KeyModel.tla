------------------------------ MODULE KeyModel ------------------------------
(* IdempotencyKeys by itself. *)
EXTENDS IdempotencyKeys

NoClientTid == [c \in {} |-> None]

(* What must be reachable (reach/expected.tsv) *)
ASSUME \A i \in 1 .. 8 : TLCSet(i, FALSE)
Note(i, name, situation) ==
    IF TLCGet(i) THEN TRUE
    ELSE IF situation THEN TLCSet(i, TRUE) /\ PrintT("REACHED " \o name)
    ELSE TRUE
Answered(answer) == IF refused = None THEN FALSE ELSE refused.answer = answer
TakenAgain(i, j) == topic.log[i].key = topic.log[j].key
ReachNotes ==
    /\ Note(1, "KeyRefused", Answered("INVALID_RECORD"))
    /\ Note(2, "KeyHeldFromPlain", Answered("CONCURRENT_TRANSACTIONS"))
    /\ Note(3, "KeyHeldFromTransaction", Answered("TRANSACTION_ABORTABLE"))
    /\ Note(4, "KeyHeldByPrepared", IF Answered("CONCURRENT_TRANSACTIONS")
            THEN topic.row[refused.key] # None /\ topic.state[topic.row[refused.key].txn] = "prepared" ELSE FALSE)
    /\ Note(5, "KeyTakenAfterAbort", \E i, j \in DOMAIN topic.log : i < j /\ TakenAgain(i, j)
            /\ topic.log[j].at < topic.log[i].until)
    /\ Note(6, "KeyTakenAfterItsWindow", \E i, j \in DOMAIN topic.log : i < j /\ TakenAgain(i, j)
            /\ topic.log[j].at >= topic.log[i].until)
    /\ Note(7, "FreedForgotten", \E t \in Txns : topic.state[t] = "abort" /\ t \notin topic.freed)
    /\ Note(8, "OwnKeyRefused", IF Answered("INVALID_RECORD")
            THEN refused.txn # None /\ topic.state[refused.txn] = "open" /\ topic.row[refused.key] # None
                 /\ topic.row[refused.key].txn = refused.txn ELSE FALSE)
=============================================================================
