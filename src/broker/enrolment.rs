//! AddPartitionsToTxn: from clients of version 1 (request versions 0 to 3), and in the name of others (4 and 5), which is
//! for those who act for the cluster.

use super::authorise::Operation;
use super::failure::{Failure, expect};
use super::service::reply_to;
use super::session::Context;
use super::{errors, names, transactions};
use crate::core::{Command, Enrol, Identity, TransactionRow, TransactionState};
use crate::shard::Answer;
use crate::store::ReadView;
use crate::types::{PartitionId, ProducerEpoch, ProducerId, TransactionalId};
use crate::wire::ErrorCode;
use crate::wire::messages::*;
use std::future::Future;

/// Partitions that one transaction is to be enrolled in: each as the request names it, and as it is known here.
struct Asked {
    topics: Vec<AddPartitionsToTxnTopic>,
    /// In the order of the request.
    partitions: Vec<Option<PartitionId>>,
}

impl Asked {
    fn resolve(view: &ReadView, topics: Vec<AddPartitionsToTxnTopic>) -> Result<Asked, Failure> {
        let mut partitions = Vec::new();
        for topic in &topics {
            let found = names::by_name(view, &topic.name)?;
            let of_index = |index: &i32| found.as_ref().and_then(|topic| topic.partition(*index));
            partitions.extend(topic.partitions.iter().map(of_index));
        }
        Ok(Asked { topics, partitions })
    }

    fn count(topics: &[AddPartitionsToTxnTopic]) -> usize {
        topics.iter().map(|topic| topic.partitions.len()).sum()
    }

    /// All partitions, if all are known. One that is not keeps the others from being enrolled.
    fn known(&self) -> Option<Vec<PartitionId>> {
        self.partitions.iter().copied().collect()
    }

    /// What is answered where a partition is unknown.
    fn unknown(&self) -> Vec<ErrorCode> {
        let code = |partition: &Option<PartitionId>| match partition {
            Some(_) => ErrorCode::OperationNotAttempted,
            None => ErrorCode::UnknownTopicOrPartition,
        };
        self.partitions.iter().map(code).collect()
    }

    fn all(&self, code: ErrorCode) -> Vec<ErrorCode> {
        vec![code; self.partitions.len()]
    }

    /// The answer, with one code for each partition in the order of the request.
    fn results(self, codes: Vec<ErrorCode>) -> Vec<AddPartitionsToTxnTopicResult> {
        let mut codes = codes.into_iter();
        let partition = |(partition_index, partition_error_code)| AddPartitionsToTxnPartitionResult {
            partition_index,
            partition_error_code,
        };
        let topic = |topic: AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
            name: topic.name,
            results_by_partition: topic.partitions.into_iter().zip(&mut codes).map(partition).collect(),
        };
        self.topics.into_iter().map(topic).collect()
    }
}

/// The answer of the shard, or what is answered without asking it.
enum Pending {
    Asked(Answer),
    Known(Vec<ErrorCode>),
}

impl Pending {
    async fn codes(self, cx: &Context, asked: &Asked) -> Result<Vec<ErrorCode>, Failure> {
        match self {
            Pending::Known(codes) => Ok(codes),
            Pending::Asked(answer) => expect::each(reply_to(answer).await?, asked.partitions.len())?
                .into_iter()
                .map(|answer| errors::outcome(answer, cx.api, cx.version))
                .collect(),
        }
    }
}

async fn enrol(
    cx: &Context,
    transactional_id: &str,
    (producer_id, epoch): (i64, i16),
    asked: &Asked,
) -> Result<Pending, Failure> {
    let producer = match transactions::producer_v1(cx, transactional_id, producer_id, epoch) {
        Ok(producer) => producer,
        Err(code) => return Ok(Pending::Known(asked.all(code))),
    };
    match asked.known() {
        None => Ok(Pending::Known(asked.unknown())),
        Some(partitions) => Ok(Pending::Asked(cx.ask(Command::Enrol(Enrol { producer, partitions })).await?)),
    }
}

pub(super) async fn accept(
    cx: Context,
    request: AddPartitionsToTxnRequest,
) -> Result<impl Future<Output = Result<AddPartitionsToTxnResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(Asked::count(&request.v3_and_below_topics))?;
    let asked = Asked::resolve(&cx.view(), request.v3_and_below_topics)?;
    let identity = (request.v3_and_below_producer_id, request.v3_and_below_producer_epoch);
    let pending = enrol(&cx, &request.v3_and_below_transactional_id, identity, &asked).await?;
    Ok(async move {
        let codes = pending.codes(&cx, &asked).await?;
        let results_by_topic_v3_and_below = asked.results(codes);
        Ok(AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() })
    })
}

pub(super) async fn accept_batched(
    cx: Context,
    request: AddPartitionsToTxnRequest,
) -> Result<impl Future<Output = Result<AddPartitionsToTxnResponse, Failure>> + Send + 'static, Failure> {
    let listed = request.transactions.iter().map(|transaction| 1 + Asked::count(&transaction.topics)).sum();
    cx.check_listed(listed)?;
    let allowed = cx.may(Operation::ActForCluster);
    let mut pending = Vec::new();
    for transaction in request.transactions.into_iter().filter(|_| allowed) {
        let view = cx.view();
        let asked = Asked::resolve(&view, transaction.topics)?;
        let identity = (transaction.producer_id, transaction.producer_epoch);
        let id = transaction.transactional_id;
        let answer = match transaction.verify_only {
            true => Pending::Known(verify(&view, &cx, &id, identity, &asked)?),
            false => enrol(&cx, &id, identity, &asked).await?,
        };
        pending.push((id, asked, answer));
    }
    Ok(async move {
        if !allowed {
            let error_code = ErrorCode::ClusterAuthorizationFailed;
            return Ok(AddPartitionsToTxnResponse { error_code, ..Default::default() });
        }
        let mut results_by_transaction = Vec::with_capacity(pending.len());
        for (transactional_id, asked, answer) in pending {
            let codes = answer.codes(&cx, &asked).await?;
            let topic_results = asked.results(codes);
            results_by_transaction.push(AddPartitionsToTxnResult { transactional_id, topic_results });
        }
        Ok(AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() })
    })
}

/// `VerifyEnrolment` (rule E6): says whether partitions are enrolled, and enrols nothing.
fn verify(
    view: &ReadView,
    cx: &Context,
    transactional_id: &str,
    (producer_id, epoch): (i64, i16),
    asked: &Asked,
) -> Result<Vec<ErrorCode>, Failure> {
    let Some(id) = TransactionalId::new(transactional_id) else {
        return Ok(asked.all(ErrorCode::InvalidRequest));
    };
    let identity = Identity { id: ProducerId(producer_id), epoch: ProducerEpoch(epoch) };
    let row = match view.get::<TransactionRow>(&id)? {
        Some(row) if row.holder == identity => row,
        Some(row) if row.holder.id == identity.id => {
            return Ok(asked.all(errors::code(crate::core::Refusal::Fenced, cx.api, cx.version)?));
        }
        _ => return Ok(asked.all(ErrorCode::InvalidProducerIdMapping)),
    };
    let enrolled = match row.state {
        TransactionState::Ongoing(ongoing) => view.enrolled(&id, ongoing)?,
        _ => Default::default(),
    };
    let code = |partition: &Option<PartitionId>| match partition {
        None => ErrorCode::UnknownTopicOrPartition,
        Some(partition) if enrolled.contains(partition) => ErrorCode::None,
        Some(_) => ErrorCode::TransactionAbortable,
    };
    Ok(asked.partitions.iter().map(code).collect())
}
