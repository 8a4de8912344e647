//! A member of a group of the consumer protocol, as it knows itself (KIP-848; `spec/groups.md`, section 18): when it is heard
//! of and what it says then, what an answer means, and what the application is to give up and to take over, in which order.
//!
//! Pure: no I/O, no clock; time is an argument. At most one heartbeat is under way. What the application uses is `owned`, and
//! nothing that it has not given up is ever said to be given up.

use super::super::backoff::{Backoff, BackoffLimits};
use super::super::error::ClientError;
use crate::types::{PartitionId, TopicId, TopicName};
use crate::wire::ErrorCode;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The epochs that are no epochs, as the protocol has them.
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const AWAY: i32 = -2;

/// What a member subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics by name.
    pub topics: BTreeSet<TopicName>,
    /// And all those whose whole names match this regular expression (RE2's syntax).
    pub pattern: Option<String>,
    /// Who shall distribute the partitions: `uniform` or `range`; none to leave that to the others and the broker.
    pub assignor: Option<String>,
}

impl Subscription {
    /// These topics.
    #[must_use]
    pub fn topics(topics: impl IntoIterator<Item = TopicName>) -> Subscription {
        Subscription { topics: topics.into_iter().collect(), ..Subscription::default() }
    }

    /// All topics whose whole names match a regular expression, also those that will be made.
    #[must_use]
    pub fn pattern(pattern: impl Into<String>) -> Subscription {
        Subscription { pattern: Some(pattern.into()), ..Subscription::default() }
    }

    /// This, with a wish for an assignor.
    #[must_use]
    pub fn assigned_by(self, assignor: impl Into<String>) -> Subscription {
        Subscription { assignor: Some(assignor.into()), ..self }
    }

    /// Whether it is to nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.pattern.is_none()
    }
}

/// What a member is told once.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// The static member's name, if it is one.
    pub instance_id: Option<String>,
    /// How long the application may do other things than ask for records; then the member leaves until it asks again.
    pub poll_timeout: Duration,
    /// How long the name of a static member may still be in use by its former process.
    pub unreleased_patience: Duration,
    /// How long it is tried to say that it leaves.
    pub leave_timeout: Duration,
    /// Pauses after failures.
    pub backoff: BackoffLimits,
}

/// A heartbeat to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The member's epoch, or 0 to join, −1 to leave, −2 to be away.
    pub epoch: i32,
    /// What it subscribes to, where everything is said anew.
    pub subscription: Option<Subscription>,
    /// What it owns, where that is news or everything is said anew.
    pub owned: Option<BTreeSet<PartitionId>>,
}

/// What a heartbeat was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatAnswer {
    /// The member's epoch from now on.
    pub epoch: i32,
    /// When it is to be heard of again.
    pub interval: Duration,
    /// What is assigned to it, if it is told that.
    pub assigned: Option<BTreeSet<PartitionId>>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This heartbeat is to be sent, and its answer to be told.
    Send(Beat),
    /// Nothing before that time; none: before something happens.
    Wait(Option<Instant>),
    /// Nothing any more.
    Nothing,
}

/// What the application is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handover {
    /// To finish with these partitions, and say so with [`Membership::revoked`]. Nobody else has them before.
    Revoke(BTreeSet<PartitionId>),
    /// To drop them at once: others may have them already.
    Lose(BTreeSet<PartitionId>),
    /// To take them over.
    Assign(BTreeSet<PartitionId>),
}

/// Where the member stands.
#[derive(Clone, Debug)]
enum Phase {
    /// It has no epoch; it joins when the application owns nothing. `sent`: the coordinator may have heard of it.
    Joining {
        sent: bool,
    },
    /// It is a member in this epoch.
    Member(i32),
    /// The application has not asked for too long. It says so once, and joins again when it is asked.
    Idle {
        told: bool,
    },
    /// It says that it leaves, until that time at the latest.
    Leaving(Instant),
    Left,
    Failed(ClientError),
}

/// What the heartbeat under way says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// That it joins, or goes on; with what it owns, if it says that.
    Here { joins: bool, owned: Option<BTreeSet<PartitionId>> },
    /// That it goes.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    subscription: Subscription,
    phase: Phase,
    /// What the coordinator has said last.
    assigned: BTreeSet<PartitionId>,
    /// What the application uses.
    owned: BTreeSet<PartitionId>,
    /// Of that, what it is finishing with.
    revoking: BTreeSet<PartitionId>,
    /// What the coordinator knows that it owns; none if it may know anything.
    told: Option<BTreeSet<PartitionId>>,
    under_way: Option<Said>,
    next_at: Instant,
    /// Since when the application does something else.
    busy_since: Option<Instant>,
    /// Since when the static member's name was refused as in use.
    unreleased_since: Option<Instant>,
    backoff: Backoff,
}

