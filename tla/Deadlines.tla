------------------------------ MODULE Deadlines ------------------------------
(***************************************************************************)
(* When transactions time out: D1 to D4 of spec/transactions.md. In Eos a  *)
(* timeout may happen at any time; here is the clock that says when.       *)
(*                                                                         *)
(* One transactional id, beside Eos: what ends a transaction otherwise     *)
(* only makes it shorter. Served time is the broker's own: it is saved     *)
(* with every block, and after a crash it goes on from where it was saved. *)
(* The broker looks at its deadlines before time goes on.                  *)
(*                                                                         *)
(* txn = [state, began, deadline, topics, prepared]: state "none", "open", *)
(* "prepared" or "ended"; topics: the enrolled ones, [topic -> when] as a  *)
(* set of <<topic, when>>; prepared: None or the end of a timeout of its own *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    None,
    Topics,
    Budget,             \* topic -> its LSO budget, None if it has none
    Timeout,            \* of the id's transactions
    PrepareTimeouts,    \* what a prepare may give: a set of numbers and None
    TimeMax

VARIABLES
    txn, now,           \* decided, and served time
    durable,            \* [txn, now] as the last durable block has them
    ended               \* history: None or [at, txn] of the last timeout
deadlineVars == <<txn, now, durable, ended>>

NoTransaction == [state |-> "none", began |-> None, deadline |-> None, topics |-> {}, prepared |-> None]
Lesser(a, b) == IF a < b THEN a ELSE b

(* D1: fixed when the transaction begins, and moved earlier by a topic's budget when the topic is enrolled. *)
DeadlineOf(began) == began + Timeout
Limited(deadline, topic, at) == IF Budget[topic] = None THEN deadline ELSE Lesser(deadline, at + Budget[topic])

Enrolled(t) == {e[1] : e \in t.topics}
Enrol(topic) ==
    /\ txn.state \in {"none", "open"} /\ topic \notin Enrolled(txn)
    /\ LET began == IF txn.state = "none" THEN now ELSE txn.began
           deadline == IF txn.state = "none" THEN DeadlineOf(now) ELSE txn.deadline
       IN  txn' = [state |-> "open", began |-> began, deadline |-> Limited(deadline, topic, now),
                   topics |-> txn.topics \cup {<<topic, now>>}, prepared |-> None]
    /\ ended' = None /\ UNCHANGED <<now, durable>>

(* D3: prepared, it has no deadline but the prepare's own. *)
PrepareTransaction(timeout) ==
    /\ txn.state = "open"
    /\ txn' = [txn EXCEPT !.state = "prepared", !.deadline = None,
                          !.prepared = IF timeout = None THEN None ELSE now + timeout]
    /\ ended' = None /\ UNCHANGED <<now, durable>>

End ==
    /\ txn.state \in {"open", "prepared"}
    /\ txn' = NoTransaction /\ ended' = None /\ UNCHANGED <<now, durable>>

(* D2 *)
IsDue(t, time) ==
    CASE t.state = "open" -> t.deadline <= time
      [] t.state = "prepared" -> (IF t.prepared = None THEN FALSE ELSE t.prepared <= time)
      [] OTHER -> FALSE
ExpireTransaction ==
    /\ IsDue(txn, now)
    /\ txn' = NoTransaction /\ ended' = [at |-> now, txn |-> txn]
    /\ UNCHANGED <<now, durable>>

Tick ==
    /\ ~IsDue(txn, now) /\ now < TimeMax
    /\ now' = now + 1 /\ ended' = None /\ UNCHANGED <<txn, durable>>

MakeDurable ==
    /\ durable # [txn |-> txn, now |-> now]
    /\ durable' = [txn |-> txn, now |-> now] /\ ended' = None /\ UNCHANGED <<txn, now>>

(* D4. While it is down, served time stands still. *)
FoundAfter(d) == d.txn
TimeAfter(d) == d.now
Crash ==
    /\ txn' = FoundAfter(durable) /\ now' = TimeAfter(durable)
    /\ ended' = None /\ UNCHANGED durable

DeadlineInit == txn = NoTransaction /\ now = 0 /\ durable = [txn |-> NoTransaction, now |-> 0] /\ ended = None
DeadlineNext ==
    \/ \E topic \in Topics : Enrol(topic)
    \/ \E timeout \in PrepareTimeouts : PrepareTransaction(timeout)
    \/ End \/ ExpireTransaction \/ Tick \/ MakeDurable \/ Crash
DeadlineSpec == DeadlineInit /\ [][DeadlineNext]_deadlineVars
DeadlineLiveSpec == DeadlineSpec /\ WF_deadlineVars(ExpireTransaction)

----------------------------------------------------------------------------
(* Whoever is due is ended. *)
DueEnds == IsDue(txn, now) ~> ~IsDue(txn, now)

(* The moments at which a transaction must have ended: its timeout, and every budget from when its topic was enrolled *)
Ends(t) ==
    {t.began + Timeout} \cup {e[2] + Budget[e[1]] : e \in {x \in t.topics : Budget[x[1]] # None}}
Least(S) == CHOOSE x \in S : \A y \in S : x <= y

(* A transaction times out when its timeout or a topic's budget is over, at once and not before; a prepared one only by its own. *)
DeadlineKept ==
    /\ txn.state = "open" => now <= Least(Ends(txn))
    /\ ended = None \/
        LET t == ended.txn
        IN  IF t.state = "open" THEN ended.at = Least(Ends(t))
            ELSE t.prepared # None /\ ended.at = t.prepared
=============================================================================
