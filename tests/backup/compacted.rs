//! A topic that is compacted while backups of it are taken: each backup is whole, and has of each key what was the newest at
//! one moment while it was taken.

use super::*;
use std::ops::RangeInclusive;

const CHANGES: &str = "changes";
const KEYS: usize = 12;
const RECORDS_PER_UNIT: usize = 24;

/// As fast as it goes, with room for few keys: there always is a pass that is half done.
const COMPACTION: &[&str] =
    &["--compaction-check-ms=20", "--compaction-share=100", "--compaction-memory-bytes=4096"];

/// What takes effect in one step: the new value of each key, none where it is deleted.
type Unit = BTreeMap<String, Option<String>>;

/// One writer, which does one thing after the other.
struct Writer {
    plain: Producer,
    transactional: TransactionalProducer,
    /// What was acknowledged, in order.
    units: Vec<Unit>,
    /// How often it has begun something.
    begun: usize,
}

impl Writer {
    async fn new(client: &Client) -> Writer {
        let id = TransactionalId::new("changes").unwrap();
        Writer {
            plain: Producer::new(client, ProducerConfig::default()).unwrap(),
            transactional: TransactionalProducer::init(client, id, TransactionConfig::default())
                .await
                .unwrap(),
            units: Vec::new(),
            begun: 0,
        }
    }

    fn records(&self, one_in: usize) -> Vec<(String, Option<String>)> {
        let round = self.begun;
        let value = |number| format!("{round} {number} {}", "x".repeat(1_000));
        let record = |number: usize| {
            let key = format!("key {}", (number * (round + 1) + round) % KEYS);
            (key, (!(number + round).is_multiple_of(one_in)).then(|| value(number)))
        };
        (0..RECORDS_PER_UNIT).map(record).collect()
    }

    /// A record by itself, a transaction that is aborted, one that is committed.
    async fn write(&mut self) {
        self.begun += 1;
        let (key, value) = self.records(5).remove(0);
        let delivery = self.plain.send(record(&key, value.as_deref())).await.unwrap();
        delivery.await.unwrap();
        self.units.push(BTreeMap::from([(key, value)]));
        for commits in [false, true] {
            self.begun += 1;
            let records = self.records(7);
            let mut transaction = self.transactional.begin().await.unwrap();
            for (key, value) in &records {
                transaction.send(record(key, value.as_deref())).await.unwrap();
            }
            if commits {
                transaction.commit().await.unwrap();
                self.units.push(records.into_iter().collect());
            } else {
                transaction.abort().await.unwrap();
            }
        }
    }

    /// What there is after so many units.
    fn folded(&self, units: usize) -> BTreeMap<String, String> {
        let mut folded: BTreeMap<String, Option<String>> = BTreeMap::new();
        self.units[..units].iter().for_each(|unit| folded.extend(unit.clone()));
        folded.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn record(key: &str, value: Option<&str>) -> ProducerRecord {
    let mut record = ProducerRecord::new(name(CHANGES), "").partition(PartitionIndex(0)).key(key.to_owned());
    record.value = value.map(|value| value.to_owned().into());
    record
}

/// What a reader folds the topic to, and how many records that took.
async fn read_changes(client: &Client) -> (BTreeMap<String, String>, usize) {
    let records = committed(client, &[TopicPartition::new(name(CHANGES), PartitionIndex(0))]).await;
    let (mut folded, count) = (BTreeMap::new(), records.len());
    for record in records {
        let key = text(&record.record.key.unwrap());
        match record.record.value {
            Some(value) => folded.insert(key, text(&value)),
            None => folded.remove(&key),
        };
    }
    (folded, count)
}

/// Whether compaction has written something that is in a data directory or a backup.
fn has_compacted(dir: &Path) -> bool {
    text(&semel(&["log", "inspect", path(dir)]).stdout).contains("Compacted")
}

fn is_whole(dir: &Path) {
    let said = succeeds(&["verify", path(dir)]);
    assert_eq!(said.last().unwrap()["problems"], 0, "{said:?}");
    succeeds(&["log", "verify", path(dir)]);
}

/// Takes a backup while the writer goes on and much is deleted; returns it, and which units it has at least and at most.
async fn back_up_meanwhile(
    broker: &Broker,
    client: &Client,
    writer: &mut Writer,
    called: String,
) -> (PathBuf, RangeInclusive<usize>) {
    let at_least = writer.units.len();
    let (address, data_dir) = (broker.address().to_string(), broker.data_dir());
    let number = 1_000 + writer.begun;
    let taking = tokio::task::spawn_blocking(move || back_up_at(&address, &data_dir, &called));
    let mut churned = 0;
    while !taking.is_finished() {
        writer.write().await;
        churn(client, number + churned).await;
        churned += 1;
    }
    (taking.await.unwrap(), at_least..=writer.units.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_topic_that_is_compacted_meanwhile_are_whole_and_lose_no_key() {
    let (_backups, mut broker) = start_with(COMPACTION);
    let client = Client::connect(config(&broker)).await.unwrap();
    let mut topic = NewTopic::new(name(CHANGES), 1);
    for (setting, value) in
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", "100")]
    {
        topic.configs.insert(setting.to_owned(), value.to_owned());
    }
    Admin::new(&client).create_topic(&topic).await.unwrap();
    let mut writer = Writer::new(&client).await;
    let mut taken: Vec<(PathBuf, RangeInclusive<usize>)> = Vec::new();
    while taken.len() < 3 || !taken.iter().all(|(backup, _)| has_compacted(backup)) {
        assert!(taken.len() < 20, "nothing is compacted\n{}", broker.log());
        // What is from before the first compaction is of no interest here.
        taken.retain(|(backup, _)| has_compacted(backup));
        for number in 0..4 {
            writer.write().await;
            churn(&client, writer.begun * 10 + number).await;
        }
        let called = format!("backup-{}", writer.begun);
        taken.push(back_up_meanwhile(&broker, &client, &mut writer, called).await);
    }
    taken.iter().for_each(|(backup, _)| is_whole(backup));

    let (backup, has) = taken.last().unwrap();
    restore(&mut broker, backup, "lost");
    let (found, _) = read_changes(&client).await;
    let units = has.clone().find(|units| writer.folded(*units) == found);
    let units = units.unwrap_or_else(|| panic!("nothing that ever was: {found:?}"));
    goes_on_compacted(broker, &client, (writer, units)).await;
}

/// What was restored is compacted on, and whole after a stop, and so it is without its rows.
async fn goes_on_compacted(mut broker: Broker, client: &Client, (before, units): (Writer, usize)) {
    let mut writer = Writer::new(client).await;
    writer.units = before.units[..units].to_vec();
    writer.begun = before.begun;
    let begun = std::time::Instant::now();
    loop {
        writer.write().await;
        churn(client, 100_000 + writer.begun).await;
        let (found, count) = read_changes(client).await;
        assert_eq!(found, writer.folded(writer.units.len()));
        // One of each key, tombstones, and what is in the last batches.
        if count <= 6 * KEYS {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{count} records are left");
    }
    for without_rows in [false, true] {
        assert!(broker.stop().success());
        is_whole(&broker.data_dir());
        if without_rows {
            fs::remove_dir_all(broker.data_dir().join("rows")).unwrap();
        }
        broker.restart();
        assert_eq!(read_changes(client).await.0, writer.folded(writer.units.len()));
    }
    assert!(broker.stop().success());
    assert!(has_compacted(&broker.data_dir()));
}
