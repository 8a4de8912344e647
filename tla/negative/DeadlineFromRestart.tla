---- MODULE DeadlineFromRestart ----
(* Deadlines are kept in memory and begin anew with each start (Redpanda #6018 in kind). *)
EXTENDS DeadlineModel

BeginsAnew(d) == IF d.txn.state = "open" THEN [d.txn EXCEPT !.deadline = d.now + Timeout] ELSE d.txn
====
