//! What the rows say: topics, open transactions and what they hold back, groups and how far they are behind. Read from one
//! view, within limits: a broker with more than that is told in part, and it is told that it is.

use crate::core::{
    ConsumerGroupStatus, GroupState, PartitionRow, ProducerOwnerRow, Timer, TransactionRow, TransactionState,
    consumer_group_status,
};
use crate::store::{ReadView, StoreError};
use crate::types::{GroupId, Offset, PartitionId, ProducerId, Timestamp, TopicId, TransactionalId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Rows of one kind that are looked at. A row takes a few microseconds.
const ROWS_MAX: usize = 100_000;
/// After this a survey stops looking, and tells what it has seen.
const TIME_MAX: Duration = Duration::from_millis(500);
/// How often the clock is looked at.
const ROWS_PER_LOOK: usize = 256;
/// Topics that are named, those with the most bytes; the others are summed.
const TOPICS_NAMED: usize = 100;
/// Groups that are named, those with the most lag, and of these those with the most members; the others are summed.
const GROUPS_NAMED: usize = 100;
/// Transactions that are named, the oldest ones: of those that hold back readers, and of those that are prepared.
const TRANSACTIONS_NAMED: usize = 20;

/// What one look at the rows has found.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    /// Whether everything was looked at.
    pub(super) complete: bool,
    pub(super) took: Duration,
    pub(super) topics: u64,
    pub(super) partitions: u64,
    pub(super) named_topics: Vec<Topic>,
    pub(super) other_topics: Others,
    /// Partitions whose last stable offset an open transaction holds back.
    pub(super) blocked: u64,
    /// The oldest of what holds them back.
    pub(super) blockers: Vec<Blocker>,
    pub(super) ongoing: Open,
    pub(super) prepared: Open,
    /// The oldest prepared ones.
    pub(super) in_doubt: Vec<InDoubt>,
    pub(super) groups: Groups,
}

/// A topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The sum of its partitions' high watermarks.
    pub(super) high_watermarks: u64,
    /// Offsets between last stable offsets and high watermarks.
    pub(super) unstable: u64,
}

/// Those that are not named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    pub(super) count: u64,
    pub(super) sum: u64,
}

/// What holds back a partition's last stable offset.
#[derive(Clone, Debug)]
pub(super) struct Blocker {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: Offset,
    pub(super) producer: ProducerId,
    /// Empty if nobody holds the producer id any more.
    pub(super) transactional_id: String,
    pub(super) prepared: bool,
    pub(super) age: Duration,
}

/// Open transactions of one state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Open {
    pub(super) count: u64,
    pub(super) oldest: Duration,
}

/// A prepared transaction: its outcome is decided outside.
#[derive(Clone, Debug)]
pub(super) struct InDoubt {
    pub(super) transactional_id: String,
    pub(super) age: Duration,
}

/// Consumer groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    /// By state, as in `STATES`.
    pub(super) states: [u64; STATES.len()],
    /// Members of groups of the consumer protocol.
    pub(super) consumers: u64,
    pub(super) named: Vec<Group>,
    pub(super) others: OtherGroups,
}

/// Groups that are not named.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OtherGroups {
    pub(super) count: u64,
    pub(super) lag: u64,
    pub(super) members: u64,
}

/// The states of groups in the order of `Groups::states`, by the protocols' names.
pub(super) const STATES: [&str; 6] =
    ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Assigning", "Reconciling"];

/// A group: one that has or had members, or has offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) name: String,
    /// How far it is behind, in all of its partitions together; none if it has no offsets.
    pub(super) lag: Option<u64>,
    pub(super) members: u64,
    /// As in `STATES`; none if it has never had members.
    pub(super) state: Option<&'static str>,
}

impl Group {
    /// Which are named: the first in this order.
    fn rank(&self) -> (Reverse<Option<u64>>, Reverse<u64>, &str) {
        (Reverse(self.lag.filter(|lag| *lag > 0)), Reverse(self.members), &self.name)
    }
}

/// How much may still be looked at.
struct Patience {
    begun: Instant,
    complete: bool,
}

impl Patience {
    /// The rows of one kind, as many as may be looked at.
    fn rows<T, E>(
        &mut self,
        rows: impl Iterator<Item = Result<T, E>>,
        mut look: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        for (number, row) in rows.enumerate() {
            let late = number.is_multiple_of(ROWS_PER_LOOK) && self.begun.elapsed() > TIME_MAX;
            if number >= ROWS_MAX || late {
                self.complete = false;
                return Ok(());
            }
            look(row?)?;
        }
        Ok(())
    }
}

