------------------------------- MODULE Trace -------------------------------
(***************************************************************************)
(* One step of the running code against the operators of the specification *)
(* (tla/README.md, "Traces"). A line of a trace says what was asked, what  *)
(* was answered, and what the rows concerned were before and after; here   *)
(* stands what the specification makes of the same question. No rule is    *)
(* written a second time: everything below asks TxnCoordinator and Eos.    *)
(*                                                                         *)
(* core is the rows before the step, and of the rest only what the step    *)
(* concerns: the constants that are sets of identifiers hold those of this *)
(* step alone. What only grows and no rule reads (the entries of a log,    *)
(* aborted ranges, outcomes, the history of offsets) is empty before the   *)
(* step; after it, it is what the step has added.                          *)
(***************************************************************************)
EXTENDS Eos

VARIABLE line       \* [messages]: what was asked, in the order of the request

Nothing == Ok(<< >>)
Happens(name, possible, after) ==
    IF possible THEN Step(name, after, Nothing) ELSE Step("Refuse", core, [error |-> "REFUSED"])

Requests == {"InitProducerId", "AddPartitionsToTxn", "AddOffsetsToTxn", "Produce", "TxnOffsetCommit", "EndTxn", "PrepareTxn"}
IsRequest(m) == m.type \in Requests
Late(m) == IsRequest(m) /\ FromOlderConnection(m)

(* What the broker does by itself, or on behalf of somebody who is no transactional producer *)
Act(c, m) ==
    CASE m.type = "ProduceIdempotent" -> OnIdempotentProduce(c, m)
      [] m.type = "ProducePlain" ->
            Step("AppendBatch", [c EXCEPT !.part[m.p] = PlainStored(@, m.records)], Ok([offset |-> c.part[m.p].next]))
      [] m.type = "AssignProducerId" ->
            Step("AssignProducerId", AssignProducerId(c), Ok([pid |-> c.nextPid, epoch |-> 0]))
      [] m.type = "Expire" ->
            Happens("ExpireTransaction", Expires(c, c.txn[m.tid]), ExpireTransaction(c, m.tid))
      [] m.type = "EndByOperator" ->
            Happens("ForceAbort",
                    OperatorEnds(c, c.txn[m.tid], m.commit) /\ m.number \in {None, c.txn[m.tid].number},
                    EndByOperator(c, m.tid, m.commit))
      [] m.type = "CommitOffsets" ->
            Happens("CommitOffsets", GenerationCurrent(c.group, m.generation),
                    [c EXCEPT !.group = OffsetsCommitted(@, m.offset)])
      [] m.type = "Rebalance" -> Happens("Rebalance", TRUE, Rebalanced(c))
      [] m.type = "ExpireProducer" ->
            Happens("ExpireProducer", MayForgetProducer(c.part[m.p].producer[m.pid]),
                    [c EXCEPT !.part[m.p] = ProducerForgotten(@, m.pid)])
      [] m.type = "ExpireTransactionalId" ->
            Happens("ExpireTransactionalId", MayForgetId(c.txn[m.tid]), IdForgotten(c, m.tid))
      [] m.type = "RestoreLog" ->
            Happens("RestoreLog", m.ids >= c.nextPid, LogRestored(c, m.ids))
      [] m.type = "DeleteRecords" ->
            Happens("DeleteRecords", MayDeleteBelow(c.part[m.p], m.offset),
                    [c EXCEPT !.part[m.p] = DeletedBelow(@, m.offset)])
      [] OTHER ->
            IF Late(m) THEN Refuse("RefuseOlderConnection", c, "NOT_COORDINATOR") ELSE Decide(c, m)

(* A request about several partitions is as many steps, decided as one. *)
RECURSIVE Steps(_, _, _, _)
Steps(c, messages, answers, actions) ==
    IF messages = << >> THEN [core |-> c, answers |-> answers, actions |-> actions]
    ELSE LET d == Act(c, Head(messages))
         IN  Steps(d.core, Tail(messages), Append(answers, d.answer), Append(actions, d.action))

Expected == Steps(core, line.messages, << >>, << >>)
LastStable == LET after == Expected.core IN [p \in Partitions |-> LastStableOffset(after.part[p])]

(* E10: what becomes of the newest connections *)
First == line.messages[1]
NewestNoted == IF ~IsRequest(First) \/ Late(First) THEN UNCHANGED newest ELSE NoteNewest(First, Act(core, First))

(* S1: behind which of the blocks the reply waits. `blocks` already has what the decision changes. *)
Waiting == {i \in DOMAIN line.messages : IsRequest(line.messages[i]) \/ line.messages[i].type = "ProduceIdempotent"}
Waits == Max({0} \cup {WaitsFor(line.messages[i], blocks) : i \in Waiting})

(* The engine. core, durable and view are what the rows that a line shows are, by their names. *)
Leave == \E h \in held : Leaves(h)
Engine == MakeDurable \/ Publish \/ ProcessCrash \/ PowerCut \/ Recover
=============================================================================
