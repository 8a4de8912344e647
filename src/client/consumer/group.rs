//! Reading as a member of a group, in the consumer protocol (KIP-848): the coordinator assigns partitions, and this reads them.

use super::super::changes;
use super::super::cluster::Client;
use super::super::error::ClientError;
use super::super::metadata::TopicPartition;
use super::super::offsets::OffsetToCommit;
use super::super::transaction::{Transaction, TransactionError};
use super::commits::{Commit, Commits, Offsets};
use super::heart::Member;
use super::locate::{Found, Place, Search, Wanted};
use super::{ConsumedRecord, Consumer, ConsumerConfig, Start, Subscription};
use crate::types::{GroupId, Offset};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Between two questions where a partition is to be begun: a transaction may hold its offset open (KIP-447).
const LOCATE_PAUSE: Duration = Duration::from_millis(50);

/// How a member of a group reads.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// What the member reads its share of.
    pub subscription: Subscription,
    /// Its name as a static member (`group.instance.id`): a restart within the session's time leaves its partitions with it.
    pub instance_id: Option<String>,
    /// How it reads. `reset` also says where to begin where the group has committed nothing; none: that is an error.
    pub reading: ConsumerConfig,
    /// Commits what was returned and came back for more, that often, and when partitions are given up; none: the application
    /// commits.
    pub auto_commit: Option<Duration>,
    /// How long the application may do other things than ask for the next record, and how long it may take to finish with
    /// partitions that are revoked. Beyond it, others get its partitions.
    pub poll_timeout: Duration,
}

impl GroupConfig {
    /// Kafka's intervals; committed records only; from the earliest record on where nothing is committed, so that none is
    /// passed over. (Kafka's defaults for the last two are the others.)
    #[must_use]
    pub fn new(group: GroupId, subscription: Subscription) -> GroupConfig {
        GroupConfig {
            group,
            subscription,
            instance_id: None,
            reading: ConsumerConfig { reset: Some(Start::Earliest), ..ConsumerConfig::default() },
            auto_commit: Some(Duration::from_secs(5)),
            poll_timeout: Duration::from_secs(300),
        }
    }
}

/// Partitions come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These are to be given up. They still are the member's, and it may commit what was read of them, until the next record or
    /// event is asked for: that says that they are finished with.
    Revoked(Vec<TopicPartition>),
    /// These were lost: others may have them already, and what was not committed they read again.
    Lost(Vec<TopicPartition>),
    /// These are read from now on, too.
    Assigned(Vec<TopicPartition>),
}

/// What happens next to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// A record was read.
    Record(ConsumedRecord),
    /// Partitions come or go.
    Rebalance(Rebalance),
}

type Listener = Box<dyn FnMut(&Rebalance) + Send>;

/// A member of a group: reads what the group's coordinator assigns to it, beginning at what the group has committed. It is
/// heard of as long as it exists, whatever the application does, but for [`GroupConfig::poll_timeout`].
///
/// ```no_run
/// # async fn example(client: semel::client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use semel::client::{Consumer, GroupConfig, Subscription};
/// use semel::types::{GroupId, TopicName};
/// let payments = Subscription::topics([TopicName::new("payments")?]);
/// let mut consumer = Consumer::subscribe(&client, GroupConfig::new(GroupId::new("audit"), payments))?;
/// consumer.on_rebalance(|rebalance| println!("{rebalance:?}"));
/// for _ in 0..100 {
///     let record = consumer.next().await?;
///     println!("{} at {}: {:?}", record.partition, record.offset, record.record.value);
/// }
/// consumer.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct GroupConsumer {
    reader: Consumer,
    member: Arc<Member>,
    commits: Commits,
    config: GroupConfig,
    listener: Option<Listener>,
    changes: changes::Receiver<()>,
    /// Whether there may be something to hand over.
    looks: bool,
    /// What is being handed over.
    handed: Option<Rebalance>,
    /// What the application is finishing with.
    revoking: Vec<TopicPartition>,
    search: Search,
    searches: JoinSet<Found>,
    /// Partitions whose place is being looked for, and by which search.
    wanted: BTreeMap<TopicPartition, u64>,
    searched: u64,
    /// Where reading began without a committed offset.
    begun: BTreeMap<TopicPartition, Offset>,
    next_commit: Instant,
}

