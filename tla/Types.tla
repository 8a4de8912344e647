------------------------------- MODULE Types -------------------------------
(***************************************************************************)
(* The constants of semel's specification and a few operators on sequences *)
(* and sets. Rule numbers (A3, E10, ...) are those of spec/transactions.md.*)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    None,               \* a model value: "there is none"
    TransactionalIds,
    Partitions,
    Clients,            \* instances of a transactional producer, each one process life
    ClientTid,          \* Clients -> TransactionalIds; two clients of one id are holder and zombie
    Version,            \* 1 or 2: the transaction protocol that the clients speak
    ProducerIds,        \* 0 .. n-1, handed out in this order, never again
    EpochLast,          \* the last epoch a holder can have (32766); EpochLast + 1 fences for good (32767)
    Remembered,         \* how many batches a producer row remembers (5)
    SequenceSpace,      \* sequences are 0 .. SequenceSpace - 1 and wrap (2^31)
    Sharded             \* FALSE: outcome, markers and offsets are one decision (O1); TRUE: the Prepare path (O9)

ASSUME /\ Version \in {1, 2}
       /\ SequenceSpace % 4 = 0
       /\ Sharded \in BOOLEAN
       /\ ClientTid \in [Clients -> TransactionalIds]

Last(s) == s[Len(s)]
Range(s) == {s[i] : i \in DOMAIN s}
Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Max(S) == CHOOSE x \in S : \A y \in S : x >= y
IsPrefix(s, t) == Len(s) <= Len(t) /\ s = SubSeq(t, 1, Len(s))
LastUpTo(s, n) == IF Len(s) > n THEN SubSeq(s, Len(s) - n + 1, Len(s)) ELSE s

(* A step of the core: the state after it, the answer, and the action's name (what a trace line calls it). *)
Step(name, state, answer) == [action |-> name, core |-> state, answer |-> answer]
=============================================================================
