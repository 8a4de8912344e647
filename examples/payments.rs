//! A payment pipeline that is killed again and again, and an audit that finds every cent.
//!
//! Transfers come in through one topic. The pipeline pays each in one transaction: a debit and a credit, in different
//! partitions of the ledger, together with its own place in the incoming topic. A transfer that its account cannot pay
//! is refused: the debit that was already written is aborted, and the refusal is recorded instead. Meanwhile broker and
//! pipeline are killed (`kill -9`) at random points and started again. At the end an auditor reads what is committed.
//!
//! ```text
//! cargo run --release --example payments
//! cargo run --release --example payments -- --seed 7 --transfers 5000 --crashes 20
//! ```
//! With `--bootstrap quic://HOST:PORT --data-dir DIR` it uses a broker that is there, and kills the pipeline only.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its story")]

use clap::Parser;
use semel::client::{
    Admin, Client, ClientConfig, ClientError, ConsumedRecord, Consumer, ConsumerConfig, Endpoint,
    GroupMember, Isolation, NewTopic, OffsetQuery, OffsetToCommit, Producer, ProducerConfig, ProducerRecord,
    Start, TlsFiles, TopicPartition, TransactionConfig, TransactionalProducer,
};
use semel::types::{GroupId, Offset, PartitionIndex, TopicName, TransactionalId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Topics: what comes in, what was paid, what was refused.
const TRANSFERS: &str = "transfers";
const LEDGER: &str = "ledger";
const REFUSALS: &str = "refusals";
const PARTITIONS: i32 = 4;
/// The pipeline's name: whoever starts under it fences the one before.
const PIPELINE: &str = "payments-pipeline";
/// What every account holds at first, in cents.
const OPENING_BALANCE: i64 = 500_000;
/// A transfer is at most this much, in cents: enough to overdraw an account now and then.
const AMOUNT_MAX: u64 = 15_000;
/// Nothing that should happen takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Parser)]
struct Options {
    /// What is random repeats with the same seed: accounts, amounts, the moments of the crashes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many transfers come in
    #[arg(long, default_value_t = 3000)]
    transfers: u64,
    /// Between how many accounts
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(5..))]
    accounts: u32,
    /// How often something is killed
    #[arg(long, default_value_t = 10)]
    crashes: u32,
    /// A broker that is there already [default: one is started]
    #[arg(long, requires = "data_dir")]
    bootstrap: Option<Endpoint>,
    /// The data directory of that broker, for its certificates
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// A transfer that comes in. Amounts are cents.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Transfer {
    id: u64,
    from: u32,
    to: u32,
    amount: i64,
}

/// One side of a transfer that was paid.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    transfer: u64,
    account: u32,
    delta: i64,
}

/// A transfer that was not paid.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Refusal {
    transfer: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<_> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // The processes that are killed are this program too, in other parts.
    let played = match words[..] {
        ["play-broker", ..] => return semel::cli::run(arguments.into_iter().skip(1)),
        ["play-pipeline", bootstrap, data_dir] => play(pipeline(bootstrap, Path::new(data_dir))),
        _ => play(story(Options::parse())),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("payments: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(part: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(part)
}

fn topic(name: &str) -> Result<TopicName, Failure> {
    Ok(TopicName::new(name)?)
}

async fn connect(bootstrap: &Endpoint, data_dir: &Path) -> Result<Client, Failure> {
    Ok(Client::connect(ClientConfig::new(bootstrap.clone(), TlsFiles::under(data_dir))).await?)
}

// ---------------------------------------------------------------------------------------------------------------------
// The pipeline: consume, process, produce, in one transaction. Everything it knows it can read again, so whenever
// anything goes wrong it ends, and whoever starts it again goes on exactly where the last commit left off.

async fn pipeline(bootstrap: &str, data_dir: &Path) -> Result<(), Failure> {
    let client = connect(&bootstrap.parse()?, data_dir).await?;
    // First take over: from here on no earlier pipeline can commit anything, so what is read next is final.
    let id = TransactionalId::new(PIPELINE).ok_or("an empty transactional id")?;
    let mut producer = TransactionalProducer::init(&client, id, TransactionConfig::default()).await?;
    let mut books = Books::read(&client).await?;
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    for (partition, next) in places(&client).await? {
        consumer.seek(partition, Start::Offset(next));
    }
    loop {
        let record = consumer.next().await?;
        let transfer: Transfer = parse(&record)?;
        let place = BTreeMap::from([(record.partition.clone(), OffsetToCommit::new(record.offset.next()))]);
        books.settle(&mut producer, transfer, &place).await?;
    }
}

/// Where the pipeline goes on in each partition of what comes in.
async fn places(client: &Client) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let partitions = partitions_of(client, TRANSFERS).await?;
    let committed =
        client.committed_offsets(&GroupId::new(PIPELINE), &partitions, OffsetQuery::Stable).await?;
    let next =
        |partition: &TopicPartition| committed.get(partition).map_or(Offset::ZERO, |offset| offset.next);
    Ok(partitions.into_iter().map(|partition| (partition.clone(), next(&partition))).collect())
}

