//! Rows and frames that are nearly right (`src/fuzz/`), given to a whole broker with what a world has left.

use super::node::{Remains, Slowness};
use super::plan::{Keeps, Plan};
use super::world::{run_to_end, within};
use crate::broker::{Broker, BrokerConfig, Endpoint};
use crate::core::invariants::without_invariants;
use crate::fuzz::Target;
use crate::log::Disk;
use crate::net::simulated::Sessions;
use crate::net::{Authority, Budgets, Connection, Limits, Principal, Transport};
use crate::shard::simulated::{Serving, serve};
use crate::store::is_state;
use crate::types::ConnectionId;
use crate::wire::messages::*;
use crate::wire::{Request, encode_request};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;

/// A world with all kinds of clients, and few faults: what it leaves has rows of many kinds.
fn remains() -> Remains {
    let mut plan = Plan::of(1);
    plan.keeps = Keeps::Newest { tombstones: Duration::from_secs(5) };
    (plan.clients.idempotent, plan.clients.transactional, plan.clients.members) = (1, 4, 2);
    (plan.clients.committers, plan.clients.administrators) = (1, 1);
    plan.load = Duration::from_secs(20);
    run_to_end(&plan, false).1
}

/// A broker on a copy of what is left, which does `work` with it; or what it says instead of starting.
fn with_broker<F: Future<Output = String>>(
    remains: &Remains,
    change: impl FnOnce(&Remains),
    work: impl FnOnce(Sessions<Broker>) -> F,
) -> String {
    let copy =
        Remains { disk: remains.disk.fork(), rows: remains.rows.fork(), limits: remains.limits.clone() };
    change(&copy);
    within(1, Arc::default(), async || {
        let (disk, mut tasks): (Arc<dyn Disk>, _) = (Arc::new(copy.disk), JoinSet::new());
        let pace = Slowness::of(1, Duration::ZERO);
        let served = serve(&disk, &copy.rows, &copy.limits, &pace, &mut tasks);
        let Serving { shard, stop, mut ended } = match served {
            Ok(served) => served,
            Err(error) => return error.to_string(),
        };
        let limits = Limits { threads: 0, ..Limits::default() };
        let budgets = Budgets::new(&limits);
        let endpoint = Endpoint { host: "localhost".to_owned(), port: 9092 };
        let broker = Broker::new(shard, budgets.clone(), BrokerConfig::new(endpoint));
        let said = work(Sessions::new(Arc::new(broker), limits, budgets)).await;
        let ending = ended.try_recv().map_or(String::new(), |ended| format!("{ended:?}"));
        drop(stop);
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
        format!("{said} {ending}")
    })
}

fn connect(sessions: &Sessions<Broker>, number: u64, tasks: &mut JoinSet<()>) -> DuplexStream {
    let (here, there) = duplex(64 << 10);
    let connection = Connection {
        id: ConnectionId(number),
        peer: ([127, 0, 0, 1], 1).into(),
        transport: Transport::Tcp,
        principal: Principal::named("client"),
        authority: Authority::Admin,
    };
    let (source, sink) = tokio::io::split(there);
    tasks.spawn(sessions.serve(connection, source, sink));
    here
}

fn frame<R: Request>(request: &R, version: i16) -> Vec<u8> {
    encode_request(request, version, 1, Some("fuzz")).unwrap().concat()
}

/// Sends bytes over a connection of their own; then another one must be answered.
async fn send(sessions: &Sessions<Broker>, bytes: &[u8]) -> String {
    let mut tasks = JoinSet::new();
    let mut peer = connect(sessions, 1, &mut tasks);
    let sent = tokio::time::timeout(Duration::from_secs(60), peer.write_all(bytes)).await;
    let mut answer = vec![0; 16];
    let read = tokio::time::timeout(Duration::from_secs(60), peer.read(&mut answer)).await;
    let mut other = connect(sessions, 2, &mut tasks);
    other.write_all(&frame(&ApiVersionsRequest::default(), 0)).await.unwrap();
    other.read_i32().await.expect("another connection is served");
    drop((peer, other));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    format!("{} {:?}", sent.is_ok(), read.map(|read| read.map(|read| read > 0)))
}

/// A row of what is left, as which of them, the length of its key, key and row.
fn packed(number: usize, key: &[u8], row: &[u8]) -> Vec<u8> {
    let head = [u16::try_from(number).unwrap(), u16::try_from(key.len()).unwrap()];
    [&head[0].to_be_bytes()[..], &head[1].to_be_bytes(), key, row].concat()
}

