//! Records that cannot be processed, in a topic of their own.

use crate::client::consumer::ConsumedRecord;
use crate::client::producer::{ProduceError, ProducerRecord};
use crate::types::{GroupId, TopicName};
use crate::wire::ErrorCode;
use crate::wire::batch::RecordHeader;
use bytes::Bytes;

/// The header of a record in quarantine that names the topic from which it comes.
pub const QUARANTINE_TOPIC_HEADER: &str = "semel-quarantine-topic";
/// Its partition there, as decimal digits.
pub const QUARANTINE_PARTITION_HEADER: &str = "semel-quarantine-partition";
/// Its offset there, as decimal digits.
pub const QUARANTINE_OFFSET_HEADER: &str = "semel-quarantine-offset";
/// The group that could not process it.
pub const QUARANTINE_GROUP_HEADER: &str = "semel-quarantine-group";
/// How often that was tried, as decimal digits.
pub const QUARANTINE_ATTEMPTS_HEADER: &str = "semel-quarantine-attempts";
/// What was wrong the last time.
pub const QUARANTINE_REASON_HEADER: &str = "semel-quarantine-reason";

/// A reason says what happened; it is no place for the record itself.
const REASON_BYTES_MAX: usize = 1024;

/// The record as it goes to `topic`: unchanged, its own headers first.
pub(super) fn copy(
    topic: &TopicName,
    record: &ConsumedRecord,
    group: &GroupId,
    (attempts, reason): (u32, &str),
) -> ProducerRecord {
    let reason = reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or_default();
    let said = [
        (QUARANTINE_TOPIC_HEADER, record.partition.topic.as_str().to_owned()),
        (QUARANTINE_PARTITION_HEADER, record.partition.partition.0.to_string()),
        (QUARANTINE_OFFSET_HEADER, record.offset.0.to_string()),
        (QUARANTINE_GROUP_HEADER, group.as_str().to_owned()),
        (QUARANTINE_ATTEMPTS_HEADER, attempts.to_string()),
        (QUARANTINE_REASON_HEADER, reason.to_owned()),
    ];
    let header = |(name, value): (&'static str, String)| RecordHeader {
        name: Bytes::from_static(name.as_bytes()),
        value: Some(value.into()),
    };
    let original = record.record.clone();
    ProducerRecord {
        topic: topic.clone(),
        partition: None,
        key: original.key,
        value: original.value,
        headers: original.headers.into_iter().chain(said.map(header)).collect(),
        timestamp: Some(record.timestamp).filter(|timestamp| timestamp.0 >= 0),
    }
}

/// Whether a record of the transaction can never be stored as it is; anything else may be better the next time.
pub(super) fn blames_the_record(error: &ProduceError) -> bool {
    match error {
        ProduceError::TooLarge { .. }
        | ProduceError::Unbuildable(_)
        | ProduceError::AlreadyAccepted { .. } => true,
        ProduceError::Refused { code, .. } => matches!(
            code,
            ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::InvalidRecord
                | ErrorCode::InvalidTimestamp
        ),
        ProduceError::TransactionFailed(cause) => blames_the_record(cause),
        _ => false,
    }
}

/// Whether no other record would fare better: a topic is not there, or not allowed.
pub(super) fn is_hopeless(error: &ProduceError) -> bool {
    match error {
        ProduceError::Client(error) => !error.retriable(),
        ProduceError::Refused { code, .. } => matches!(
            code,
            ErrorCode::TopicAuthorizationFailed
                | ErrorCode::TransactionalIdAuthorizationFailed
                | ErrorCode::InvalidTopicException
                | ErrorCode::PolicyViolation
        ),
        ProduceError::TransactionFailed(cause) => is_hopeless(cause),
        ProduceError::Closed => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::metadata::TopicPartition;
    use crate::types::{Offset, PartitionIndex, Timestamp};
    use crate::wire::batch::Record;

    #[test]
    fn a_record_in_quarantine_says_where_it_is_from_and_why_it_is_there() {
        let own = RecordHeader { name: Bytes::from_static(b"own"), value: None };
        let record = ConsumedRecord {
            partition: TopicPartition::new(TopicName::new("orders").unwrap(), PartitionIndex(3)),
            offset: Offset(42),
            timestamp: Timestamp(1_700_000_000_000),
            record: Record { key: Some("k".into()), value: Some("v".into()), headers: vec![own.clone()] },
        };
        let reason = "ü".repeat(REASON_BYTES_MAX);
        let copy = copy(&TopicName::new("failed").unwrap(), &record, &GroupId::new("g"), (3, &reason));
        assert_eq!((copy.key, copy.value), (record.record.key, record.record.value));
        assert_eq!((copy.topic.as_str(), copy.timestamp), ("failed", Some(record.timestamp)));
        let said = copy.headers.iter().map(|header| {
            let value = header.value.as_deref().unwrap_or_default();
            (std::str::from_utf8(&header.name).unwrap(), String::from_utf8(value.to_vec()).unwrap())
        });
        let said: Vec<_> = said.collect();
        assert_eq!(copy.headers[0], own);
        assert_eq!(
            said[1..6],
            [
                ("semel-quarantine-topic", "orders".to_owned()),
                ("semel-quarantine-partition", "3".to_owned()),
                ("semel-quarantine-offset", "42".to_owned()),
                ("semel-quarantine-group", "g".to_owned()),
                ("semel-quarantine-attempts", "3".to_owned()),
            ]
        );
        assert_eq!(said[6], ("semel-quarantine-reason", "ü".repeat(REASON_BYTES_MAX / 2)));
    }
}
