//! A broker over a shard in a temporary directory, and clients that speak to it in frames.

use crate::broker::{Broker, BrokerConfig, Endpoint, Session};
use crate::core::Command;
use crate::log::{Disk, RealDisk};
use crate::net::{
    self, Authority, Budgets, Connection, Limits, Principal, Reply, Service as _, Session as _, Transport,
};
use crate::shard::tests::traces::check_file;
use crate::shard::{Origin, Running, ShardLimits, start};
use crate::types::*;
use crate::wire::batch::*;
use crate::wire::messages::*;
use crate::wire::{DecodeError, ErrorCode, Records, Request, decode_response, encode_request};
use bytes::{Bytes, BytesMut};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long a test waits for what must come.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

const TRACE: &str = "trace";

/// A broker. Its data go with it; every step it took is one of the specification's.
pub(super) struct Harness {
    pub(super) broker: Broker,
    pub(super) budgets: Budgets,
    running: Running,
    dir: Traced,
    connections: AtomicU64,
}

impl Harness {
    pub(super) fn start() -> Harness {
        Harness::with(|_| {})
    }

    pub(super) fn with(configure: impl FnOnce(&mut BrokerConfig)) -> Harness {
        Harness::on(Arc::new(RealDisk), configure)
    }

    pub(super) fn on(disk: Arc<dyn Disk>, configure: impl FnOnce(&mut BrokerConfig)) -> Harness {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join(TRACE);
        Harness::over(Traced(dir), Some(trace), disk, configure)
    }

    /// One that does not write down its steps, for what is so large that holding them against the specification would take
    /// minutes.
    pub(super) fn untraced() -> Harness {
        Harness::over(Traced(tempfile::tempdir().unwrap()), None, Arc::new(RealDisk), |_| {})
    }

    /// The broker is stopped, and another one started on what it leaves; the client, who must be the only one, connects anew.
    /// Only what the first one did is checked against the specification: a trace begins with nothing.
    pub(super) async fn restarted(self, client: Client) -> (Harness, Client) {
        let Harness { broker, running, dir, .. } = self;
        drop((client, broker));
        running.stop().await.unwrap();
        dir.check();
        let harness = Harness::over(dir, None, Arc::new(RealDisk), |_| {});
        let client = harness.user();
        (harness, client)
    }

    fn over(
        dir: Traced,
        trace: Option<PathBuf>,
        disk: Arc<dyn Disk>,
        configure: impl FnOnce(&mut BrokerConfig),
    ) -> Harness {
        let limits =
            ShardLimits { segment_bytes: 8 << 20, block_bytes: 2 << 20, trace, ..ShardLimits::default() };
        let running = start(dir.0.path(), disk, &limits).unwrap();
        let mut config = BrokerConfig::new(Endpoint { host: "localhost".to_owned(), port: 9092 });
        configure(&mut config);
        let budgets = Budgets::new(&Limits::default());
        let broker = Broker::new(running.shard.clone(), budgets.clone(), config);
        Harness { broker, budgets, running, dir, connections: AtomicU64::new(1) }
    }

    /// Changes these bytes wherever they lie in the log's files.
    pub(super) fn spoil(&self, bytes: &[u8]) {
        for entry in std::fs::read_dir(self.dir.0.path().join("log")).unwrap() {
            let path = entry.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            let places = content.windows(bytes.len()).enumerate().filter(|(_, here)| *here == bytes);
            for (place, here) in places {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[here[0] ^ 1], place as u64).unwrap();
            }
        }
    }

    /// Has the shard decide something that no client can ask for.
    pub(super) async fn decide(&self, command: Command) -> crate::core::Reply {
        let origin = Origin::new(ConnectionId(0));
        self.running.shard.ask(&origin, command, Vec::new()).await.unwrap().await.unwrap()
    }

    pub(super) fn admin(&self) -> Client {
        self.connect("admin", Authority::Admin)
    }

    pub(super) fn user(&self) -> Client {
        self.connect("user", Authority::User)
    }

    pub(super) fn connect(&self, name: &str, authority: Authority) -> Client {
        let connection = Connection {
            id: ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed)),
            peer: "127.0.0.1:1".parse().unwrap(),
            transport: Transport::Tcp,
            principal: Principal::named(name),
            authority,
        };
        Client { session: self.broker.connected(connection), correlation_id: 0 }
    }

    /// A client, and a topic of this name and number of partitions.
    pub(super) async fn with_topic(&self, name: &str, partitions: i32) -> (Client, TopicId) {
        let mut client = self.admin();
        let id = client.create_topic(name, partitions).await;
        (client, id)
    }
}