impl Membership {
    /// One that joins as soon as it can. `seed` spreads its pauses.
    #[must_use]
    pub fn new(config: MembershipConfig, subscription: Subscription, now: Instant, seed: u64) -> Membership {
        Membership {
            backoff: Backoff::new(config.backoff, seed),
            config,
            subscription,
            phase: Phase::Joining { sent: false },
            assigned: BTreeSet::new(),
            owned: BTreeSet::new(),
            revoking: BTreeSet::new(),
            told: None,
            under_way: None,
            next_at: now,
            busy_since: Some(now),
            unreleased_since: None,
        }
    }

    /// What to do now.
    pub fn next_beat(&mut self, now: Instant) -> Next {
        if self.idles_too_long(now) {
            self.phase = Phase::Idle { told: false };
            self.next_at = now;
        }
        if self.under_way.is_some() {
            return Next::Wait(None);
        }
        let due = self.next_at <= now;
        match &self.phase {
            Phase::Joining { .. } if !self.owned.is_empty() => Next::Wait(None),
            Phase::Joining { .. } if due => {
                self.phase = Phase::Joining { sent: true };
                self.send_here(JOIN)
            }
            Phase::Member(epoch) if due || self.owes_news() => {
                let epoch = *epoch;
                self.send_here(epoch)
            }
            Phase::Idle { told: true } => Next::Wait(None),
            Phase::Idle { told: false } if due => self.send_gone(),
            Phase::Leaving(until) if *until <= now => {
                self.phase = Phase::Left;
                Next::Nothing
            }
            Phase::Leaving(_) if due => self.send_gone(),
            Phase::Left | Phase::Failed(_) => Next::Nothing,
            _ => Next::Wait(Some(self.wakeup())),
        }
    }

    fn idles_too_long(&self, now: Instant) -> bool {
        let late = self.busy_since.is_some_and(|since| since + self.config.poll_timeout <= now);
        late && matches!(self.phase, Phase::Member(_))
    }

    fn wakeup(&self) -> Instant {
        match &self.phase {
            Phase::Member(_) => {
                let idle = self.busy_since.map(|since| since + self.config.poll_timeout);
                idle.map_or(self.next_at, |idle| idle.min(self.next_at))
            }
            Phase::Leaving(until) => self.next_at.min(*until),
            _ => self.next_at,
        }
    }

    /// Whether the coordinator waits to hear what the application has given up or taken over.
    fn owes_news(&self) -> bool {
        // What is being revoked is still owned, and is not said before it is done.
        self.revoking.is_empty() && self.told.as_ref().is_some_and(|told| *told != self.owned)
    }

    fn send_here(&mut self, epoch: i32) -> Next {
        let full = epoch == JOIN || self.told.is_none();
        let owned = (full || self.owes_news()).then(|| self.owned.clone());
        self.under_way = Some(Said::Here { joins: epoch == JOIN, owned: owned.clone() });
        Next::Send(Beat { epoch, subscription: full.then(|| self.subscription.clone()), owned })
    }

    fn send_gone(&mut self) -> Next {
        self.under_way = Some(Said::Gone);
        let epoch = if self.config.instance_id.is_some() { AWAY } else { LEAVE };
        Next::Send(Beat { epoch, subscription: None, owned: None })
    }

    /// The heartbeat under way was answered, or was not.
    pub fn answered(&mut self, now: Instant, answer: Result<BeatAnswer, ClientError>) {
        let Some(said) = self.under_way.take() else { return };
        let (joins, owned) = match said {
            Said::Gone => return self.gone(now, answer.err()),
            Said::Here { joins, owned } => (joins, owned),
        };
        // It may have been overtaken by what happened meanwhile.
        let expected = match self.phase {
            Phase::Joining { .. } => joins,
            Phase::Member(_) => !joins,
            _ => false,
        };
        match answer {
            _ if !expected => {}
            Ok(answer) => self.heard(now, answer, owned),
            Err(error) => self.refused(now, error),
        }
    }

    fn heard(&mut self, now: Instant, answer: BeatAnswer, owned: Option<BTreeSet<PartitionId>>) {
        self.phase = Phase::Member(answer.epoch);
        self.assigned = answer.assigned.unwrap_or_else(|| std::mem::take(&mut self.assigned));
        if owned.is_some() {
            self.told = owned;
        }
        self.next_at = now + answer.interval;
        self.unreleased_since = None;
        self.backoff.succeeded();
    }

