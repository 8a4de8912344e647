//! Going round all partitions, some in each turn.

use crate::core::TopicRow;
use crate::store::{ReadView, StoreError};
use crate::types::{PartitionId, PartitionIndex, TopicId};

/// Topics and partitions that one turn looks at: each costs a few reads.
const LOOKS_PER_TURN_MAX: usize = 512;

/// Where the next turn goes on; nowhere at the start of a round.
#[derive(Debug, Default)]
pub(super) struct Round(Option<PartitionId>);

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    Next,
    /// The next turn begins with this partition.
    PauseHere,
    /// The next turn begins behind this partition.
    PauseBehind,
}

impl Round {
    /// Visits partitions of those topics that are `wanted`. True when the round is at its end.
    pub(super) fn visit(
        &mut self,
        view: &ReadView,
        wanted: impl Fn(&TopicRow) -> bool,
        mut visit: impl FnMut(&TopicRow, PartitionId) -> Result<Visit, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut looks = 0;
        let from = self.0.take();
        for topic in view.topics_from(from.map_or(TopicId::NIL, |next| next.topic)) {
            let (id, topic) = topic?;
            if looks >= LOOKS_PER_TURN_MAX {
                self.0 = Some(PartitionId::new(id, PartitionIndex(0)));
                return Ok(false);
            }
            looks += 1;
            let partitions =
                if wanted(&topic) { i32::try_from(topic.partitions).unwrap_or(i32::MAX) } else { 0 };
            let first = from.filter(|next| next.topic == id).map_or(0, |next| next.index.0);
            for index in first..partitions {
                let partition = PartitionId::new(id, PartitionIndex(index));
                if looks >= LOOKS_PER_TURN_MAX {
                    self.0 = Some(partition);
                    return Ok(false);
                }
                looks += 1;
                match visit(&topic, partition)? {
                    Visit::Next => {}
                    Visit::PauseHere => {
                        self.0 = Some(partition);
                        return Ok(false);
                    }
                    Visit::PauseBehind => {
                        self.0 = Some(partition.next());
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }
}
