---------------------------- MODULE AbstractEos ----------------------------
(***************************************************************************)
(* What a user is promised, without producers' ids, epochs, sequences,     *)
(* coordinators or disks: a partition is a growing list of records, each   *)
(* belonging to one transaction; a transaction has one fate, decided once, *)
(* and takes no record afterwards; a read_committed reader sees a growing  *)
(* prefix in which every fate is decided, and of it the committed records. *)
(***************************************************************************)
EXTENDS Integers, Sequences

CONSTANT Places         \* the partitions

VARIABLES
    stored,     \* per place: sequence of [txn, op]
    fate,       \* set of [txn, outcome]: the transactions whose fate is decided
    stable,     \* per place: how many of its records a read_committed reader has been shown or spared
    shown       \* per place: the sequence of ops that such a reader has seen

Grows(s, t) == Len(s) <= Len(t) /\ s = SubSeq(t, 1, Len(s))
Decided(f, txn) == \E x \in f : x.txn = txn
Committed(f, txn) == \E x \in f : x.txn = txn /\ x.outcome = "commit"

CommittedOf(s, f) ==
    LET committed == SelectSeq(s, LAMBDA r : Committed(f, r.txn))
    IN  [i \in DOMAIN committed |-> committed[i].op]

Init ==
    /\ stored = [p \in Places |-> << >>]
    /\ fate = {}
    /\ stable = [p \in Places |-> 0]
    /\ shown = [p \in Places |-> << >>]

(* Several things may happen in one step: a block holds many decisions and is shown at once. *)
Next ==
    /\ \A p \in Places :
        /\ Grows(stored[p], stored'[p])
        /\ \A i \in Len(stored[p]) + 1 .. Len(stored'[p]) : ~Decided(fate, stored'[p][i].txn)
    /\ fate \subseteq fate'
    /\ \A x, y \in fate' : x.txn = y.txn => x = y
    /\ \A p \in Places :
        /\ stable'[p] \in stable[p] .. Len(stored'[p])
        /\ \A i \in 1 .. stable'[p] : Decided(fate', stored'[p][i].txn)
        /\ shown'[p] = CommittedOf(SubSeq(stored'[p], 1, stable'[p]), fate')
        /\ Grows(shown[p], shown'[p])

Spec == Init /\ [][Next]_<<stored, fate, stable, shown>>
=============================================================================