/// The balances, as the ledger has them.
struct Books {
    balances: BTreeMap<u32, i64>,
}

impl Books {
    async fn read(client: &Client) -> Result<Books, Failure> {
        let mut books = Books { balances: BTreeMap::new() };
        for record in read_all(client, LEDGER, Isolation::ReadCommitted).await? {
            books.enter(parse(&record)?);
        }
        Ok(books)
    }

    fn balance(&self, account: u32) -> i64 {
        self.balances.get(&account).copied().unwrap_or(OPENING_BALANCE)
    }

    fn enter(&mut self, entry: Entry) {
        let balance = self.balance(entry.account) + entry.delta;
        self.balances.insert(entry.account, balance);
    }

    async fn settle(
        &mut self,
        producer: &mut TransactionalProducer,
        transfer: Transfer,
        place: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Result<(), Failure> {
        let group = GroupMember::none(GroupId::new(PIPELINE));
        let debit = Entry { transfer: transfer.id, account: transfer.from, delta: -transfer.amount };
        let credit = Entry { transfer: transfer.id, account: transfer.to, delta: transfer.amount };
        let mut payment = producer.begin().await?;
        let debited = payment.send(entry_record(debit)?).await?;
        if self.balance(transfer.from) < transfer.amount {
            // The debit is in the log already: too late to think of it, but not too late to undo it.
            payment.flush().await?;
            debited.await?;
            payment.abort().await?;
            let mut refusal = producer.begin().await?;
            let value = serde_json::to_vec(&Refusal { transfer: transfer.id })?;
            refusal.send(ProducerRecord::new(topic(REFUSALS)?, value)).await?;
            refusal.send_offsets(&group, place).await?;
            refusal.commit().await?;
            return Ok(());
        }
        payment.send(entry_record(credit)?).await?;
        payment.send_offsets(&group, place).await?;
        payment.commit().await?;
        self.enter(debit);
        self.enter(credit);
        Ok(())
    }
}

fn partition_of_account(account: u32) -> PartitionIndex {
    PartitionIndex((account % PARTITIONS.cast_unsigned()).cast_signed())
}

fn entry_record(entry: Entry) -> Result<ProducerRecord, Failure> {
    let record = ProducerRecord::new(topic(LEDGER)?, serde_json::to_vec(&entry)?);
    Ok(record.key(entry.account.to_string()).partition(partition_of_account(entry.account)))
}

fn parse<'r, T: Deserialize<'r>>(record: &'r ConsumedRecord) -> Result<T, Failure> {
    Ok(serde_json::from_slice(record.record.value.as_deref().unwrap_or_default())?)
}

async fn partitions_of(client: &Client, name: &str) -> Result<Vec<TopicPartition>, Failure> {
    let topic = topic(name)?;
    Ok(client.metadata_of(std::slice::from_ref(&topic)).await?.partitions(&topic).unwrap_or_default())
}

/// Every record that a topic has now, for a reader of this isolation.
async fn read_all(client: &Client, name: &str, isolation: Isolation) -> Result<Vec<ConsumedRecord>, Failure> {
    let partitions = partitions_of(client, name).await?;
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), Start::Latest)).collect();
    let found = Admin::new(client).find_offsets(&asked, isolation).await?;
    let ends = partitions.into_iter().zip(found).map(|(partition, end)| Ok((partition, end?)));
    let ends: BTreeMap<TopicPartition, Offset> = ends.collect::<Result<_, ClientError>>()?;
    let mut consumer = Consumer::new(client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
    ends.keys().for_each(|partition| consumer.seek(partition.clone(), Start::Offset(Offset::ZERO)));
    let mut records = Vec::new();
    while ends.iter().any(|(partition, end)| consumer.position(partition).unwrap_or(Offset::ZERO) < *end) {
        records.extend(consumer.next_chunk().await?);
    }
    Ok(records)
}

// ---------------------------------------------------------------------------------------------------------------------
// The story: transfers come in while things are killed; then the audit.

