//! kill -9 at every step of a transaction's life, at every point on that step's way to the disk and into the store. The
//! engine, the blocks and the store are the real ones; what is played is the process that dies: of what it had decided, the
//! blocks that were written are left, and the store as far as it was applied. (`tests/kill.rs` kills the binary, wherever it
//! happens to be.)

use super::*;

/// Where on its way a step is when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Killed {
    /// It is decided, and its block not written.
    Decided,
    /// Its block is on the disk; nobody has been shown or told anything.
    Written,
    /// It has been shown and answered, and is not in the store.
    Answered,
    /// It is in the store.
    Applied,
    /// It was, but the rows are lost, as if no checkpoint had kept them.
    RowsLost,
}

const KILLED: [Killed; 5] =
    [Killed::Decided, Killed::Written, Killed::Answered, Killed::Applied, Killed::RowsLost];

/// What the holder of a transactional id does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Init,
    Enrol,
    Append(i32),
    EnrolGroup,
    StageOffset,
    Prepare,
    End(Outcome),
    /// The last batch, and the commit with it.
    AppendAndCommit(i32),
}

/// A transaction from its holder's beginning to its end.
struct Life {
    protocol: Protocol,
    deeds: Vec<Deed>,
}

fn lives() -> Vec<Life> {
    let mut lives = Vec::new();
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let end = Deed::End(outcome);
        let (first, second) = (Deed::Append(0), Deed::Append(1));
        let enrolling =
            vec![Deed::Init, Deed::Enrol, first, second, Deed::EnrolGroup, Deed::StageOffset, end];
        lives.push(Life { protocol: Protocol::V1, deeds: enrolling });
        let begun = [Deed::Init, first, second, Deed::StageOffset];
        lives.push(Life { protocol: Protocol::V2, deeds: [&begun[..], &[end]].concat() });
        lives.push(Life { protocol: Protocol::V2, deeds: [&begun[..], &[Deed::Prepare, end]].concat() });
    }
    let at_once = vec![Deed::Init, Deed::Append(0), Deed::StageOffset, Deed::AppendAndCommit(1)];
    lives.push(Life { protocol: Protocol::V2, deeds: at_once });
    lives
}

/// What the holder knows.
struct Holder {
    history: History,
    protocol: Protocol,
    identity: Identity,
}

/// What everybody can see of a transaction.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Of each partition: the next offset, and the last stable one.
    ends: Vec<(Offset, Offset)>,
    committed: Option<Offset>,
    outcome: Option<Outcome>,
}

impl Holder {
    fn new(protocol: Protocol) -> Holder {
        let nobody = Identity { id: ProducerId(-1), epoch: ProducerEpoch(-1) };
        Holder { history: History::new(None), protocol, identity: nobody }
    }

    fn producer(&self) -> TransactionalProducer {
        let transactional_id = TransactionalId::new(IDS[0]).unwrap();
        TransactionalProducer { transactional_id, identity: self.identity, connection: ConnectionId(1) }
    }

    fn command(&self, deed: Deed) -> (Command, Vec<Bytes>) {
        let (producer, protocol) = (self.producer(), self.protocol);
        let command = match deed {
            Deed::Init => Command::InitProducerId(InitProducerId {
                transactional_id: Some((producer.transactional_id, producer.connection)),
                timeout: TIMEOUT,
                current: None,
                two_phase: TwoPhase::Unaware,
            }),
            Deed::Enrol => Command::Enrol(Enrol { producer, partitions: vec![partition(0), partition(1)] }),
            Deed::Append(index) | Deed::AppendAndCommit(index) => {
                let (facts, bytes) = batch(Some((self.identity, 0, true)), 2);
                let batches = vec![ProduceBatch { partition: partition(index), batch: facts }];
                let transactional_id = Some(producer.transactional_id.clone());
                let last = Produce { transactional_id, protocol, batches };
                let command = match deed {
                    Deed::Append(_) => Command::Produce(last),
                    _ => Command::ProduceAndCommit(ProduceAndCommit { last, producer }),
                };
                return (command, vec![bytes]);
            }
            Deed::EnrolGroup => Command::EnrolGroup { producer, group: GroupId::new("g") },
            Deed::StageOffset => {
                let offset = OffsetToCommit {
                    partition: partition(0),
                    offset: Offset(7),
                    leader_epoch: LeaderEpoch(-1),
                    metadata: String::new(),
                };
                let member = GroupMember::nobody(GroupId::new("g"));
                Command::StageOffsets(StageOffsets { producer, protocol, member, offsets: vec![offset] })
            }
            Deed::Prepare => Command::PrepareTxn(PrepareTxn { producer, timeout: None }),
            Deed::End(outcome) => Command::EndTxn(EndTxn { producer, outcome, protocol }),
        };
        (command, vec![])
    }

