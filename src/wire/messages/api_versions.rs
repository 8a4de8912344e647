//! What the broker speaks (KIP-35, KIP-511, KIP-584).

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Asks what the broker speaks; a client's first request.
    request ApiVersionsRequest: ApiVersions -> ApiVersionsResponse {
        client_software_name: String => since(3).ignorable(),
        client_software_version: String => since(3).ignorable(),
        cluster_id: Option<String> => since(5).nullable(5).ignorable(),
        node_id: i32 = -1 => since(5).ignorable(),
    }

    /// The apis and versions that the broker serves, and its features. semel's own apis have a field of their own, which
    /// other clients skip.
    response ApiVersionsResponse: ApiVersions {
        error_code: ErrorCode => since(0),
        api_keys: Vec<ApiVersionEntry> => since(0),
        throttle_time_ms: i32 => since(1).ignorable(),
        supported_features: Vec<SupportedFeatureKey> => since(3).tagged(0).ignorable(),
        finalized_features_epoch: i64 = -1 => since(3).tagged(1).ignorable(),
        finalized_features: Vec<FinalizedFeatureKey> => since(3).tagged(2).ignorable(),
        zk_migration_ready: bool => since(3).tagged(3).ignorable(),
        private_apis: Vec<ApiVersionEntry> => since(3).tagged(28_000).ignorable(),
    }

    /// An api and the versions that are served.
    part ApiVersionEntry {
        api_key: i16 => since(0),
        min_version: i16 => since(0),
        max_version: i16 => since(0),
    }

    /// A feature and the levels that the broker can work with (KIP-584).
    part SupportedFeatureKey {
        name: String => since(3),
        min_version: i16 => since(3),
        max_version: i16 => since(3),
    }

    /// A feature and the levels that the cluster works with. Clients ignore these unless the epoch is ≥ 0.
    part FinalizedFeatureKey {
        name: String => since(3),
        max_version_level: i16 => since(3),
        min_version_level: i16 => since(3),
    }
}
