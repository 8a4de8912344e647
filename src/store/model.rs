//! A model of what fjall promises, and of nothing more: batches take effect whole and in order, snapshots stay as they are,
//! and after a crash some prefix of the batches is there, at least up to the last that was made durable.

use super::keys::kind;
use super::tables::Space;
use super::view::space_of;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

/// The keyspaces. All clones are one store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model(Arc<Mutex<State>>);

type Key = (Space, Vec<u8>);

#[derive(Debug, Default)]
struct State {
    /// What each key has had, oldest first: since which batch, and what.
    rows: BTreeMap<Key, Vec<(u64, Option<Bytes>)>>,
    /// Batches so far.
    batches: u64,
    durable: u64,
}

/// Whether a key is of the state, and not of what says where things lie: that agrees with itself as long as the store is whole.
pub(crate) fn is_state(key: &[u8]) -> bool {
    !matches!(key.first(), Some(&(kind::INDEX | kind::SEGMENT | kind::STAMP)))
}

/// Changes that are made together.
pub(super) struct ModelBatch {
    model: Model,
    changes: Vec<(Key, Option<Bytes>)>,
}

/// The keyspaces after some batch.
#[derive(Clone)]
pub(super) struct ModelSnapshot {
    model: Model,
    batch: u64,
}

/// Keys and rows of a snapshot.
pub(super) struct ModelIter {
    snapshot: ModelSnapshot,
    from: Bound<Key>,
    to: Bound<Key>,
}

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A crash: `choose` says how many of the batches that were not made durable are kept, of at most so many. Whoever has
    /// the store open must be gone.
    pub(crate) fn crash(&self, choose: impl FnOnce(u64) -> u64) {
        let mut state = self.state();
        let last = state.durable + choose(state.batches - state.durable);
        for versions in state.rows.values_mut() {
            versions.retain(|(since, _)| *since <= last);
        }
        state.rows.retain(|_, versions| !versions.is_empty());
        state.batches = last;
        state.durable = last;
    }

    /// A store of its own with the same rows.
    pub(crate) fn fork(&self) -> Model {
        let state = self.state();
        Model(Arc::new(Mutex::new(State { rows: state.rows.clone(), ..*state })))
    }

    /// All keys with their rows.
    pub(crate) fn entries(&self) -> Vec<(Vec<u8>, Bytes)> {
        let snapshot = self.snapshot();
        let of = |space| snapshot.range(space, &[], Bound::Unbounded);
        of(Space::Rows).chain(of(Space::Index)).collect()
    }

    /// Puts another key and row in the place of one, behind the store's back.
    pub(crate) fn damage(&self, old: &[u8], key: &[u8], row: &[u8]) {
        let mut batch = self.batch();
        batch.set(space_of(old), old, None);
        batch.set(space_of(key), key, Some(row));
        batch.commit();
        self.persist();
    }

    /// How many batches are not durable.
    pub(crate) fn behind(&self) -> u64 {
        let state = self.state();
        state.batches - state.durable
    }

    pub(super) fn batch(&self) -> ModelBatch {
        ModelBatch { model: self.clone(), changes: Vec::new() }
    }

    pub(super) fn snapshot(&self) -> ModelSnapshot {
        ModelSnapshot { model: self.clone(), batch: self.state().batches }
    }

    pub(super) fn persist(&self) {
        let mut state = self.state();
        state.durable = state.batches;
    }
}

impl ModelBatch {
    pub(super) fn set(&mut self, space: Space, key: &[u8], row: Option<&[u8]>) {
        self.changes.push(((space, key.to_vec()), row.map(Bytes::copy_from_slice)));
    }

    pub(super) fn commit(self) {
        let mut state = self.model.state();
        state.batches += 1;
        let batch = state.batches;
        for (key, row) in self.changes {
            let versions = state.rows.entry(key).or_default();
            versions.pop_if(|(since, _)| *since == batch);
            versions.push((batch, row));
        }
    }
}

/// What a key has after some batch.
fn version(versions: &[(u64, Option<Bytes>)], batch: u64) -> Option<&Bytes> {
    versions.iter().rev().find(|(since, _)| *since <= batch)?.1.as_ref()
}

impl ModelSnapshot {
    pub(super) fn age(&self) -> u64 {
        self.batch
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        let state = self.model.state();
        version(state.rows.get(&(space, key.to_vec()))?, self.batch).cloned()
    }

    pub(super) fn range(&self, space: Space, from: &[u8], to: Bound<&[u8]>) -> ModelIter {
        let to = match to {
            Bound::Unbounded if space == Space::Rows => Bound::Excluded((Space::Index, Vec::new())),
            to => to.map(|to| (space, to.to_vec())),
        };
        ModelIter { snapshot: self.clone(), from: Bound::Included((space, from.to_vec())), to }
    }

    pub(super) fn prefix(&self, space: Space, prefix: &[u8]) -> ModelIter {
        let mut to = prefix.to_vec();
        while to.pop_if(|last| *last == u8::MAX).is_some() {}
        match to.last_mut() {
            Some(last) => {
                *last += 1;
                self.range(space, prefix, Bound::Excluded(&to))
            }
            None => self.range(space, prefix, Bound::Unbounded),
        }
    }
}

impl Iterator for ModelIter {
    type Item = (Vec<u8>, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let is_empty = match (&self.from, &self.to) {
            (Bound::Included(from), Bound::Excluded(to)) => from >= to,
            (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        if is_empty {
            return None;
        }
        let (key, row) = {
            let state = self.snapshot.model.state();
            let mut rows = state.rows.range((self.from.clone(), self.to.clone()));
            rows.find_map(|(key, versions)| {
                version(versions, self.snapshot.batch).map(|row| (key.clone(), row.clone()))
            })?
        };
        self.from = Bound::Excluded(key.clone());
        Some((key.1, row))
    }
}
