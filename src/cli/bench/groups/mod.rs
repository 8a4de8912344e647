//! `semel bench groups`: many groups whose members only join and beat. How long until all have what they are to have, how
//! long a heartbeat takes, what the broker needs for them, and what a producer feels of them.

mod classic;
mod consumer;
mod ledger;
mod member;
mod report;

use super::measure::{Latencies, RunningCost, resident_bytes};
use super::{CliError, topic_name};
use crate::cli::connect::ConnectArgs;
use crate::client::{
    Admin, Client, ClientError, Connection, NewTopic, Producer, ProducerConfig, ProducerRecord,
};
use crate::types::{GroupId, PartitionIndex, TopicName};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use ledger::{Beats, Ledger};
use member::Member;
use report::Found;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Lanes of one client: a QUIC connection carries 64 at a time.
const LANES_PER_CLIENT: usize = 50;
/// Connections that are opened at the same time.
const OPENED_AT_ONCE: usize = 32;
/// Intervals between the last group's stability and the first count: by then each member has found its place between the
/// others.
const SPREADING_INTERVALS: u32 = 2;
const RECORD_BYTES: usize = 1024;
/// How long a broker may take to know a topic that it has made.
const KNOWN_WITHIN: Duration = Duration::from_secs(300);

/// The protocol of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// KIP-848: the broker assigns
    Consumer,
    /// A member assigns
    Classic,
}

/// `semel bench groups`.
#[derive(Debug, Args)]
#[command(
    after_help = "All members join at once. Heartbeats are counted first without anything else, then beside a producer \
    that has one record in flight; the producer is measured before the members come, too.\n\
    A connection for each member is what real clients have, and what the classic protocol needs: a JoinGroup holds up \
    its connection until the group is there. Heartbeats wait for nothing, so members of different consumer groups share \
    connections: a broker answers as many requests all the same, and this side does with less.\n\
    Ten thousand connections from one address need room at the broker:\n  \
    semel serve --connections 20000 --connections-per-address 20000"
)]
pub struct GroupsBench {
    /// Groups
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    groups: u32,
    /// Members of each group
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    members: u32,
    /// Partitions in all; each group reads a topic of its own, with its share of them
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// The protocol that the members speak
    #[arg(long, value_enum, default_value = "consumer")]
    protocol: Protocol,
    /// Members, each of another group, that share a connection [default: 10 of the consumer protocol, 1 of the classic one]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    members_per_connection: Option<u32>,
    /// How often members of the classic protocol beat, in milliseconds; those of the other are told by the broker
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(10..))]
    heartbeat_interval_ms: u64,
    /// How long each count takes, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,
    /// Records that the producer sends in a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    produce_rate: u32,
    /// Give up when the groups are not stable after so many seconds
    #[arg(long, default_value_t = 600)]
    patience: u64,
    /// The broker's process on this machine: its CPU time and memory are reported too
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(arguments: GroupsBench) -> Result<(), CliError> {
    let layout = Layout::of(&arguments)?;
    let client = arguments.connect.connect().await?;
    layout.create_topics(&client).await?;
    let found = measure(&arguments, &layout).await;
    if let Ok(found) = &found {
        found.print(arguments.json)?;
    }
    layout.clean_up(&client, found.is_ok()).await?;
    client.close().await;
    found.map(|_| ())
}

/// Who reads what.
struct Layout {
    groups: Vec<GroupPlace>,
    members: usize,
    members_per_connection: usize,
    topics: Vec<TopicName>,
    /// What the producer writes to.
    written: TopicName,
    /// Of each topic.
    partitions: i32,
}

/// A group and what it reads.
struct GroupPlace {
    number: usize,
    group: GroupId,
    topic: TopicName,
}

impl Layout {
    fn of(arguments: &GroupsBench) -> Result<Layout, CliError> {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix = format!("semel-bench-{}-{}", std::process::id(), since.as_millis());
        let name = |what: &str| {
            topic_name(&format!("{prefix}-{what}"))
                .map_err(|problem| CliError::usage(problem, "this is a defect"))
        };
        let topics = arguments.groups.min(arguments.partitions);
        let names: Vec<TopicName> =
            (0..topics).map(|number| name(&number.to_string())).collect::<Result<_, _>>()?;
        let place = |(number, topic): (usize, &TopicName)| GroupPlace {
            number,
            group: GroupId::new(&format!("{prefix}-{number}")),
            topic: topic.clone(),
        };
        let shared = match arguments.protocol {
            Protocol::Consumer => 10,
            Protocol::Classic => 1,
        };
        Ok(Layout {
            groups: names.iter().cycle().take(count(arguments.groups)).enumerate().map(place).collect(),
            members: count(arguments.members),
            members_per_connection: count(arguments.members_per_connection.unwrap_or(shared)),
            topics: names,
            written: name("written")?,
            partitions: i32::try_from(arguments.partitions / topics).unwrap_or(i32::MAX),
        })
    }

