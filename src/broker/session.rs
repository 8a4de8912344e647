//! One connection: each frame to its handler, and the handler's answer to a frame.

use super::aside::Aside;
use super::failure::Failure;
use super::fetch::{LastFetch, Skips};
use super::limits::{LISTED_MAX, UNRESERVED_ANSWER_BYTES};
use super::service::Node;
use super::{
    alter_configs, api_versions, authorise, backup, coordinator, delete_records, describe_configs,
    describe_topics, enrolment, fetch, group_offsets, groups, list_offsets, markers, metadata, outcomes,
    produce, producer_id, topics, transaction_admin, transactions, two_phase, txn_offsets,
};
use crate::core::Command;
use crate::net::{self, Budget, Connection, Reply};
use crate::shard::{Answer, Origin};
use crate::store::ReadView;
use crate::wire::primitives::ErrorCounts;
use crate::wire::{ApiKey, HeaderError, Request, RequestHeader, Response, encode_response};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

/// What the broker keeps for one connection.
#[derive(Debug)]
pub struct Session {
    node: Arc<Node>,
    caller: Arc<Caller>,
}

/// Who is at the other end, and what is remembered for them until they go.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) connection: Connection,
    pub(super) origin: Origin,
    pub(super) skips: Skips,
    pub(super) last_fetch: LastFetch,
}

/// A request that is being answered.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) node: Arc<Node>,
    pub(super) caller: Arc<Caller>,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    /// The client's name for itself.
    pub(super) client_id: Arc<str>,
    correlation_id: i32,
    begun: Instant,
}

impl Session {
    pub(super) fn new(node: Arc<Node>, connection: Connection) -> Session {
        let origin = Origin::new(connection.id);
        let (skips, last_fetch) = (Skips::default(), LastFetch::default());
        Session { node, caller: Arc::new(Caller { connection, origin, skips, last_fetch }) }
    }

    async fn accept(&mut self, frame: Bytes) -> Result<Reply, Failure> {
        let begun = Instant::now();
        let (header, body) = match RequestHeader::decode(frame) {
            Ok(read) => read,
            // A client that is newer than this broker learns what it speaks from this answer (KIP-511).
            Err(HeaderError::UnsupportedVersion { api: ApiKey::ApiVersions, correlation_id, .. }) => {
                return Ok(Reply::Now(frame_body(&api_versions::unsupported(), 0, correlation_id, 0)?.0));
            }
            Err(error) => return Err(error.into()),
        };
        if !header.api.versions().contains(header.version) {
            return Err(Failure::VersionNotServed { api: header.api, version: header.version });
        }
        let RequestHeader { api, version, correlation_id, client_id } = header;
        self.node.metrics.asked(api, version);
        let client_id = client_id.unwrap_or_default().into();
        let (node, caller) = (Arc::clone(&self.node), Arc::clone(&self.caller));
        let cx = Context { node, caller, api, version, client_id, correlation_id, begun };
        let reply = match self.node.shard.reads_may_wait() {
            true => Aside::new(Arc::clone(&self.node), Box::pin(dispatch(cx, body))).await?,
            false => dispatch(cx, body).await?,
        };
        Ok(match reply {
            Reply::Later(answer) => Reply::Later(Box::pin(Aside::new(Arc::clone(&self.node), answer))),
            Reply::Waits(answer) => Reply::Waits(Box::pin(Aside::new(Arc::clone(&self.node), answer))),
            other => other,
        })
    }
}

impl net::Session for Session {
    async fn handle(&mut self, frame: Bytes) -> Result<Reply, net::Refusal> {
        Ok(self.accept(frame).await?)
    }

    fn disconnected(self) {
        // Dropping the origin is what tells the shard.
    }
}

