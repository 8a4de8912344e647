//! Where a member begins to read a partition: where its group has committed, or else where it is told to.

use super::super::cluster::Client;
use super::super::error::ClientError;
use super::super::metadata::TopicPartition;
use super::super::offsets::OffsetQuery;
use super::{Isolation, Start};
use crate::types::{GroupId, Offset};
use std::time::Duration;

/// What is the same for all partitions.
#[derive(Clone)]
pub(super) struct Search {
    pub(super) client: Client,
    pub(super) group: GroupId,
    pub(super) isolation: Isolation,
    /// Where to begin if nothing is committed.
    pub(super) reset: Option<Start>,
}

/// A partition whose place is to be found.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) partition: TopicPartition,
    /// Which search for it: one that something has overtaken does not count.
    pub(super) number: u64,
    /// Where reading began before anything was committed, if it did.
    pub(super) begun: Option<Offset>,
}

/// Where to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The group has come so far.
    Committed(Offset),
    /// Nothing is committed.
    Begin(Offset),
}

pub(super) type Found = Vec<(Wanted, Result<Place, ClientError>)>;

impl Search {
    /// Looks for all of them, after a pause.
    pub(super) async fn find(self, wanted: Vec<Wanted>, pause: Duration) -> Found {
        tokio::time::sleep(pause).await;
        let partitions: Vec<_> = wanted.iter().map(|one| one.partition.clone()).collect();
        // Whoever reads what is committed begins where no transaction that is still open may yet move it (KIP-447).
        let query = match self.isolation {
            Isolation::ReadCommitted => OffsetQuery::Stable,
            Isolation::ReadUncommitted => OffsetQuery::Latest,
        };
        let mut committed = match self.client.committed_offsets_each(&self.group, &partitions, query).await {
            Ok(committed) => committed,
            Err(error) => return wanted.into_iter().map(|one| (one, Err(error.clone()))).collect(),
        };
        let (mut found, mut without) = (Found::new(), Vec::new());
        for one in wanted {
            let missing = || Err(ClientError::Unknown { what: format!("partition {}", one.partition) });
            match (committed.remove(&one.partition).unwrap_or_else(missing), one.begun) {
                (Ok(Some(offset)), _) => found.push((one, Ok(Place::Committed(offset.next)))),
                (Ok(None), Some(begun)) => found.push((one, Ok(Place::Begin(begun)))),
                (Ok(None), None) => without.push(one),
                (Err(error), _) => found.push((one, Err(error))),
            }
        }
        found.extend(self.begin(without).await);
        found
    }

    /// Where to begin without a committed offset.
    async fn begin(&self, wanted: Vec<Wanted>) -> Found {
        let Some(start) = self.reset else {
            let nowhere = |one: Wanted| {
                let (group, partition) = (self.group.clone(), one.partition.to_string());
                (one, Err(ClientError::NothingCommitted { group, partition }))
            };
            return wanted.into_iter().map(nowhere).collect();
        };
        let asked: Vec<_> = wanted.iter().map(|one| (one.partition.clone(), start)).collect();
        match self.client.find_starts(&asked, self.isolation).await {
            Ok(starts) => {
                wanted.into_iter().zip(starts).map(|(one, start)| (one, start.map(Place::Begin))).collect()
            }
            Err(error) => wanted.into_iter().map(|one| (one, Err(error.clone()))).collect(),
        }
    }
}
