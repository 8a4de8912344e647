----------------------------- MODULE Reduction -----------------------------
(***************************************************************************)
(* Whether what makes the models of Thorough small leaves anything out: a  *)
(* model that is small without it (NAME.whole.cfg) is searched with it     *)
(* (NAME.reduced.cfg) and without. Both print what they come to, and       *)
(* `tla/check reduced` compares: the same states, as far as they are to be *)
(* the same, and the same situations of Reach; and no property breaks in   *)
(* either.                                                                 *)
(***************************************************************************)
EXTENDS Thorough, Reach

ComesTo(what) == PrintT("STATE " \o ToString(what))

(* VIEW Unsettled, with Closely: without it, states are compared whole. *)
Views == ComesTo(Unsettled)

(* Complete as soon as possible: without it, at any time. In between nothing else may happen that does not happen otherwise. *)
Nobody == {}
CompleteViews == IF \E t \in TransactionalIds : CanComplete(core, t) THEN TRUE ELSE ComesTo(Unsettled)

(* Rebalance just before offsets arrive: without it, at any time. Only when is to differ. *)
AnyTime == BrokerStep
RebalancedViews == ComesTo([Unsettled EXCEPT ![2][3] = 0, ![10].rebalances = 0])
=============================================================================