/// Every api that is served, and who answers it: `accept` where a command has to reach the shard in frame order, `read`
/// where the answer is made when its turn has come.
async fn dispatch(cx: Context, body: Bytes) -> Result<Reply, Failure> {
    match cx.api {
        ApiKey::Produce => produce::accept(cx, body).await,
        ApiKey::Fetch => fetch::accept(cx, body),
        ApiKey::ListOffsets => cx.read(body, list_offsets::answer),
        ApiKey::Metadata => cx.accept(body, metadata::accept).await,
        ApiKey::OffsetCommit => cx.accept(body, group_offsets::accept_commit).await,
        ApiKey::OffsetFetch => cx.read(body, group_offsets::answer_fetch),
        ApiKey::JoinGroup => cx.accept_to_wait(body, groups::accept_join).await,
        ApiKey::SyncGroup => cx.accept_to_wait(body, groups::accept_sync).await,
        ApiKey::Heartbeat => cx.accept(body, groups::accept_heartbeat).await,
        ApiKey::LeaveGroup => cx.accept(body, groups::accept_leave).await,
        ApiKey::ConsumerGroupHeartbeat => cx.accept(body, groups::accept_consumer).await,
        ApiKey::ConsumerGroupDescribe => cx.read(body, groups::answer_describe_consumers),
        ApiKey::DescribeGroups => cx.read(body, groups::answer_describe),
        ApiKey::ListGroups => cx.read(body, groups::answer_list),
        ApiKey::DeleteGroups => cx.read(body, groups::answer_delete),
        ApiKey::OffsetDelete => cx.read(body, groups::answer_offset_delete),
        ApiKey::FindCoordinator => cx.read(body, coordinator::answer),
        ApiKey::ApiVersions => cx.read(body, api_versions::answer),
        ApiKey::CreateTopics => cx.accept(body, topics::accept_create).await,
        ApiKey::DeleteTopics => cx.accept(body, topics::accept_delete).await,
        ApiKey::CreatePartitions => cx.accept(body, topics::accept_grow).await,
        ApiKey::DeleteRecords => cx.accept(body, delete_records::accept).await,
        ApiKey::InitProducerId => cx.accept(body, producer_id::accept).await,
        ApiKey::OffsetForLeaderEpoch => cx.read(body, list_offsets::answer_epochs),
        ApiKey::AddPartitionsToTxn if cx.version <= 3 => cx.accept(body, enrolment::accept).await,
        ApiKey::AddPartitionsToTxn => cx.accept(body, enrolment::accept_batched).await,
        ApiKey::AddOffsetsToTxn => cx.accept(body, transactions::accept_group).await,
        ApiKey::EndTxn => cx.accept(body, transactions::accept_end).await,
        ApiKey::TxnOffsetCommit => cx.accept(body, txn_offsets::accept).await,
        ApiKey::WriteTxnMarkers => cx.accept(body, markers::accept).await,
        ApiKey::DescribeOutcomes => cx.read(body, outcomes::answer),
        ApiKey::PrepareTxn => cx.accept(body, two_phase::accept_prepare).await,
        ApiKey::EndTxnByOperator => cx.accept(body, two_phase::accept_end).await,
        ApiKey::TakeBackup => cx.read(body, backup::answer),
        ApiKey::DescribeConfigs => cx.read(body, describe_configs::answer),
        ApiKey::AlterConfigs => cx.accept(body, alter_configs::accept_replacement).await,
        ApiKey::IncrementalAlterConfigs => cx.accept(body, alter_configs::accept_incremental).await,
        ApiKey::DescribeCluster => cx.read(body, metadata::answer_cluster),
        ApiKey::DescribeProducers => cx.read(body, transaction_admin::answer_producers),
        ApiKey::DescribeTransactions => cx.read(body, transaction_admin::answer_describe),
        ApiKey::ListTransactions => cx.read(body, transaction_admin::answer_list),
        ApiKey::DescribeTopicPartitions => cx.read(body, describe_topics::answer),
    }
}

impl Context {
    /// Answers from what is durable when every earlier reply of the connection has been made: so a client that does not
    /// wait for its replies still reads what it has written.
    fn read<R, A>(self, body: Bytes, answer: impl FnOnce(Context, R) -> A) -> Result<Reply, Failure>
    where
        R: Request,
        A: Future<Output = Result<R::Response, Failure>> + Send + 'static,
    {
        let request = R::decode_leading(body, self.version)?;
        let answer = answer(self.clone(), request);
        Ok(self.later(answer))
    }

