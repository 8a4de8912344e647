---- MODULE ProducersForgotten ----
(* KAFKA-9666, KIP-360: the producer rows are lost with a restart while the producer lives. *)
EXTENDS MC

WithoutProducers(found) ==
    [found EXCEPT !.part = [p \in Partitions |-> [@[p] EXCEPT !.producer = [i \in ProducerIds |-> None]]]]
====
