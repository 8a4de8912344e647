//! Configurations of topics and brokers.

use crate::wire::ErrorCode;
use crate::wire::primitives::declare::messages;
use crate::wire::primitives::since;

messages! {
    /// Asks for configurations.
    request DescribeConfigsRequest: DescribeConfigs -> DescribeConfigsResponse {
        resources: Vec<DescribeConfigsResource> => since(0),
        include_synonyms: bool => since(1),
        include_documentation: bool => since(3),
    }

    /// A resource and the configurations asked for; null is all.
    part DescribeConfigsResource {
        resource_type: i8 => since(0),
        resource_name: String => since(0),
        configuration_keys: Option<Vec<String>> => since(0).nullable(0),
    }

    /// The configurations of each resource.
    response DescribeConfigsResponse: DescribeConfigs {
        throttle_time_ms: i32 => since(0),
        results: Vec<DescribeConfigsResult> => since(0),
    }

    /// A resource's configurations.
    part DescribeConfigsResult {
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        resource_type: i8 => since(0),
        resource_name: String => since(0),
        configs: Vec<DescribeConfigsResourceResult> => since(0),
    }

    /// One configuration.
    part DescribeConfigsResourceResult {
        name: String => since(0),
        value: Option<String> => since(0).nullable(0),
        read_only: bool => since(0),
        config_source: i8 = -1 => since(1).ignorable(),
        is_sensitive: bool => since(0),
        synonyms: Vec<DescribeConfigsSynonym> => since(1).ignorable(),
        config_type: i8 => since(3).ignorable(),
        documentation: Option<String> => since(3).nullable(0).ignorable(),
    }

    /// A place that the value may come from, the strongest first.
    part DescribeConfigsSynonym {
        name: String => since(1),
        value: Option<String> => since(1).nullable(0),
        source: i8 => since(1),
    }

    /// Replaces all configurations of resources; superseded by IncrementalAlterConfigs (KIP-339).
    request AlterConfigsRequest: AlterConfigs -> AlterConfigsResponse {
        resources: Vec<ReplaceConfigsResource> => since(0),
        validate_only: bool => since(0),
    }

    /// A resource and its new configurations.
    part ReplaceConfigsResource {
        resource_type: i8 => since(0),
        resource_name: String => since(0),
        configs: Vec<ReplacedConfig> => since(0),
    }

    /// A configuration and its new value.
    part ReplacedConfig {
        name: String => since(0),
        value: Option<String> => since(0).nullable(0),
    }

    /// What became of each resource.
    response AlterConfigsResponse: AlterConfigs {
        throttle_time_ms: i32 => since(0),
        responses: Vec<AlterConfigsResourceResponse> => since(0),
    }

    /// Changes single configurations (KIP-339).
    request IncrementalAlterConfigsRequest: IncrementalAlterConfigs -> IncrementalAlterConfigsResponse {
        resources: Vec<AlterConfigsResource> => since(0),
        validate_only: bool => since(0),
    }

    /// A resource and its changes.
    part AlterConfigsResource {
        resource_type: i8 => since(0),
        resource_name: String => since(0),
        configs: Vec<AlterableConfig> => since(0),
    }

    /// A change: 0 set, 1 delete, 2 append, 3 subtract.
    part AlterableConfig {
        name: String => since(0),
        config_operation: i8 => since(0),
        value: Option<String> => since(0).nullable(0),
    }

    /// What became of each resource.
    response IncrementalAlterConfigsResponse: IncrementalAlterConfigs {
        throttle_time_ms: i32 => since(0),
        responses: Vec<AlterConfigsResourceResponse> => since(0),
    }

    /// A resource, or why it was not changed.
    part AlterConfigsResourceResponse {
        error_code: ErrorCode => since(0),
        error_message: Option<String> => since(0).nullable(0),
        resource_type: i8 => since(0),
        resource_name: String => since(0),
    }
}