/// The application waits for the member; from the end of this on, it does something else.
struct Asking(Arc<Member>);

impl Asking {
    fn begin(member: &Arc<Member>) -> Asking {
        member.asked();
        Asking(Arc::clone(member))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.busy();
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.member.leave();
    }
}

impl Consumer {
    /// Joins a group and reads what it is assigned there.
    pub fn subscribe(client: &Client, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
        GroupConsumer::new(client, config)
    }
}

impl GroupConsumer {
    fn new(client: &Client, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
        if config.subscription.is_empty() {
            let problem = "a member of a group subscribes to something: topics or a pattern";
            return Err(ClientError::Config(problem.to_owned()));
        }
        let member = Member::start(client, &config);
        let search = Search {
            client: client.clone(),
            group: config.group.clone(),
            isolation: config.reading.isolation,
            reset: config.reading.reset,
        };
        Ok(GroupConsumer {
            reader: Consumer::new(client, config.reading),
            commits: Commits::start(client, &member),
            changes: member.changes(),
            member,
            next_commit: Instant::now() + config.auto_commit.unwrap_or_default(),
            config,
            listener: None,
            looks: true,
            handed: None,
            revoking: Vec::new(),
            search,
            searches: JoinSet::new(),
            wanted: BTreeMap::new(),
            searched: 0,
            begun: BTreeMap::new(),
        })
    }

    /// Calls this whenever partitions come or go while [`GroupConsumer::next`] waits. Who has to wait for something before
    /// partitions are given up uses [`GroupConsumer::next_event`].
    pub fn on_rebalance(&mut self, listener: impl FnMut(&Rebalance) + Send + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// The next record. Asking for it says that all that were returned before are done with: with auto-commit they are committed
    /// sooner or later. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<ConsumedRecord, ClientError> {
        loop {
            match self.next_event().await? {
                GroupEvent::Record(record) => return Ok(record),
                GroupEvent::Rebalance(rebalance) => {
                    if let Some(listener) = &mut self.listener {
                        listener(&rebalance);
                    }
                }
            }
        }
    }

    /// The next record, or what becomes of partitions. Asking for it also says that partitions that were revoked are finished
    /// with. Nothing is lost if the future is dropped.
    pub async fn next_event(&mut self) -> Result<GroupEvent, ClientError> {
        let _asking = Asking::begin(&self.member);
        self.finish_revocation().await;
        loop {
            self.commit_now_and_then();
            if let Some(rebalance) = self.hand_over().await {
                return Ok(GroupEvent::Rebalance(rebalance));
            }
            if let Some(error) = self.member.failure() {
                return Err(error);
            }
            if let Some(record) = self.reader.next_at_hand()? {
                return Ok(GroupEvent::Record(record));
            }
            self.wait().await?;
        }
    }

    async fn wait(&mut self) -> Result<(), ClientError> {
        let auto = self.config.auto_commit.is_some();
        tokio::select! {
            // What is rare comes first, so that it is not held up by records that are always there.
            biased;
            () = self.changes.changed() => {
                self.looks = true;
                Ok(())
            }
            Some(found) = self.searches.join_next() => self.take_found(found),
            ready = self.reader.wait_for_chunk() => ready,
            () = tokio::time::sleep_until(self.next_commit), if auto => Ok(()),
        }
    }

    /// What the member is told to give up or to take over. What was read of the former is committed before it is told.
    async fn hand_over(&mut self) -> Option<Rebalance> {
        self.looks |= self.changes.has_changed();
        if self.handed.is_none() && self.looks {
            self.changes.mark_unchanged();
            self.handed = self.member.hand_over();
            self.looks = self.handed.is_some();
            self.change_reading();
        }
        if let Some(Rebalance::Revoked(partitions)) = &self.handed
            && self.config.auto_commit.is_some()
            && let Err(error) = self.commits.add(self.uncommitted(partitions)).await
        {
            tracing::warn!(group = %self.config.group, %error, "what was read of revoked partitions is not committed");
        }
        if let Some(Rebalance::Revoked(partitions)) = &self.handed {
            self.revoking.clone_from(partitions);
        }
        self.handed.take()
    }

