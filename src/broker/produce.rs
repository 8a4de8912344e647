//! Produce: each partition's batch is checked here, in full, before the shard sees it; what the shard makes of it is the
//! answer. A refused partition does not keep the others from being stored.

use super::failure::{Failure, expect};
use super::limits::{COMMAND_BATCHES_MAX, COMMAND_BYTES_MAX, COMMAND_KEYS_MAX, INLINE_EXPANSION_BYTES_MAX};
use super::names::{self, Topic};
use super::service::reply_to;
use super::session::Context;
use super::{errors, topic_config, transactions};
use crate::core::{
    Appended, BatchFacts, BatchProducer, Command, Identity, KeyConflict, NotAppended, Produce,
    ProduceAndCommit, ProduceBatch, Protocol, RecordKey, TransactionalProducer,
};
use crate::net::Reply;
use crate::shard::{Answer, off_thread};
use crate::store::ReadView;
use crate::types::{ProducerId, TopicId, TransactionalId};
use crate::wire::batch::{
    self, BatchError, BatchHeader, BatchLimits, CheckedBatch, Compression, WithoutKey, check_produced,
};
use crate::wire::messages::*;
use crate::wire::{ErrorCode, Message, Records};
use bytes::Bytes;

/// The first version in which an append enrols its partition (KIP-890).
const ENROLS: i16 = 12;
/// The first version in which records may be compressed with zstd (KIP-110).
const ZSTD: i16 = 7;
/// How acknowledgement is asked for. 1 is served as −1: nothing is acknowledged before it is durable.
mod acks {
    pub(super) const NONE: i16 = 0;
    pub(super) const LEADER: i16 = 1;
    pub(super) const ALL: i16 = -1;
}

pub(super) async fn accept(cx: Context, body: Bytes) -> Result<Reply, Failure> {
    let request = ProduceRequest::decode_leading(body, cx.version)?;
    cx.check_listed(request.topic_data.iter().map(|topic| 1 + topic.partition_data.len()).sum())?;
    let acks = request.acks;
    let transactional_id = request.transactional_id.clone();
    let commits = request.commits && acks != acks::NONE;
    let mut judged = if !matches!(acks, acks::NONE | acks::LEADER | acks::ALL) {
        Judged::refused(request.topic_data, ErrorCode::InvalidRequiredAcks)
    } else if cx.node.shard.space_is_short() {
        // Clients look for another leader and try again, in order.
        Judged::refused(request.topic_data, ErrorCode::KafkaStorageError)
    } else {
        judge(&cx, request).await?
    };
    let served = transactions::protocol(&cx, ENROLS);
    judged.check_transactional(transactional_id.as_deref(), served.err());
    let protocol = served.unwrap_or(Protocol::V1);
    let commits = commits && judged.is_whole();
    let batches = std::mem::take(&mut judged.batches);
    let answers = ask(&cx, transactional_id.as_deref(), protocol, batches, commits).await?;
    let asked = Asked { answers, topics: judged.topics };
    Ok(match acks {
        acks::NONE => Reply::Later(Box::pin(async move { Ok(asked.unacknowledged(&cx).await?) })),
        _ => cx.clone().later(asked.acknowledged(cx)),
    })
}

/// Looks at every batch: on a thread of its own where expanding them may take long.
async fn judge(cx: &Context, request: ProduceRequest) -> Result<Judged, Failure> {
    let (view, version) = (cx.view(), cx.version);
    let records = request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|part| &part.records);
    if !records.flatten().any(takes_long) {
        return Judged::of(&view, version, request.topic_data);
    }
    off_thread(move || Judged::of(&view, version, request.topic_data)).await
}

fn takes_long(records: &Records) -> bool {
    let compressed = || {
        records.chunks().next().is_some_and(|batch| {
            BatchHeader::parse(batch).is_ok_and(|header| header.compression != Compression::None)
        })
    };
    records.len() >= INLINE_EXPANSION_BYTES_MAX && compressed()
}

/// The request's partitions, in its order: what is refused, and what is to be stored.
#[derive(Default)]
struct Judged {
    topics: Vec<JudgedTopic>,
    /// The batches to be stored, in the order of the request.
    batches: Vec<(ProduceBatch, Bytes)>,
}

