----------------------------- MODULE Refinement -----------------------------
(***************************************************************************)
(* Eos implements AbstractEos: what the readers' view makes of it.         *)
(***************************************************************************)
EXTENDS Properties

DataOf(log) ==
    LET data == SelectSeq(log, LAMBDA e : e.kind = "data")
    IN  [i \in DOMAIN data |-> [txn |-> data[i].txn, op |-> data[i].op]]

ShownOf(part) ==
    LET shown == SelectSeq(SubSeq(part.log, 1, LastStableOffset(part)), LAMBDA e : Kept(part, e.offset))
    IN  [i \in DOMAIN shown |-> shown[i].op]

Abstract ==
    INSTANCE AbstractEos WITH
        Places <- Partitions,
        stored <- [p \in Partitions |-> DataOf(View.part[p].log)],
        fate   <- {[txn |-> NameOf(o), outcome |-> o.outcome] : o \in View.outcomes},
        stable <- [p \in Partitions |-> Len(DataOf(SubSeq(View.part[p].log, 1, LastStableOffset(View.part[p]))))],
        shown  <- [p \in Partitions |-> ShownOf(View.part[p])]

(* Abstract!Spec, and no less: a step that leaves what is looked at does nothing there. *)
LookedAt == <<View.part, View.outcomes>>
RefinesAbstract == Abstract!Init /\ [][LookedAt' # LookedAt => Abstract!Next]_<<core, view>>
=============================================================================
