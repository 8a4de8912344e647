//! The topics that members' patterns match (`spec/groups.md`, T5). Names are compared outside of the state machine, pattern by
//! pattern, on a thread that may take its time.
//!
//! Nobody waits for somebody else's whole pattern: each is compared for a short while and then goes to the end of the queue. It
//! is in the queue once, however many members of whichever groups ask for it: they share what is found.

use crate::broker::limits::{PATTERN_SCANS_MAX, PATTERN_TURN, PATTERNS_UNDERWAY_MAX};
use crate::broker::patterns::TopicPattern;
use crate::core::limits::GROUP_PARTITIONS_MAX;
use crate::shard::{Shard, off_thread};
use crate::store::{ReadView, StoreError};
use crate::types::{HashMap, TopicId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

/// The patterns that are being compared.
#[derive(Debug)]
pub(in crate::broker) struct Matching {
    /// Places for patterns that are underway.
    underway: Semaphore,
    /// Turns at comparing. Both are given in the order in which they are asked for.
    turns: Semaphore,
    turn: Duration,
    asked: Asked,
}

/// What each pattern that somebody waits for was found to match.
type Asked = StdMutex<HashMap<String, Arc<Mutex<Found>>>>;

/// What a pattern matches, and as of which version of the topics; nothing before that is known.
type Found = Option<(u64, Vec<TopicId>)>;

impl Default for Matching {
    fn default() -> Matching {
        Matching::with_turns_of(PATTERN_TURN)
    }
}

impl Matching {
    fn with_turns_of(turn: Duration) -> Matching {
        Matching {
            underway: Semaphore::new(PATTERNS_UNDERWAY_MAX),
            turns: Semaphore::new(PATTERN_SCANS_MAX),
            turn,
            asked: Asked::default(),
        }
    }

    /// The topics that a pattern matches, as of this version of the topics, which the shard's view has, or of a later one.
    pub(in crate::broker) async fn topics(
        &self,
        shard: &Shard,
        pattern: &str,
        version: u64,
    ) -> Result<BTreeSet<TopicId>, StoreError> {
        let place = Place::take(&self.asked, pattern);
        // Whoever comes first compares; the others wait here.
        let mut found = place.found.lock().await;
        let known = found.take().filter(|(as_of, _)| *as_of >= version);
        let known = match known {
            Some(known) => known,
            None => (version, self.compare(shard, pattern).await?),
        };
        let (_, topics) = found.insert(known);
        Ok(topics.iter().copied().collect())
    }

    /// Compares a pattern with all names, turn by turn.
    async fn compare(&self, shard: &Shard, pattern: &str) -> Result<Vec<TopicId>, StoreError> {
        // Neither is ever closed.
        let _place = self.underway.acquire().await.ok();
        let mut comparison = Comparison::of(pattern);
        loop {
            let _turn = self.turns.acquire().await.ok();
            let (view, turn) = (shard.view(), self.turn);
            let done;
            (comparison, done) = off_thread(move || comparison.go_on(&view, turn)).await?;
            if done {
                return Ok(comparison.matched);
            }
        }
    }
}

/// One who asks for a pattern. The last to go takes away what was found.
struct Place<'a> {
    asked: &'a Asked,
    pattern: &'a str,
    found: Arc<Mutex<Found>>,
}

impl<'a> Place<'a> {
    fn take(asked: &'a Asked, pattern: &'a str) -> Place<'a> {
        let found = Arc::clone(lock(asked).entry(pattern.to_owned()).or_default());
        Place { asked, pattern, found }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut asked = lock(self.asked);
        // Let go while nobody else can: of two that go at once, one is the last.
        drop(std::mem::take(&mut self.found));
        if asked.get(self.pattern).is_some_and(|found| Arc::strong_count(found) == 1) {
            asked.remove(self.pattern);
        }
    }
}

fn lock(asked: &Asked) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Found>>>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pattern that has been compared with the names of some topics.
struct Comparison {
    pattern: String,
    /// The next topic that it is compared with.
    from: TopicId,
    matched: Vec<TopicId>,
}

impl Comparison {
    fn of(pattern: &str) -> Comparison {
        Comparison { pattern: pattern.to_owned(), from: TopicId(Uuid::nil()), matched: Vec::new() }
    }

