//! What the rest of the broker holds of the shard: ask it something, look at its rows, wait for a change.

use super::backup::{BackupRefused, BackupStanding, Backups};
use super::metrics::ShardMetrics;
use super::off_thread::off_thread;
use super::upkeep::Pressure;
use super::watch::{UpTo, Watch, Watchers};
use crate::core::{Command, Reply};
use crate::log::{Payload, Place, Reader};
use crate::store::{Database, ReadView};
use crate::types::{ConnectionId, PartitionId};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// The shard has stopped, or is stopping: nothing more is decided, and what was asked may or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is stopping")]
pub struct ShardStopped;

/// Where a command comes from. Dropped when the connection closes: coordinator requests that are still queued then are
/// dropped with it, because nothing else tells a version-1 request that outlived its connection from a new one.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The connection.
    pub connection: ConnectionId,
    pub(super) life: Arc<()>,
}

impl Origin {
    /// A new connection.
    #[must_use]
    pub fn new(connection: ConnectionId) -> Origin {
        Origin { connection, life: Arc::new(()) }
    }
}

/// A command on its way.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) connection: ConnectionId,
    pub(super) life: Weak<()>,
    pub(super) command: Command,
    /// The record batches of a `Produce`, one for each of its batches.
    pub(super) batches: Vec<Bytes>,
    pub(super) reply: oneshot::Sender<Reply>,
    /// How often it has been decided without all rows at hand.
    pub(super) rounds: u32,
}

/// A reply that will come when what it speaks of is durable.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Reply>);

impl Future for Answer {
    type Output = Result<Reply, ShardStopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|reply| reply.map_err(|_| ShardStopped))
    }
}

/// A shard. Cheap to clone: all clones are one shard.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) view: Arc<ArcSwap<ReadView>>,
    pub(super) watchers: Arc<Watchers>,
    pub(super) reader: Arc<Reader>,
    pub(super) pressure: Pressure,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) backups: Backups,
    pub(super) store: Database,
}

impl Shard {
    /// Whether a read of a view may wait for the disk now, because the store is writing tables: such a read is not for an
    /// async thread.
    #[must_use]
    pub fn reads_may_wait(&self) -> bool {
        self.store.is_rewriting()
    }

    /// What the shard counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ShardMetrics> {
        &self.metrics
    }

    /// Asks for a backup of that name, and where it stands ([`Backups::ask`]). It reads the manifest of one that is complete:
    /// off the async threads.
    pub async fn back_up(&self, name: String) -> Result<BackupStanding, BackupRefused> {
        let backups = self.backups.clone();
        off_thread(move || backups.ask(&name)).await
    }

    /// Whether the disk's reserve has been reached: then what takes more space is to be refused, with an error that
    /// clients retry. Ending transactions and deleting go on.
    #[must_use]
    pub fn space_is_short(&self) -> bool {
        self.pressure.is_short()
    }

    /// Queues a command; waits while the queue is full. Commands of one connection are decided in the order in which
    /// their calls of `ask` were made, so the next call must not begin before this one has returned. `batches` holds one
    /// record batch for each batch of a `Produce`, and is empty otherwise. The reply comes later, through the answer;
    /// dropping the answer does not undo the command.
    pub async fn ask(
        &self,
        origin: &Origin,
        command: Command,
        batches: Vec<Bytes>,
    ) -> Result<Answer, ShardStopped> {
        let (reply, answer) = oneshot::channel();
        let life = Arc::downgrade(&origin.life);
        let ask = Ask { connection: origin.connection, life, command, batches, reply, rounds: 0 };
        self.asks.send(ask).await.map_err(|_| ShardStopped)?;
        Ok(Answer(answer))
    }

    /// Queues a command whose reply nobody needs, in a queue that has room.
    pub(super) fn ask_first(&self, origin: &Origin, command: Command) {
        let (reply, _) = oneshot::channel();
        let life = Arc::downgrade(&origin.life);
        // The queue is new, so there is room.
        let _ = self.asks.try_send(Ask {
            connection: origin.connection,
            life,
            command,
            batches: Vec::new(),
            reply,
            rounds: 0,
        });
    }

    /// Whether the shard takes no more commands.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.asks.is_closed()
    }

    /// Returns when the shard takes no more commands.
    pub(super) async fn stopped(&self) {
        self.asks.closed().await;
    }

    /// The rows as of the last durable block. Everything read from one view belongs together.
    #[must_use]
    pub fn view(&self) -> Arc<ReadView> {
        self.view.load_full()
    }

    /// What `known` says of watched partitions, and then the newest view; and whether both are of one moment. If they are not,
    /// the view has all that the former speaks of, and may have more.
    pub fn with_view<T>(&self, known: impl FnOnce() -> T) -> (T, Arc<ReadView>, bool) {
        self.watchers.with_view(&self.view, known)
    }

    /// Watches partitions: a change of what can be read of one of them up to there, or its deletion, that is published
    /// after this call wakes [`Watch::changed`]. Look at a view after the call, not before.
    #[must_use]
    pub fn watch(&self, up_to: UpTo, partitions: Vec<PartitionId>) -> Watch {
        self.watchers.watch(up_to, partitions)
    }

    /// Reads record batches from the log, in the order of `places`; off the async threads where that takes the disk.
    pub async fn read(&self, places: &[Place]) -> Vec<Payload> {
        let recents = match self.reader.recent(places).all() {
            Ok(batches) => return batches,
            Err(recents) => recents,
        };
        let reader = Arc::clone(&self.reader);
        off_thread(move || reader.read_missing(recents)).await
    }
}