impl Survey {
    /// Looks at the rows as `view` has them; `now` is wall time.
    pub(super) fn look(view: &ReadView, now: Timestamp) -> Result<Survey, StoreError> {
        let mut patience = Patience { begun: Instant::now(), complete: true };
        let mut survey = Survey::default();
        let names = survey.topics(view, &mut patience)?;
        let ends = survey.partitions(view, &mut patience, &names, now)?;
        survey.transactions(view, &mut patience, now)?;
        survey.groups(view, &mut patience, &ends)?;
        survey.complete = patience.complete;
        survey.took = patience.begun.elapsed();
        Ok(survey)
    }

    fn topics(
        &mut self,
        view: &ReadView,
        patience: &mut Patience,
    ) -> Result<HashMap<TopicId, String>, StoreError> {
        let mut names = HashMap::new();
        patience.rows(view.topics(), |(id, row)| {
            names.insert(id, row.name.to_string());
            Ok(())
        })?;
        self.topics = names.len() as u64;
        Ok(names)
    }

    /// Looks at the partitions; returns their high watermarks.
    fn partitions(
        &mut self,
        view: &ReadView,
        patience: &mut Patience,
        names: &HashMap<TopicId, String>,
        now: Timestamp,
    ) -> Result<HashMap<PartitionId, Offset>, StoreError> {
        let (mut topics, mut ends) = (BTreeMap::<TopicId, Topic>::new(), HashMap::new());
        let mut blockers = Vec::new();
        patience.rows(view.all_partitions(), |(partition, row)| {
            let topic = topics.entry(partition.topic).or_default();
            topic.bytes += row.totals.bytes.saturating_sub(row.bytes_below_start);
            topic.high_watermarks += unsigned(row.next_offset.0);
            topic.unstable += unsigned(row.next_offset.0 - row.last_stable_offset().0);
            ends.insert(partition, row.next_offset);
            if row.first_open.is_some() {
                self.blocked += 1;
                blockers.extend(blocker(view, partition, &row, names, now)?);
                keep_first(&mut blockers, TRANSACTIONS_NAMED, |blocker| Reverse(blocker.age));
            }
            Ok(())
        })?;
        self.partitions = ends.len() as u64;
        blockers.sort_by_key(|blocker| Reverse(blocker.age));
        blockers.truncate(TRANSACTIONS_NAMED);
        self.blockers = blockers;
        let mut topics: Vec<Topic> = topics
            .into_iter()
            .filter_map(|(id, topic)| Some(Topic { name: names.get(&id)?.clone(), ..topic }))
            .collect();
        topics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        let others = topics.split_off(TOPICS_NAMED.min(topics.len()));
        self.other_topics =
            Others { count: others.len() as u64, sum: others.iter().map(|topic| topic.bytes).sum() };
        self.named_topics = topics;
        Ok(ends)
    }

    /// Open transactions: those that have a deadline, and those that hold back readers. (One that is prepared for ever, and
    /// has offsets only, is neither.)
    fn transactions(
        &mut self,
        view: &ReadView,
        patience: &mut Patience,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut open = BTreeMap::<TransactionalId, (bool, Duration)>::new();
        let held = self.blockers.iter().filter_map(|blocker| TransactionalId::new(&blocker.transactional_id));
        let held: Vec<TransactionalId> = held.collect();
        let mut look = |id: TransactionalId| -> Result<(), StoreError> {
            let row = view.get::<TransactionRow>(&id)?;
            if let Some(ongoing) = row.as_ref().and_then(|row| row.state.open()) {
                let prepared = row.as_ref().is_some_and(is_prepared);
                open.insert(id, (prepared, age(ongoing.began, now)));
            }
            Ok(())
        };
        patience.rows(view.deadlines(), |(timer, _)| match timer {
            Timer::Transaction(id) => look(id),
            Timer::Group(_) | Timer::Member(_) | Timer::Revocation(_) => Ok(()),
        })?;
        held.into_iter().try_for_each(look)?;
        for (id, (prepared, age)) in open {
            let state = if prepared { &mut self.prepared } else { &mut self.ongoing };
            state.count += 1;
            state.oldest = state.oldest.max(age);
            if prepared {
                self.in_doubt.push(InDoubt { transactional_id: id.as_str().to_owned(), age });
            }
        }
        self.in_doubt.sort_by_key(|transaction| Reverse(transaction.age));
        self.in_doubt.truncate(TRANSACTIONS_NAMED);
        Ok(())
    }
}

