//! A member of a group at work: its heartbeats, on a lane of its own, and the names of the topics that it is assigned. Whatever
//! is decided, [`Membership`] decides.

use super::super::changes;
use super::super::cluster::Client;
use super::super::coordinator::Coordinated;
use super::super::error::ClientError;
use super::super::lane::Purpose;
use super::super::metadata::TopicPartition;
use super::super::offsets::GroupMember;
use super::super::versions::ANY_VERSION;
use super::membership::{Beat, BeatAnswer, Handover, Membership, MembershipConfig, Next, Subscription};
use super::{GroupConfig, Rebalance};
use crate::types::{GroupId, PartitionId, PartitionIndex, TopicId, TopicName, outside};
use crate::wire::ApiKey;
use crate::wire::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerGroupTopicPartitions,
    MetadataRequest, MetadataRequestTopic,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The first version of ConsumerGroupHeartbeat that has regular expressions.
const HAS_PATTERNS: i16 = 1;
/// Who leaves does not wait longer for a coordinator that does not answer: the session ends without it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module. Shared by the heartbeats, the commits and the application.
pub(super) struct Member {
    client: Client,
    group: GroupId,
    coordinated: Coordinated,
    owner: u32,
    member_id: String,
    instance_id: Option<String>,
    rebalance_timeout: Duration,
    state: Mutex<State>,
    /// The heartbeats have something to look at.
    wake: Notify,
    /// The coordinator has said something: commits and the application look again.
    changes: changes::Sender<()>,
}

struct State {
    membership: Membership,
    /// Of the topics that are assigned or owned.
    names: BTreeMap<TopicId, TopicName>,
}

/// In whose name offsets are committed.
pub(super) struct Claim {
    /// The member in its present epoch; none if it is none.
    pub(super) member: Option<GroupMember>,
    /// Those of the partitions that it does not own any more.
    pub(super) gone: BTreeSet<TopicPartition>,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Member {
    /// A member that joins from now on.
    pub(super) fn start(client: &Client, config: &GroupConfig) -> Arc<Member> {
        let limits = MembershipConfig {
            instance_id: config.instance_id.clone(),
            poll_timeout: config.poll_timeout,
            unreleased_patience: client.config().call_timeout,
            leave_timeout: LEAVE_TIMEOUT,
            backoff: client.config().backoff,
        };
        let seed = outside::seed();
        let membership = Membership::new(limits, config.subscription.clone(), now(), seed);
        let member = Arc::new(Member {
            client: client.clone(),
            group: config.group.clone(),
            coordinated: Coordinated::Group(config.group.clone()),
            owner: client.new_owner(),
            member_id: outside::uuid().to_string(),
            instance_id: config.instance_id.clone(),
            rebalance_timeout: config.poll_timeout,
            state: Mutex::new(State { membership, names: BTreeMap::new() }),
            wake: Notify::new(),
            changes: changes::Sender::new(()),
        });
        tokio::spawn(Arc::clone(&member).beat());
        member
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_change(&self) {
        self.changes.change(|()| {});
    }

    /// Sees each change.
    pub(super) fn changes(&self) -> changes::Receiver<()> {
        self.changes.subscribe()
    }

    /// The next step of the application, which it takes by that.
    pub(super) fn hand_over(&self) -> Option<Rebalance> {
        let mut state = self.state();
        let State { membership, names } = &mut *state;
        let handed = membership.hand_over(|topic| names.contains_key(&topic))?;
        let named = |partitions: BTreeSet<PartitionId>| named(names, &partitions);
        let rebalance = match handed {
            Handover::Revoke(partitions) => Rebalance::Revoked(named(partitions)),
            Handover::Lose(partitions) => Rebalance::Lost(named(partitions)),
            Handover::Assign(partitions) => Rebalance::Assigned(named(partitions)),
        };
        drop(state);
        self.wake.notify_one();
        Some(rebalance)
    }

    /// What was to be revoked is finished with.
    pub(super) fn revoked(&self) {
        self.state().membership.revoked();
        self.wake.notify_one();
    }

    /// The application asks for records.
    pub(super) fn asked(&self) {
        if self.state().membership.asked(now()) {
            self.wake.notify_one();
        }
    }

    /// It does something else.
    pub(super) fn busy(&self) {
        self.state().membership.busy(now());
    }

    pub(super) fn subscribe(&self, subscription: Subscription) {
        self.state().membership.subscribe(now(), subscription);
        self.wake.notify_one();
    }

    /// Somebody was told that this is no member any more.
    pub(super) fn suspect(&self) {
        self.state().membership.suspect(now());
        self.wake.notify_one();
    }

    pub(super) fn leave(&self) {
        self.state().membership.leave(now());
        self.wake.notify_one();
    }

    /// Waits until it has left, or has tried for long enough.
    pub(super) async fn left(&self) {
        let changes = self.changes();
        let left = changes.wait_for(|_| self.state().membership.is_over());
        // An answer that does not come is not waited for.
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, left).await;
    }

    pub(super) fn failure(&self) -> Option<ClientError> {
        self.state().membership.failure().cloned()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state().membership.is_settled()
    }

    /// What the application uses.
    pub(super) fn owned(&self) -> Vec<TopicPartition> {
        let state = self.state();
        named(&state.names, state.membership.owned())
    }

    /// In whose name offsets of these partitions are committed.
    pub(super) fn claim<'p>(&self, partitions: impl IntoIterator<Item = &'p TopicPartition>) -> Claim {
        let state = self.state();
        let owns = |partition: &TopicPartition| {
            let mut topics = state.names.iter().filter(|(_, name)| **name == partition.topic);
            topics.any(|(id, _)| state.membership.owns(&PartitionId::new(*id, partition.partition)))
        };
        let member = state.membership.epoch().map(|generation| GroupMember {
            group: self.group.clone(),
            generation,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
        });
        let gone = partitions.into_iter().filter(|partition| !owns(partition)).cloned().collect();
        Claim { member, gone }
    }

