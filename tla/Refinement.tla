----------------------------- MODULE Refinement -----------------------------
(***************************************************************************)
(* Eos implements AbstractEos: what the readers' view makes of it.         *)
(***************************************************************************)
EXTENDS Properties

RECURSIVE DataOf(_)
DataOf(log) ==
    IF log = << >> THEN << >>
    ELSE (IF Head(log).kind = "data" THEN <<[txn |-> Head(log).txn, op |-> Head(log).op]>> ELSE << >>) \o DataOf(Tail(log))

RECURSIVE ShownOf(_, _)
ShownOf(part, o) ==
    IF o = LastStableOffset(part) THEN << >>
    ELSE (IF Kept(part, o) THEN <<part.log[o + 1].op>> ELSE << >>) \o ShownOf(part, o + 1)

Abstract ==
    INSTANCE AbstractEos WITH
        Places <- Partitions,
        stored <- [p \in Partitions |-> DataOf(View.part[p].log)],
        fate   <- {[txn |-> NameOf(o), outcome |-> o.outcome] : o \in View.outcomes},
        stable <- [p \in Partitions |-> Len(DataOf(SubSeq(View.part[p].log, 1, LastStableOffset(View.part[p]))))],
        shown  <- [p \in Partitions |-> ShownOf(View.part[p], 0)]

RefinesAbstract == Abstract!Spec
=============================================================================
