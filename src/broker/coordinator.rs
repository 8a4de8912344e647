//! FindCoordinator: this node, for groups and for transactional ids.

use super::failure::Failure;
use super::service::NODE;
use super::session::Context;
use crate::wire::ErrorCode;
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse, FoundCoordinator};

/// What is coordinated: a group's offsets (0), or a transactional id (1). Share groups (2) are not served.
const KEY_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub(super) async fn answer(
    cx: Context,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Failure> {
    let FindCoordinatorRequest { key, key_type, coordinator_keys } = request;
    cx.check_listed(coordinator_keys.len())?;
    let known = KEY_TYPES.contains(&key_type);
    let found = |key: String| found(&cx, key, known);
    if cx.version >= 4 {
        let coordinators = coordinator_keys.into_iter().map(found).collect();
        return Ok(FindCoordinatorResponse { coordinators, ..Default::default() });
    }
    let FoundCoordinator { node_id, host, port, error_code, error_message, .. } = found(key);
    Ok(FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() })
}

fn found(cx: &Context, key: String, known: bool) -> FoundCoordinator {
    if !known {
        let error_message =
            Some("only groups (0) and transactional ids (1) have coordinators here".to_owned());
        let error_code = ErrorCode::InvalidRequest;
        return FoundCoordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message,
            ..Default::default()
        };
    }
    let at = cx.node.advertised();
    let (host, port) = (at.host.clone(), at.port.into());
    FoundCoordinator { key, node_id: NODE.0, host, port, ..Default::default() }
}
