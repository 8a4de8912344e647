-------------------------- MODULE IdempotencyKeys --------------------------
(***************************************************************************)
(* Idempotency keys of one topic: K1 to K7 of spec/transactions.md.        *)
(*                                                                         *)
(* Beside Eos, not in it: that a batch is judged by sequence and enrolment *)
(* first (K3) makes fewer batches come here, never others, and the outcome *)
(* of a transaction is one step (O1), so a transaction is here what its    *)
(* outcome makes of it. Time is served time; records stand in the order of *)
(* their decisions, whatever their partitions: the key space is the        *)
(* topic's.                                                                *)
(*                                                                         *)
(* The state is what is decided, and what of it is durable:                *)
(*   log    sequence of records [key, txn, at, until]: the key and the     *)
(*          window's end; txn is None or the transaction's number          *)
(*   row    per key None or [txn, until]: KeyRow                           *)
(*   freed  transactions whose keys are free: FreedKeysRow                 *)
(*   holds  transactions that are open and have taken keys: KeyHolderRow   *)
(*   until  per such transaction, and per freed one, the last end among    *)
(*          the windows of its keys                                        *)
(*   state  per transaction "none", "open", "prepared", "commit", "abort"  *)
(***************************************************************************)
EXTENDS Types

CONSTANTS
    Keys,
    Txns,           \* transactions: 1 .. n, each used once
    Windows,        \* the windows that the topic's setting may have
    TimeMax,        \* served time is 0 .. TimeMax
    RecordsMax

VARIABLES topic, durable, now, refused
keyVars == << topic, durable, now, refused >>

EmptyTopic ==
    [log   |-> << >>,
     row   |-> [k \in Keys |-> None],
     freed |-> {},
     holds |-> {},
     until |-> [t \in Txns |-> 0],
     state |-> [t \in Txns |-> "none"]]

IsOpen(s, t) == s.state[t] \in {"open", "prepared"}

----------------------------------------------------------------------------
(* Where a key stands *)

WindowOver(row, time) == row.until <= time
KeyFreed(s, row) == row.txn # None /\ row.txn \in s.freed
KeyHeld(s, row) == row.txn # None /\ IsOpen(s, row.txn)

Standing(s, k, time) ==
    IF s.row[k] = None THEN "free"
    ELSE IF WindowOver(s.row[k], time) \/ KeyFreed(s, s.row[k]) THEN "free"
    ELSE IF KeyHeld(s, s.row[k]) THEN "held" ELSE "accepted"

(* K2, K5: what a record with key k comes to, sent in transaction t or in none (t = None) *)
JudgeKey(s, k, t, time) ==
    CASE Standing(s, k, time) = "free" -> "append"
      [] Standing(s, k, time) = "accepted" -> "INVALID_RECORD"
      [] OTHER -> IF s.row[k].txn = t THEN "INVALID_RECORD"
                  ELSE IF t = None THEN "CONCURRENT_TRANSACTIONS" ELSE "TRANSACTION_ABORTABLE"

----------------------------------------------------------------------------
(* Steps of the topic *)

TransactionOfKey(t) == t
Taken(s, k, t, time, window) ==
    LET row == [txn |-> TransactionOfKey(t), until |-> time + window]
    IN  [s EXCEPT !.log = Append(@, [key |-> k, txn |-> t, at |-> time, until |-> time + window]),
                  !.row[k] = row,
                  !.holds = IF t = None THEN @ ELSE @ \union {t},
                  !.until = IF t = None THEN @ ELSE [@ EXCEPT ![t] = Max({@, time + window})],
                  !.state = IF t = None THEN @ ELSE [@ EXCEPT ![t] = "open"]]

(* K4. The outcome, and what it makes of the keys, in one step. *)
ReleasesKeys(outcome) == outcome = "abort"
Ended(s, t, outcome) ==
    [s EXCEPT !.state[t] = outcome,
              !.holds = @ \ {t},
              !.freed = IF t \in s.holds /\ ReleasesKeys(outcome) THEN @ \union {t} ELSE @]

(* K7. Keys whose windows are over, and the word of an abort to which no row refers any more *)
Forgettable(s, k, time) == s.row[k] # None /\ WindowOver(s.row[k], time)
FreedForgettable(s, t, time) == t \in s.freed /\ s.until[t] <= time
Forgotten(s, time) ==
    [s EXCEPT !.row = [k \in Keys |-> IF Forgettable(s, k, time) THEN None ELSE s.row[k]],
              !.freed = {t \in @ : ~FreedForgettable(s, t, time)}]

----------------------------------------------------------------------------
(* Actions. Whoever sends is free to: plain producers, transactions, again or never. *)

MayTake(t) == IF t = None THEN TRUE ELSE topic.state[t] \in {"none", "open"}

AcceptKeys(k, t, w) ==
    /\ Len(topic.log) < RecordsMax
    /\ MayTake(t)
    /\ JudgeKey(topic, k, t, now) = "append"
    /\ topic' = Taken(topic, k, t, now, w)
    /\ refused' = None /\ UNCHANGED << durable, now >>

RefuseKeys(k, t) ==
    /\ refused = None
    /\ MayTake(t)
    /\ JudgeKey(topic, k, t, now) # "append"
    /\ refused' = [key |-> k, txn |-> t, answer |-> JudgeKey(topic, k, t, now)]
    /\ UNCHANGED << topic, durable, now >>

PrepareKeys(t) ==
    /\ topic.state[t] = "open"
    /\ topic' = [topic EXCEPT !.state[t] = "prepared"]
    /\ refused' = None /\ UNCHANGED << durable, now >>

ReleaseKeys(t, outcome) ==
    /\ IsOpen(topic, t)
    /\ topic' = Ended(topic, t, outcome)
    /\ refused' = None /\ UNCHANGED << durable, now >>

ForgetKeys ==
    /\ topic' = Forgotten(topic, now)
    /\ topic' # topic
    /\ refused' = None /\ UNCHANGED << durable, now >>

Tick == now < TimeMax /\ now' = now + 1 /\ refused' = None /\ UNCHANGED << topic, durable >>

KeysDurable == durable # topic /\ durable' = topic /\ refused' = None /\ UNCHANGED << topic, now >>

(* What is lost, nobody has been told (S1). *)
Recovered(s) == s
KeysCrash ==
    /\ topic' = Recovered(durable)
    /\ durable' = topic'
    /\ refused' = None
    /\ UNCHANGED now

KeysInit == topic = EmptyTopic /\ durable = EmptyTopic /\ now = 0 /\ refused = None
KeysNext ==
    \/ \E k \in Keys, t \in Txns \union {None}, w \in Windows : AcceptKeys(k, t, w)
    \/ \E k \in Keys, t \in Txns \union {None} : RefuseKeys(k, t)
    \/ \E t \in Txns : PrepareKeys(t) \/ ReleaseKeys(t, "commit") \/ ReleaseKeys(t, "abort")
    \/ ForgetKeys \/ Tick \/ KeysDurable \/ KeysCrash
KeysSpec == KeysInit /\ [][KeysNext]_keyVars

----------------------------------------------------------------------------
(* The properties *)

NotUndone(s, r) == r.txn = None \/ s.state[r.txn] # "abort"

(* Of the records that are committed, or may yet be, no two have one key within its window. *)
KeyOnce ==
    \A i, j \in DOMAIN topic.log :
        i < j /\ topic.log[i].key = topic.log[j].key /\ topic.log[j].at < topic.log[i].until
            => ~(NotUndone(topic, topic.log[i]) /\ NotUndone(topic, topic.log[j]))
               \* the first was undone before the second came, so it can be no other way round
               /\ ~NotUndone(topic, topic.log[i])

Bearers(s, k, time) == {i \in DOMAIN s.log : s.log[i].key = k /\ time < s.log[i].until /\ NotUndone(s, s.log[i])}

(* A key is refused if and only if a record bears it that is not undone; for good only if that one cannot be undone or is   *)
(* the asker's own: what an abort undoes gives its key back in the same step, and what a commit makes good keeps it. *)
KeysAtomicWithTxn ==
    \A k \in Keys, t \in Txns \union {None} :
        LET answer == JudgeKey(topic, k, t, now)
            bearers == Bearers(topic, k, now)
            settled == {i \in bearers : LET b == topic.log[i].txn IN
                            IF b = None THEN TRUE ELSE topic.state[b] = "commit" \/ b = t}
        IN  /\ answer = "append" <=> bearers = {}
            /\ answer = "INVALID_RECORD" <=> settled # {}
=============================================================================