async fn story(options: Options) -> Result<(), Failure> {
    let begun = Instant::now();
    let scratch = tempfile::tempdir()?;
    let (transfers, accounts, seed) = (options.transfers, options.accounts, options.seed);
    println!("payments: {transfers} transfers between {accounts} accounts, seed {seed}");
    let mut stage = Stage::set(&options, scratch.path())?;
    let client = connect(&stage.bootstrap, &stage.data_dir).await?;
    for name in [TRANSFERS, LEDGER, REFUSALS] {
        Admin::new(&client).create_topic(&NewTopic::new(topic(name)?, PARTITIONS)).await?;
    }
    stage.start_pipeline()?;
    println!("  {:>6}  the pipeline has started; transfers come in", elapsed(begun));
    let feeding = tokio::spawn(feed(client.clone(), options.clone()));
    let mut random = Random(options.seed);
    for _ in 0..options.crashes {
        tokio::time::sleep(Duration::from_millis(150 + random.below(700))).await;
        let what = stage.crash(&mut random)?;
        println!("  {:>6}  {what}", elapsed(begun));
    }
    feeding.await??;
    println!("  {:>6}  all transfers are in", elapsed(begun));
    stage.wait_until_settled(&client).await?;
    println!("  {:>6}  all transfers are settled", elapsed(begun));
    stage.stop_pipeline();
    audit(&client, &options).await
}

fn elapsed(begun: Instant) -> String {
    format!("{:.1} s", begun.elapsed().as_secs_f64())
}

/// Sends the transfers, a few at a time. The producer sends again what a crash swallowed, and the broker recognises it.
async fn feed(client: Client, options: Options) -> Result<(), Failure> {
    let producer = Producer::new(&client, ProducerConfig::default())?;
    let mut random = Random(options.seed ^ 0xfeed);
    let mut deliveries = Vec::new();
    for id in 0..options.transfers {
        let from = random.account(options.accounts);
        // To another partition of the ledger, so that each transfer spans two.
        let to = std::iter::repeat_with(|| random.account(options.accounts)).take(1000);
        let to = to.into_iter().find(|to| partition_of_account(*to) != partition_of_account(from));
        let to = to.ok_or("no account to pay to")?;
        let transfer = Transfer { id, from, to, amount: i64::try_from(1 + random.below(AMOUNT_MAX))? };
        let record = ProducerRecord::new(topic(TRANSFERS)?, serde_json::to_vec(&transfer)?);
        deliveries.push(producer.send(record.key(from.to_string())).await?);
        if id % 20 == 19 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    producer.flush().await?;
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(())
}

/// Broker and pipeline, as processes.
struct Stage {
    bootstrap: Endpoint,
    data_dir: PathBuf,
    /// None if the broker is somebody else's.
    broker: Option<Child>,
    pipeline: Option<Child>,
}

impl Stage {
    fn set(options: &Options, scratch: &Path) -> Result<Stage, Failure> {
        if let (Some(bootstrap), Some(data_dir)) = (options.bootstrap.clone(), options.data_dir.clone()) {
            return Ok(Stage { bootstrap, data_dir, broker: None, pipeline: None });
        }
        let data_dir = scratch.join("broker");
        let begun = Instant::now();
        let (broker, address) = start_broker(&data_dir, "127.0.0.1:0")?;
        println!("  a broker serves at quic://{address}, ready after {} ms", begun.elapsed().as_millis());
        let bootstrap = format!("quic://{address}").parse()?;
        Ok(Stage { bootstrap, data_dir, broker: Some(broker), pipeline: None })
    }

    fn start_pipeline(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["play-pipeline", &self.bootstrap.to_string()]).arg(&self.data_dir);
        // What it says when the ground is pulled from under it is not news.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        self.pipeline = Some(command.spawn()?);
        Ok(())
    }

    fn stop_pipeline(&mut self) {
        self.pipeline.take().into_iter().for_each(kill);
    }

    /// Kills the pipeline, the broker or both, and starts what is not running.
    fn crash(&mut self, random: &mut Random) -> Result<String, Failure> {
        let (kill_pipeline, kill_broker) = match random.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let mut said = Vec::new();
        if kill_pipeline || self.broker.is_none() {
            self.stop_pipeline();
            said.push("the pipeline was killed".to_owned());
        }
        if let Some(broker) = self.broker.take_if(|_| kill_broker) {
            kill(broker);
            let begun = Instant::now();
            let listen = format!("{}:{}", self.bootstrap.host, self.bootstrap.port);
            self.broker = Some(start_broker(&self.data_dir, &listen)?.0);
            said.push(format!("the broker was killed, and is back after {} ms", begun.elapsed().as_millis()));
        }
        self.revive_pipeline()?;
        Ok(said.join("; "))
    }

    /// Starts the pipeline if it is not running: it may also have given up by itself.
    fn revive_pipeline(&mut self) -> Result<(), Failure> {
        if let Some(pipeline) = &mut self.pipeline
            && pipeline.try_wait()?.is_none()
        {
            return Ok(());
        }
        self.start_pipeline()
    }

    /// Waits until the pipeline's place is at the end of what came in.
    async fn wait_until_settled(&mut self, client: &Client) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let places = places(client).await?;
            let asked: Vec<_> = places.keys().map(|partition| (partition.clone(), Start::Latest)).collect();
            let ends = Admin::new(client).find_offsets(&asked, Isolation::ReadCommitted).await?;
            let mut behind = false;
            for (place, end) in places.values().zip(ends) {
                behind |= *place < end?;
            }
            if !behind {
                return Ok(());
            }
            if Instant::now() > deadline {
                let problem =
                    format!("the pipeline has not settled everything after {PATIENCE:?}: {places:?}");
                return Err(problem.into());
            }
            self.revive_pipeline()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop_pipeline();
        self.broker.take().into_iter().for_each(kill);
    }
}

