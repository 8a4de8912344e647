//! Any bytes are survived, by the check and by the reader.

use super::{batch_around, forged, limits, plain_batch};
use crate::wire::batch::{Batch, Batches, Compression, check_produced};
use bytes::Bytes;
use proptest::prelude::*;

/// Runs everything that reads a batch.
fn read_everything(bytes: Bytes) {
    let checked = check_produced(&bytes, &limits(), None);
    if let Ok(batch) = Batch::new(bytes.clone()) {
        let read = batch.records(&limits()).map(|records| records.collect::<Result<Vec<_>, _>>());
        if let Ok(checked) = checked {
            // What the broker takes, a consumer must be able to read, to the last record.
            let read = read.unwrap().unwrap();
            assert_eq!(read.len(), checked.record_count as usize);
        }
    }
    Batches::new(bytes).for_each(drop);
}

fn any_compression() -> impl Strategy<Value = Compression> {
    proptest::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_everything(bytes.into());
    }

    #[test]
    fn arbitrary_records_in_a_right_envelope(
        records in proptest::collection::vec(any::<u8>(), 0..300),
        compression in any_compression(),
        count in prop_oneof![1..5, any::<i32>().prop_map(|count| count.max(1))],
    ) {
        read_everything(batch_around(&records, compression, count));
    }

    #[test]
    fn changed_compressed_records(
        seed in proptest::collection::vec(any::<u8>(), 0..2000),
        compression in any_compression(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let value = crate::wire::batch::Record { key: None, value: Some(seed.into()), headers: Vec::new() };
        let batch = super::batch_of(&[(1, value)], compression, crate::wire::batch::BatchProducer::Anonymous);
        let mut records = batch[61..].to_vec();
        for (at, byte) in changes {
            let at = at.index(records.len());
            records[at] = byte;
        }
        read_everything(batch_around(&records, compression, 1));
    }

    #[test]
    fn changed_headers(at in 0_usize..61, byte: u8) {
        read_everything(forged(plain_batch(), at, &[byte]));
        let mut unforged = plain_batch();
        unforged[at] = byte;
        read_everything(unforged.into());
    }
}