/// A broker's directory, with the trace of what it does.
pub(super) struct Traced(TempDir);

impl Traced {
    fn check(&self) {
        let trace = self.0.path().join(TRACE);
        if trace.exists() {
            check_file(&trace);
            std::fs::remove_file(&trace).unwrap();
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// One connection.
pub(super) struct Client {
    session: Session,
    correlation_id: i32,
}

/// A reply to come.
pub(super) struct Pending<R: Request> {
    reply: Reply,
    version: i16,
    correlation_id: i32,
    request: std::marker::PhantomData<R>,
}

impl<R: Request> Pending<R> {
    pub(super) async fn reply(self) -> Result<R::Response, net::Refusal> {
        let chunks = match self.reply {
            Reply::None => panic!("a reply was expected"),
            Reply::Now(chunks) => chunks,
            Reply::Later(later) | Reply::Waits(later) => {
                tokio::time::timeout(DEADLINE, later).await.expect("a reply in time")?
            }
        };
        let (correlation_id, response) =
            decode::<R>(joined(chunks), self.version).expect("a reply that can be read");
        assert_eq!(correlation_id, self.correlation_id);
        Ok(response)
    }
}

fn decode<R: Request>(frame: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    decode_response::<R::Response>(frame, version)
}

#[expect(clippy::needless_pass_by_value, reason = "callers are done with the chunks")]
pub(super) fn joined(chunks: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::new();
    chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.freeze()
}

impl Client {
    /// Hands a frame over, without its length.
    pub(super) async fn frame(&mut self, frame: Bytes) -> Result<Reply, net::Refusal> {
        self.session.handle(frame).await
    }

    /// Sends a request; the reply is to be awaited.
    pub(super) async fn send<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<Pending<R>, net::Refusal> {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("test")).unwrap();
        let reply = self.frame(joined(frame).slice(4..)).await?;
        Ok(Pending { reply, version, correlation_id: self.correlation_id, request: std::marker::PhantomData })
    }

    pub(super) async fn try_call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, net::Refusal> {
        self.send(version, request).await?.reply().await
    }

    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_call(version, request).await.unwrap()
    }

    pub(super) async fn create_topic(&mut self, name: &str, partitions: i32) -> TopicId {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let created = self.call(7, &request).await.topics.remove(0);
        assert_eq!(created.error_code, ErrorCode::None, "{:?}", created.error_message);
        created.topic_id
    }

    /// An identity: of a transactional id, or of nobody in particular.
    pub(super) async fn init(&mut self, transactional_id: Option<&str>) -> (i64, i16) {
        let request = InitProducerIdRequest {
            transactional_id: transactional_id.map(str::to_owned),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let response = self.call(5, &request).await;
        assert_eq!(response.error_code, ErrorCode::None);
        (response.producer_id, response.producer_epoch)
    }

    /// Produces one batch, and says what became of it.
    pub(super) async fn produce(
        &mut self,
        version: i16,
        to: (&str, TopicId, i32),
        transactional_id: Option<&str>,
        batch: Bytes,
    ) -> ProducePartitionResponse {
        let request = produce_request(to, transactional_id, -1, Some(batch));
        self.call(version, &request).await.responses.remove(0).partition_responses.remove(0)
    }

    pub(super) async fn end(
        &mut self,
        version: i16,
        transactional_id: &str,
        (producer_id, producer_epoch): (i64, i16),
        committed: bool,
    ) -> EndTxnResponse {
        let transactional_id = transactional_id.to_owned();
        let request = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed };
        self.call(version, &request).await
    }

    /// Fetches one partition without a session.
    pub(super) async fn fetch(
        &mut self,
        version: i16,
        from: (&str, TopicId, i32),
        offset: i64,
        committed: bool,
    ) -> FetchPartitionResponse {
        let request = fetch_request(from, offset, committed);
        let mut response = self.call(version, &request).await;
        assert_eq!(response.error_code, ErrorCode::None);
        response.responses.remove(0).partitions.remove(0)
    }
}

pub(super) fn produce_request(
    (name, topic_id, index): (&str, TopicId, i32),
    transactional_id: Option<&str>,
    acks: i16,
    batch: Option<Bytes>,
) -> ProduceRequest {
    let partition = ProducePartition { index, records: batch.map(Records::from) };
    let topic = ProduceTopic { name: name.to_owned(), topic_id, partition_data: vec![partition] };
    ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        commits: false,
    }
}

