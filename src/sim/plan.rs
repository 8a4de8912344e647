//! What a world is like: the seed chooses load, settings and faults, each world others (a swarm), and a failing world can be
//! made smaller by taking some away.

use super::chance::Chance;
use crate::core::topic_settings::{
    CLEANUP_POLICY, COMPACT, DELETE_RETENTION_MS, MIN_DIRTY_RATIO, RETENTION_BYTES,
};
use crate::shard::{CompactionLimits, ShardLimits, SpaceLimits};
use std::fmt;
use std::time::Duration;

/// What a world is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long clients work, in the world's time.
    pub(crate) load: Duration,
    pub(crate) partitions: i32,
    pub(crate) keeps: Keeps,
    /// Whether the topic asks for idempotency keys.
    pub(crate) keyed: bool,
    pub(crate) clients: Clients,
    pub(crate) troubles: Troubles,
    /// Parts that have been taken away.
    pub(crate) without: Vec<Part>,
}

/// What becomes of old records of the topic that histories are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// They stay.
    All,
    /// Those go that have a newer one of the same key; tombstones after so long.
    Newest { tombstones: Duration },
    /// Those go that are too many: so many bytes are left.
    Bytes(u64),
    /// Those go that somebody deletes.
    NotDeleted,
}

impl Keeps {
    /// The topic's settings.
    pub(crate) fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Keeps::All | Keeps::NotDeleted => Vec::new(),
            Keeps::Newest { tombstones } => vec![
                (CLEANUP_POLICY, COMPACT.to_owned()),
                (DELETE_RETENTION_MS, tombstones.as_millis().to_string()),
                (MIN_DIRTY_RATIO, "0.05".to_owned()),
            ],
            Keeps::Bytes(bytes) => vec![(RETENTION_BYTES, bytes.to_string())],
        }
    }

    /// Whether the beginning of a partition may go.
    pub(crate) fn moves_start(self) -> bool {
        matches!(self, Keeps::Bytes(_) | Keeps::NotDeleted)
    }
}

/// How many clients of each kind.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) idempotent: u64,
    pub(crate) transactional: u64,
    pub(crate) readers: u64,
    pub(crate) committers: u64,
    /// Members of a group of the classic protocol.
    pub(crate) members: u64,
    /// Members of a group of the consumer protocol.
    pub(crate) consumers: u64,
    pub(crate) administrators: u64,
    /// Producers whose records have idempotency keys.
    pub(crate) keyed: u64,
    /// Applications with the Rust client.
    pub(crate) applications: u64,
    /// Members of a group with the Rust client.
    pub(crate) workers: u64,
}

/// How much goes wrong: once in so many, or so often in a minute; 0 is never.
#[derive(Clone, Debug)]
pub(crate) struct Troubles {
    pub(crate) delay: Duration,
    pub(crate) breaks: u64,
    pub(crate) holes: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) failing_calls: u64,
    pub(crate) full_disks: u64,
    pub(crate) flips: u64,
    pub(crate) clock_jumps: u64,
    /// Milliseconds that the time of day gains, or loses, in a second.
    pub(crate) drift: i64,
    pub(crate) slow_disk: bool,
    pub(crate) restarts: u64,
}

/// Something that can be taken away from a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Idempotent,
    Transactional,
    Readers,
    Committers,
    Members,
    Consumers,
    Administrators,
    Applications,
    Workers,
    /// Producers with idempotency keys; the topic still asks for them.
    Keyed,
    /// Idempotency keys altogether.
    Keys,
    Delay,
    Breaks,
    Holes,
    Kills,
    PowerCuts,
    FailingCalls,
    FullDisks,
    Flips,
    ClockJumps,
    Drift,
    SlowDisk,
    Restarts,
    /// Whatever makes old records go.
    Keeps,
    /// The second half of the load.
    Half,
    Quarter,
    Eighth,
}