struct JudgedTopic {
    name: String,
    id: TopicId,
    partitions: Vec<(i32, Verdict)>,
}

/// What is to become of a partition's batch.
enum Verdict {
    /// It is the next one of [`Judged::batches`].
    Store,
    Refuse(Refused),
}

/// Why a batch is not stored.
struct Refused {
    code: ErrorCode,
    message: Option<String>,
    /// The records that are to blame, each with what is wrong with it.
    records: Vec<(u32, String)>,
    /// Of those, the ones whose idempotency key is accepted already.
    keys: Vec<KeyConflict>,
}

impl Refused {
    /// A compacted topic keeps the newest record of each key, so each record needs one.
    fn without_key(topic: &str, index: i32, without_key: &WithoutKey) -> Refused {
        let message = format!("{} records have no key, which a compacted topic needs", without_key.count);
        let each =
            format!("Compacted topic cannot accept message without key in topic partition {topic}-{index}.");
        let records = without_key.first.iter().map(|record| (*record, each.clone())).collect();
        Refused { message: Some(message), records, ..ErrorCode::InvalidRecord.into() }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Refused {
        Refused { code, message: None, records: Vec::new(), keys: Vec::new() }
    }
}

impl From<BatchError> for Refused {
    fn from(error: BatchError) -> Refused {
        let message = error.to_string();
        let records = match &error {
            BatchError::InvalidRecord { index, .. } => vec![(*index, message.clone())],
            _ => Vec::new(),
        };
        Refused { message: Some(message), records, ..error.code().into() }
    }
}

impl Judged {
    fn of(view: &ReadView, version: i16, topics: Vec<ProduceTopic>) -> Result<Judged, Failure> {
        let mut judged = Judged::default();
        for ProduceTopic { name, topic_id, partition_data } in topics {
            let topic = names::find(view, (crate::wire::ApiKey::Produce, version), &name, topic_id)?;
            let limits = topic.as_ref().map(|topic| topic_config::batch_limits(&topic.row.config));
            let limits = limits.unwrap_or_default();
            let key_header = topic.as_ref().ok().and_then(|topic| topic.row.key_header());
            let mut partitions = Vec::with_capacity(partition_data.len());
            for ProducePartition { index, records } in partition_data {
                let verdict = match check(&topic, (&limits, key_header), version, index, records) {
                    Ok(batch) => {
                        judged.batches.push(batch);
                        Verdict::Store
                    }
                    Err(refused) => Verdict::Refuse(refused),
                };
                partitions.push((index, verdict));
            }
            judged.topics.push(JudgedTopic { name, id: topic_id, partitions });
        }
        Ok(judged)
    }

    /// The same for every partition.
    fn refused(topics: Vec<ProduceTopic>, code: ErrorCode) -> Judged {
        let refuse = |partition: ProducePartition| (partition.index, Verdict::Refuse(code.into()));
        let topics = topics.into_iter().map(|topic| JudgedTopic {
            name: topic.name,
            id: topic.topic_id,
            partitions: topic.partition_data.into_iter().map(refuse).collect(),
        });
        Judged { topics: topics.collect(), batches: Vec::new() }
    }

    /// A transactional request speaks for one transactional id and one producer id, in a version that is served, or nothing
    /// of it is stored.
    fn check_transactional(&mut self, transactional_id: Option<&str>, not_served: Option<ErrorCode>) {
        let producers = self.batches.iter().filter_map(|(batch, _)| batch.batch.producer);
        let mut ids =
            producers.filter(|producer| producer.transactional).map(|producer| producer.identity.id);
        let Some(first) = ids.next() else { return };
        if transactional_id.is_none() {
            self.refuse_all(ErrorCode::TransactionalIdAuthorizationFailed);
        } else if ids.any(|id: ProducerId| id != first) {
            self.refuse_all(ErrorCode::InvalidProducerIdMapping);
        } else if let Some(code) = not_served {
            self.refuse_all(code);
        }
    }

    /// Whether nothing of it is refused.
    fn is_whole(&self) -> bool {
        let mut verdicts = self.topics.iter().flat_map(|topic| &topic.partitions);
        verdicts.all(|(_, verdict)| matches!(verdict, Verdict::Store))
    }