    /// Compares until the turn is over, and at least with one name; says whether that was the last one. The pattern is compiled
    /// anew for each turn: it may take megabytes while it is compared, so only those are there whose turn it is.
    fn go_on(mut self, view: &ReadView, turn: Duration) -> Result<(Comparison, bool), StoreError> {
        let begun = Instant::now();
        // It was checked when it came; one that this version does not take any more matches nothing.
        let Ok(compiled) = TopicPattern::new(&self.pattern) else { return Ok((self, true)) };
        let mut topics = view.topics_from(self.from).peekable();
        while let Some(topic) = topics.next() {
            let (id, row) = topic?;
            if compiled.matches(row.name.as_str()) {
                self.matched.push(id);
            }
            // More than one group may have is refused there.
            if self.matched.len() > GROUP_PARTITIONS_MAX {
                break;
            }
            if begun.elapsed() >= turn
                && let Some(Ok((next, _))) = topics.peek()
            {
                self.from = *next;
                return Ok((self, false));
            }
        }
        Ok((self, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Command, NewTopic, TopicConfig};
    use crate::log::RealDisk;
    use crate::shard::{Origin, Running, ShardLimits, start};
    use crate::types::{ConnectionId, TopicName};
    use std::collections::BTreeMap;
    use tempfile::TempDir;
    use tokio::task::yield_now;

    /// A shard with topics of these names, and their ids.
    async fn shard_with(names: &[&str]) -> (TempDir, Running, BTreeMap<String, TopicId>) {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path(), Arc::new(RealDisk), &ShardLimits::default()).unwrap();
        let origin = Origin::new(ConnectionId(1));
        let mut ids = BTreeMap::new();
        for name in names {
            let id = TopicId(Uuid::new_v4());
            let name = TopicName::new(name).unwrap();
            ids.insert(name.as_str().to_owned(), id);
            let topic = NewTopic { id, name, partitions: 1, config: TopicConfig::new() };
            let create = Command::CreateTopic { topic, validate_only: false };
            running.shard.ask(&origin, create, Vec::new()).await.unwrap().await.unwrap();
        }
        (dir, running, ids)
    }

    fn ids(topics: &BTreeMap<String, TopicId>, names: &[&str]) -> BTreeSet<TopicId> {
        names.iter().map(|name| topics[*name]).collect()
    }

    #[tokio::test]
    async fn a_pattern_that_has_a_turn_for_each_name_matches_what_it_should() {
        let names = ["a-1", "a-2", "a-3", "b-1", "b-2", "aa-1"];
        let (_dir, running, topics) = shard_with(&names).await;
        let matching = Matching::with_turns_of(Duration::ZERO);
        for (pattern, expected) in [
            ("a-.*", &["a-1", "a-2", "a-3"][..]),
            (".*-1", &["a-1", "b-1", "aa-1"]),
            (".*", &names),
            ("c", &[]),
            ("(", &[]),
        ] {
            let found = matching.topics(&running.shard, pattern, 1).await.unwrap();
            assert_eq!(found, ids(&topics, expected), "{pattern}");
        }
        assert!(lock(&matching.asked).is_empty());
        running.stop().await.unwrap();
    }

    #[tokio::test]
    async fn who_asks_for_the_same_pattern_shares_what_is_found_and_none_is_kept() {
        let (_dir, running, topics) = shard_with(&["a-1", "a-2", "b-1"]).await;
        let matching = Arc::new(Matching::with_turns_of(Duration::ZERO));
        let turn = matching.turns.acquire().await.unwrap();
        let ask = |pattern: &'static str, version: u64| {
            let (matching, shard) = (Arc::clone(&matching), running.shard.clone());
            tokio::spawn(async move { matching.topics(&shard, pattern, version).await.unwrap() })
        };
        let same: Vec<_> = (0..20).map(|_| ask("a-.*", 1)).collect();
        let (other, gone) = (ask("b-.*", 1), ask("c-.*", 1));
        yield_now().await;
        {
            let asked = lock(&matching.asked);
            let askers = |pattern: &str| Arc::strong_count(&asked[pattern]) - 1;
            assert_eq!([askers("a-.*"), askers("b-.*"), askers("c-.*")], [20, 1, 1]);
        }
        // Who goes away does not keep a place.
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        assert!(!lock(&matching.asked).contains_key("c-.*"));
        drop(turn);
        for found in same {
            assert_eq!(found.await.unwrap(), ids(&topics, &["a-1", "a-2"]));
        }
        assert_eq!(other.await.unwrap(), ids(&topics, &["b-1"]));
        assert!(lock(&matching.asked).is_empty());

        // What was found before topics have changed is not for those who know that they have.
        let place = Place::take(&matching.asked, "b-.*");
        *place.found.lock().await = Some((1, Vec::new()));
        assert_eq!(matching.topics(&running.shard, "b-.*", 1).await.unwrap(), BTreeSet::new());
        assert_eq!(matching.topics(&running.shard, "b-.*", 2).await.unwrap(), ids(&topics, &["b-1"]));
        assert_eq!(matching.topics(&running.shard, "b-.*", 1).await.unwrap(), ids(&topics, &["b-1"]));
        drop(place);
        assert!(lock(&matching.asked).is_empty());
        running.stop().await.unwrap();
    }
}