/// `kill -9`.
fn kill(mut process: Child) {
    // It may have ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}

/// Starts a broker and waits until it says where it serves.
fn start_broker(data_dir: &Path, listen: &str) -> Result<(Child, String), Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["play-broker", "serve", "--log", "warn", "--listen", listen, "--data-dir"]).arg(data_dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut broker = command.spawn()?;
    let output = broker.stdout.take().ok_or("the broker has no output")?;
    let mut lines = BufReader::new(output).lines();
    for line in &mut lines {
        if let Some(address) = line?.strip_prefix("ready: ") {
            let address = address.to_owned();
            // Read on, so that it never waits for somebody to listen.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((broker, address));
        }
    }
    kill(broker);
    Err("the broker ended before it was ready".into())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn account(&mut self, accounts: u32) -> u32 {
        u32::try_from(self.below(accounts.into())).unwrap_or(0)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The audit: what a read_committed reader sees must add up by itself.

/// What became of one transfer.
#[derive(Default)]
struct Settled {
    debits: u32,
    credits: u32,
    sum: i64,
    refusals: u32,
}

async fn audit(client: &Client, options: &Options) -> Result<(), Failure> {
    println!("audit, from what a read_committed reader sees");
    let ledger = read_all(client, LEDGER, Isolation::ReadCommitted).await?;
    let mut books = Books { balances: BTreeMap::new() };
    let mut settled: BTreeMap<u64, Settled> = BTreeMap::new();
    for record in &ledger {
        let entry: Entry = parse(record)?;
        let transfer = settled.entry(entry.transfer).or_default();
        *(if entry.delta < 0 { &mut transfer.debits } else { &mut transfer.credits }) += 1;
        transfer.sum += entry.delta;
        books.enter(entry);
    }
    for record in &read_all(client, REFUSALS, Isolation::ReadCommitted).await? {
        let refusal: Refusal = parse(record)?;
        settled.entry(refusal.transfer).or_default().refusals += 1;
    }
    let paid = |one: &&Settled| (one.debits, one.credits, one.sum, one.refusals) == (1, 1, 0, 0);
    let refused = |one: &&Settled| (one.debits, one.credits, one.refusals) == (0, 0, 1);
    let (paid, refused) = (settled.values().filter(paid).count(), settled.values().filter(refused).count());
    let incoming = usize::try_from(options.transfers)?;
    let (wrong, lost) = (settled.len() - paid - refused, incoming.saturating_sub(settled.len()));
    println!(
        "  {incoming} transfers: {paid} paid, {refused} refused, {lost} lost, {wrong} settled twice or in part"
    );
    let total: i64 = (0..options.accounts).map(|account| books.balance(account)).sum();
    let expected = OPENING_BALANCE * i64::from(options.accounts);
    let overdrawn = (0..options.accounts).filter(|account| books.balance(*account) < 0).count();
    let (accounts, found, wanted) = (options.accounts, euros(total), euros(expected));
    println!("  {accounts} accounts hold {found} of {wanted}; {overdrawn} are overdrawn");
    let written = read_all(client, LEDGER, Isolation::ReadUncommitted).await?.len();
    println!("  {} entries were written and aborted: nobody above has seen them", written - ledger.len());
    if wrong == 0 && lost == 0 && settled.len() == incoming && total == expected && overdrawn == 0 {
        println!("every account adds up");
        return Ok(());
    }
    Err("the accounts do not add up".into())
}

fn euros(cents: i64) -> String {
    format!("{}.{:02} EUR", cents / 100, cents % 100)
}
