//! What a session reads, with partitions that wait until a record of theirs is tried again.

use crate::client::consumer::{ConsumedRecord, GroupConsumer, GroupEvent, Rebalance};
use crate::client::error::ClientError;
use crate::client::metadata::TopicPartition;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// What was taken in.
pub(super) enum Taken {
    Record(ConsumedRecord),
    /// Nothing more for this transaction: its time is over, or partitions are to be given up.
    Nothing,
    /// Partitions of records that are in it may be somebody else's.
    Lost,
}

pub(super) struct Intake {
    consumer: GroupConsumer,
    /// Partitions that are paused, and until when.
    waiting: BTreeMap<TopicPartition, Instant>,
}

impl Intake {
    pub(super) fn new(consumer: GroupConsumer) -> Intake {
        Intake { consumer, waiting: BTreeMap::new() }
    }

    pub(super) fn consumer(&self) -> &GroupConsumer {
        &self.consumer
    }

    /// The next record; without a deadline, whatever else happens is done with before.
    pub(super) async fn take(&mut self, deadline: Option<Instant>) -> Result<Taken, ClientError> {
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(Taken::Nothing);
            }
            self.resume(now);
            let wake = deadline.into_iter().chain(self.waiting.values().copied()).min();
            let event = match wake {
                None => self.consumer.next_event().await?,
                Some(wake) => match tokio::time::timeout_at(wake, self.consumer.next_event()).await {
                    Ok(event) => event?,
                    Err(_) => continue,
                },
            };
            let rebalance = match event {
                GroupEvent::Record(record) => return Ok(Taken::Record(record)),
                GroupEvent::Rebalance(rebalance) => rebalance,
            };
            match rebalance {
                Rebalance::Assigned(_) => {}
                Rebalance::Revoked(partitions) => {
                    self.forget(&partitions);
                    if deadline.is_some() {
                        return Ok(Taken::Nothing);
                    }
                }
                Rebalance::Lost(partitions) => {
                    self.forget(&partitions);
                    if deadline.is_some() {
                        return Ok(Taken::Lost);
                    }
                }
            }
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.waiting.retain(|partition, _| !partitions.contains(partition));
    }

    fn resume(&mut self, now: Instant) {
        let due: Vec<_> = self.waiting.extract_if(.., |_, until| *until <= now).collect();
        due.iter().for_each(|(partition, _)| self.consumer.resume(partition));
    }

    /// The record has not been processed: it is read again, not before that time.
    pub(super) fn put_back(&mut self, record: &ConsumedRecord, again_at: Instant) -> Result<(), ClientError> {
        match self.consumer.put_back(record) {
            Ok(()) => drop(self.waiting.insert(record.partition.clone(), again_at)),
            // It has just been lost, with all that was read of it.
            Err(ClientError::NotOwned { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes back to what is committed.
    pub(super) fn rewind(&mut self) {
        self.consumer.rewind();
    }

    pub(super) async fn close(self) -> Result<(), ClientError> {
        self.consumer.close().await
    }
}
