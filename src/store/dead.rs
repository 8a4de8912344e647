//! Finds rows that speak of nothing any more: those of deleted partitions, and those of offsets below the log start. Whole
//! partitions in which nothing can be dead are passed over with one look.

use super::database::StoreError;
use super::keys::{KeyBytes, KeyReader, kind};
use super::view::ReadView;
use crate::core::{AbortedKey, PartitionRow, ProducerKey};
use crate::types::{Offset, PartitionId, ProducerId};
use bytes::Bytes;

/// A kind of row whose key begins with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Index entries: dead below the log start.
    Index,
    /// What a partition remembers of producers: dead only with the partition, because retention forgets nobody.
    Producers,
    /// Aborted ranges: dead if the marker is below the log start.
    Aborted,
}

/// Some dead rows, and where to go on looking.
#[derive(Debug, Default)]
pub struct DeadRows {
    /// Key and value.
    pub rows: Vec<(Vec<u8>, Bytes)>,
    /// Where the next look begins; none after the last row of the kind.
    pub next: Option<Vec<u8>>,
}

/// What may be dead in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    All,
    Below(Offset),
    Nothing,
}

impl Swept {
    fn kind(self) -> u8 {
        match self {
            Swept::Index => kind::INDEX,
            Swept::Producers => kind::PRODUCER,
            Swept::Aborted => kind::ABORTED,
        }
    }

    fn dead_in(self, row: Option<&PartitionRow>) -> Dead {
        match (self, row) {
            (_, None) => Dead::All,
            (Swept::Producers, Some(_)) => Dead::Nothing,
            (_, Some(row)) if row.log_start == Offset::ZERO => Dead::Nothing,
            (_, Some(row)) => Dead::Below(row.log_start),
        }
    }

    /// The offset that decides over the row: a batch's last one, or an abort marker's. It is the key's last field.
    fn offset(key: &[u8]) -> Option<Offset> {
        key.last_chunk::<8>().map(|bytes| Offset(i64::from_be_bytes(*bytes)))
    }
}

impl ReadView {
    /// Looks at up to `looks_max` rows of a kind from `from` on (where an earlier look ended; empty for the first), and
    /// returns those that are dead.
    pub fn dead_rows(&self, swept: Swept, from: &[u8], looks_max: usize) -> Result<DeadRows, StoreError> {
        let end = [swept.kind() + 1];
        let mut dead = DeadRows::default();
        let mut at = if from.is_empty() { vec![swept.kind()] } else { from.to_vec() };
        let mut judged: Option<(PartitionId, Dead)> = None;
        let mut looks = 0;
        'seek: loop {
            for entry in self.range(&at, &end) {
                let (key, row) = entry?;
                if looks >= looks_max {
                    dead.next = Some(key);
                    return Ok(dead);
                }
                looks += 1;
                let partition = KeyReader::new(&key).and_then(|mut key| key.partition());
                let partition = partition.ok_or_else(|| StoreError::damaged_key(&key))?;
                let verdict = match judged {
                    Some((judged, verdict)) if judged == partition => verdict,
                    _ => swept.dead_in(self.get::<PartitionRow>(&partition)?.as_ref()),
                };
                judged = Some((partition, verdict));
                let offset = Swept::offset(&key).ok_or_else(|| StoreError::damaged_key(&key))?;
                match verdict {
                    Dead::All => dead.rows.push((key, row)),
                    Dead::Below(start) if offset < start => dead.rows.push((key, row)),
                    // Aborted ranges are ordered by producer first; index entries by offset, so no later one is dead.
                    Dead::Below(_) if swept == Swept::Aborted => {}
                    Dead::Below(_) | Dead::Nothing => {
                        at = KeyBytes::new(swept.kind()).partition(partition.next()).done();
                        continue 'seek;
                    }
                }
            }
            return Ok(dead);
        }
    }
}

impl DeadRows {
    /// The keys, as those of producers' rows.
    pub fn producers(&self) -> Result<Vec<ProducerKey>, StoreError> {
        self.keys(|key| {
            Some(ProducerKey { partition: key.partition()?, producer: ProducerId(key.number()?) })
        })
    }

    /// The keys, as those of aborted ranges.
    pub fn aborted(&self) -> Result<Vec<AbortedKey>, StoreError> {
        self.keys(|key| {
            let (partition, producer) = (key.partition()?, ProducerId(key.number()?));
            Some(AbortedKey { partition, producer, marker: Offset(key.number()?) })
        })
    }

    fn keys<K>(&self, read: impl Fn(&mut KeyReader<'_>) -> Option<K>) -> Result<Vec<K>, StoreError> {
        let key = |(key, _): &(Vec<u8>, Bytes)| {
            KeyReader::new(key).and_then(|mut key| read(&mut key)).ok_or_else(|| StoreError::damaged_key(key))
        };
        self.rows.iter().map(key).collect()
    }
}