#[test]
fn fuzz_rows() {
    let remains = remains();
    let mut entries = remains.rows.entries();
    entries.retain(|(key, _)| is_state(key));
    // Of each kind a few.
    let mut valid: Vec<Vec<u8>> = Vec::new();
    for (number, (key, row)) in entries.iter().enumerate() {
        if entries[..number].iter().filter(|(other, _)| other.first() == key.first()).count() < 3 {
            valid.push(packed(number, key, row));
        }
    }
    assert!(valid.len() > 20, "rows of many kinds: {}", valid.len());
    let read = |bytes: &[u8]| {
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return "short".to_owned() };
        let number = usize::from(u16::from_be_bytes([head[0], head[1]])) % entries.len();
        let (key, row) = rest.split_at(usize::from(u16::from_be_bytes([head[2], head[3]])).min(rest.len()));
        let old = &entries[number].0;
        if key.first() != old.first() {
            return "of another kind".to_owned();
        }
        let damage = |copy: &Remains| copy.rows.damage(old, key, row);
        let look = async |sessions: Sessions<Broker>| {
            // Long enough for everything that the broker does by itself.
            tokio::time::sleep(Duration::from_secs(30)).await;
            let mut said = String::new();
            for request in asking_for_everything() {
                said += &send(&sessions, &request).await;
            }
            said
        };
        // Of rows that nobody has decided, nothing can be said.
        without_invariants(|| with_broker(&remains, damage, look))
    };
    Target { name: "rows", valid, mend: &|_| {}, read: &read }.fuzz_some(400);
}

/// Requests that look at all rows.
fn asking_for_everything() -> Vec<Vec<u8>> {
    let fetch = OffsetFetchRequest { group_id: "g".to_owned(), topics: None, ..Default::default() };
    vec![
        frame(&MetadataRequest { topics: None, ..Default::default() }, 12),
        frame(&ListTransactionsRequest::default(), 0),
        frame(&ListGroupsRequest::default(), 4),
        frame(&fetch, 7),
    ]
}

#[test]
fn fuzz_frames() {
    let remains = remains();
    let valid = requests();
    let mend = |bytes: &mut Vec<u8>| {
        if bytes.len() >= 4 {
            let length = i32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }
    };
    let read = |bytes: &[u8]| with_broker(&remains, |_| {}, async |sessions| send(&sessions, bytes).await);
    Target { name: "frames", valid, mend: &mend, read: &read }.fuzz_some(1_000);
}

/// A request of each kind that reaches the shard, and some that read.
fn requests() -> Vec<Vec<u8>> {
    let (transactional_id, group_id) = ("x".to_owned(), "g".to_owned());
    let mut requests = asking_for_everything();
    let init = InitProducerIdRequest {
        transactional_id: Some(transactional_id.clone()),
        transaction_timeout_ms: 1_000,
        ..Default::default()
    };
    requests.push(frame(&init, 5));
    let topics = vec![AddPartitionsToTxnTopic { name: "t".to_owned(), partitions: vec![0, 1] }];
    let enrol = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: transactional_id.clone(),
        v3_and_below_topics: topics,
        ..Default::default()
    };
    requests.push(frame(&enrol, 3));
    requests.push(frame(&EndTxnRequest { transactional_id, committed: true, ..Default::default() }, 5));
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t".to_owned(), partitions: vec![partition], ..Default::default() };
    let fetch = FetchRequest { min_bytes: 1, isolation_level: 1, topics: vec![topic], ..Default::default() };
    requests.push(frame(&fetch, 12));
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".to_owned(), partitions: vec![partition] };
    requests.push(frame(&ListOffsetsRequest { topics: vec![topic], ..Default::default() }, 7));
    let join = JoinGroupRequest {
        group_id,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".to_owned(), metadata: "m".into() }],
        ..Default::default()
    };
    requests.push(frame(&join, 7));
    let topic = CreatableTopic {
        name: "new".to_owned(),
        num_partitions: 3,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig { name: "retention.ms".to_owned(), value: Some("5".to_owned()) }],
        ..Default::default()
    };
    requests.push(frame(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, 7));
    let topic = DeleteTopicState { name: Some("t".to_owned()), ..Default::default() };
    requests.push(frame(&DeleteTopicsRequest { topics: vec![topic], ..Default::default() }, 6));
    requests
}
