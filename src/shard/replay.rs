//! Recovery: the log's blocks above what the store has, evolved into rows by the same code that made them.

use super::limits::ShardLimits;
use super::payload::index_entry;
use super::start::StartError;
use super::table::Table;
use crate::core::mutant::{Mutant, mutated};
use crate::core::{Draft, Event, Need, RowKey, evolve};
use crate::log::PlacedBlock;
use crate::store::{Applied, Database, Layer, LayerBuilder, StoreError};
use crate::types::codec::Codec;
use crate::types::{BlockNumber, HashSet, ServedTime};
use std::sync::Arc;

/// Rows that are put into the store at once.
const ROWS_AT_ONCE: usize = 20_000;

/// Brings the store up to the end of the log: `next_block` gives the blocks above what is applied, in order. Returns the rows that were in use, and how many blocks were replayed.
pub(super) fn replay(
    mut next_block: impl FnMut() -> Result<Option<PlacedBlock>, StartError>,
    store: &Database,
    limits: &ShardLimits,
) -> Result<(Table, u64), StartError> {
    let mut table = Table::new(limits.resident_rows);
    let mut layers: Vec<Arc<Layer>> = Vec::new();
    let mut last = None;
    let mut blocks = 0;
    while let Some(placed) = next_block()? {
        let layer = evolve_block(&mut table, store, &placed)?;
        last = Some(Applied { checkpoint: placed.checkpoint(), served: placed.block.header().served_time });
        layers.push(layer);
        blocks += 1;
        if layers.iter().map(|layer| layer.len()).sum::<usize>() >= ROWS_AT_ONCE {
            put(store, &mut table, &mut layers, last)?;
        }
    }
    put(store, &mut table, &mut layers, last)?;
    if blocks > 0 {
        store.persist()?;
    }
    load(&mut table, store, FIRST_ROWS.to_vec())?;
    Ok((table, blocks))
}

/// Rows that the first commands are decided by. What must be decided before anything else must not have to wait for them.
const FIRST_ROWS: [RowKey; 2] = [RowKey::Restored(()), RowKey::ProducerIds(())];

/// Reads the rows that are not known.
fn load(table: &mut Table, store: &Database, keys: Vec<RowKey>) -> Result<(), StoreError> {
    for key in table.begin_loading(keys) {
        let row = store.look(&key)?;
        table.loaded(&key, row);
    }
    Ok(())
}

fn put(
    store: &Database,
    table: &mut Table,
    layers: &mut Vec<Arc<Layer>>,
    applied: Option<Applied>,
) -> Result<(), StartError> {
    if let Some(applied) = applied {
        store.apply(layers.iter(), applied)?;
        table.evict(applied.checkpoint.block);
    }
    layers.clear();
    Ok(())
}

fn evolve_block(table: &mut Table, store: &Database, placed: &PlacedBlock) -> Result<Arc<Layer>, StartError> {
    let header = placed.block.header();
    let number = header.number;
    let mut layer = LayerBuilder::default();
    let mut changed = HashSet::default();
    let left_out = usize::from(mutated(Mutant::ReplayOneShort));
    for (frame, place) in placed.frames().skip(left_out) {
        let event =
            Event::from_bytes(&frame.event).map_err(|source| StartError::Event { block: number, source })?;
        if let Some((partition, last, entry)) = index_entry(&event, place) {
            layer.put_index(partition, last, &entry);
        }
        let keys = evolve_event(table, store, header.served_time, number, &event)?;
        changed.extend(keys);
    }
    for key in &changed {
        layer.put(key, table.row(key));
    }
    Ok(layer.finish(number))
}

fn evolve_event(
    table: &mut Table,
    store: &Database,
    served: ServedTime,
    number: BlockNumber,
    event: &Event,
) -> Result<Vec<RowKey>, StartError> {
    loop {
        let mut draft = Draft::new(table, served);
        match evolve(&mut draft, served, event) {
            Ok(()) => {
                let changes = draft.finish().changes;
                let keys = changes.keys().cloned().collect();
                for (key, row) in changes {
                    table.decided(key, row, number);
                }
                return Ok(keys);
            }
            Err(Need(keys)) => load(table, store, keys)?,
        }
    }
}