    fn refused(&mut self, now: Instant, error: ClientError) {
        match error.code() {
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => {
                let was_member = matches!(self.phase, Phase::Member(_));
                self.rejoin();
                self.next_at = if was_member { now } else { now + self.backoff.pause() };
            }
            Some(ErrorCode::UnreleasedInstanceId) => {
                let since = *self.unreleased_since.get_or_insert(now);
                match since + self.config.unreleased_patience <= now {
                    true => self.phase = Phase::Failed(error),
                    false => self.next_at = now + self.backoff.pause(),
                }
            }
            _ if error.retriable() => {
                // It may have come through or not: everything is said again.
                self.told = None;
                self.next_at = now + self.backoff.pause();
            }
            _ => self.phase = Phase::Failed(error),
        }
    }

    fn rejoin(&mut self) {
        self.phase = Phase::Joining { sent: false };
        self.assigned.clear();
        self.told = None;
    }

    fn gone(&mut self, now: Instant, failed: Option<ClientError>) {
        let again = failed.is_some_and(|error| error.retriable());
        match &mut self.phase {
            Phase::Leaving(_) if again => self.next_at = now + self.backoff.pause(),
            Phase::Leaving(_) => self.phase = Phase::Left,
            // Its session ends without it as well.
            Phase::Idle { told } => *told = true,
            _ => {}
        }
    }

    /// What the application is to do next. Topics that are not `named` yet are not taken over before they are.
    pub fn hand_over(&mut self, named: impl Fn(TopicId) -> bool) -> Option<Handover> {
        if !self.revoking.is_empty() {
            return None;
        }
        if !matches!(self.phase, Phase::Member(_)) {
            let lost = std::mem::take(&mut self.owned);
            return (!lost.is_empty()).then_some(Handover::Lose(lost));
        }
        let revoking: BTreeSet<PartitionId> = self.owned.difference(&self.assigned).copied().collect();
        if !revoking.is_empty() {
            self.revoking.clone_from(&revoking);
            return Some(Handover::Revoke(revoking));
        }
        let news = self.assigned.difference(&self.owned).filter(|partition| named(partition.topic));
        let news: BTreeSet<PartitionId> = news.copied().collect();
        self.owned.extend(&news);
        (!news.is_empty()).then_some(Handover::Assign(news))
    }

    /// The application has finished with what it was to revoke.
    pub fn revoked(&mut self) {
        let revoked = std::mem::take(&mut self.revoking);
        self.owned.retain(|partition| !revoked.contains(partition));
    }

    /// Topics of assigned partitions that the application does not have yet.
    #[must_use]
    pub fn new_topics(&self) -> BTreeSet<TopicId> {
        self.assigned.difference(&self.owned).map(|partition| partition.topic).collect()
    }

    /// The application asks for records. Whether it joins again because of that.
    pub fn asked(&mut self, now: Instant) -> bool {
        self.busy_since = None;
        let idled = matches!(self.phase, Phase::Idle { .. });
        if idled {
            self.rejoin();
            self.next_at = now;
        }
        idled
    }

    /// It has got one, or has given up waiting.
    pub fn busy(&mut self, now: Instant) {
        self.busy_since = Some(now);
    }

    /// It subscribes to something else.
    pub fn subscribe(&mut self, now: Instant, subscription: Subscription) {
        self.subscription = subscription;
        self.told = None;
        self.next_at = now;
    }

    /// Something says that the coordinator no longer has it as a member: it asks at once.
    pub fn suspect(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Member(_)) {
            self.next_at = now;
        }
    }

    /// The application has finished with everything: the member leaves.
    pub fn leave(&mut self, now: Instant) {
        self.owned.clear();
        self.revoking.clear();
        let until = now + self.config.leave_timeout;
        let may_be_known = match &self.phase {
            Phase::Joining { sent } => *sent,
            Phase::Member(_) => true,
            Phase::Idle { told } => !told,
            Phase::Leaving(_) | Phase::Left | Phase::Failed(_) => return,
        };
        self.phase = if may_be_known { Phase::Leaving(until) } else { Phase::Left };
        self.next_at = now;
    }

    /// The epoch in which it commits; none while it is no member.
    #[must_use]
    pub fn epoch(&self) -> Option<i32> {
        match self.phase {
            Phase::Member(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Whether the application uses the partition by right, as far as is known.
    #[must_use]
    pub fn owns(&self, partition: &PartitionId) -> bool {
        self.epoch().is_some() && self.owned.contains(partition)
    }

    /// What the application uses.
    #[must_use]
    pub fn owned(&self) -> &BTreeSet<PartitionId> {
        &self.owned
    }

    /// Why it cannot be a member, if it cannot.
    #[must_use]
    pub fn failure(&self) -> Option<&ClientError> {
        match &self.phase {
            Phase::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether it is a member, and what it has been told is all done.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Member(_)) && self.owned == self.assigned && !self.owes_news()
    }

    /// Whether it has left, or never will.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Left | Phase::Failed(_))
    }
}
