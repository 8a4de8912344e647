//! Fetch sessions (KIP-227): a client says once which partitions it wants, then only what changes; and is told only of the
//! partitions of which there is something new.

use super::{TopicRef, Wanted};
use crate::broker::limits::{FETCH_SESSION_EVICTION_AGE, FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSIONS_MAX};
use crate::net::Principal;
use crate::types::{HashMap, outside};
use crate::wire::messages::{FetchPartitionResponse, FetchRequest};
use crate::wire::{ApiKey, ErrorCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The epoch of a request that begins a session.
const FIRST: i32 = 0;
/// The epoch of a request that is by itself, and ends the session that it names.
const LAST: i32 = -1;

/// The epoch after `epoch`: from the largest to 1, since 0 begins anew.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// Every session of every client. A session outlives its connection: a client may go on over the next one.
#[derive(Debug, Default)]
pub(in crate::broker) struct FetchSessions(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    sessions: HashMap<i32, Entry>,
    /// Of all sessions together.
    partitions: usize,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    owner: Principal,
    created: Instant,
    used: Instant,
    /// How many it had when it was last used.
    partitions: usize,
}

/// What one fetch is to look for, and what it is to report to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) wanted: Vec<Wanted>,
    pub(super) then: Then,
}

/// What a fetch's answer is to be reported to.
#[derive(Debug)]
pub(super) enum Then {
    /// It is by itself.
    Nothing,
    /// It begins a session, if there is room for one.
    Begin,
    /// It is the next one of this session.
    GoOn(Ongoing),
}

/// A session that a fetch belongs to.
#[derive(Debug)]
pub(super) struct Ongoing {
    id: i32,
    session: Arc<Mutex<Session>>,
}

#[derive(Debug)]
struct Session {
    by_id: bool,
    epoch: i32,
    partitions: HashMap<Key, Cached>,
    /// The order in which partitions are looked at: who was answered goes to the end, so that none starves.
    turns: BTreeMap<u64, Key>,
    next_turn: u64,
}

type Key = (TopicRef, i32);

#[derive(Debug)]
struct Cached {
    turn: u64,
    fetch_offset: i64,
    bytes_max: i32,
    leader_epoch: i32,
    told: Told,
}

/// What the client knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start: i64,
}

impl Told {
    /// Nothing: whatever is said next is new.
    const NOTHING: Told = Told { high_watermark: -1, last_stable_offset: -1, log_start: -1 };

    fn by(answer: &FetchPartitionResponse) -> Told {
        if !answer.error_code.is_none() {
            return Told::NOTHING;
        }
        Told {
            high_watermark: answer.high_watermark,
            last_stable_offset: answer.last_stable_offset,
            log_start: answer.log_start_offset,
        }
    }
}

impl FetchSessions {
    pub(in crate::broker) fn new() -> FetchSessions {
        FetchSessions::default()
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which partitions a request is about, by itself or in its session.
    pub(super) fn open(
        &self,
        request: &FetchRequest,
        version: i16,
        principal: &Principal,
        now: Instant,
    ) -> Result<Opened, ErrorCode> {
        let FetchRequest { session_id, session_epoch, .. } = *request;
        if session_epoch == FIRST || session_epoch == LAST {
            self.end(session_id, principal);
            let then = if session_epoch == FIRST { Then::Begin } else { Then::Nothing };
            return Ok(Opened { wanted: wanted(request).collect(), then });
        }
        let session =
            self.use_session(session_id, principal, now).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut locked = session.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.epoch != session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if locked.by_id != names_by_id(version) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        locked.epoch = next_epoch(locked.epoch);
        locked.update(request);
        let (list, count) = (locked.wanted(), locked.partitions.len());
        drop(locked);
        if !self.resized(session_id, count) {
            self.end(session_id, principal);
            // Empty, or grown beyond what may be kept: this request is served, and is the session's last.
            return Ok(Opened { wanted: list, then: Then::Nothing });
        }
        Ok(Opened { wanted: list, then: Then::GoOn(Ongoing { id: session_id, session }) })
    }

    fn end(&self, id: i32, principal: &Principal) {
        let mut cache = self.lock();
        if cache.sessions.get(&id).is_some_and(|entry| entry.owner == *principal) {
            cache.remove(id);
        }
    }

    /// The session, if it is this principal's.
    fn use_session(&self, id: i32, principal: &Principal, now: Instant) -> Option<Arc<Mutex<Session>>> {
        let mut cache = self.lock();
        let entry = cache.sessions.get_mut(&id).filter(|entry| entry.owner == *principal)?;
        entry.used = now;
        Some(Arc::clone(&entry.session))
    }

    /// Notes how many partitions a session has now. False if it cannot be kept.
    fn resized(&self, id: i32, count: usize) -> bool {
        let mut cache = self.lock();
        let others = cache.partitions - cache.sessions.get(&id).map_or(0, |entry| entry.partitions);
        let Some(entry) = cache.sessions.get_mut(&id) else { return false };
        if count == 0 || others + count > FETCH_SESSION_PARTITIONS_MAX {
            return false;
        }
        entry.partitions = count;
        cache.partitions = others + count;
        true
    }

    /// Begins a session of which the client has been told `answers`. Returns its id; 0 if there is no room for it.
    pub(super) fn begin(
        &self,
        version: i16,
        principal: &Principal,
        answers: &[(Wanted, FetchPartitionResponse)],
        now: Instant,
    ) -> i32 {
        let mut cache = self.lock();
        if answers.is_empty() || !cache.make_room(answers.len(), now) {
            return 0;
        }
        let mut session = Session {
            by_id: names_by_id(version),
            epoch: next_epoch(FIRST),
            partitions: HashMap::with_capacity_and_hasher(answers.len(), Default::default()),
            turns: BTreeMap::new(),
            next_turn: 0,
        };
        for (wanted, answer) in answers {
            session.want(wanted);
            if let Some(cached) = session.partitions.get_mut(&wanted.key()) {
                cached.told = Told::by(answer);
            }
        }
        let partitions = session.partitions.len();
        let id = cache.free_id();
        let session = Arc::new(Mutex::new(session));
        let entry = Entry { session, owner: principal.clone(), created: now, used: now, partitions };
        cache.sessions.insert(id, entry);
        cache.partitions += partitions;
        id
    }
}

impl Cache {
    fn remove(&mut self, id: i32) {
        if let Some(entry) = self.sessions.remove(&id) {
            self.partitions -= entry.partitions;
        }
    }

