--------------------------------- MODULE MC ---------------------------------
(* What the models of Eos share: values for Clients, ClientTid, Ordered that a configuration file cannot write. *)
EXTENDS Refinement

CONSTANTS t1, t2, c1, c2

OneClient == {c1}
TwoClients == {c1, c2}
OneId == {t1}
TwoIds == {t1, t2}
SameTid == [c \in Clients |-> t1]
OwnTid == [c \in Clients |-> IF c = c1 THEN t1 ELSE t2]

AnyOrder == {"InitProducerId"}       \* everything else in any order, any number of times
GroupOrdered == {"InitProducerId", "TxnOffsetCommit"}
Keepers == {None, TRUE, FALSE}
AllOrdered == {"InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"}

(* A constraint: the second client begins after the restore. What two holders do to each other without one is in the models of zombies. *)
SecondAfterRestore == clients[c2] = NewClient \/ spent.restores > 0
(* As well: the second client begins when the first has something to take over, or asks for it to be prepared. *)
SecondAfterPrepare == clients[c2] = NewClient \/ \E m \in msgs : m.type = "PrepareTxn" /\ m.c = c1
(* As well: the second client begins when the id of the first was forgotten. *)
SecondAfterForgotten == clients[c2] = NewClient \/ spent.forgets > 0
=============================================================================
