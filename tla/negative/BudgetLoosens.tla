---- MODULE BudgetLoosens ----
(* The topic that was enrolled last decides about the deadline, also where it allows more time. *)
EXTENDS DeadlineModel

LastOne(deadline, topic, at) == IF Budget[topic] = None THEN deadline ELSE at + Budget[topic]
====