    fn refuse_all(&mut self, code: ErrorCode) {
        self.batches.clear();
        for (_, verdict) in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            *verdict = Verdict::Refuse(code.into());
        }
    }
}

/// Checks one partition's records: exactly one batch, whole and true to its header.
fn check(
    topic: &Result<Topic, ErrorCode>,
    (limits, key_header): (&BatchLimits, Option<&str>),
    version: i16,
    index: i32,
    records: Option<Records>,
) -> Result<(ProduceBatch, Bytes), Refused> {
    let topic = topic.as_ref().map_err(|code| *code)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let bytes = records.ok_or(BatchError::Empty)?.to_bytes();
    let mut checked = check_produced(&bytes, limits, key_header)?;
    if version < ZSTD && checked.compression() == Compression::Zstd {
        let message = Some(format!("zstd needs produce requests of version {ZSTD} or later"));
        return Err(Refused { message, ..ErrorCode::UnsupportedCompressionType.into() });
    }
    if checked.without_key.count > 0 && topic.row.is_compacted() {
        return Err(Refused::without_key(topic.row.name.as_str(), index, &checked.without_key));
    }
    let batch = facts(&mut checked);
    Ok((ProduceBatch { partition, batch }, checked.bytes))
}

/// What the state machine needs to know of a batch.
fn facts(checked: &mut CheckedBatch) -> BatchFacts {
    let transactional = matches!(checked.producer, batch::BatchProducer::Transactional(_));
    let producer = checked.producer.batch().map(|producer| BatchProducer {
        identity: Identity { id: producer.id, epoch: producer.epoch },
        first_sequence: producer.sequences.first,
        transactional,
    });
    BatchFacts {
        records: checked.record_count,
        // A batch is bounded far below 4 GiB (`MESSAGE_BYTES_MAX`).
        bytes: u32::try_from(checked.bytes.len()).unwrap_or(u32::MAX),
        oldest_timestamp: checked.oldest_timestamp,
        max_timestamp: checked.max_timestamp,
        producer,
        keys: std::mem::take(&mut checked.keys)
            .into_iter()
            .map(|(record, key)| RecordKey { record, key })
            .collect(),
    }
}

/// Queues the batches: as one command, or as several in order where they are too large for one. `commits` asks for the end of
/// their transaction with them, which is not had where they are several: the client sees that it has to ask for it.
async fn ask(
    cx: &Context,
    transactional_id: Option<&str>,
    protocol: Protocol,
    batches: Vec<(ProduceBatch, Bytes)>,
    commits: bool,
) -> Result<Vec<(Answer, usize)>, Failure> {
    let mut committer = if commits { committer(cx, transactional_id, &batches) } else { None };
    let transactional_id = transactional_id.and_then(TransactionalId::new);
    let mut answers = Vec::with_capacity(1);
    let mut batches = batches.into_iter().peekable();
    while batches.peek().is_some() {
        let (mut facts, mut payloads, mut size, mut keys) = (Vec::new(), Vec::new(), 0, 0);
        while let Some((batch, payload)) = batches.next_if(|(next, payload)| {
            facts.is_empty()
                || (size + payload.len() <= COMMAND_BYTES_MAX
                    && facts.len() < COMMAND_BATCHES_MAX
                    && keys + next.batch.keys.len() <= COMMAND_KEYS_MAX)
        }) {
            size += payload.len();
            keys += batch.batch.keys.len();
            facts.push(batch);
            payloads.push(payload);
        }
        let count = facts.len();
        let produce = Produce { transactional_id: transactional_id.clone(), protocol, batches: facts };
        // Of several commands none commits, also not the last.
        let command = match committer.take().filter(|_| batches.peek().is_none()) {
            Some(producer) => Command::ProduceAndCommit(ProduceAndCommit { last: produce, producer }),
            None => Command::Produce(produce),
        };
        answers.push((cx.ask_with(command, payloads).await?, count));
    }
    Ok(answers)
}

/// Who commits a transaction with these batches: whose they are, if they are in one.
fn committer(
    cx: &Context,
    transactional_id: Option<&str>,
    batches: &[(ProduceBatch, Bytes)],
) -> Option<TransactionalProducer> {
    let (first, _) = batches.first()?;
    let Identity { id, epoch } = first.batch.producer.filter(|producer| producer.transactional)?.identity;
    transactions::producer(cx, transactional_id?, id.0, epoch.0).ok()
}

