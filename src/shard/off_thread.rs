//! Work that may take long or wait for the disk, off the async threads.

use crate::types::outside;
use std::panic::resume_unwind;

/// Does `work` on a thread that may wait. In a simulation there is one thread, and work is done when its turn comes.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if outside::is_simulated() {
        tokio::task::yield_now().await;
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => resume_unwind(panic.into_panic()),
    }
}
