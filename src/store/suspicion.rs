//! Damage that is found while the store is in use: it is written down beside it, in a file, so that the next start makes the
//! rows anew instead of finding the same damage again (`spec/rows.md`, "Made anew").

use super::database::StoreError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is suspected of a store. All clones are one.
#[derive(Clone, Debug)]
pub(super) struct Suspicion(Arc<Suspected>);

#[derive(Debug)]
struct Suspected {
    /// Of which store.
    store: PathBuf,
    /// Whether it has been written down.
    written: AtomicBool,
}

/// The file that is there if the store in `store` has turned out to be damaged.
#[must_use]
pub fn suspect(store: &Path) -> PathBuf {
    store.with_extension("suspect")
}

impl Suspicion {
    pub(super) fn about(store: &Path) -> Suspicion {
        Suspicion(Arc::new(Suspected { store: store.to_owned(), written: AtomicBool::new(false) }))
    }

    /// Takes note of an error.
    pub(super) fn of(&self, error: fjall::Error) -> StoreError {
        let store = self.0.store.clone();
        let error = StoreError::Fjall { path: store, source: error };
        if error.is_damage() && !self.0.written.swap(true, Ordering::Relaxed) {
            let file = suspect(&self.0.store);
            tracing::error!(%error, "the row store is damaged; the next start makes the rows anew");
            if let Err(error) = std::fs::write(&file, error.to_string()) {
                tracing::error!(file = %file.display(), %error, "that could not be written down");
            }
        }
        error
    }
}
