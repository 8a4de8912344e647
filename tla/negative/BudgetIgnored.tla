---- MODULE BudgetIgnored ----
(* The budget of a topic does not move the deadline. *)
EXTENDS DeadlineModel

NoBudget(deadline, topic, at) == deadline
====
