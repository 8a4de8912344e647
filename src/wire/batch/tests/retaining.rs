//! Leaving records out of a batch.

use super::{BASE_TIME, batch_of, limits, producer, record};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{
    Batch, BatchProducer, Compression, FetchedRecord, Record, Retained, TimestampType, retain, rewrite_base,
    rewrite_log_append_time,
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

const BASE: Offset = Offset(1_000);
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn stored(batch: &Bytes, append_time: Option<Timestamp>) -> Batch {
    let mut bytes = BytesMut::from(&batch[..]);
    if let Some(time) = append_time {
        rewrite_log_append_time(&mut bytes, time).unwrap();
    }
    rewrite_base(&mut bytes, BASE, LeaderEpoch(0)).unwrap();
    Batch::new(bytes.freeze()).unwrap()
}

fn records_of(batch: &Batch) -> Vec<FetchedRecord> {
    batch.records(&limits()).unwrap().map(Result::unwrap).collect()
}

proptest! {
    #[test]
    fn what_is_left_is_as_it_was_and_the_batch_keeps_its_place(
        records in proptest::collection::vec((0_i64..50, any::<Option<u8>>(), any::<bool>()), 1..30),
        codec in 0..CODECS.len(), stamped in any::<bool>(), transactional in any::<bool>(),
    ) {
        let records: Vec<(i64, Record, bool)> = records
            .into_iter()
            .map(|(time, value, keep)| {
                let value = value.map(|value| value.to_string().repeat(9));
                (BASE_TIME + time, record(Some("key"), value.as_deref()), keep)
            })
            .collect();
        let sent: Vec<_> = records.iter().map(|(time, record, _)| (*time, record.clone())).collect();
        let own = producer(u32::try_from(sent.len()).unwrap());
        let own = if transactional { BatchProducer::Transactional(own) } else { BatchProducer::Idempotent(own) };
        let append_time = stamped.then_some(Timestamp(BASE_TIME + 99));
        let whole = stored(&batch_of(&sent, CODECS[codec], own), append_time);
        let wanted = |offset: Offset| records[usize::try_from(offset.0 - BASE.0).unwrap()].2;
        let expected: Vec<_> =
            records_of(&whole).into_iter().filter(|record| wanted(record.offset)).collect();
        match retain(&whole, &limits(), |record| wanted(record.offset)).unwrap() {
            Retained::All => prop_assert_eq!(expected.len(), records.len()),
            Retained::Nothing => prop_assert!(expected.is_empty()),
            Retained::Some { batch, max_timestamp } => {
                prop_assert!(expected.len() < records.len());
                let left = Batch::new(batch).unwrap();
                prop_assert_eq!(left.header.check_crc(&left.bytes), Ok(()));
                prop_assert_eq!(Some(max_timestamp), expected.iter().map(|record| record.timestamp).max());
                prop_assert_eq!(left.header.max_timestamp, max_timestamp);
                prop_assert_eq!(left.header.timestamp_type == TimestampType::LogAppendTime, stamped);
                prop_assert_eq!(left.header.record_count, i32::try_from(expected.len()).unwrap());
                let place = |batch: &Batch| {
                    let header = batch.header;
                    (header.base_offset, header.last_offset_delta, header.base_timestamp, header.compression,
                        header.producer_id, header.producer_epoch, header.base_sequence, header.transactional)
                };
                prop_assert_eq!(place(&left), place(&whole));
                prop_assert_eq!(records_of(&left), expected);
            }
        }
    }
}
