//! Everything that a shard serves, as lines of text: to compare one data directory with another, and to read.

use super::*;
use crate::store::{ReadView, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};

/// Something in a shard: where it is listed, and which of that it is.
pub(super) type Name = (String, String);

/// What a shard serves. What cannot be told is an error, and is never left out silently.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) lines: BTreeMap<Name, Result<String, String>>,
    /// Listings that have ended with an error: what they lack is not lost, but cannot be told.
    pub(super) broken: BTreeMap<String, String>,
}

impl Contents {
    pub(super) async fn of(running: &Running) -> Contents {
        Contents::in_view(running, &running.shard.view()).await
    }

    pub(super) async fn in_view(running: &Running, view: &ReadView) -> Contents {
        let mut contents = Contents::default();
        contents.add("cluster", &"", view.get::<ClusterRow>(&()));
        contents.add("producer ids", &"", view.get::<ProducerIdsRow>(&()));
        for (id, topic) in contents.list("topics", view.topics()) {
            contents.add("topics", &id.0, Ok(&topic));
            contents.add("topic names", &topic.name.as_str(), view.get::<TopicNameRow>(&topic.name));
        }
        for (partition, row) in contents.list("partitions", view.all_partitions()) {
            contents.add("partitions", &partition, Ok(row));
            contents.add("open", &partition, view.get::<OpenTransactionsRow>(&partition));
            contents.add_if_any("open beyond", &partition, view.get::<OpenQueueRow>(&partition));
            contents.producers(view, partition);
            contents.batches(running, view, partition).await;
        }
        contents.transactions(view);
        contents.groups(view);
        contents
    }

    fn put(&mut self, listing: &str, name: String, value: Result<String, String>) {
        self.lines.insert((listing.to_owned(), name), value);
    }

    fn add(&mut self, listing: &str, name: &dyn ToString, value: Result<impl Debug, StoreError>) {
        let value = value.map(|value| format!("{value:?}")).map_err(|error| error.to_string());
        self.put(listing, name.to_string(), value);
    }

    /// What there mostly is not.
    fn add_if_any(
        &mut self,
        listing: &str,
        name: &dyn ToString,
        value: Result<Option<impl Debug>, StoreError>,
    ) {
        if !matches!(value, Ok(None)) {
            self.add(listing, name, value);
        }
    }

    fn list<T>(&mut self, listing: &str, items: impl Iterator<Item = Result<T, StoreError>>) -> Vec<T> {
        let mut listed = Vec::new();
        for item in items {
            match item {
                Ok(item) => listed.push(item),
                Err(error) => {
                    self.broken.insert(listing.to_owned(), error.to_string());
                    break;
                }
            }
        }
        listed
    }

    fn producers(&mut self, view: &ReadView, partition: PartitionId) {
        let listing = format!("producers {partition}");
        for (producer, row) in self.list(&listing, view.producers(partition)) {
            self.add(&listing, &producer.0, Ok(row));
            let owner = view.get::<ProducerOwnerRow>(&producer);
            self.add("producer owners", &producer.0, owner);
            let mut aborted = Ok(Vec::new());
            let mut from = Offset::ZERO;
            while let Ok(ranges) = &mut aborted {
                match view.next_aborted(partition, producer, from) {
                    Ok(None) => break,
                    Ok(Some((first, marker))) => {
                        ranges.push((first.0, marker.0));
                        from = marker.next();
                    }
                    Err(error) => aborted = Err(error),
                }
            }
            self.add(&format!("aborted {partition}"), &producer.0, aborted);
        }
    }

