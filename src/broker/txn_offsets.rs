//! TxnOffsetCommit: consumed offsets that take effect with a transaction (KIP-98, KIP-447).

use super::failure::Failure;
use super::group_offsets::{Asked, ToCommit, answered};
use super::groups::member;
use super::session::Context;
use super::transactions;
use crate::core::{Command, StageOffsets};
use crate::wire::messages::*;
use std::future::Future;

/// The first version in which committing an offset enrols the group (KIP-890).
const ENROLS: i16 = 5;

pub(super) async fn accept(
    cx: Context,
    request: TxnOffsetCommitRequest,
) -> Result<impl Future<Output = Result<TxnOffsetCommitResponse, Failure>> + Send + 'static, Failure> {
    cx.check_listed(request.topics.iter().map(|topic| 1 + topic.partitions.len()).sum())?;
    let mut to_commit = ToCommit::default();
    let view = cx.view();
    for topic in &request.topics {
        let asked = topic.partitions.iter().map(|partition| Asked {
            index: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.clone(),
        });
        to_commit.add(&view, (cx.api, cx.version), (&topic.name, topic.topic_id), asked)?;
    }
    let TxnOffsetCommitRequest { transactional_id, producer_id, producer_epoch, .. } = &request;
    let producer = transactions::producer(&cx, transactional_id, *producer_id, *producer_epoch);
    let asked = match producer.and_then(|producer| Ok((producer, transactions::protocol(&cx, ENROLS)?))) {
        Err(code) => Err(code),
        Ok((producer, protocol)) => {
            let generation = request.generation_id_or_member_epoch;
            let instance = request.group_instance_id.as_deref();
            let member = member(&request.group_id, generation, &request.member_id, instance);
            let stage = StageOffsets { producer, protocol, member, offsets: to_commit.offsets.clone() };
            Ok(cx.ask(Command::StageOffsets(stage)).await?)
        }
    };
    Ok(async move {
        let answered = answered(&cx, asked, &to_commit).await?;
        let codes = to_commit.codes(answered);
        let topics =
            request.topics.into_iter().zip(codes).map(|(topic, codes)| TxnOffsetCommitResponseTopic {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: codes
                    .map(|(partition_index, error_code)| TxnOffsetCommitResponsePartition {
                        partition_index,
                        error_code,
                    })
                    .collect(),
            });
        Ok(TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() })
    })
}
