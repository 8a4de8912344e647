//! Compares two stores that should hold the same: one that was served, and one made anew of its log.

use super::database::{Database, StoreError};
use super::keys::is_of_places;
use super::view::ReadView;
use crate::core::PartitionRow;
use crate::types::{Offset, PartitionId};
use bytes::Bytes;

impl Database {
    /// What this store has otherwise than `other`, as far as that is state: where batches lie is none, nor when compaction
    /// has been where, and below a partition's log start nothing is. At most `count_max` differences.
    pub fn differences(&self, other: &Database, count_max: usize) -> Result<Vec<String>, StoreError> {
        let (own, other) = (self.view_now()?, other.view_now()?);
        let mut found = Vec::new();
        differing_rows(&own, &other, count_max, &mut found)?;
        for partition in own.all_partitions() {
            let (partition, row) = partition?;
            differing_index(&own, &other, (partition, &row), count_max, &mut found)?;
        }
        Ok(found)
    }
}

type StoredRow = (Vec<u8>, Bytes);

/// The next row that is state.
fn next_row(
    rows: &mut impl Iterator<Item = Result<StoredRow, StoreError>>,
) -> Result<Option<StoredRow>, StoreError> {
    let is_state =
        |row: &Result<StoredRow, StoreError>| row.as_ref().map_or(true, |(key, _)| !is_of_places(key));
    rows.find(is_state).transpose()
}

fn differing_rows(
    own: &ReadView,
    other: &ReadView,
    count_max: usize,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let (mut own, mut other) = (own.snapshot_rows(&[0]), other.snapshot_rows(&[0]));
    let (mut one, mut two) = (next_row(&mut own)?, next_row(&mut other)?);
    while found.len() < count_max {
        let order = match (&one, &two) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match order {
            std::cmp::Ordering::Less => {
                found.extend(
                    one.as_ref().map(|(key, _)| format!("the row {} is none of the log's", hex(key))),
                );
                one = next_row(&mut own)?;
            }
            std::cmp::Ordering::Greater => {
                found.extend(two.as_ref().map(|(key, _)| format!("the row {} is missing", hex(key))));
                two = next_row(&mut other)?;
            }
            std::cmp::Ordering::Equal => {
                if let (Some((key, a)), Some((_, b))) = (&one, &two)
                    && a != b
                {
                    found.push(format!("the row {} is not what the log makes of it", hex(key)));
                }
                (one, two) = (next_row(&mut own)?, next_row(&mut other)?);
            }
        }
    }
    Ok(())
}

fn differing_index(
    own: &ReadView,
    other: &ReadView,
    (partition, row): (PartitionId, &PartitionRow),
    count_max: usize,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let (mut own, mut other) = (own.index(partition, row.log_start), other.index(partition, row.log_start));
    while found.len() < count_max {
        let (one, two) = (own.next().transpose()?, other.next().transpose()?);
        let facts = |(last, entry): &(Offset, super::IndexEntry)| {
            let (length, checksum) = (entry.place.length, entry.place.checksum);
            (*last, entry.base_offset, length, checksum, entry.max_timestamp, entry.before, entry.kind)
        };
        match (&one, &two) {
            (None, None) => return Ok(()),
            _ if one.as_ref().map(facts) == two.as_ref().map(facts) => {}
            _ => {
                let at = one.as_ref().or(two.as_ref()).map_or(Offset::ZERO, |(last, _)| *last);
                found.push(format!(
                    "partition {partition}: the index at offset {at} is not what the log makes of it"
                ));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}