    /// The batches that readers can get, from the log start on.
    async fn batches(&mut self, running: &Running, view: &ReadView, partition: PartitionId) {
        let listing = format!("batches {partition}");
        let start =
            view.get::<PartitionRow>(&partition).ok().flatten().map_or(Offset::ZERO, |row| row.log_start);
        for (last, entry) in self.list(&listing, view.index(partition, start)) {
            let name = format!("{:06}", last.0);
            let batch = match running.shard.read(&[entry.place]).await.remove(0) {
                Ok(batch) => {
                    // Where compaction has left nothing, nothing is to be read.
                    let base =
                        batch.first_chunk().map_or(entry.base_offset.0, |base| i64::from_be_bytes(*base));
                    let sum = crc32c::crc32c(&batch);
                    let facts = (entry.base_offset.0, entry.max_timestamp.0, entry.before, entry.kind);
                    Ok(format!("base {base}, {} bytes, crc {sum:08x}, index {facts:?}", batch.len()))
                }
                Err(error) => Err(error.to_string()),
            };
            self.put(&listing, name, batch);
        }
    }

    fn transactions(&mut self, view: &ReadView) {
        for (id, row) in self.list("transactions", view.transactions()) {
            self.add("transactions", &id.as_str(), Ok(row));
            let listing = format!("outcomes of {}", id.as_str());
            for (number, outcome) in self.list(&listing, view.outcomes(&id)) {
                self.add(&listing, &number.0, Ok(outcome));
            }
        }
        for (timer, at) in self.list("deadlines", view.deadlines()) {
            self.add("deadlines", &format!("{timer:?}"), Ok(at));
        }
    }

    fn groups(&mut self, view: &ReadView) {
        for (group, row) in self.list("groups", view.groups_after(None)) {
            self.add("groups", &group.as_str(), Ok(row));
            self.add("members", &group.as_str(), view.get::<MembersRow>(&group));
        }
        for (group, partition, row) in self.list("offsets", view.all_group_offsets(None)) {
            self.add("offsets", &format!("{} {partition}", group.as_str()), Ok(row));
            let pending = view.has_pending_offset(&GroupOffsetKey { group: group.clone(), partition });
            self.add("pending offsets", &format!("{} {partition}", group.as_str()), pending);
        }
    }

    /// What this one serves otherwise than `whole` does, where it does not say that it cannot.
    pub(super) fn wrong_against(&self, whole: &Contents) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, value) in &whole.lines {
            match self.lines.get(name) {
                Some(Ok(own)) if value.as_ref() != Ok(own) => {
                    wrong.push(format!("{name:?}: {own} instead of {value:?}"))
                }
                Some(_) => {}
                None if self.cannot_tell(&name.0) => {}
                None => wrong.push(format!("{name:?} is gone: {value:?}")),
            }
        }
        let more = self.lines.iter().filter(|(name, _)| !whole.lines.contains_key(*name));
        wrong.extend(more.map(|(name, value)| format!("{name:?} is new: {value:?}")));
        wrong
    }

    /// The listings of batches of which compaction has replaced some.
    pub(super) fn compacted(&self) -> BTreeSet<&str> {
        let replaced = |value: &str| value.contains("Rewritten {") || value.contains("Gap {");
        let lines = self.lines.iter().filter(|(_, value)| value.as_deref().is_ok_and(replaced));
        lines.map(|((listing, _), _)| listing.as_str()).collect()
    }

    /// Whether a listing, or what it hangs on, has ended with an error.
    fn cannot_tell(&self, listing: &str) -> bool {
        let hangs_on = match listing.split(' ').next() {
            Some("topic") => "topics",
            Some("open" | "producers" | "producer" | "aborted" | "batches") => "partitions",
            Some("outcomes") => "transactions",
            Some("members") => "groups",
            Some("pending") => "offsets",
            _ => listing,
        };
        let producers = matches!(listing.split(' ').next(), Some("producer" | "aborted"))
            && self.broken.keys().any(|broken| broken.starts_with("producers"));
        self.broken.contains_key(listing) || self.broken.contains_key(hangs_on) || producers
    }

    /// One line for each thing, and what it is.
    pub(super) fn readable(&self) -> String {
        assert!(self.errors() == 0, "{self:?}");
        let mut text = String::new();
        for ((listing, name), value) in &self.lines {
            writeln!(text, "{listing} | {name} | {}", value.as_ref().unwrap()).unwrap();
        }
        text
    }

    /// How much of it is an error.
    pub(super) fn errors(&self) -> usize {
        self.broken.len() + self.lines.values().filter(|line| line.is_err()).count()
    }
}