impl Survey {
    fn groups(
        &mut self,
        view: &ReadView,
        patience: &mut Patience,
        ends: &HashMap<PartitionId, Offset>,
    ) -> Result<(), StoreError> {
        let mut groups = BTreeMap::<GroupId, Group>::new();
        patience.rows(view.groups_after(None), |(id, row)| {
            let place = match row.state {
                GroupState::Empty => 0,
                GroupState::PreparingRebalance => 1,
                GroupState::CompletingRebalance => 2,
                GroupState::Stable => 3,
            };
            groups.entry(id).or_default().state = self.groups.count_state(place);
            Ok(())
        })?;
        patience.rows(view.all_members(), |(id, row)| {
            groups.entry(id).or_default().members = row.members.len() as u64;
            Ok(())
        })?;
        self.consumer_groups(view, patience, &mut groups)?;
        patience.rows(view.all_group_offsets(None), |(id, partition, committed)| {
            let end = ends.get(&partition).map(|end| unsigned(end.0 - committed.offset.0));
            let lag = &mut groups.entry(id).or_default().lag;
            *lag = lag.map_or(end, |lag| Some(lag + end.unwrap_or(0)));
            Ok(())
        })?;
        self.groups.name(groups);
        Ok(())
    }

    /// Those of the consumer protocol, whose state is what their members make of it.
    fn consumer_groups(
        &mut self,
        view: &ReadView,
        patience: &mut Patience,
        groups: &mut BTreeMap<GroupId, Group>,
    ) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        patience.rows(view.consumer_groups_after(None), |group| {
            rows.push(group);
            Ok(())
        })?;
        for (id, row) in rows {
            let mut members = Vec::new();
            patience.rows(view.consumers(&id), |member| {
                members.push(member);
                Ok(())
            })?;
            let seen = members.len() as u64;
            if seen < u64::from(row.members) {
                // It is late.
                break;
            }
            self.groups.consumers += seen;
            let place = match consumer_group_status(&row, members.iter()) {
                ConsumerGroupStatus::Empty => 0,
                ConsumerGroupStatus::Stable => 3,
                ConsumerGroupStatus::Assigning => 4,
                ConsumerGroupStatus::Reconciling => 5,
            };
            let group = groups.entry(id).or_default();
            group.members = seen;
            group.state = self.groups.count_state(place);
        }
        Ok(())
    }
}

impl Groups {
    /// Counts a group in a state; returns what that is called.
    fn count_state(&mut self, place: usize) -> Option<&'static str> {
        self.states.iter_mut().skip(place).take(1).for_each(|count| *count += 1);
        STATES.get(place).copied()
    }

    /// Names the first of them; the others are summed.
    pub(super) fn name(&mut self, groups: BTreeMap<GroupId, Group>) {
        let named = |(id, group): (GroupId, Group)| Group { name: id.as_str().to_owned(), ..group };
        let mut groups: Vec<Group> = groups.into_iter().map(named).collect();
        groups.sort_by(|a, b| a.rank().cmp(&b.rank()));
        for other in groups.split_off(GROUPS_NAMED.min(groups.len())) {
            self.others.count += 1;
            self.others.lag += other.lag.unwrap_or(0);
            self.others.members += other.members;
        }
        self.named = groups;
    }
}

/// Keeps at most twice `count` items, the first of them by `key` among them.
fn keep_first<T, K: Ord>(items: &mut Vec<T>, count: usize, key: impl FnMut(&T) -> K) {
    if items.len() > count * 2 {
        items.sort_by_key(key);
        items.truncate(count);
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn age(began: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(unsigned(now.0.saturating_sub(began.0)))
}

fn is_prepared(row: &TransactionRow) -> bool {
    matches!(row.state, TransactionState::Prepared(_))
}

/// The transaction that holds back a partition's last stable offset.
fn blocker(
    view: &ReadView,
    partition: PartitionId,
    row: &PartitionRow,
    names: &HashMap<TopicId, String>,
    now: Timestamp,
) -> Result<Option<Blocker>, StoreError> {
    let Some((offset, producer)) = view.oldest_open(partition)? else { return Ok(None) };
    let owner = view.get::<ProducerOwnerRow>(&producer)?.map(|owner| owner.transactional_id);
    let holder = owner.as_ref().map(|owner| view.get::<TransactionRow>(owner)).transpose()?.flatten();
    let began = holder.as_ref().and_then(|holder| holder.state.open()).map(|ongoing| ongoing.began);
    Ok(Some(Blocker {
        topic: names.get(&partition.topic).cloned().unwrap_or_default(),
        partition: partition.index.0,
        offset: offset.max(row.log_start),
        producer,
        transactional_id: owner.map(|owner| owner.as_str().to_owned()).unwrap_or_default(),
        prepared: holder.as_ref().is_some_and(is_prepared),
        age: began.map_or(Duration::ZERO, |began| age(began, now)),
    }))
}
