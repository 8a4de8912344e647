---- MODULE DeleteRecordsForgets ----
(* KAFKA-9666 in kind: whoever has no record left above the log start is forgotten with his records. *)
EXTENDS MC

Forgets(part, offset) ==
    [part EXCEPT !.start = offset,
                 !.producer = [i \in ProducerIds |->
                     IF @[i] = None THEN None
                     ELSE IF \A b \in Range(@[i].batches) : b.offset < offset THEN None ELSE @[i]]]
====