pub(super) fn fetch_request(
    (name, topic_id, partition): (&str, TopicId, i32),
    fetch_offset: i64,
    committed: bool,
) -> FetchRequest {
    let partition =
        FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: name.to_owned(), topic_id, partitions: vec![partition] };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation_level: i8::from(committed),
        topics: vec![topic],
        ..Default::default()
    }
}

/// A batch of these values. `producer` is (id, epoch), first sequence, and whether it is in a transaction.
pub(super) fn batch(producer: Option<((i64, i16), i32, bool)>, values: &[&str]) -> Bytes {
    compressed_batch(producer, values, Compression::None)
}

pub(super) fn compressed_batch(
    producer: Option<((i64, i16), i32, bool)>,
    values: &[&str],
    compression: Compression,
) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for (value, time) in values.iter().zip(1_000..) {
        let record = Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Default::default() };
        builder.append(Timestamp(time), &record).unwrap();
    }
    let producer = producer.map_or(BatchProducer::Anonymous, |((id, epoch), first, transactional)| {
        let records = u32::try_from(values.len()).unwrap();
        let sequences = SequenceRange::starting_at(Sequence::new(first).unwrap(), records);
        let batch = ProducerBatch { id: ProducerId(id), epoch: ProducerEpoch(epoch), sequences };
        if transactional { BatchProducer::Transactional(batch) } else { BatchProducer::Idempotent(batch) }
    });
    builder.build(compression, producer).unwrap()
}

/// The batches of an answer, each with a right checksum.
pub(super) fn batches(answer: &FetchPartitionResponse) -> Vec<Batch> {
    let records = answer.records.as_ref().expect("records, if only none").to_bytes();
    Batches::new(records).collect::<Result<_, _>>().unwrap()
}

/// The values that an application sees: no markers, and of the rest what the client's own filter leaves, which takes the
/// list of aborted transactions as Kafka's clients do.
pub(super) fn values(answer: &FetchPartitionResponse) -> Vec<String> {
    let mut aborted: std::collections::VecDeque<_> =
        answer.aborted_transactions.clone().unwrap_or_default().into();
    let mut aborting = std::collections::BTreeSet::new();
    let mut values = Vec::new();
    for batch in batches(answer) {
        while let Some(next) =
            aborted.front().filter(|next| next.first_offset <= batch.header.last_offset().0)
        {
            aborting.insert(next.producer_id);
            aborted.pop_front();
        }
        if batch.header.control {
            if Marker::parse(&batch).unwrap().outcome == MarkerOutcome::Abort {
                aborting.remove(&batch.header.producer_id.0);
            }
            continue;
        }
        if batch.header.transactional && aborting.contains(&batch.header.producer_id.0) {
            continue;
        }
        for record in batch.records(&BatchLimits::default()).unwrap() {
            values.push(String::from_utf8(record.unwrap().record.value.unwrap().to_vec()).unwrap());
        }
    }
    values
}