impl Part {
    pub(crate) const ALL: [Part; 27] = [
        Part::Half,
        Part::Quarter,
        Part::Eighth,
        Part::Kills,
        Part::PowerCuts,
        Part::FailingCalls,
        Part::FullDisks,
        Part::Flips,
        Part::ClockJumps,
        Part::Drift,
        Part::SlowDisk,
        Part::Restarts,
        Part::Keeps,
        Part::Holes,
        Part::Breaks,
        Part::Members,
        Part::Consumers,
        Part::Administrators,
        Part::Applications,
        Part::Workers,
        Part::Keyed,
        Part::Keys,
        Part::Committers,
        Part::Idempotent,
        Part::Transactional,
        Part::Readers,
        Part::Delay,
    ];

    pub(crate) fn named(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| format!("{part:?}") == name)
    }
}

impl Plan {
    /// The world of a seed.
    pub(crate) fn of(seed: u64) -> Plan {
        let mut chance = Chance::of(seed, "plan");
        let chance = &mut chance;
        let sometimes = |chance: &mut Chance, percent, least, most| match chance.percent(percent) {
            true => chance.between(least, most),
            false => 0,
        };
        let mut clients = Clients {
            idempotent: chance.between(0, 2),
            transactional: chance.between(1, 4),
            readers: chance.between(1, 3),
            committers: chance.between(0, 1),
            members: sometimes(chance, 40, 1, 3),
            consumers: 0,
            administrators: chance.between(0, 1),
            keyed: 0,
            applications: 0,
            workers: 0,
        };
        let mut troubles = Troubles {
            delay: Duration::from_millis(*chance.of_these(&[1, 5, 20, 200, 1_000])),
            breaks: sometimes(chance, 60, 20, 400),
            holes: sometimes(chance, 40, 50, 800),
            kills: sometimes(chance, 50, 1, 10),
            power_cuts: sometimes(chance, 60, 1, 10),
            failing_calls: sometimes(chance, 40, 1, 8),
            full_disks: sometimes(chance, 35, 1, 8),
            flips: sometimes(chance, 30, 5, 40),
            clock_jumps: sometimes(chance, 30, 1, 5),
            drift: 0,
            slow_disk: chance.percent(25),
            restarts: sometimes(chance, 35, 1, 6),
        };
        let load = Duration::from_secs(chance.between(15, 40));
        let partitions = i32::try_from(chance.between(2, 4)).unwrap();
        let keeps = match chance.below(10) {
            0..=3 => Keeps::All,
            4..=6 => Keeps::Newest { tombstones: Duration::from_millis(chance.between(1_000, 20_000)) },
            7 => Keeps::Bytes(chance.between(1, 32) << 10),
            _ => Keeps::NotDeleted,
        };
        clients.applications = chance.between(0, 2);
        clients.consumers = sometimes(chance, 50, 1, 4);
        clients.keyed = sometimes(chance, 40, 1, 3);
        clients.workers = sometimes(chance, 50, 1, 3);
        if chance.percent(30) {
            troubles.drift = i64::try_from(chance.between(0, 400)).unwrap() - 200;
        }
        let keyed = clients.keyed > 0;
        Plan { seed, load, partitions, keeps, keyed, clients, troubles, without: Vec::new() }
    }

