//! A disk that really gets full, from outside: clients fill it up to the reserve, what they may still do then, what gives
//! the space back; and somebody else takes all of it under a broker that serves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use common::broker::Broker;
use common::disk::{Kind, SmallDisk};
use common::frames::{Batch, Connection, NONE};
use common::tools::or_skip;
use semel::client::{
    Admin, Client, ClientConfig, GroupMember, NewTopic, OffsetQuery, OffsetToCommit, ProducerRecord,
    TlsFiles, TopicPartition, TransactionConfig, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DISK_MIB: u64 = 512;
/// What one client writes between two looks at the free space, on a fast disk, is a fraction of it.
const RESERVE: u64 = 192 << 20;
const OPTIONS: &[&str] = &[
    "--segment-bytes=4194304",
    "--frame-bytes=524288",
    "--snapshot-bytes=4194304",
    "--checkpoint-bytes=4194304",
    "--reserve-bytes=201326592",
];
const KAFKA_STORAGE_ERROR: i16 = 56;
const DEADLINE: Duration = Duration::from_secs(90);
/// The broker looks at the free space five times in this time.
const SETTLED: Duration = Duration::from_secs(1);
const GROUP: &str = "readers";

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn partition(topic: &str) -> TopicPartition {
    TopicPartition::new(name(topic), PartitionIndex(0))
}

/// A broker on a small disk, and what it has acknowledged.
struct Story {
    broker: Broker,
    client: Client,
    /// Values in the topic `kept`, in order.
    kept: Vec<String>,
}

impl Story {
    async fn begin(disk: SmallDisk) -> Story {
        let broker = Broker::start_on(disk, OPTIONS, &[]);
        let client = connect(&broker).await;
        let admin = Admin::new(&client);
        for topic in ["kept", "ledger", "first", "second"] {
            admin.create_topic(&NewTopic::new(name(topic), 1)).await.unwrap();
        }
        Story { broker, client, kept: Vec::new() }
    }

    fn free_bytes(&self) -> u64 {
        self.broker.disk().free_bytes()
    }

    /// Produces a record to `kept`: the error code.
    fn keep(&mut self, connection: &mut Connection) -> i16 {
        let value = format!("value {}", self.kept.len());
        let (code, _) = connection.produce("kept", 0, &Batch::of(&[value.as_bytes()]).done());
        if code == NONE {
            self.kept.push(value);
        }
        code
    }

    /// Clients fill the disk until they are refused, for good: the first refusal has spare files given back.
    fn fill(&mut self, topic: &str) {
        let mut connection = Connection::open(&self.broker);
        let batch = Batch::of(&[&[0x5a; 256 << 10]]).done();
        let (mut taken, mut refused_since) = (0, None);
        while taken < DISK_MIB * 8 {
            match connection.produce(topic, 0, &batch).0 {
                KAFKA_STORAGE_ERROR => {
                    if refused_since.get_or_insert_with(Instant::now).elapsed() > SETTLED {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                code => {
                    assert_eq!(code, NONE);
                    (taken, refused_since) = (taken + 1, None);
                    assert!([NONE, KAFKA_STORAGE_ERROR].contains(&self.keep(&mut connection)));
                }
            }
        }
        panic!("more was taken than there is room for");
    }

    /// Waits until records are taken again.
    fn resumes(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let mut connection = Connection::open(&self.broker);
        while self.keep(&mut connection) != NONE {
            assert!(Instant::now() < deadline, "{} bytes are free\n{}", self.free_bytes(), self.broker.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn read_kept(&self) -> Vec<String> {
        let rows = Connection::open(&self.broker).read_all("kept", 0);
        rows.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect()
    }

    /// What is refused below the reserve, and what is not.
    async fn below_the_reserve(&mut self, number: i64) {
        let mut connection = Connection::open(&self.broker);
        assert_eq!(self.keep(&mut connection), KAFKA_STORAGE_ERROR);
        assert_eq!(connection.create_topic("more", 1), KAFKA_STORAGE_ERROR);
        self.serves(number).await;
    }

    async fn serves(&self, number: i64) {
        let free = self.free_bytes();
        assert!(free > RESERVE / 4, "the reserve is kept: {free} bytes are free");
        assert_eq!(self.read_kept(), self.kept, "what was acknowledged is read");
        self.commit(number, String::new()).await.unwrap();
        assert_eq!(self.committed().await, Offset(number));
    }

    async fn commit(&self, next: i64, metadata: String) -> Result<(), String> {
        let offsets = BTreeMap::from([(partition("kept"), OffsetToCommit { next: Offset(next), metadata })]);
        let member = GroupMember::none(GroupId::new(GROUP));
        self.client.commit_offsets(&member, &offsets).await.map_err(|error| error.to_string())
    }

    async fn committed(&self) -> Offset {
        let partition = partition("kept");
        let asked = [partition.clone()];
        let group = GroupId::new(GROUP);
        let committed = self.client.committed_offsets(&group, &asked, OffsetQuery::Latest).await.unwrap();
        committed[&partition].next
    }

    async fn transactional(&self, id: &str) -> TransactionalProducer {
        let id = TransactionalId::new(id).unwrap();
        TransactionalProducer::init(&self.client, id, TransactionConfig::default()).await.unwrap()
    }

    async fn start_again(&mut self) {
        self.broker.restart();
        self.client = connect(&self.broker).await;
    }

    /// Somebody else takes all the space while offsets are committed: the broker ends, says why, and has lost nothing.
    async fn another_takes_the_rest(&mut self) {
        let mut acknowledged = self.committed().await.0;
        let deadline = Instant::now() + DEADLINE;
        self.broker.disk().fill();
        while self.commit(acknowledged + 1, "m".repeat(4_000)).await.is_ok() {
            acknowledged += 1;
            if acknowledged % 50 == 0 {
                // What the broker has given back of its own.
                self.broker.disk().fill();
            }
            assert!(Instant::now() < deadline, "there is still room after {acknowledged} commits");
        }
        let status = self.broker.ended();
        let log = self.broker.log();
        assert!(!status.success() && status.code().is_some(), "{status}");
        assert!(log.contains("No space left on device") && log.contains("make room"), "{log}");
        // As long as there is no room it does not start, and says why; or it does.
        match self.broker.try_restart() {
            Ok(()) => self.broker.kill(),
            Err(refused) => assert!(refused.stderr.contains("No space left on device"), "{refused:?}"),
        }
        self.broker.disk().empty();
        self.start_again().await;
        assert!(self.committed().await.0 >= acknowledged, "{acknowledged} were acknowledged");
        assert_eq!(self.read_kept(), self.kept);
    }
}

async fn connect(broker: &Broker) -> Client {
    let endpoint = format!("tls://{}", broker.address()).parse().unwrap();
    let mut config = ClientConfig::new(endpoint, TlsFiles::under(&broker.data_dir()));
    config.call_timeout = Duration::from_secs(30);
    Client::connect(config).await.unwrap()
}

async fn tell(disk: SmallDisk) {
    let mut story = Story::begin(disk).await;
    let mut committing = story.transactional("commits").await;
    let mut aborting = story.transactional("aborts").await;
    let (mut commits, mut aborts) = (committing.begin().await.unwrap(), aborting.begin().await.unwrap());
    for (transaction, value) in [(&mut commits, "committed"), (&mut aborts, "aborted")] {
        transaction.send(ProducerRecord::new(name("ledger"), value)).await.unwrap();
        transaction.flush().await.unwrap();
    }

    story.fill("first");
    story.below_the_reserve(1).await;
    commits.commit().await.unwrap();
    aborts.abort().await.unwrap();
    let ledger = Connection::open(&story.broker).fetch("ledger", 0, 0);
    assert_eq!(ledger.last_stable_offset, ledger.high_watermark, "nothing is open any more");

    // A stop in order and a start leave it as it is: refused from the first record on.
    assert!(story.broker.stop().success());
    story.start_again().await;
    story.below_the_reserve(2).await;

    // Records are deleted, and later a topic: each gives its space back.
    Admin::new(&story.client).delete_records(&partition("first"), None).await.unwrap();
    story.resumes();
    story.fill("second");
    story.serves(3).await;
    Admin::new(&story.client).delete_topic(&name("second")).await.unwrap();
    story.resumes();

    story.another_takes_the_rest().await;
    story.resumes();
    assert!(story.broker.stop().success());
    story.start_again().await;
    assert_eq!(story.read_kept(), story.kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_gets_full_and_nothing_acknowledged_is_lost() {
    let disks = [Kind::Ext4, Kind::Memory].map(|kind| SmallDisk::new(kind, DISK_MIB));
    let reasons: Vec<String> = disks.iter().filter_map(|disk| disk.as_ref().err().cloned()).collect();
    if reasons.len() == disks.len() {
        let none: Result<(), String> = Err(reasons.join("; "));
        or_skip("small file system", &none);
        return;
    }
    for disk in disks.into_iter().flatten() {
        tell(disk).await;
    }
}
