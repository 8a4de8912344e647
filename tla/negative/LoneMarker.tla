---- MODULE LoneMarker ----
(* kafka-transactions --abort: a marker for one partition of which the coordinator never hears. *)
EXTENDS MC

MarkerFromOutside ==
    \E t \in TransactionalIds : \E p \in Partitions :
        /\ core.txn[t] # None /\ core.txn[t].state = "Ongoing" /\ spent.rebalances < 1
        /\ core' = [core EXCEPT !.part[p] = Marked(@, core.txn[t].pid, core.txn[t].epoch, Txn(t, core.txn[t]), "abort")]
        /\ spent' = [spent EXCEPT !.rebalances = @ + 1]
        /\ UNCHANGED <<blocks, durable, view, held, up, msgs, clients, acked, newest, seen, saved, fenced, zombie>>
====