    /// That the member does not own these partitions.
    pub(super) fn not_owned<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> ClientError {
        let names: Vec<_> = partitions.into_iter().map(ToString::to_string).collect();
        ClientError::NotOwned { group: self.group.clone(), partitions: names.join(", ") }
    }

    async fn beat(self: Arc<Self>) {
        loop {
            let next = self.state().membership.next_beat(now());
            match next {
                Next::Send(beat) => {
                    let answer = self.send(&beat).await;
                    if let Err(error) = &answer {
                        tracing::debug!(group = %self.group, %error, "a heartbeat was not answered as hoped");
                    }
                    self.state().membership.answered(now(), answer);
                    self.tell_change();
                    if let Err(error) = self.learn_names().await {
                        tracing::debug!(group = %self.group, %error, "topics are not known yet; asking again");
                    }
                }
                Next::Wait(Some(until)) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = self.wake.notified() => {}
                },
                Next::Wait(None) => self.wake.notified().await,
                Next::Nothing => break,
            }
        }
        self.tell_change();
        self.client.release(self.owner);
    }

    async fn send(&self, beat: &Beat) -> Result<BeatAnswer, ClientError> {
        let connection = self.client.coordinator(&self.coordinated, Purpose::Control, self.owner).await?;
        let version = connection.versions().highest(ApiKey::ConsumerGroupHeartbeat, ANY_VERSION)?;
        let answer = connection.call(&self.request(beat, version)).await.and_then(|answer| {
            let context = || format!("being a member of group {}", self.group);
            let code = answer.error_code.ok();
            code.map_err(|code| ClientError::broker(context(), code, answer.error_message.clone()))?;
            Ok(read_answer(answer))
        });
        answer.inspect_err(|error| self.client.heed_coordinator_error(&self.coordinated, error))
    }

    fn request(&self, beat: &Beat, version: i16) -> ConsumerGroupHeartbeatRequest {
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.as_str().to_owned(),
            member_id: self.member_id.clone(),
            member_epoch: beat.epoch,
            instance_id: self.instance_id.clone(),
            topic_partitions: beat.owned.as_ref().map(by_topic),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        if let Some(subscription) = &beat.subscription {
            let names = subscription.topics.iter().map(|topic| topic.as_str().to_owned());
            let says_pattern = version >= HAS_PATTERNS || subscription.pattern.is_some();
            request.subscribed_topic_names = Some(names.collect());
            // Empty: none any more.
            request.subscribed_topic_regex =
                says_pattern.then(|| subscription.pattern.clone().unwrap_or_default());
            request.server_assignor.clone_from(&subscription.assignor);
            request.rebalance_timeout_ms =
                i32::try_from(self.rebalance_timeout.as_millis()).unwrap_or(i32::MAX);
        }
        request
    }

    /// Asks what the topics of new partitions are called.
    async fn learn_names(&self) -> Result<(), ClientError> {
        let unknown: Vec<TopicId> = {
            let state = self.state();
            let topics = state.membership.new_topics();
            topics.into_iter().filter(|topic| !state.names.contains_key(topic)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let known = self.client.metadata();
        let (known, unknown): (Vec<_>, Vec<_>) = unknown
            .into_iter()
            .map(|id| (id, known.topic_of(id).cloned()))
            .partition(|(_, name)| name.is_some());
        let mut names: BTreeMap<TopicId, TopicName> =
            known.into_iter().filter_map(|(id, name)| Some((id, name?))).collect();
        if !unknown.is_empty() {
            let topics = unknown.iter().map(|(id, _)| MetadataRequestTopic { topic_id: *id, name: None });
            let request = MetadataRequest {
                topics: Some(topics.collect()),
                allow_auto_topic_creation: false,
                ..MetadataRequest::default()
            };
            let answer = self.client.ask_metadata_with(&request).await?;
            // Of a topic that has just been deleted there is no name; the coordinator will say so, too.
            names.extend(
                answer
                    .topics
                    .into_iter()
                    .filter(|topic| topic.error_code.is_none())
                    .filter_map(|topic| Some((topic.topic_id, TopicName::new(topic.name.as_deref()?).ok()?))),
            );
        }
        let mut state = self.state();
        let State { membership, names: known } = &mut *state;
        let used: BTreeSet<TopicId> = membership
            .owned()
            .iter()
            .map(|partition| partition.topic)
            .chain(membership.new_topics())
            .collect();
        known.extend(names);
        known.retain(|topic, _| used.contains(topic));
        drop(state);
        self.tell_change();
        Ok(())
    }
}

fn named(names: &BTreeMap<TopicId, TopicName>, partitions: &BTreeSet<PartitionId>) -> Vec<TopicPartition> {
    let named = partitions.iter().filter_map(|partition| {
        Some(TopicPartition::new(names.get(&partition.topic)?.clone(), partition.index))
    });
    named.collect()
}

fn by_topic(partitions: &BTreeSet<PartitionId>) -> Vec<ConsumerGroupTopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(partition.topic).or_default().push(partition.index.0);
    }
    let topics = topics.into_iter();
    topics.map(|(topic_id, partitions)| ConsumerGroupTopicPartitions { topic_id, partitions }).collect()
}

fn read_answer(answer: ConsumerGroupHeartbeatResponse) -> BeatAnswer {
    let assigned = answer.assignment.map(|assignment| {
        let partitions = assignment.topic_partitions.into_iter().flat_map(|topic| {
            let id = topic.topic_id;
            topic.partitions.into_iter().map(move |index| PartitionId::new(id, PartitionIndex(index)))
        });
        partitions.collect()
    });
    let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or_default();
    BeatAnswer { epoch: answer.member_epoch, interval: Duration::from_millis(interval.max(1)), assigned }
}