    fn change_reading(&mut self) {
        match self.handed.clone() {
            None => {}
            Some(Rebalance::Assigned(partitions)) => self.locate(partitions, Duration::ZERO),
            Some(Rebalance::Revoked(partitions)) => {
                for partition in &partitions {
                    self.wanted.remove(partition);
                    self.reader.stop(partition);
                }
            }
            Some(Rebalance::Lost(partitions)) => partitions.iter().for_each(|one| self.forget(one)),
        }
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.wanted.remove(partition);
        self.begun.remove(partition);
        self.commits.forget(partition);
        self.reader.forget(partition);
    }

    async fn finish_revocation(&mut self) {
        if self.revoking.is_empty() {
            return;
        }
        // None may come after the next owner has begun.
        self.commits.settled().await;
        for partition in std::mem::take(&mut self.revoking) {
            self.forget(&partition);
        }
        self.member.revoked();
        self.looks = true;
    }

    /// Looks for the places of partitions.
    fn locate(&mut self, partitions: Vec<TopicPartition>, pause: Duration) {
        if partitions.is_empty() {
            return;
        }
        self.searched += 1;
        let number = self.searched;
        let wanted = partitions.into_iter().map(|partition| {
            self.wanted.insert(partition.clone(), number);
            let begun = self.begun.get(&partition).copied();
            Wanted { partition, number, begun }
        });
        let wanted = wanted.collect();
        self.searches.spawn(self.search.clone().find(wanted, pause));
    }

    fn take_found(&mut self, found: Result<Found, JoinError>) -> Result<(), ClientError> {
        let found = found.map_err(|_| ClientError::Closed("the client's runtime"))?;
        let (mut again, mut failed) = (Vec::new(), Ok(()));
        for (Wanted { partition, number, .. }, place) in found {
            if self.wanted.get(&partition) != Some(&number) {
                continue;
            }
            match place {
                Ok(Place::Committed(offset)) => {
                    self.commits.note(partition.clone(), offset);
                    self.begin(partition, offset);
                }
                Ok(Place::Begin(offset)) => {
                    self.begun.insert(partition.clone(), offset);
                    self.begin(partition, offset);
                }
                // A topic that is gone will be revoked.
                Err(error) if error.retriable() || matches!(error, ClientError::Unknown { .. }) => {
                    again.push(partition);
                }
                Err(error) => {
                    self.wanted.remove(&partition);
                    failed = Err(error);
                }
            }
        }
        self.locate(again, LOCATE_PAUSE);
        failed
    }

    fn begin(&mut self, partition: TopicPartition, offset: Offset) {
        self.wanted.remove(&partition);
        self.reader.seek(partition, Start::Offset(offset));
    }

    /// Reads an assigned partition from `start` on.
    pub fn seek(&mut self, partition: TopicPartition, start: Start) -> Result<(), ClientError> {
        self.check_owned(&partition)?;
        self.wanted.remove(&partition);
        if let Start::Offset(offset) = start {
            self.begun.insert(partition.clone(), offset);
        }
        self.reader.seek(partition, start);
        Ok(())
    }

    /// The record is returned again, when its partition is resumed.
    pub(in super::super) fn put_back(&mut self, record: &ConsumedRecord) -> Result<(), ClientError> {
        self.check_owned(&record.partition)?;
        self.reader.seek(record.partition.clone(), Start::Offset(record.offset));
        self.reader.pause(&record.partition);
        Ok(())
    }

    /// Every position goes back to what the group has committed, and where that is nothing, to where reading began.
    pub fn rewind(&mut self) {
        let owned = self.assigned();
        for partition in &owned {
            self.reader.stop(partition);
            self.reader.positions.remove(partition);
        }
        self.locate(owned, Duration::ZERO);
    }

