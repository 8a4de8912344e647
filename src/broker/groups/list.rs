//! ListGroups.

use crate::broker::failure::Failure;
use crate::broker::session::Context;
use crate::core::{ConsumerGroupRow, GroupRow, GroupStatus, consumer_group_status};
use crate::store::ReadView;
use crate::types::GroupId;
use crate::wire::messages::*;
use crate::wire::{ErrorCode, consumer_protocol};

/// What kinds of groups there are (KIP-848).
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

pub(in crate::broker) async fn answer(
    cx: Context,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, Failure> {
    cx.check_listed(request.states_filter.len() + request.types_filter.len())?;
    let room = cx.node.config.groups_listed_bytes_max;
    let found = cx.node.scan(move |view| {
        let mut listing = Listing { request, groups: Vec::new(), room };
        Ok(listing.look(&view)?.map(|()| listing.groups))
    });
    Ok(match found.await? {
        Some(groups) => ListGroupsResponse { groups, ..Default::default() },
        None => {
            let peer = cx.caller.connection.peer;
            cx.node.refusals.line(|held_back| {
                tracing::warn!(%peer, limit_bytes = room, held_back,
                    "there are more groups than one answer to ListGroups holds: ask for those of some states or types");
            });
            ListGroupsResponse { error_code: ErrorCode::InvalidRequest, ..Default::default() }
        }
    })
}

/// The groups that have been found, while there is room for them.
struct Listing {
    request: ListGroupsRequest,
    groups: Vec<ListedGroup>,
    /// Bytes that may still be taken.
    room: usize,
}

impl Listing {
    /// All groups that have or had members, or have offsets, one row after the other; none if there is no room for them. Half a
    /// list would be taken for the whole of it.
    fn look(&mut self, view: &ReadView) -> Result<Option<()>, Failure> {
        if self.wants_type(CLASSIC) {
            for group in view.groups_after(None) {
                let (id, row) = group?;
                if self.add(&id, CLASSIC, GroupStatus::from(row.state).name(), &row.protocol_type).is_none() {
                    return Ok(None);
                }
            }
            let mut after = None;
            while let Some(id) = view.next_group_with_offsets(after.as_ref())? {
                let never_had_members =
                    view.get::<GroupRow>(&id)?.is_none() && view.get::<ConsumerGroupRow>(&id)?.is_none();
                if never_had_members && self.add(&id, CLASSIC, GroupStatus::Empty.name(), "").is_none() {
                    return Ok(None);
                }
                after = Some(id);
            }
        }
        if self.wants_type(CONSUMER) {
            for group in view.consumer_groups_after(None) {
                let (id, row) = group?;
                let members = view.consumers(&id).collect::<Result<Vec<_>, _>>()?;
                let state = consumer_group_status(&row, members.iter()).name();
                if self.add(&id, CONSUMER, state, consumer_protocol::CONSUMER).is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(()))
    }

    fn wants_type(&self, kind: &str) -> bool {
        is_wanted(&self.request.types_filter, kind)
    }

    /// Takes a group, if its state is asked for; none if there is no room for it.
    fn add(&mut self, id: &GroupId, kind: &str, state: &str, protocol_type: &str) -> Option<()> {
        if !is_wanted(&self.request.states_filter, state) {
            return Some(());
        }
        let text = id.as_str().len() + kind.len() + state.len() + protocol_type.len();
        self.room = self.room.checked_sub(size_of::<ListedGroup>() + text)?;
        self.groups.push(ListedGroup {
            group_id: id.as_str().to_owned(),
            protocol_type: protocol_type.to_owned(),
            group_state: state.to_owned(),
            group_type: kind.to_owned(),
        });
        Some(())
    }
}

fn is_wanted(filter: &[String], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
}
