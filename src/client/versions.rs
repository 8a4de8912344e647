//! What a broker speaks (KIP-35, KIP-584).

use super::config::Endpoint;
use super::error::ClientError;
use crate::wire::messages::ApiVersionsResponse;
use crate::wire::{ApiKey, VersionRange};
use std::collections::BTreeMap;

/// The feature whose finalized level says which transaction protocol counts (KIP-890).
const TRANSACTION_FEATURE: &str = "transaction.version";
/// The level from which on a produce request enrols its partitions and every end raises the epoch.
const IMPLICIT_ENROLMENT: i16 = 2;

/// Which form of the transaction protocol client and broker use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransactionProtocol {
    /// KIP-98: partitions are enrolled by a request of their own, the epoch stays.
    Explicit,
    /// KIP-890: producing enrols, every end raises the epoch.
    Implicit,
}

/// The versions and features that one broker has announced.
#[derive(Clone, Debug)]
pub struct Versions {
    endpoint: Endpoint,
    apis: BTreeMap<i16, VersionRange>,
    protocol: TransactionProtocol,
    /// Whether it prepares transactions: then it serves [`KEEPS_PREPARED`] too.
    prepares: bool,
}

impl Versions {
    pub(super) fn new(endpoint: Endpoint, announced: &ApiVersionsResponse) -> Versions {
        let range = |min, max| VersionRange { min, max };
        let apis = announced
            .api_keys
            .iter()
            .chain(&announced.private_apis)
            .map(|api| (api.api_key, range(api.min_version, api.max_version)));
        // An epoch below zero says that the broker does not know its features yet.
        let known = announced.finalized_features_epoch >= 0;
        let implicit = announced.finalized_features.iter().any(|feature| {
            feature.name == TRANSACTION_FEATURE && feature.max_version_level >= IMPLICIT_ENROLMENT
        });
        let protocol =
            if known && implicit { TransactionProtocol::Implicit } else { TransactionProtocol::Explicit };
        let apis: BTreeMap<i16, VersionRange> = apis.collect();
        let prepares = apis.contains_key(&ApiKey::PrepareTxn.into());
        Versions { endpoint, apis, protocol, prepares }
    }

    /// The transaction protocol to use with this broker.
    #[must_use]
    pub fn transaction_protocol(&self) -> TransactionProtocol {
        self.protocol
    }

    /// The highest version of `api` that this client, the broker and `wanted` have in common.
    pub fn highest(&self, api: ApiKey, wanted: VersionRange) -> Result<i16, ClientError> {
        let unlisted = api == ApiKey::InitProducerId && wanted == KEEPS_PREPARED && self.prepares;
        let served = if unlisted { Some(KEEPS_PREPARED) } else { self.apis.get(&api.into()).copied() };
        let ours = api.versions().intersection(wanted);
        let common = ours.zip(served).and_then(|(ours, served)| ours.intersection(served));
        common.map(|common| common.max).ok_or_else(|| ClientError::UnsupportedVersion {
            api,
            endpoint: self.endpoint.clone(),
            needed: ours.unwrap_or(wanted),
            served,
        })
    }
}

/// The version of InitProducerId that takes a transactional id over with its prepared transaction (KIP-939). A broker that
/// prepares transactions serves it, and does not list it (`spec/protocol.md`, "PrepareTxn").
pub(super) const KEEPS_PREPARED: VersionRange = VersionRange { min: 6, max: 6 };

/// No wish for any version in particular.
pub(super) const ANY_VERSION: VersionRange = VersionRange { min: 0, max: i16::MAX };

/// Versions up to `max`.
pub(super) fn up_to(max: i16) -> VersionRange {
    VersionRange { min: 0, max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{ApiVersionEntry, FinalizedFeatureKey};

    fn announced(epoch: i64, level: i16) -> Versions {
        let feature = FinalizedFeatureKey {
            name: TRANSACTION_FEATURE.to_owned(),
            max_version_level: level,
            min_version_level: level,
        };
        let response = ApiVersionsResponse {
            api_keys: vec![ApiVersionEntry { api_key: 26, min_version: 0, max_version: 4 }],
            finalized_features_epoch: epoch,
            finalized_features: vec![feature],
            ..ApiVersionsResponse::default()
        };
        Versions::new("tls://broker:1".parse().unwrap(), &response)
    }

    #[test]
    fn features_count_only_with_an_epoch() {
        assert_eq!(announced(0, 2).transaction_protocol(), TransactionProtocol::Implicit);
        assert_eq!(announced(-1, 2).transaction_protocol(), TransactionProtocol::Explicit);
        assert_eq!(announced(7, 1).transaction_protocol(), TransactionProtocol::Explicit);
    }

    #[test]
    fn the_highest_common_version_is_chosen_or_the_gap_is_named() {
        let versions = announced(0, 2);
        assert_eq!(versions.highest(ApiKey::EndTxn, ANY_VERSION).unwrap(), 4);
        assert_eq!(versions.highest(ApiKey::EndTxn, up_to(2)).unwrap(), 2);
        let error =
            versions.highest(ApiKey::EndTxn, VersionRange { min: 5, max: 9 }).unwrap_err().to_string();
        assert!(error.contains("needs version 5 to 5") && error.contains("has 0 to 4"), "{error}");
        let error = versions.highest(ApiKey::Fetch, ANY_VERSION).unwrap_err().to_string();
        assert!(error.contains("does not have it"), "{error}");
    }
}
