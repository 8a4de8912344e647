//! ApiVersions: what is served here, and which features are on (KIP-35, KIP-511, KIP-584).

use super::failure::Failure;
use super::service::NODE;
use super::session::Context;
use crate::wire::messages::{
    ApiVersionEntry, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::wire::{ApiKey, ErrorCode, VersionRange};

/// The features, with the newest version of each that is implemented, which is the one in use: `group.version` turns on the
/// consumer protocol (KIP-848), `transaction.version` transactions of protocol version 2 (KIP-890).
const FEATURES: [(&str, i16); 2] = [("group.version", 1), ("transaction.version", 2)];
/// The features never change while semel runs. Clients ignore finalized features without an epoch of at least 0.
const FEATURES_EPOCH: i64 = 0;

/// The versions that are listed: those that are served, but for the exceptions of [`ApiKey::listed_versions`].
fn listed(api: ApiKey) -> Option<VersionRange> {
    let served = api.versions();
    let listed = api.listed_versions()?;
    Some(VersionRange { min: listed.min.min(served.min), max: listed.max.min(served.max) })
}

pub(super) async fn answer(cx: Context, request: ApiVersionsRequest) -> Result<ApiVersionsResponse, Failure> {
    let ApiVersionsRequest { client_software_name: name, client_software_version: version, .. } = &request;
    if cx.version >= 3 && !(is_software_name(name) && is_software_name(version)) {
        return Ok(ApiVersionsResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() });
    }
    if is_for_another_node(&request, cx.node.cluster_id(&cx.view())?.as_deref()) {
        return Ok(ApiVersionsResponse { error_code: ErrorCode::RebootstrapRequired, ..Default::default() });
    }
    tracing::debug!(peer = %cx.caller.connection.peer, client = %name, version = %version, "client software");
    Ok(versions(cx.version))
}

/// Whether a client says that it wants to reach another cluster or node than this one (from version 5 on): then an address
/// it knows has been given to somebody else, and it must start from its bootstrap servers again.
fn is_for_another_node(request: &ApiVersionsRequest, cluster_id: Option<&str>) -> bool {
    request.cluster_id.is_some() && (request.cluster_id.as_deref() != cluster_id || request.node_id != NODE.0)
}

fn versions(version: i16) -> ApiVersionsResponse {
    let entry = |api: &ApiKey| listed(*api).map(|versions| entry_of(*api, versions));
    let supported = FEATURES.map(|(name, max_version)| SupportedFeatureKey {
        name: name.to_owned(),
        min_version: 0,
        max_version,
    });
    let finalized = FEATURES.map(|(name, version)| FinalizedFeatureKey {
        name: name.to_owned(),
        max_version_level: version,
        min_version_level: version,
    });
    // Clients before ApiVersions 4 take a least version of 0 for an error: like Kafka, they are not told (KIP-1022).
    let tells_supported = version >= 4;
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().filter_map(entry).collect(),
        private_apis: ApiKey::ALL.iter().filter_map(private_entry).collect(),
        supported_features: tells_supported.then_some(supported).into_iter().flatten().collect(),
        finalized_features_epoch: FEATURES_EPOCH,
        finalized_features: finalized.into(),
        ..Default::default()
    }
}

/// What a client is told that asked in a version of the future: in version 0, which everybody reads.
pub(super) fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![entry_of(ApiKey::ApiVersions, ApiKey::ApiVersions.versions())],
        ..Default::default()
    }
}

/// One of semel's own apis, which are announced apart (`spec/protocol.md`).
fn private_entry(api: &ApiKey) -> Option<ApiVersionEntry> {
    api.is_private().then(|| entry_of(*api, api.versions()))
}

fn entry_of(api: ApiKey, versions: VersionRange) -> ApiVersionEntry {
    ApiVersionEntry { api_key: api.into(), min_version: versions.min, max_version: versions.max }
}

/// KIP-511: letters, digits, `-` and `.`, with a letter or digit at both ends.
fn is_software_name(name: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    alphanumeric(name.chars().next())
        && alphanumeric(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produce_is_listed_from_0_and_init_producer_id_only_where_it_is_stable() {
        assert_eq!(listed(ApiKey::Produce), Some(VersionRange { min: 0, max: 13 }));
        assert_eq!(listed(ApiKey::InitProducerId), Some(VersionRange { min: 0, max: 5 }));
        assert_eq!(listed(ApiKey::ListTransactions), Some(VersionRange { min: 0, max: 2 }));
        assert_eq!(listed(ApiKey::JoinGroup), Some(VersionRange { min: 0, max: 9 }));
    }

    #[test]
    fn transactions_of_version_2_and_the_consumer_protocol_are_on() {
        for version in ApiKey::ApiVersions.versions().iter() {
            let answer = versions(version);
            assert!(answer.finalized_features_epoch >= 0);
            let on = answer.finalized_features.iter();
            let on: Vec<_> = on.map(|feature| (feature.name.as_str(), feature.max_version_level)).collect();
            assert_eq!(on, FEATURES);
            assert_eq!(answer.supported_features.len(), if version < 4 { 0 } else { 2 });
        }
    }

    #[test]
    fn a_client_that_was_led_here_by_mistake_is_sent_back_to_its_beginning() {
        let asking = |cluster: Option<&str>, node_id| {
            let cluster_id = cluster.map(str::to_owned);
            let request = ApiVersionsRequest { cluster_id, node_id, ..Default::default() };
            is_for_another_node(&request, Some("here"))
        };
        assert!(!asking(None, -1));
        assert!(!asking(Some("here"), 0));
        assert!(asking(Some("here"), 1));
        assert!(asking(Some("there"), 0));
    }

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["apache-kafka-java", "4.4.0", "a", "librdkafka"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a.", "a b", "ä"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
