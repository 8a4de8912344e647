---- MODULE AbortMarkerSkipped ----
(* Apache Kafka 4.4.0 after an unclean restart: the leader of a partition is unknown, its abort marker is skipped. *)
EXTENDS MC

MarkersOfKnownLeaders(tid, row, epoch, commit) ==
    [p \in {q \in row.enrolled : commit \/ q # 1} |->
        [p |-> p, pid |-> row.pid, epoch |-> epoch, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit)]]
====
