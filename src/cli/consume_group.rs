//! `semel consume --group`: reads as a member of a group, and leaves it in order.

use super::CliError;
use super::consume::{ConsumeArgs, Offsets, Printer, ends};
use crate::client::{
    Client, ClientError, ConsumedRecord, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, GroupEvent,
    Isolation, Rebalance, Start, Subscription,
};
use crate::types::GroupId;
use clap::ValueEnum;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// What was printed is flushed and committed when nothing has come for so long,
const QUIET: Duration = Duration::from_millis(50);
/// or when it is so much.
const UNCOMMITTED_MAX: usize = 1000;

/// What is committed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CommitChoice {
    /// What was printed, right after it: after a crash only the last of it may be printed again.
    Printed,
    /// The same, but only every five seconds and at the end.
    Interval,
    /// Nothing: the next one reads the same again.
    Never,
}

pub(super) async fn read(client: &Client, arguments: &ConsumeArgs, group: &GroupId) -> Result<(), CliError> {
    let mut reader = Reader::join(client, arguments, group)?;
    let read = reader.read().await;
    let closed = reader.close().await;
    read.and(closed)
}

struct Reader<'a> {
    client: &'a Client,
    arguments: &'a ConsumeArgs,
    isolation: Isolation,
    consumer: GroupConsumer,
    printer: Printer,
    /// Up to where assigned partitions are read, unless it goes on.
    ends: Offsets,
    left: u64,
    /// Printed since the last commit.
    printed: usize,
    /// Since when no partition is assigned.
    idle_since: Instant,
}

impl<'a> Reader<'a> {
    fn join(client: &'a Client, arguments: &'a ConsumeArgs, group: &GroupId) -> Result<Self, CliError> {
        let isolation = arguments.isolation.into();
        let subscription = Subscription {
            pattern: arguments.pattern.clone(),
            ..Subscription::topics(arguments.topic.iter().cloned())
        };
        let usual = GroupConfig::new(group.clone(), subscription);
        let auto_commit = usual.auto_commit.filter(|_| arguments.commit == CommitChoice::Interval);
        let reading = ConsumerConfig { isolation, reset: Some(arguments.from), ..ConsumerConfig::default() };
        let config = GroupConfig { reading, auto_commit, instance_id: arguments.instance.clone(), ..usual };
        Ok(Reader {
            client,
            arguments,
            isolation,
            consumer: Consumer::subscribe(client, config)?,
            printer: Printer::new(arguments),
            ends: Offsets::new(),
            left: arguments.count.unwrap_or(u64::MAX),
            printed: 0,
            idle_since: Instant::now(),
        })
    }

    async fn read(&mut self) -> Result<(), CliError> {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        while self.left > 0 {
            let event = tokio::select! {
                biased;
                _ = terminated.recv() => break,
                _ = interrupted.recv() => break,
                event = tokio::time::timeout(QUIET, self.consumer.next_event()) => event,
            };
            match event {
                Ok(event) => self.take(event?).await?,
                Err(_) if self.is_at_the_end() => break,
                Err(_) => self.pause().await?,
            }
        }
        Ok(())
    }

    async fn take(&mut self, event: GroupEvent) -> Result<(), CliError> {
        match event {
            GroupEvent::Record(record) => self.print(&record).await?,
            GroupEvent::Rebalance(Rebalance::Assigned(partitions)) => {
                if !self.arguments.follow {
                    self.ends.extend(ends(self.client, &partitions, self.isolation).await?);
                }
            }
            GroupEvent::Rebalance(Rebalance::Revoked(partitions)) => {
                // They are somebody else's with the next event.
                self.commit().await?;
                self.ends.retain(|partition, _| !partitions.contains(partition));
                self.idle_since = Instant::now();
            }
            GroupEvent::Rebalance(Rebalance::Lost(partitions)) => {
                self.printer.flush()?;
                self.ends.retain(|partition, _| !partitions.contains(partition));
                self.idle_since = Instant::now();
            }
        }
        Ok(())
    }

    async fn print(&mut self, record: &ConsumedRecord) -> Result<(), CliError> {
        if self.ends.get(&record.partition).is_some_and(|end| record.offset >= *end) {
            // What was written after it began belongs to the next run.
            self.consumer.seek(record.partition.clone(), Start::Offset(record.offset))?;
            self.consumer.pause(&record.partition)?;
            return Ok(());
        }
        self.printer.print(record)?;
        (self.left, self.printed) = (self.left - 1, self.printed + 1);
        if self.printed >= UNCOMMITTED_MAX { self.commit().await } else { Ok(()) }
    }

    async fn pause(&mut self) -> Result<(), CliError> {
        self.commit().await?;
        let patience = Duration::from_secs(self.arguments.connect.timeout.into());
        let waits = self.arguments.follow || !self.consumer.assigned().is_empty();
        if waits {
            self.idle_since = Instant::now();
        } else if self.idle_since.elapsed() > patience {
            let problem = "this member of the group was assigned no partition";
            return Err(CliError::Refused { problem: problem.to_owned(), advice: NO_PARTITION.to_owned() });
        }
        Ok(())
    }

    /// Commits what was printed, once it is out.
    async fn commit(&mut self) -> Result<(), CliError> {
        self.printer.flush()?;
        self.printed = 0;
        if self.arguments.commit != CommitChoice::Printed {
            return Ok(());
        }
        match self.consumer.commit().await {
            // Whoever has it now prints the rest of it again.
            Ok(()) | Err(ClientError::NotOwned { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_at_the_end(&self) -> bool {
        let assigned = self.consumer.assigned();
        let has_read = |partition| {
            let (end, position) = (self.ends.get(partition), self.consumer.position(partition));
            end.zip(position).is_some_and(|(end, position)| position >= *end)
        };
        let whole = !self.arguments.follow && self.consumer.is_settled();
        whole && !assigned.is_empty() && assigned.iter().all(has_read)
    }

    async fn close(mut self) -> Result<(), CliError> {
        let committed = self.commit().await;
        let closed = self.consumer.close().await;
        committed.and(closed.map_err(CliError::from))
    }
}

const NO_PARTITION: &str = "the other members have them all (`semel group describe` names them), or no topic matches; wait for \
                            some with --follow";
