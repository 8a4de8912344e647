//! Damage that is found while the store is in use: it is written down beside it, in a file, so that the next start makes the
//! rows anew instead of finding the same damage again (`spec/rows.md`, "Made anew").

use super::background;
use super::database::StoreError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

    /// Nothing is written down about a model: it has no place on a disk.
    #[cfg(test)]
    pub(super) fn of_a_model() -> Suspicion {
        Suspicion(Arc::new(Suspected { store: PathBuf::from("model"), written: AtomicBool::new(true) }))
    }

    /// Does something with the store. fjall asserts what damage can break, so a panic is an error like others, and damage.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        // What a panic leaves half done is not used again: whoever changes the store ends with this error.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => done,
            Err(panic) => {
                Err(self.note(StoreError::Panic { path: self.0.store.clone(), panic: said(&*panic) }))
            }
        }
    }

    /// Takes note of an error.
    pub(super) fn of(&self, error: fjall::Error) -> StoreError {
        let path = self.0.store.clone();
        self.note(match (error, background::panic()) {
            (fjall::Error::Poisoned, Some(panic)) => StoreError::Panic { path, panic },
            (fjall::Error::Poisoned, None) => StoreError::Refuses { path },
            (source, _) => StoreError::Fjall { path, source },
        })
    }

    fn note(&self, error: StoreError) -> StoreError {
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

/// What a panic has said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
