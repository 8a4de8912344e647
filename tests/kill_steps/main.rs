//! kill -9 at every step of a transaction's life, of the binary as it is shipped: each write to the log is one after which more
//! is durable, so the broker is killed before each of them and after each of them, by a tracer that stops it there. (The
//! same, at more points and without a process: `src/shard/tests/history/failpoints.rs`; at random points: `kill.rs`.)

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod answered_late;
#[path = "../common/mod.rs"]
mod common;
mod ended_by_others;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use common::broker::Broker;
use common::process::{run, text_of};
use common::tools::{announce, find, or_skip, set_up};
use semel::client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, GroupMember, Isolation, NewTopic, OffsetQuery,
    OffsetToCommit, ProducerRecord, Start, TlsFiles, TopicPartition, Transaction, TransactionConfig,
    TransactionError, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;

/// More than there are in a life; then it has come to its end unharmed.
const WRITES_MAX: usize = 30;

/// The tracer (`tests/power/record.c`).
fn tracer() -> Option<&'static Path> {
    static TRACER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let tracer = TRACER.get_or_init(|| {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("it is for Linux on x86-64".to_owned());
        }
        let compiler = find("cc")?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/record.c");
        let home = set_up("tracer", &text_of(&source), |home| {
            let program = home.join("record");
            run(Command::new(compiler).args(["-O2", "-Wall", "-Werror", "-o"]).arg(program).arg(&source))?;
            Ok(())
        })?;
        let program = home.join("record");
        run(Command::new(&program).arg("/dev/null").arg(&home).args(["--", "true"]))?;
        Ok(program)
    });
    or_skip("a tracer of system calls", tracer).map(PathBuf::as_path)
}

/// When the broker is killed.
#[derive(Clone, Copy, Debug)]
enum Killed {
    Before,
    After,
}

/// Who comes when the broker is back.
#[derive(Clone, Copy, Debug)]
enum Comes {
    /// The holder, who has only lost its connections.
    Same,
    /// Another process under the same transactional id.
    Other,
}

/// How the transaction is to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Commit,
    Abort,
    /// It is prepared first; whoever comes then, commits what is.
    Prepared,
}

/// A broker with a topic, which will be killed at its `nth` write to the log from the next start on.
struct Site {
    broker: Broker,
    nth: usize,
    killed: Killed,
}

impl Site {
    async fn prepare(tracer: &Path, nth: usize, killed: Killed) -> Site {
        let mut broker = Broker::start_with(&["--two-phase-commit", "true"]);
        let client = connect(&broker).await;
        Admin::new(&client).create_topic(&NewTopic::new(topic(), PARTITIONS)).await.unwrap();
        client.close().await;
        assert!(broker.stop().success());
        let how = match killed {
            Killed::Before => "KILL",
            Killed::After => "KILLED",
        };
        restart_under(tracer, &mut broker, nth, how);
        Site { broker, nth, killed }
    }

    /// Waits until the broker has been killed, and starts it again, this time for good.
    async fn comes_back(&mut self) {
        while self.broker.is_running() {
            tokio::time::sleep(Duration::from_millis(1)).await; // between two looks
        }
        self.broker.restart();
    }
}

/// Starts a broker that is stopped, this once by a tracer that does something to its `nth` write to the log.
fn restart_under(tracer: &Path, broker: &mut Broker, nth: usize, what: &str) {
    let rule = format!("write:/data/log/0:{nth}:1:{what}");
    let data_dir = broker.data_dir();
    broker.set_under(
        [
            tracer.as_os_str(),
            "/dev/null".as_ref(),
            data_dir.as_os_str(),
            "--fail".as_ref(),
            rule.as_ref(),
            "--".as_ref(),
        ]
        .map(std::ffi::OsStr::to_os_string)
        .into(),
    );
    broker.restart();
    broker.set_under(Vec::new());
}

async fn connect(broker: &Broker) -> Client {
    let endpoint = format!("tls://{}", broker.address()).parse().unwrap();
    Client::connect(ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()))).await.unwrap()
}

fn topic() -> TopicName {
    TopicName::new(TOPIC).unwrap()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(topic(), PartitionIndex(index))
}

fn group() -> GroupMember {
    GroupMember::none(GroupId::new("g"))
}

fn id() -> TransactionalId {
    TransactionalId::new("x").unwrap()
}

async fn holder(client: &Client) -> TransactionalProducer {
    TransactionalProducer::init(client, id(), TransactionConfig::default()).await.unwrap()
}

/// A holder that lets a prepared transaction stay.
async fn keeping_holder(client: &Client) -> TransactionalProducer {
    let config = TransactionConfig::default();
    TransactionalProducer::init_keeping_prepared(client, id(), config).await.unwrap()
}

/// The holder that comes after another one. What that has prepared is committed.
async fn next_holder(client: &Client, end: End) -> TransactionalProducer {
    if end != End::Prepared {
        return holder(client).await;
    }
    let mut producer = keeping_holder(client).await;
    if let Some(prepared) = producer.prepared().await {
        prepared.commit().await.unwrap();
    }
    producer
}

/// What a transaction consists of, one step after the other, each waited for.
async fn fill(transaction: &mut Transaction<'_>, name: &str) -> Result<(), TransactionError> {
    for index in 0..PARTITIONS {
        let record = ProducerRecord::new(topic(), name.to_owned()).partition(PartitionIndex(index));
        transaction.send(record).await?;
        transaction.flush().await?;
    }
    let offsets = BTreeMap::from([(partition(0), OffsetToCommit::new(Offset(7)))]);
    transaction.send_offsets(&group(), &offsets).await
}