    /// Makes room for a session of `size` partitions, as Kafka does: at the cost of one that has not been used for long,
    /// or of a smaller one that is no longer young.
    fn make_room(&mut self, size: usize, now: Instant) -> bool {
        if size > FETCH_SESSION_PARTITIONS_MAX {
            return false;
        }
        while self.sessions.len() >= FETCH_SESSIONS_MAX
            || self.partitions + size > FETCH_SESSION_PARTITIONS_MAX
        {
            let old = |since: Instant| now.saturating_duration_since(since) > FETCH_SESSION_EVICTION_AGE;
            let idle = self.sessions.iter().min_by_key(|(_, entry)| entry.used);
            let idle = idle.filter(|(_, entry)| old(entry.used)).map(|(id, _)| *id);
            let aged =
                || self.sessions.iter().filter(|(_, entry)| old(entry.created) && entry.partitions < size);
            let victim = idle.or_else(|| aged().min_by_key(|(_, entry)| entry.partitions).map(|(id, _)| *id));
            match victim {
                Some(id) => self.remove(id),
                None => return false,
            }
        }
        true
    }

    /// An id that is not in use, and that nobody can guess.
    fn free_id(&self) -> i32 {
        loop {
            let [a, b, c, d, ..] = *outside::uuid().as_bytes();
            let id = i32::from_be_bytes([a & 0x7f, b, c, d]);
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    /// What a request adds, changes and forgets.
    fn update(&mut self, request: &FetchRequest) {
        for wanted in wanted(request) {
            self.want(&wanted);
        }
        for topic in &request.forgotten_topics_data {
            let name = TopicRef::new(&topic.topic, topic.topic_id);
            for index in &topic.partitions {
                if let Some(cached) = self.partitions.remove(&(name.clone(), *index)) {
                    self.turns.remove(&cached.turn);
                }
            }
        }
    }

    fn want(&mut self, wanted: &Wanted) {
        let Wanted { fetch_offset, bytes_max, leader_epoch, .. } = *wanted;
        if let Some(cached) = self.partitions.get_mut(&wanted.key()) {
            *cached = Cached { fetch_offset, bytes_max, leader_epoch, ..*cached };
            return;
        }
        let turn = self.take_turn(wanted.key());
        let cached = Cached { turn, fetch_offset, bytes_max, leader_epoch, told: Told::NOTHING };
        self.partitions.insert(wanted.key(), cached);
    }

    fn take_turn(&mut self, key: Key) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, key);
        turn
    }

    /// All of its partitions, in turn.
    fn wanted(&self) -> Vec<Wanted> {
        let of = |key: &Key| {
            let cached = self.partitions.get(key)?;
            Some(Wanted {
                topic: key.0.clone(),
                index: key.1,
                fetch_offset: cached.fetch_offset,
                bytes_max: cached.bytes_max,
                leader_epoch: cached.leader_epoch,
            })
        };
        self.turns.values().filter_map(of).collect()
    }

    /// Whether the client is to be told of a partition: if there are records, an error, or other marks than it knows.
    fn is_news(&mut self, wanted: &Wanted, answer: &FetchPartitionResponse) -> bool {
        let has_records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        let told = Told::by(answer);
        let Some(cached) = self.partitions.get_mut(&wanted.key()) else { return true };
        let news = has_records || !answer.error_code.is_none() || told != cached.told;
        cached.told = told;
        // What cannot be read took its room from the others all the same.
        if has_records || answer.error_code == ErrorCode::KafkaStorageError {
            let turn = cached.turn;
            self.turns.remove(&turn);
            let turn = self.take_turn(wanted.key());
            if let Some(cached) = self.partitions.get_mut(&wanted.key()) {
                cached.turn = turn;
            }
        }
        news
    }
}

impl Ongoing {
    /// Leaves in `answers` only what is new to the client, and notes that it is told. Returns the session's id.
    pub(super) fn report(&self, answers: &mut Vec<(Wanted, FetchPartitionResponse)>) -> i32 {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|(wanted, answer)| session.is_news(wanted, answer));
        self.id
    }
}

impl Wanted {
    fn key(&self) -> Key {
        (self.topic.clone(), self.index)
    }
}

fn names_by_id(version: i16) -> bool {
    crate::broker::errors::names_topics_by_id(ApiKey::Fetch, version)
}

/// The partitions that a request names.
fn wanted(request: &FetchRequest) -> impl Iterator<Item = Wanted> {
    request.topics.iter().flat_map(|topic| {
        let name = TopicRef::new(&topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| Wanted {
            topic: name.clone(),
            index: partition.partition,
            fetch_offset: partition.fetch_offset,
            bytes_max: partition.partition_max_bytes,
            leader_epoch: partition.current_leader_epoch,
        })
    })
}

#[cfg(test)]
mod tests;
