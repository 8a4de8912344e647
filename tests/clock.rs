//! A wall clock that is set a year ahead and back, while the broker runs and while it is down: nothing is aborted, nothing
//! forgotten, and the log says that the clock has stepped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

mod common;

use std::collections::BTreeMap;

use common::broker::Broker;
use common::clock::{SetClock, YEAR_S};
use common::frames::{Bytes, Connection, NONE, Parse};
use semel::client::{
    Admin, Client, ClientConfig, Consumer, ConsumerConfig, GroupMember, IDEMPOTENCY_KEY_HEADER, Isolation,
    NewTopic, OffsetQuery, OffsetToCommit, ProduceError, Producer, ProducerConfig, ProducerRecord, Start,
    TlsFiles, TopicPartition, TransactionConfig, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};

const DAY_MS: &str = "86400000";

/// A broker whose wall clock the test sets.
struct Site {
    broker: Broker,
    clock: SetClock,
}

impl Site {
    /// None where there is no such clock.
    fn start() -> Option<Site> {
        let clock = SetClock::new()?;
        let options = [
            "--retention-check-ms",
            "100",
            "--transactional-id-expiration",
            "86400",
            "--producer-id-expiration",
            "86400",
        ];
        Some(Site { broker: Broker::start_in(&options, &clock.environment()), clock })
    }

    /// Sets the broker's clock so far ahead of the true one.
    fn set(&mut self, ahead_s: i64) {
        self.clock.set(ahead_s);
    }

    /// Waits until the broker has noticed every step there was.
    fn notices(&self) {
        self.clock.is_noticed_by(&self.broker);
    }

