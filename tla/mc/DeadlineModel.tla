---------------------------- MODULE DeadlineModel ----------------------------
(* Deadlines by itself. *)
EXTENDS Deadlines

CONSTANTS tight, loose, free

BudgetOf == [topic \in Topics |-> IF topic = tight THEN 1 ELSE IF topic = loose THEN 2 ELSE None]
PrepareTimeoutsOf == {None, 1}

(* What must be reachable (reach/expected.tsv) *)
ASSUME \A i \in 1 .. 6 : TLCSet(i, FALSE)
Note(i, name, situation) ==
    IF TLCGet(i) THEN TRUE
    ELSE IF situation THEN TLCSet(i, TRUE) /\ PrintT("REACHED " \o name)
    ELSE TRUE
TimedOut(t) == IF ended = None THEN FALSE ELSE ended.txn = t
ReachNotes ==
    /\ Note(1, "TimesOut", ended # None /\ (ended # None => ended.txn.topics # {} /\ ended.at = ended.txn.began + Timeout))
    /\ Note(2, "BudgetEnds", ended # None /\ (ended # None => ended.txn.state = "open" /\ ended.at < ended.txn.began + Timeout))
    /\ Note(3, "PreparedOutlivesTimeout", txn.state = "prepared" /\ (txn.state = "prepared" => now > txn.began + Timeout))
    /\ Note(4, "PrepareTimesOut", ended # None /\ (ended # None => ended.txn.state = "prepared"))
    /\ Note(5, "DeadlineMoved", txn.state = "open" /\ Cardinality(txn.topics) = 2
            /\ (txn.state = "open" => txn.deadline < txn.began + Timeout))
    /\ Note(6, "DueAfterCrash", txn = durable.txn /\ now = durable.now /\ IsDue(txn, now))
=============================================================================