/// A request that the shard has.
struct Asked {
    topics: Vec<JudgedTopic>,
    /// Each command's answer, and how many batches it has.
    answers: Vec<(Answer, usize)>,
}

impl Asked {
    async fn acknowledged(self, cx: Context) -> Result<ProduceResponse, Failure> {
        let (mut stored, mut committed) = (Vec::new(), ProduceCommitted::default());
        for (answer, count) in self.answers {
            let (answered, holder) = expect::produced(reply_to(answer).await?, count)?;
            if let Some(Identity { id, epoch }) = holder {
                committed = ProduceCommitted { producer_id: id.0, producer_epoch: epoch.0 };
            }
            // Nearly always there is one command, and nothing to append to.
            if stored.is_empty() { stored = answered } else { stored.extend(answered) }
        }
        let mut stored = stored.into_iter();
        let mut responses = Vec::with_capacity(self.topics.len());
        for JudgedTopic { name, id, partitions } in self.topics {
            let mut partition_responses = Vec::with_capacity(partitions.len());
            for (index, verdict) in partitions {
                partition_responses.push(match verdict {
                    Verdict::Refuse(refused) => refused_response(index, refused),
                    Verdict::Store => match stored.next() {
                        Some(outcome) => stored_response(&cx, index, outcome)?,
                        None => return Err(Failure::Mismatch("a batch without an outcome".to_owned())),
                    },
                });
            }
            responses.push(ProduceTopicResponse { name, topic_id: id, partition_responses });
        }
        Ok(ProduceResponse { responses, committed, ..Default::default() })
    }

    /// With `acks=0` nothing is said; but as in Kafka the connection is closed if something went wrong, since its client
    /// could learn it in no other way.
    async fn unacknowledged(self, cx: &Context) -> Result<Vec<Bytes>, Failure> {
        let response = self.acknowledged(cx.clone()).await?;
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match partitions.find(|partition| !partition.error_code.is_none()) {
            None => Ok(Vec::new()),
            Some(failed) => Err(Failure::Unacknowledged(failed.error_code.to_string())),
        }
    }
}

fn stored_response(
    cx: &Context,
    index: i32,
    outcome: Result<Appended, NotAppended>,
) -> Result<ProducePartitionResponse, Failure> {
    Ok(match outcome {
        Ok(Appended { base_offset, append_time, log_start, .. }) => ProducePartitionResponse {
            index,
            base_offset: base_offset.0,
            log_append_time_ms: append_time.0,
            log_start_offset: log_start.0,
            ..Default::default()
        },
        Err(NotAppended { refusal, keys }) => {
            let code = errors::code(refusal, cx.api, cx.version)?;
            let records = keys.iter().map(|conflict| (conflict.record, told(conflict))).collect();
            refused_response(index, Refused { code, message: Some(refusal.to_string()), records, keys })
        }
    })
}

/// What a client is told of a record whose key is not accepted.
fn told(conflict: &KeyConflict) -> String {
    match conflict.accepted_at {
        Some((partition, offset)) => {
            format!("its idempotency key is accepted already: partition {}, offset {}", partition.0, offset.0)
        }
        None => "an earlier record of the batch has the same idempotency key".to_owned(),
    }
}

fn refused_response(index: i32, refused: Refused) -> ProducePartitionResponse {
    // A batch has fewer records than 2³¹.
    let number = |record| i32::try_from(record).unwrap_or(i32::MAX);
    let record_error = |(record, message)| ProduceRecordError {
        batch_index: number(record),
        batch_index_error_message: Some(message),
    };
    let accepted_key = |KeyConflict { record, accepted_at }| {
        let (partition_index, offset) = accepted_at.map_or((-1, -1), |(index, offset)| (index.0, offset.0));
        ProduceAcceptedKey { batch_index: number(record), partition_index, offset }
    };
    ProducePartitionResponse {
        index,
        error_code: refused.code,
        base_offset: -1,
        record_errors: refused.records.into_iter().map(record_error).collect(),
        error_message: refused.message,
        accepted_keys: refused.keys.into_iter().map(accepted_key).collect(),
        ..Default::default()
    }
}
