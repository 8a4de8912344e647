//! Which broker coordinates a group or a transactional id.

use super::cluster::{Client, SHARED_OWNER};
use super::connection::Connection;
use super::error::ClientError;
use super::lane::{Lane, Purpose};
use super::metadata::Metadata;
use crate::types::{GroupId, HashMap, NodeId, TransactionalId};
use crate::wire::ErrorCode;
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use std::sync::{Arc, Mutex, PoisonError};

/// What is coordinated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Coordinated {
    /// A consumer group's offsets.
    Group(GroupId),
    /// A transactional producer.
    Transactions(TransactionalId),
}

impl Coordinated {
    fn name(&self) -> &str {
        match self {
            Coordinated::Group(group) => group.as_str(),
            Coordinated::Transactions(id) => id.as_str(),
        }
    }

    fn key_type(&self) -> i8 {
        match self {
            Coordinated::Group(_) => 0,
            Coordinated::Transactions(_) => 1,
        }
    }
}

/// Beyond this many known coordinators all are forgotten and asked for again.
const KNOWN_MAX: usize = 10_000;

/// The coordinators that are known.
#[derive(Default)]
pub(super) struct Coordinators {
    known: Mutex<HashMap<Coordinated, NodeId>>,
}

impl Coordinators {
    fn get(&self, what: &Coordinated) -> Option<NodeId> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(what).copied()
    }

    fn set(&self, what: Coordinated, node: NodeId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(what, node);
    }

    /// Asks again next time.
    pub(super) fn forget(&self, what: &Coordinated) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }
}

impl Client {
    /// `owner`'s lane to the coordinator of `what`. One attempt. A transaction's offsets travel on the lane of its other
    /// requests wherever one broker coordinates both, so that their order is one.
    pub(super) async fn coordinator(
        &self,
        what: &Coordinated,
        purpose: Purpose,
        owner: u32,
    ) -> Result<Arc<Connection>, ClientError> {
        let node = match self.coordinators().get(what) {
            Some(node) => node,
            None => {
                let node = self.find_coordinator(what).await?;
                self.coordinators().set(what.clone(), node);
                node
            }
        };
        let lane = Lane { node: Some(node), purpose, owner };
        self.lane(lane).await.inspect_err(|_| self.coordinators().forget(what))
    }

    /// A new lane to a group's coordinator, for whoever speaks for members of groups itself. It ends with the client.
    pub async fn group_lane(&self, group: &GroupId) -> Result<Arc<Connection>, ClientError> {
        let owner = self.new_owner();
        self.retry(&format!("connecting to the coordinator of group {group}"), || async move {
            self.coordinator(&Coordinated::Group(group.clone()), Purpose::Control, owner).await
        })
        .await
    }

    /// Asks the coordinator of `what` on the shared lane, again as long as that may help.
    pub(super) async fn at_coordinator<T, F>(
        &self,
        what: &Coordinated,
        context: &str,
        attempt: impl Fn(Arc<Connection>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let attempt = &attempt;
        self.retry(context, || async move {
            let connection = self.coordinator(what, Purpose::Control, SHARED_OWNER).await?;
            attempt(connection).await.inspect_err(|error| self.heed_coordinator_error(what, error))
        })
        .await
    }

    /// Looks at an error of a coordinator's: if another one may be meant, it is asked for again next time.
    pub(super) fn heed_coordinator_error(&self, what: &Coordinated, error: &ClientError) {
        let moved =
            matches!(error.code(), Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable));
        if moved || error.wants_metadata() {
            self.coordinators().forget(what);
        }
    }

    async fn find_coordinator(&self, what: &Coordinated) -> Result<NodeId, ClientError> {
        // Older versions carry one key, newer ones a list; the other field is dropped where it has no place.
        let by_key = FindCoordinatorRequest {
            key: what.name().to_owned(),
            key_type: what.key_type(),
            ..FindCoordinatorRequest::default()
        };
        let by_list = FindCoordinatorRequest {
            key_type: what.key_type(),
            coordinator_keys: vec![what.name().to_owned()],
            ..FindCoordinatorRequest::default()
        };
        let connection = self.any_broker().await?;
        let version = connection
            .versions()
            .highest(crate::wire::ApiKey::FindCoordinator, super::versions::ANY_VERSION)?;
        let answer = connection.call(if version >= 4 { &by_list } else { &by_key }).await?;
        let (node, code, detail) = chosen(answer);
        code.ok().map_err(|code| {
            ClientError::broker(format!("finding the coordinator of {:?}", what.name()), code, detail)
        })?;
        // The coordinator may be a broker that the metadata does not name yet.
        if !Metadata::brokers(&self.metadata()).contains_key(&node) {
            self.refresh(&[]).await?;
        }
        Ok(node)
    }
}

fn chosen(answer: FindCoordinatorResponse) -> (NodeId, ErrorCode, Option<String>) {
    match answer.coordinators.into_iter().next() {
        Some(found) => (NodeId(found.node_id), found.error_code, found.error_message),
        None => (NodeId(answer.node_id), answer.error_code, answer.error_message),
    }
}