/// A transaction from its beginning to its end.
async fn transact(producer: &mut TransactionalProducer, name: &str, end: End) {
    let mut transaction = producer.begin().await.unwrap();
    fill(&mut transaction, name).await.unwrap();
    if end == End::Prepared {
        transaction.prepare(None).await.unwrap();
    }
    match end {
        End::Commit | End::Prepared => drop(transaction.commit().await.unwrap()),
        End::Abort => transaction.abort().await.unwrap(),
    }
}

/// What readers of committed records see in each partition; nothing may hold them back.
async fn read(client: &Client) -> Vec<Vec<String>> {
    let asked: Vec<_> = (0..PARTITIONS).map(|index| (partition(index), Start::Latest)).collect();
    let ends_of = async |isolation| Admin::new(client).find_offsets(&asked, isolation).await.unwrap();
    let ends: Vec<Offset> = ends_of(Isolation::ReadCommitted).await.into_iter().map(Result::unwrap).collect();
    let all: Vec<Offset> =
        ends_of(Isolation::ReadUncommitted).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ends, all, "a transaction that has ended holds readers back");
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    (0..PARTITIONS).for_each(|index| consumer.seek(partition(index), Start::Earliest));
    let mut seen = vec![Vec::new(); usize::try_from(PARTITIONS).unwrap()];
    while (0..PARTITIONS)
        .zip(&ends)
        .any(|(index, end)| *end > consumer.position(&partition(index)).unwrap_or(Offset::ZERO))
    {
        for read in consumer.next_chunk().await.unwrap() {
            let value = String::from_utf8(read.record.value.unwrap().to_vec()).unwrap();
            seen[usize::try_from(read.partition.partition.0).unwrap()].push(value);
        }
    }
    seen
}

/// Lives a life in which the broker is killed at one write; false if it had fewer.
async fn live(tracer: &Path, nth: usize, killed: Killed, (end, comes): (End, Comes)) -> bool {
    let mut site = Site::prepare(tracer, nth, killed).await;
    let client = connect(&site.broker).await;
    let life = async { transact(&mut holder(&client).await, "first", end).await };
    let mut life = Box::pin(life);
    tokio::select! {
        biased;
        () = site.comes_back() => {}
        _ = &mut life => return false,
    }
    match comes {
        Comes::Same => life.await,
        Comes::Other => drop(life),
    }
    let case = format!("{end:?}, killed {:?} write {}, then {comes:?}", site.killed, site.nth);
    let client = connect(&site.broker).await;
    let mut next = next_holder(&client, end).await;
    let first = read(&client).await;
    let whole = first == [["first"], ["first"]];
    let nothing = first == [[""; 0], [""; 0]];
    match (end, comes) {
        (End::Abort, _) => assert!(nothing, "{case}: {first:?}"),
        (_, Comes::Same) => assert!(whole, "{case}: {first:?}"),
        (_, Comes::Other) => assert!(whole || nothing, "{case}: {first:?}"),
    }
    assert_eq!(has_its_offset(&client).await, whole, "{case}: its offset");
    goes_on(&client, &mut next, first, &case).await;
    true
}

/// Whether the offset of a transaction is committed.
async fn has_its_offset(client: &Client) -> bool {
    let asked = [partition(0)];
    let committed = client.committed_offsets(&group().group, &asked, OffsetQuery::Stable).await.unwrap();
    committed.contains_key(&partition(0))
}

/// The next transaction is seen behind what has been seen so far.
async fn goes_on(client: &Client, next: &mut TransactionalProducer, so_far: Vec<Vec<String>>, case: &str) {
    transact(next, "second", End::Commit).await;
    let mut wanted = so_far;
    wanted.iter_mut().for_each(|values| values.push("second".to_owned()));
    assert_eq!(read(client).await, wanted, "{case}: and on it goes");
}

/// Every write, both ways; how many there were.
async fn every_write(end: End, comes: Comes) {
    let Some(tracer) = tracer().filter(|_| Broker::runs_semel()) else { return };
    for killed in [Killed::Before, Killed::After] {
        let mut writes = 0;
        while live(tracer, writes + 1, killed, (end, comes)).await {
            writes += 1;
            assert!(writes < WRITES_MAX, "a life has no end");
        }
        announce(&format!("{writes} writes in a life to {end:?}, killed {killed:?} each; then {comes:?}"));
        // The identity, two appends with their enrolment, the offset, the outcome; and that it is prepared.
        let least = 5 + usize::from(end == End::Prepared);
        assert!(writes >= least, "{writes} writes");
    }
}

#[tokio::test]
async fn the_holder_goes_on_as_if_nothing_had_been() {
    every_write(End::Commit, Comes::Same).await;
}

#[tokio::test]
async fn another_holder_finds_all_of_it_or_nothing() {
    every_write(End::Commit, Comes::Other).await;
}

#[tokio::test]
async fn of_what_is_aborted_nothing_is_ever_seen() {
    every_write(End::Abort, Comes::Same).await;
}

#[tokio::test]
async fn the_holder_goes_on_with_what_it_was_preparing() {
    every_write(End::Prepared, Comes::Same).await;
}

#[tokio::test]
async fn another_holder_finds_what_is_prepared_or_nothing() {
    every_write(End::Prepared, Comes::Other).await;
}