    /// The same world with a part less; none if that makes no difference.
    pub(crate) fn without(&self, part: Part) -> Option<Plan> {
        let mut plan = self.clone();
        plan.without.push(part);
        let (clients, troubles) = (&mut plan.clients, &mut plan.troubles);
        let taken = match part {
            Part::Idempotent => std::mem::take(&mut clients.idempotent) > 0,
            Part::Transactional => std::mem::take(&mut clients.transactional) > 0,
            Part::Readers => std::mem::take(&mut clients.readers) > 0,
            Part::Committers => std::mem::take(&mut clients.committers) > 0,
            Part::Members => std::mem::take(&mut clients.members) > 0,
            Part::Consumers => std::mem::take(&mut clients.consumers) > 0,
            Part::Administrators => std::mem::take(&mut clients.administrators) > 0,
            Part::Applications => std::mem::take(&mut clients.applications) > 0,
            Part::Workers => std::mem::take(&mut clients.workers) > 0,
            Part::Keyed => std::mem::take(&mut clients.keyed) > 0,
            Part::Keys => {
                clients.keyed = 0;
                std::mem::take(&mut plan.keyed)
            }
            Part::Delay => std::mem::take(&mut troubles.delay) > Duration::ZERO,
            Part::Breaks => std::mem::take(&mut troubles.breaks) > 0,
            Part::Holes => std::mem::take(&mut troubles.holes) > 0,
            Part::Kills => std::mem::take(&mut troubles.kills) > 0,
            Part::PowerCuts => std::mem::take(&mut troubles.power_cuts) > 0,
            Part::FailingCalls => std::mem::take(&mut troubles.failing_calls) > 0,
            Part::FullDisks => std::mem::take(&mut troubles.full_disks) > 0,
            Part::Flips => std::mem::take(&mut troubles.flips) > 0,
            Part::ClockJumps => std::mem::take(&mut troubles.clock_jumps) > 0,
            Part::Drift => std::mem::take(&mut troubles.drift) != 0,
            Part::SlowDisk => std::mem::take(&mut troubles.slow_disk),
            Part::Restarts => std::mem::take(&mut troubles.restarts) > 0,
            Part::Keeps => std::mem::replace(&mut plan.keeps, Keeps::All) != Keeps::All,
            Part::Half | Part::Quarter | Part::Eighth => {
                plan.load /= 2;
                true
            }
        };
        taken.then_some(plan)
    }

    /// The shard's limits: small, so that little load meets all of them.
    pub(crate) fn limits(&self) -> ShardLimits {
        let mut chance = Chance::of(self.seed, "limits");
        let mut compacts = Chance::of(self.seed, "compaction");
        let mut blocks = Chance::of(self.seed, "blocks");
        let segment_bytes = *chance.of_these(&[64 << 10, 128 << 10, 512 << 10]);
        let mut limits = ShardLimits {
            queue: usize::try_from(chance.between(1, 64)).unwrap(),
            segment_bytes,
            block_bytes: segment_bytes / 4,
            long_block_bytes: *blocks.of_these(&[segment_bytes / 32, segment_bytes / 8, segment_bytes]),
            recent_bytes: usize::try_from(chance.between(0, 1) * 64 * 1024).unwrap(),
            resident_rows: usize::try_from(chance.between(1, 64)).unwrap(),
            backlog_rows: usize::try_from(chance.between(50, 2_000)).unwrap(),
            checkpoint_bytes: chance.between(1, 64) << 10,
            checkpoint_rows: chance.between(10, 1_000),
            retention_check: Duration::from_secs(5),
            space: SpaceLimits {
                rest: Duration::from_millis(chance.between(100, 1_000)),
                snapshot_log_bytes: chance.between(64, 512) << 10,
                snapshot_turn_bytes: 4 << 10,
                move_turn_bytes: 16 << 10,
                compaction: CompactionLimits {
                    check: Duration::from_millis(compacts.between(200, 2_000)),
                    // Four keys, or more than there are.
                    map_bytes: *compacts.of_these(&[96, 1 << 10]),
                    turn_bytes: compacts.between(1, 16) << 10,
                    turn_entries: usize::try_from(compacts.between(4, 64)).unwrap(),
                    ..CompactionLimits::default()
                },
                reserve_bytes: 1 << 20,
                ..SpaceLimits::default()
            },
            ..ShardLimits::default()
        };
        limits.space.move_rest = limits.space.rest;
        limits
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIM_SEED={}", self.seed)?;
        if !self.without.is_empty() {
            let without: Vec<String> = self.without.iter().map(|part| format!("{part:?}")).collect();
            write!(f, " SIM_WITHOUT={}", without.join(","))?;
        }
        write!(f, " cargo test --lib sim::tests::replay -- --nocapture")
    }
}
