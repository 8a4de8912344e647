---- MODULE CommitMarkerWrong ----
(* The outcome is decided again for each partition. *)
EXTENDS MC

OutcomePerPartition(tid, row, epoch, commit) ==
    [p \in row.enrolled |->
        [p |-> p, pid |-> row.pid, epoch |-> epoch, txn |-> Txn(tid, row), outcome |-> OutcomeName(commit /\ p # 2)]]
====