    /// Has the request's commands accepted by the shard, in frame order; the answer comes later.
    async fn accept<R, A, P>(
        self,
        body: Bytes,
        accept: impl FnOnce(Context, R) -> A,
    ) -> Result<Reply, Failure>
    where
        R: Request,
        A: Future<Output = Result<P, Failure>>,
        P: Future<Output = Result<R::Response, Failure>> + Send + 'static,
    {
        let request = R::decode_leading(body, self.version)?;
        let answer = accept(self.clone(), request).await?;
        Ok(self.later(answer))
    }

    /// The same of what may wait for other members for minutes, and of whose frame nothing is used any more once it is accepted:
    /// what a command holds of it is a copy, and counted where it waits (`spec/groups.md`, J1).
    async fn accept_to_wait<R, A, P>(
        self,
        body: Bytes,
        accept: impl FnOnce(Context, R) -> A,
    ) -> Result<Reply, Failure>
    where
        R: Request,
        A: Future<Output = Result<P, Failure>>,
        P: Future<Output = Result<R::Response, Failure>> + Send + 'static,
    {
        Ok(match self.accept(body, accept).await? {
            Reply::Later(answer) => Reply::Waits(answer),
            other => other,
        })
    }

    /// A reply that is made of a response to come.
    pub(super) fn later<R: Response>(
        self,
        answer: impl Future<Output = Result<R, Failure>> + Send + 'static,
    ) -> Reply {
        Reply::Later(Box::pin(async move {
            let chunks = {
                let response = answer.await?;
                self.encode(&response)?
            };
            Ok(self.pay(chunks).await?)
        }))
    }

    /// Lets a large answer wait until there is memory for it.
    async fn pay(&self, mut chunks: Vec<Bytes>) -> Result<Vec<Bytes>, Failure> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        if bytes >= UNRESERVED_ANSWER_BYTES
            && let Some(last) = chunks.last_mut()
        {
            let permit = self.node.budgets.reserve(Budget::Answers, bytes).await?;
            *last = permit.attach(std::mem::take(last));
        }
        Ok(chunks)
    }

    /// The frame of the request's response, without its length.
    pub(super) fn encode<R: Response>(&self, response: &R) -> Result<Vec<Bytes>, Failure> {
        self.encode_large(response, 0)
    }

    /// The same of a response about so many bytes of which are copied into the frame.
    pub(super) fn encode_large<R: Response>(
        &self,
        response: &R,
        copied: usize,
    ) -> Result<Vec<Bytes>, Failure> {
        let (chunks, errors) = frame_body(response, self.version, self.correlation_id, copied)?;
        self.node.metrics.answered(self.api, self.begun.elapsed(), &errors);
        Ok(chunks)
    }

    /// Queues a command of this connection.
    pub(super) async fn ask(&self, command: Command) -> Result<Answer, Failure> {
        self.ask_with(command, Vec::new()).await
    }

    /// Queues a command with the record batches it speaks of.
    pub(super) async fn ask_with(&self, command: Command, batches: Vec<Bytes>) -> Result<Answer, Failure> {
        self.node.ask(&self.caller.origin, command, batches).await
    }

    /// The rows as of the last durable block.
    pub(super) fn view(&self) -> Arc<ReadView> {
        self.node.shard.view()
    }

    /// Whether whoever asks may do that.
    pub(super) fn may(&self, operation: authorise::Operation) -> bool {
        authorise::authorise(self.caller.connection.authority, operation)
    }

    /// Refuses a request that lists more than anybody has.
    pub(super) fn check_listed(&self, count: usize) -> Result<(), Failure> {
        if count <= LISTED_MAX {
            return Ok(());
        }
        Err(Failure::protocol(format!("{} lists {count} items; at most {LISTED_MAX} are allowed", self.api)))
    }
}

/// A response's frame without its length, which the network writes; and the errors in it.
fn frame_body<R: Response>(
    response: &R,
    version: i16,
    correlation_id: i32,
    copied: usize,
) -> Result<(Vec<Bytes>, ErrorCounts), Failure> {
    const LENGTH_BYTES: usize = size_of::<i32>();
    let (mut chunks, errors) = encode_response(response, version, correlation_id, copied)?;
    if let Some(first) = chunks.first_mut() {
        let _length = first.split_to(LENGTH_BYTES.min(first.len()));
    }
    Ok((chunks, errors))
}
