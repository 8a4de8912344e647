---- MODULE TopicRemembersProducers ----
(* A topic that is made again knows the producers of the one that was deleted: what is gone is answered as a duplicate (X1). *)
EXTENDS MC

Remembers(part) == [EmptyPartition EXCEPT !.life = part.life + 1, !.producer = part.producer]
====