    /// Returns nothing more of an assigned partition until [`GroupConsumer::resume`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), ClientError> {
        self.check_owned(partition)?;
        self.reader.pause(partition);
        Ok(())
    }

    /// Goes on with a partition where it was when it was paused.
    pub fn resume(&mut self, partition: &TopicPartition) {
        self.reader.resume(partition);
    }

    fn check_owned(&self, partition: &TopicPartition) -> Result<(), ClientError> {
        let owned = self.member.claim([partition]).gone.is_empty() && !self.revoking.contains(partition);
        if owned { Ok(()) } else { Err(self.member.not_owned([partition])) }
    }

    /// Subscribes to something else in the place of what was subscribed to.
    pub fn resubscribe(&mut self, subscription: Subscription) -> Result<(), ClientError> {
        if subscription.is_empty() {
            let problem = "a member of a group subscribes to something: close it to leave the group";
            return Err(ClientError::Config(problem.to_owned()));
        }
        self.member.subscribe(subscription);
        Ok(())
    }

    /// The partitions that it reads.
    #[must_use]
    pub fn assigned(&self) -> Vec<TopicPartition> {
        let mut owned = self.member.owned();
        owned.retain(|partition| !self.revoking.contains(partition));
        owned
    }

    /// Whether it is a member, and has been told all that its coordinator has for it at present.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.member.is_settled() && self.handed.is_none() && self.revoking.is_empty()
    }

    /// The offset of the next record to be returned, where it is known.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.reader.position(partition)
    }

    /// Every known position.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<TopicPartition, Offset> {
        self.reader.positions()
    }

    /// How far the position is from the end, as [`Consumer::lag`].
    #[must_use]
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        self.reader.lag(partition)
    }

    /// Commits the positions. Await it to know that they are durable; or go on, and it is done meanwhile.
    pub fn commit(&self) -> Commit {
        self.commit_offsets(self.uncommitted(self.positions().keys()))
    }

    /// Commits other offsets: those of the next records to be read. Commits take effect in the order in which they are asked for.
    pub fn commit_offsets(&self, offsets: BTreeMap<TopicPartition, OffsetToCommit>) -> Commit {
        self.commits.add(offsets)
    }

    /// Makes offsets part of a transaction: they are the group's if and only if it commits. A member that the group has replaced
    /// is refused, and the transaction must be aborted.
    pub fn send_offsets(
        &self,
        transaction: &mut Transaction<'_>,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send {
        // Not an `async fn`: that would hold on to what cannot be shared between threads.
        self.commits.stage(transaction, offsets)
    }

    /// The offsets that a transaction has committed are.
    pub(in super::super) fn note_committed(&self, offsets: &Offsets) {
        for (partition, offset) in offsets {
            self.commits.note(partition.clone(), offset.next);
        }
    }

    /// Positions that are not known to be committed.
    pub(in super::super) fn uncommitted<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Offsets {
        let moved = partitions.into_iter().filter_map(|partition| {
            let position = self.reader.position(partition)?;
            let committed = self.commits.done(partition) == Some(position);
            (!committed).then(|| (partition.clone(), OffsetToCommit::new(position)))
        });
        moved.collect()
    }

    fn commit_now_and_then(&mut self) {
        let now = Instant::now();
        if let Some(interval) = self.config.auto_commit.filter(|_| now >= self.next_commit) {
            self.next_commit = now + interval;
            // A failure shows in the next one.
            drop(self.commit());
        }
    }

    /// Commits what is asked for, and with auto-commit what was returned; then leaves the group. Without it the member leaves
    /// when it is dropped, and what it has not committed others read again.
    pub async fn close(self) -> Result<(), ClientError> {
        let committed = match self.config.auto_commit {
            Some(_) => self.commit().await,
            None => Ok(()),
        };
        self.commits.settled().await;
        self.member.leave();
        self.member.left().await;
        committed
    }
}
