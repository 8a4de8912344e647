//! The members: they join, beat, and take over what they are told, but read nothing.

use super::ledger::{Beats, Ledger};
use crate::client::{ClientError, Connection};
use crate::types::{GroupId, TopicName};
use crate::wire::{ErrorCode, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a member waits before it says something again that could not be served.
const RETRY: Duration = Duration::from_millis(100);

/// What a member's client sets by default.
pub(super) const REBALANCE_TIMEOUT_MS: i32 = 300_000;

/// A member, whichever protocol it speaks.
pub(super) struct Member {
    /// Its connection to the coordinator.
    pub(super) lane: Arc<Connection>,
    pub(super) group: GroupId,
    pub(super) group_number: usize,
    /// Its number in its group,
    pub(super) number: usize,
    /// among all members,
    pub(super) overall: usize,
    /// and how many those are.
    pub(super) members: usize,
    pub(super) topic: TopicName,
    pub(super) partitions: i32,
    pub(super) ledger: Arc<Ledger>,
    pub(super) beats: Arc<Beats>,
    pub(super) stop: watch::Receiver<bool>,
    /// Whether its heartbeats have found their place between those of the others.
    pub(super) spread: bool,
}

impl Member {
    /// Sends a heartbeat of whichever protocol.
    pub(super) async fn beat<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let sent = Instant::now();
        let answer = self.lane.call(request).await?;
        self.beats.record(self.overall, sent.elapsed());
        Ok(answer)
    }

    /// Waits for its next heartbeat; false if it is to leave instead. They join together, so that they would beat together
    /// for ever: once everything is stable, each waits a part of the interval longer, once.
    pub(super) async fn rest(&mut self, interval: Duration) -> bool {
        let mut wait = interval;
        if !self.spread && self.ledger.all_stable() {
            self.spread = true;
            let place = u32::try_from(self.overall).unwrap_or(u32::MAX);
            let of = u32::try_from(self.members).unwrap_or(u32::MAX).max(1);
            wait += interval.mul_f64(f64::from(place) / f64::from(of));
        }
        // It ends with the time, or with the word to stop.
        tokio::time::timeout(wait, self.stop.wait_for(|stop| *stop)).await.is_err()
    }

    pub(super) fn rejoins(&self) {
        self.ledger.rejoins(self.group_number, self.number);
    }

    /// Waits a moment if this refusal may pass; else it is an error.
    pub(super) async fn wait_out(&self, code: ErrorCode, what: &str) -> Result<(), ClientError> {
        if !code.retriable() {
            let context = format!("{what} of group {}", self.group);
            return Err(ClientError::Broker { context, code, detail: None });
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
}