    async fn client(&self) -> Client {
        let endpoint = format!("tls://{}", self.broker.address()).parse().unwrap();
        Client::connect(ClientConfig::new(endpoint, TlsFiles::under(&self.broker.data_dir()))).await.unwrap()
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn record(name: &str, value: &str) -> ProducerRecord {
    ProducerRecord::new(topic(name), value.to_owned()).partition(PartitionIndex(0))
}

async fn holder(client: &Client, id: &str) -> TransactionalProducer {
    let config =
        TransactionConfig { timeout: std::time::Duration::from_secs(600), ..TransactionConfig::default() };
    TransactionalProducer::init(client, TransactionalId::new(id).unwrap(), config).await.unwrap()
}

/// One offset of a partition: a request can name each partition once.
async fn found(client: &Client, partition: &TopicPartition, start: Start) -> Offset {
    let asked = [(partition.clone(), start)];
    let mut found = Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await.unwrap();
    found.remove(0).unwrap()
}

/// All that is there to be read.
async fn values(client: &Client, name: &str) -> Vec<String> {
    let partition = TopicPartition::new(topic(name), PartitionIndex(0));
    let (first, end) =
        (found(client, &partition, Start::Earliest).await, found(client, &partition, Start::Latest).await);
    let mut consumer = Consumer::new(client, ConsumerConfig::default());
    consumer.seek(partition.clone(), Start::Offset(first));
    let mut values = Vec::new();
    while consumer.position(&partition).unwrap_or(first) < end {
        let read = consumer.next_chunk().await.unwrap();
        values.extend(
            read.into_iter().map(|read| String::from_utf8(read.record.value.unwrap().to_vec()).unwrap()),
        );
    }
    values
}

/// A member of a group that nobody else is in, by requests of the classic protocol.
struct Member(String);

impl Member {
    const GROUP: &str = "members";
    const SESSION_MS: i32 = 600_000;

    fn join(broker: &Broker) -> Member {
        let mut connection = Connection::open(broker);
        let request =
            Bytes::new().string(Member::GROUP).i32(Member::SESSION_MS).string("").string("consumer");
        let answer = connection.ask(11, 0, &request.i32(1).string("range").sized(b"").done()).unwrap();
        let mut answer = Parse(&answer);
        assert_eq!((answer.i16(), answer.i32()), (NONE, 1));
        answer.string(); // the protocol
        answer.string(); // the leader
        let id = answer.string().to_owned();
        let request = Bytes::new().string(Member::GROUP).i32(1).string(&id);
        let answer = connection.ask(14, 0, &request.i32(1).string(&id).sized(b"all of it").done()).unwrap();
        assert_eq!(Parse(&answer).i16(), NONE);
        Member(id)
    }

    /// It is still a member, in the same generation.
    fn beats(&self, broker: &Broker) {
        let request = Bytes::new().string(Member::GROUP).i32(1).string(&self.0).done();
        let answer = Connection::open(broker).ask(12, 0, &request).unwrap();
        assert_eq!(Parse(&answer).i16(), NONE, "the member is forgotten");
    }
}

/// What must not be forgotten.
struct Kept {
    member: Member,
    group: GroupMember,
    records: Vec<String>,
    round: usize,
}

impl Kept {
    async fn prepare(site: &Site) -> Kept {
        let client = site.client().await;
        let admin = Admin::new(&client);
        for (name, settings) in [
            ("records", vec![("retention.ms", DAY_MS)]),
            (
                "keys",
                vec![
                    ("semel.idempotency.key.header", IDEMPOTENCY_KEY_HEADER),
                    ("semel.idempotency.window.ms", DAY_MS),
                ],
            ),
        ] {
            let configs: BTreeMap<_, _> =
                settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            admin.create_topic(&NewTopic { configs, ..NewTopic::new(topic(name), 1) }).await.unwrap();
        }
        let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
        producer.send(record("records", "first")).await.unwrap().await.unwrap();
        producer.send(record("keys", "order").idempotency_key("order")).await.unwrap().await.unwrap();
        let group = GroupMember::none(GroupId::new("without members"));
        let partition = TopicPartition::new(topic("records"), PartitionIndex(0));
        let offsets = BTreeMap::from([(partition, OffsetToCommit::new(Offset(1)))]);
        client.commit_offsets(&group, &offsets).await.unwrap();
        let member = Member::join(&site.broker);
        Kept { member, group, records: vec!["first".to_owned()], round: 0 }
    }

    /// All is as it was, and what is used goes on.
    async fn is_there(&mut self, site: &Site, used: &mut TransactionalProducer) {
        let client = site.client().await;
        assert_eq!(values(&client, "records").await, self.records);
        self.member.beats(&site.broker);
        let producer = Producer::new(&client, ProducerConfig::default()).unwrap();
        let again =
            producer.send(record("keys", "order again").idempotency_key("order")).await.unwrap().await;
        assert!(matches!(again, Err(ProduceError::AlreadyAccepted { .. })), "{again:?}");
        let partition = TopicPartition::new(topic("records"), PartitionIndex(0));
        let known = client
            .committed_offsets(&self.group.group, std::slice::from_ref(&partition), OffsetQuery::Stable)
            .await
            .unwrap();
        assert_eq!(known.get(&partition).map(|known| known.next), Some(Offset(1)));
        let open =
            Admin::new(&client).describe_transaction(&TransactionalId::new("open").unwrap()).await.unwrap();
        assert_eq!(open.state, "Ongoing");
        self.round += 1;
        let mut transaction = used.begin().await.unwrap();
        transaction.send(record("used", &format!("round {}", self.round))).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(values(&client, "used").await.len(), self.round);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_makes_nothing_old() {
    if !Broker::runs_semel() {
        return;
    }
    let Some(mut site) = Site::start() else { return };
    let mut kept = Kept::prepare(&site).await;
    let client = site.client().await;
    Admin::new(&client).create_topic(&NewTopic::new(topic("used"), 1)).await.unwrap();
    Admin::new(&client).create_topic(&NewTopic::new(topic("held"), 1)).await.unwrap();
    let (mut open, mut used) = (holder(&client, "open").await, holder(&client, "used").await);
    let mut transaction = open.begin().await.unwrap();
    transaction.send(record("held", "held")).await.unwrap();
    transaction.flush().await.unwrap();
    kept.is_there(&site, &mut used).await;

    // A year ahead while it runs, the truth while it is down, a year ahead while it is down, the truth while it runs.
    site.set(YEAR_S);
    site.notices();
    kept.is_there(&site, &mut used).await;
    for ahead_s in [0, YEAR_S] {
        site.broker.kill();
        site.set(ahead_s);
        site.broker.restart();
        site.notices();
        kept.is_there(&site, &mut used).await;
    }
    site.broker.kill();
    site.broker.restart();
    kept.is_there(&site, &mut used).await;
    site.set(0);
    site.notices();
    kept.is_there(&site, &mut used).await;

    transaction.commit().await.unwrap();
    assert_eq!(values(&client, "held").await, ["held"]);
}
