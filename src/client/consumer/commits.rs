//! A member's commits: one after the other, so that an older one never overtakes a newer one; what is asked for meanwhile goes
//! together. Each is sent in the member's present epoch, and only of partitions that it owns.

use super::super::changes::{Receiver, Sender};
use super::super::cluster::Client;
use super::super::error::ClientError;
use super::super::metadata::TopicPartition;
use super::super::offsets::OffsetToCommit;
use super::super::transaction::{Transaction, TransactionError};
use super::heart::Member;
use crate::types::Offset;
use crate::wire::ErrorCode;
use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A heartbeat that tells the member's new epoch is not waited for any longer before a commit is tried again.
const EPOCH_PATIENCE: Duration = Duration::from_millis(200);

pub(super) type Offsets = BTreeMap<TopicPartition, OffsetToCommit>;

/// What came of it; none yet.
type Outcome = Option<Result<(), ClientError>>;

/// A commit that has been asked for: await it, or drop it and rely on a later one. It is sent all the same.
#[derive(Clone, Debug)]
pub struct Commit {
    told: Receiver<Outcome>,
}

impl Commit {
    fn of_nothing() -> Commit {
        Commit { told: Sender::new(Some(Ok(()))).subscribe() }
    }

    /// Waits until the offsets are durable, or are known not to be.
    pub async fn wait(self) -> Result<(), ClientError> {
        self.told.wait_for(Option::is_some).await;
        self.told.value().unwrap_or(Err(ClientError::Closed("the consumer")))
    }
}

impl IntoFuture for Commit {
    type Output = Result<(), ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

struct Batch {
    offsets: Offsets,
    told: Sender<Outcome>,
}

#[derive(Default)]
struct Queue {
    waiting: Option<Batch>,
    under_way: Option<Receiver<Outcome>>,
    /// What is known to be committed.
    done: BTreeMap<TopicPartition, Offset>,
}

struct Shared {
    client: Client,
    member: Arc<Member>,
    queue: Mutex<Queue>,
    wake: Notify,
}

/// See the module. Dropped, it sends nothing more.
pub(super) struct Commits {
    shared: Arc<Shared>,
    sender: AbortHandle,
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Commits {
    pub(super) fn start(client: &Client, member: &Arc<Member>) -> Commits {
        let shared = Arc::new(Shared {
            client: client.clone(),
            member: Arc::clone(member),
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        let sender = tokio::spawn(Arc::clone(&shared).send_all()).abort_handle();
        Commits { shared, sender }
    }

    /// Asks for a commit of these offsets.
    pub(super) fn add(&self, offsets: Offsets) -> Commit {
        if offsets.is_empty() {
            return Commit::of_nothing();
        }
        let mut queue = self.shared.queue();
        let batch =
            queue.waiting.get_or_insert_with(|| Batch { offsets: Offsets::new(), told: Sender::new(None) });
        batch.offsets.extend(offsets);
        let told = batch.told.subscribe();
        drop(queue);
        self.shared.wake.notify_one();
        Commit { told }
    }

    /// Waits until none is left that was asked for.
    pub(super) async fn settled(&self) {
        let (waiting, under_way) = {
            let queue = self.shared.queue();
            (queue.waiting.as_ref().map(|batch| batch.told.subscribe()), queue.under_way.clone())
        };
        for told in [under_way, waiting].into_iter().flatten() {
            // Whoever asked for it has the outcome.
            let _ = Commit { told }.wait().await;
        }
    }

    /// What is known to be committed of a partition.
    pub(super) fn done(&self, partition: &TopicPartition) -> Option<Offset> {
        self.shared.queue().done.get(partition).copied()
    }

    /// It is known to be committed, whoever did it.
    pub(super) fn note(&self, partition: TopicPartition, offset: Offset) {
        self.shared.queue().done.insert(partition, offset);
    }

    /// Others may commit something else.
    pub(super) fn forget(&self, partition: &TopicPartition) {
        self.shared.queue().done.remove(partition);
    }

    /// Makes offsets part of a transaction, in the member's present epoch.
    pub(super) async fn stage(
        &self,
        transaction: &mut Transaction<'_>,
        offsets: &Offsets,
    ) -> Result<(), TransactionError> {
        let Shared { client, member, .. } = &*self.shared;
        let mut changes = member.changes();
        let deadline = Instant::now() + client.config().call_timeout;
        loop {
            changes.mark_unchanged();
            let claim = member.claim(offsets.keys());
            let Some(claimant) = claim.member.filter(|_| claim.gone.is_empty()) else {
                return Err(TransactionError::Abortable(member.not_owned(&claim.gone)));
            };
            match transaction.send_offsets(&claimant, offsets).await {
                // Nothing of it was taken: as soon as the member knows its new epoch, the same may be sent again.
                Err(TransactionError::Abortable(error)) if is_stale(&error) && Instant::now() < deadline => {
                    member.suspect();
                    let _ = tokio::time::timeout(EPOCH_PATIENCE, changes.changed()).await;
                }
                staged => return staged,
            }
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_all(self: Arc<Self>) {
        loop {
            let batch = {
                let mut queue = self.queue();
                let batch = queue.waiting.take();
                queue.under_way = batch.as_ref().map(|batch| batch.told.subscribe());
                batch
            };
            let Some(batch) = batch else {
                self.wake.notified().await;
                continue;
            };
            let outcome = self.send(&batch.offsets).await;
            if let Err(error) = &outcome {
                tracing::debug!(%error, "offsets were not committed");
            }
            batch.told.change(|told| *told = Some(outcome));
        }
    }

    /// Commits what of these the member owns; says so if it does not own all.
    async fn send(&self, offsets: &Offsets) -> Result<(), ClientError> {
        let mut changes = self.member.changes();
        let deadline = Instant::now() + self.client.config().call_timeout;
        loop {
            changes.mark_unchanged();
            let claim = self.member.claim(offsets.keys());
            let Some(claimant) = claim.member else { return Err(self.member.not_owned(offsets.keys())) };
            let held = offsets.iter().filter(|(partition, _)| !claim.gone.contains(*partition));
            let held: Offsets = held.map(|(partition, offset)| (partition.clone(), offset.clone())).collect();
            if !held.is_empty() {
                match self.client.commit_offsets(&claimant, &held).await {
                    Err(error) if is_stale(&error) && Instant::now() < deadline => {
                        self.member.suspect();
                        let _ = tokio::time::timeout(EPOCH_PATIENCE, changes.changed()).await;
                        continue;
                    }
                    Err(error) if is_gone(&error) => {
                        self.member.suspect();
                        return Err(self.member.not_owned(offsets.keys()));
                    }
                    committed => committed?,
                }
                let done = held.into_iter().map(|(partition, offset)| (partition, offset.next));
                self.queue().done.extend(done);
            }
            return match claim.gone.is_empty() {
                true => Ok(()),
                false => Err(self.member.not_owned(&claim.gone)),
            };
        }
    }
}

/// The member was in another epoch when the commit came: it may not have heard of its own yet.
fn is_stale(error: &ClientError) -> bool {
    matches!(error.code(), Some(ErrorCode::StaleMemberEpoch | ErrorCode::IllegalGeneration))
}

/// It is no member any more.
fn is_gone(error: &ClientError) -> bool {
    let codes = [ErrorCode::UnknownMemberId, ErrorCode::FencedMemberEpoch, ErrorCode::FencedInstanceId];
    error.code().is_some_and(|code| codes.contains(&code))
}