    /// Asks, and has it decided; what it writes is not on the disk.
    fn decide(&mut self, deed: Deed) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        let (command, batches) = self.command(deed);
        let life = Arc::downgrade(&self.history.origin.life);
        self.history.engine.ask(Ask {
            connection: ConnectionId(1),
            life,
            command,
            batches,
            reply,
            rounds: 0,
        });
        self.history.engine.flush();
        while !self.history.outside.borrow().wanted.is_empty() {
            self.history.read();
            self.history.load();
        }
        answer
    }

    /// Does something to the point where it is answered, and, if so wanted, in the store.
    fn does(&mut self, deed: Deed, applied: bool) -> Reply {
        let mut answer = self.decide(deed);
        self.history.write();
        if applied {
            self.history.settle();
        }
        let reply = answer.try_recv().unwrap();
        self.hears(deed, &reply);
        reply
    }

    fn hears(&mut self, deed: Deed, reply: &Reply) {
        match (deed, reply) {
            (Deed::Init | Deed::End(_), Reply::Identity(Ok(identity)))
            | (Deed::AppendAndCommit(_), Reply::ProducedAndCommitted(_, Some(identity))) => {
                self.identity = *identity;
            }
            _ => {}
        }
    }

    /// Asks for it, and is killed with the broker before it hears of it.
    fn is_killed(&mut self, deed: Deed, killed: Killed) {
        drop(self.decide(deed));
        match killed {
            Killed::Decided => self.history.crash(false, true),
            Killed::Written => self.history.crash(true, true),
            Killed::Answered => {
                self.history.write();
                self.history.crash(false, true);
            }
            Killed::Applied | Killed::RowsLost => {
                self.history.write();
                self.history.settle();
                self.history.crash(false, killed == Killed::Applied);
            }
        }
    }

    fn view(&self) -> Arc<ReadView> {
        self.history.outside.borrow().shown.clone().unwrap()
    }

    fn offset_key() -> GroupOffsetKey {
        GroupOffsetKey { group: GroupId::new("g"), partition: partition(0) }
    }

    /// Every durable row that belongs to the transaction.
    fn rows(&self) -> Vec<String> {
        let view = self.view();
        let mut rows: Vec<_> = view.transactions().map(|row| format!("{:?}", row.unwrap())).collect();
        for partition in [partition(0), partition(1)] {
            rows.push(format!("{:?}", view.get::<PartitionRow>(&partition).unwrap()));
            rows.push(format!("{:?}", view.get::<OpenTransactionsRow>(&partition).unwrap()));
            rows.push(format!("{:?}", view.get::<OpenQueueRow>(&partition).unwrap()));
            rows.extend(view.producers(partition).map(|row| format!("{:?}", row.unwrap())));
        }
        let pending = PendingOffsetKey { offset: Self::offset_key(), producer: self.identity.id };
        rows.push(format!("{:?}", view.get::<PendingOffsetRow>(&pending).unwrap()));
        rows.push(format!("{:?}", view.get::<CommittedOffset>(&Self::offset_key()).unwrap()));
        rows
    }

    fn seen(&self) -> Seen {
        let view = self.view();
        let end = |index| {
            let row = view.get::<PartitionRow>(&partition(index)).unwrap().unwrap();
            (row.next_offset, row.last_stable_offset())
        };
        let state = view.transactions().next().map(|row| row.unwrap().1.state);
        Seen {
            ends: vec![end(0), end(1)],
            committed: view.get::<CommittedOffset>(&Self::offset_key()).unwrap().map(|row| row.offset),
            outcome: match state {
                Some(TransactionState::Complete(ended)) => Some(ended.outcome),
                _ => None,
            },
        }
    }

    fn verdict(&self) {
        if let Err(broken) = self.history.judge.findings.verdict() {
            panic!("{broken}");
        }
    }
}

/// A life without a crash: what each deed was answered, and the rows after it; and what is seen in the end.
struct Reference {
    replies: Vec<Reply>,
    /// Before the first deed, and after each.
    rows: Vec<Vec<String>>,
    seen: Seen,
}

impl Life {
    fn lived(&self) -> Reference {
        let mut holder = Holder::new(self.protocol);
        let (mut replies, mut rows) = (Vec::new(), vec![holder.rows()]);
        for deed in &self.deeds {
            replies.push(holder.does(*deed, true));
            rows.push(holder.rows());
        }
        holder.verdict();
        Reference { replies, rows, seen: holder.seen() }
    }