    fn all_members(&self) -> usize {
        self.groups.len().saturating_mul(self.members)
    }

    fn connections(&self) -> usize {
        self.all_members().div_ceil(self.members_per_connection)
    }

    async fn create_topics(&self, client: &Client) -> Result<(), ClientError> {
        let admin = Admin::new(client);
        for topic in &self.topics {
            admin.create_topic(&NewTopic::new(topic.clone(), self.partitions)).await?;
        }
        admin.create_topic(&NewTopic::new(self.written.clone(), 1)).await?;
        // Not every broker knows at once what it has made.
        let deadline = Instant::now() + KNOWN_WITHIN;
        while let Err(error) = admin.describe_topic(&self.written).await {
            if Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Groups whose members have not left stay until those are missed: they hold nothing but their names.
    async fn clean_up(&self, client: &Client, members_left: bool) -> Result<(), ClientError> {
        let admin = Admin::new(client);
        for place in self.groups.iter().filter(|_| members_left) {
            match admin.delete_group(&place.group).await {
                // It is gone with its last member, where a broker does it so.
                Ok(()) | Err(ClientError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for topic in self.topics.iter().chain([&self.written]) {
            admin.delete_topic(topic).await?;
        }
        Ok(())
    }
}

/// The members and what they share.
struct Crowd {
    lanes: Lanes,
    ledger: Arc<Ledger>,
    beats: Arc<Beats>,
    stop: watch::Sender<bool>,
    members: JoinSet<Result<(), ClientError>>,
}

async fn measure(arguments: &GroupsBench, layout: &Layout) -> Result<Found, CliError> {
    let resident = || arguments.broker_pid.and_then(resident_bytes);
    let resident_before = resident();
    let producing_alone = produce(arguments, layout).await?;
    let lanes = Lanes::open(arguments, layout).await?;
    let resident_connected = resident();
    let mut crowd = Crowd::join(arguments, layout, lanes);
    let found = tokio::select! {
        found = count(arguments, layout, (&crowd.ledger, &crowd.beats)) => found,
        failed = first_failure(&mut crowd.members) => Err(failed),
    }?;
    crowd.leave().await?;
    Ok(Found {
        resident_before_bytes: resident_before,
        resident_connected_bytes: resident_connected,
        produce_alone: producing_alone.percentiles(),
        ..found
    })
}

/// Waits until all groups are stable, and counts then.
async fn count(
    arguments: &GroupsBench,
    layout: &Layout,
    (ledger, beats): (&Ledger, &Beats),
) -> Result<Found, CliError> {
    let span = Duration::from_secs(arguments.duration);
    until_stable(arguments, layout, ledger).await?;
    let mut stable = Latencies::new();
    ledger.times().into_iter().for_each(|time| stable.record(time));
    let rejoined = ledger.rejoined();
    tokio::time::sleep(ledger.interval() * SPREADING_INTERVALS).await;
    let resident = arguments.broker_pid.and_then(resident_bytes);
    let cost = RunningCost::start(arguments.broker_pid);
    let alone = beats.count(span).await;
    let cost = cost.stop();
    let (beside, produced) = tokio::join!(beats.count(span), produce(arguments, layout));
    Ok(Found {
        measured: "groups",
        conditions: arguments.conditions(layout),
        stable: stable.percentiles(),
        heartbeat_alone: alone.percentiles(),
        heartbeat_beside: beside.percentiles(),
        produce_alone: Latencies::new().percentiles(),
        produce_beside: produced?.percentiles(),
        rejoined: ledger.rejoined() - rejoined,
        seconds: span.as_secs_f64(),
        cost,
        resident_before_bytes: None,
        resident_connected_bytes: None,
        resident_stable_bytes: resident,
    })
}

impl GroupsBench {
    fn conditions(&self, layout: &Layout) -> String {
        let protocol = match self.protocol {
            Protocol::Consumer => "consumer".to_owned(),
            Protocol::Classic => format!("classic, heartbeats every {} ms", self.heartbeat_interval_ms),
        };
        format!(
            "{} groups of {} members on {} connections, {} topics of {} partitions, protocol {protocol}, {} records/s",
            layout.groups.len(),
            layout.members,
            layout.connections(),
            layout.topics.len(),
            layout.partitions,
            self.produce_rate,
        )
    }
}

async fn until_stable(arguments: &GroupsBench, layout: &Layout, ledger: &Ledger) -> Result<(), CliError> {
    let patience = Duration::from_secs(arguments.patience);
    tokio::time::timeout(patience, ledger.until_all_stable()).await.map_err(|_| {
        let what = format!("{} of {} groups to become stable", ledger.stable(), layout.groups.len());
        ClientError::Timeout { what, after: patience, last: None }.into()
    })
}

/// Members end only when they are told to, or fail.
async fn first_failure(members: &mut JoinSet<Result<(), ClientError>>) -> CliError {
    loop {
        match members.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return error.into(),
            Some(Err(error)) => return std::io::Error::other(error).into(),
            None => return std::io::Error::other("all members have ended").into(),
        }
    }
}

impl Crowd {
    /// All members at once. Those that follow one another are of different groups, and share connections.
    fn join(arguments: &GroupsBench, layout: &Layout, lanes: Lanes) -> Crowd {
        let partitions = usize::try_from(layout.partitions).unwrap_or(usize::MAX);
        let ledger = Arc::new(Ledger::new(layout.groups.len(), layout.members, partitions));
        let beats = Arc::new(Beats::new());
        let (stop, stopped) = watch::channel(false);
        let seats = lanes.connections.iter();
        let seats = seats.flat_map(|lane| std::iter::repeat_n(lane, layout.members_per_connection));
        let rounds =
            (0..layout.members).flat_map(|number| layout.groups.iter().map(move |group| (number, group)));
        let interval = Duration::from_millis(arguments.heartbeat_interval_ms);
        let mut members = JoinSet::new();
        for (overall, (lane, (number, place))) in seats.zip(rounds).enumerate() {
            let member = Member {
                lane: Arc::clone(lane),
                group: place.group.clone(),
                group_number: place.number,
                number,
                overall,
                members: layout.all_members(),
                topic: place.topic.clone(),
                partitions: layout.partitions,
                ledger: Arc::clone(&ledger),
                beats: Arc::clone(&beats),
                stop: stopped.clone(),
                spread: false,
            };
            match arguments.protocol {
                Protocol::Consumer => members.spawn(consumer::live(member)),
                Protocol::Classic => members.spawn(classic::live(member, interval)),
            };
        }
        Crowd { lanes, ledger, beats, stop, members }
    }

    async fn leave(self) -> Result<(), ClientError> {
        // Nobody listens any more if all have failed.
        let _ = self.stop.send(true);
        for left in self.members.join_all().await {
            left?;
        }
        self.lanes.close().await;
        Ok(())
    }
}

/// The members' connections, and the clients that hold them.
struct Lanes {
    clients: Vec<Client>,
    connections: Vec<Arc<Connection>>,
}

impl Lanes {
    async fn open(arguments: &GroupsBench, layout: &Layout) -> Result<Lanes, CliError> {
        let mut lanes = Lanes { clients: Vec::new(), connections: Vec::new() };
        let groups: Vec<&GroupId> = layout.groups.iter().map(|place| &place.group).collect();
        // One broker coordinates all groups, or each has as good a place at one as at another.
        let mut opening = JoinSet::new();
        let mut wanted = (0..layout.connections()).zip(groups.into_iter().cycle());
        loop {
            while opening.len() < OPENED_AT_ONCE
                && let Some((number, group)) = wanted.next()
            {
                if number % LANES_PER_CLIENT == 0 {
                    lanes.clients.push(arguments.connect.connect().await?);
                }
                let Some(client) = lanes.clients.last().cloned() else { break };
                let group = group.clone();
                opening.spawn(async move { client.group_lane(&group).await });
            }
            match opening.join_next().await {
                Some(opened) => lanes.connections.push(opened.map_err(std::io::Error::other)??),
                None => return Ok(lanes),
            }
        }
    }

    async fn close(self) {
        for client in self.clients {
            client.close().await;
        }
    }
}

/// A record at a time, at the wanted rate as far as the broker keeps up.
async fn produce(arguments: &GroupsBench, layout: &Layout) -> Result<Latencies, CliError> {
    let client = arguments.connect.connect().await?;
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config)?;
    let record = ProducerRecord::new(layout.written.clone(), Bytes::from_static(&[b'x'; RECORD_BYTES]));
    let record = record.partition(PartitionIndex(0));
    let mut latencies = Latencies::new();
    // The first one finds the leader, and counts for nothing.
    producer.send(record.clone()).await?.wait().await?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / arguments.produce_rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + Duration::from_secs(arguments.duration);
    while Instant::now() < end {
        tick.tick().await;
        let sent = Instant::now();
        producer.send(record.clone()).await?.wait().await?;
        latencies.record(sent.elapsed());
    }
    producer.close().await?;
    client.close().await;
    Ok(latencies)
}