    /// Lives until the deed number `at`, of which only the first `applied` are in the store, and is killed there.
    fn killed(&self, at: usize, applied: usize, killed: Killed) -> Holder {
        let mut holder = Holder::new(self.protocol);
        for (number, deed) in self.deeds[..at].iter().enumerate() {
            holder.does(*deed, number < applied);
        }
        holder.is_killed(self.deeds[at], killed);
        holder
    }

    /// What the broker answers to whoever asks for what it has already done.
    fn answer_to_retry(&self, at: usize, first: &Reply) -> Reply {
        match (self.deeds[at], first) {
            // Nobody can tell it from another holder: the epoch is raised (P4).
            (Deed::Init, Reply::Identity(Ok(identity))) => {
                let epoch = ProducerEpoch(identity.epoch.0 + 1);
                Reply::Identity(Ok(Identity { epoch, ..*identity }))
            }
            (Deed::Append(_), Reply::Produced(answers)) => {
                let again = |answer: &Result<Appended, NotAppended>| {
                    answer.clone().map(|stored| Appended { duplicate: true, ..stored })
                };
                Reply::Produced(answers.iter().map(again).collect())
            }
            // Under an identity that has ended nothing is stored any more; the outcome is told.
            (Deed::AppendAndCommit(_), Reply::ProducedAndCommitted(answers, holder)) => {
                let refused = answers.iter().map(|_| Err(Refusal::StaleEpoch.into()));
                Reply::ProducedAndCommitted(refused.collect(), *holder)
            }
            _ => first.clone(),
        }
    }

    /// The points at which it is killed: the deed, how many of those before are in the store, and how far the deed is.
    fn points(&self) -> Vec<(usize, usize, Killed)> {
        let deeds = 0..self.deeds.len();
        let with_applied = deeds.flat_map(|at| if at == 0 { vec![(0, 0)] } else { vec![(at, 0), (at, at)] });
        with_applied.flat_map(|(at, applied)| KILLED.map(|killed| (at, applied, killed))).collect()
    }
}

#[test]
fn a_transaction_killed_at_any_step_is_where_the_rules_say_and_its_holder_goes_on() {
    is_where_the_rules_say_and_goes_on();
}

#[test]
fn so_is_one_for_which_there_is_no_room_in_any_row() {
    with_small_rows(0, is_where_the_rules_say_and_goes_on);
}

fn is_where_the_rules_say_and_goes_on() {
    for life in lives() {
        let reference = life.lived();
        for (at, applied, killed) in life.points() {
            let place = format!("{:?}, {:?} {killed:?}, {applied} applied", life.deeds, life.deeds[at]);
            let mut holder = life.killed(at, applied, killed);
            let done = killed != Killed::Decided;
            assert_eq!(holder.rows()[..], reference.rows[at + usize::from(done)][..], "{place}");
            let identity = holder.identity;
            let again = holder.does(life.deeds[at], true);
            let first = &reference.replies[at];
            let expected = if done { life.answer_to_retry(at, first) } else { first.clone() };
            assert_eq!(again, expected, "{place}, for {identity:?}");
            for deed in &life.deeds[at + 1..] {
                holder.does(*deed, true);
            }
            assert_eq!(holder.seen(), reference.seen, "{place}");
            holder.verdict();
        }
    }
}

#[test]
fn a_transaction_killed_at_any_step_ends_by_itself_if_its_holder_does_not_come_back() {
    for life in lives() {
        for (at, applied, killed) in life.points() {
            let place = format!("{:?}, {:?} {killed:?}, {applied} applied", life.deeds, life.deeds[at]);
            let mut holder = life.killed(at, applied, killed);
            holder.history.pass(TIMEOUT + Duration::from_secs(1));
            holder.history.settle();
            let done = &life.deeds[..at + usize::from(killed != Killed::Decided)];
            let seen = holder.seen();
            let ends = |deed: &Deed| matches!(deed, Deed::End(_) | Deed::AppendAndCommit(_));
            let prepared = done.contains(&Deed::Prepare) && !done.last().is_some_and(ends);
            let held_back = seen.ends.iter().any(|(next, stable)| next != stable);
            assert_eq!(held_back, prepared, "{place}: {seen:?}");
            let commits = |deed: &Deed| ends(deed) && *deed != Deed::End(Outcome::Abort);
            let committed = done.iter().any(commits);
            assert_eq!(seen.committed, committed.then_some(Offset(7)), "{place}");
            let begun = done.len() > 1 && !prepared;
            let outcome = if committed { Outcome::Commit } else { Outcome::Abort };
            assert_eq!(seen.outcome, begun.then_some(outcome), "{place}");
            holder.verdict();
        }
    }
}
