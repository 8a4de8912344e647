//! Work that reads rows, polled on another thread while a read may wait for the disk.
//!
//! Every read of the store takes a lock that the store holds through several syncs while it puts tables that it has written
//! into use. A network thread that reads then would keep all of its connections waiting. So while the store rewrites tables,
//! what reads is polled on a thread that may wait; otherwise where it is, because a change of thread costs more than a read.

use super::service::Node;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whose rows are read.
pub(super) trait Rows: Send + Sync + 'static {
    /// Whether a read may wait for the disk now.
    fn reads_may_wait(&self) -> bool;
    /// Work has taken so long on a thread of its own.
    fn waited(&self, time: Duration);
}

impl Rows for Node {
    fn reads_may_wait(&self) -> bool {
        self.shard.reads_may_wait()
    }

    fn waited(&self, time: Duration) {
        self.metrics.aside.observe_time(time);
    }
}

/// Work, polled here or aside, as the store allows.
pub(super) struct Aside<R, T> {
    rows: Arc<R>,
    state: State<T>,
}

enum State<T> {
    Here(Work<T>),
    There { polled: JoinHandle<(Work<T>, Poll<T>)>, called: Arc<Called> },
    Done,
}

/// Hears what the work waits for, while somebody else has it.
struct Called {
    task: Waker,
    called: AtomicBool,
}

impl Wake for Called {
    fn wake(self: Arc<Called>) {
        self.called.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<R: Rows, T: Send + 'static> Aside<R, T> {
    pub(super) fn new(rows: Arc<R>, work: Work<T>) -> Aside<R, T> {
        Aside { rows, state: State::Here(work) }
    }

    /// Has the work polled once on a thread that may wait.
    fn send(&self, mut work: Work<T>, task: &Waker) -> State<T> {
        let called = Arc::new(Called { task: task.clone(), called: AtomicBool::new(false) });
        let (rows, waker) = (Arc::clone(&self.rows), Waker::from(Arc::clone(&called)));
        let polled = spawn_blocking(move || {
            let begun = Instant::now();
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            rows.waited(begun.elapsed());
            (work, polled)
        });
        State::There { polled, called }
    }
}

impl<R: Rows, T: Send + 'static> Future for Aside<R, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Here(mut work) => {
                    if self.rows.reads_may_wait() {
                        self.state = self.send(work, context.waker());
                        continue;
                    }
                    let polled = work.as_mut().poll(context);
                    if polled.is_pending() {
                        self.state = State::Here(work);
                    }
                    return polled;
                }
                State::There { mut polled, called } => {
                    let Poll::Ready(back) = Pin::new(&mut polled).poll(context) else {
                        self.state = State::There { polled, called };
                        return Poll::Pending;
                    };
                    let (work, polled) = match back.map_err(JoinError::try_into_panic) {
                        Ok(back) => back,
                        Err(Ok(panic)) => resume_unwind(panic),
                        // The runtime is ending, and this task with it.
                        Err(Err(_)) => return Poll::Pending,
                    };
                    if polled.is_ready() {
                        return polled;
                    }
                    self.state = State::Here(work);
                    // What it waits for may have come meanwhile, and will not come again; or somebody else waits for it now.
                    if !called.called.load(Ordering::Acquire) && called.task.will_wake(context.waker()) {
                        return Poll::Pending;
                    }
                }
                // Polled again after its end, against the rules of futures.
                State::Done => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread::{ThreadId, current};
    use tokio::sync::oneshot;

    #[derive(Default)]
    struct Toy {
        rewriting: AtomicBool,
        waited: AtomicU64,
    }

    impl Rows for Toy {
        fn reads_may_wait(&self) -> bool {
            self.rewriting.load(Ordering::Relaxed)
        }

        fn waited(&self, _time: Duration) {
            self.waited.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn toy(rewriting: bool) -> Arc<Toy> {
        Arc::new(Toy { rewriting: AtomicBool::new(rewriting), ..Toy::default() })
    }

    async fn thread_of_work(rows: &Arc<Toy>) -> ThreadId {
        Aside::new(Arc::clone(rows), Box::pin(async { current().id() })).await
    }

    #[tokio::test]
    async fn a_read_leaves_the_thread_only_while_it_may_wait() {
        let rows = toy(false);
        assert_eq!(thread_of_work(&rows).await, current().id());
        rows.rewriting.store(true, Ordering::Relaxed);
        assert_ne!(thread_of_work(&rows).await, current().id());
        rows.rewriting.store(false, Ordering::Relaxed);
        assert_eq!(thread_of_work(&rows).await, current().id());
        assert_eq!(rows.waited.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_work_waits_for_is_heard_wherever_it_is() {
        let rows = toy(true);
        for round in 0..2_000 {
            let (first, heard_first) = oneshot::channel();
            let (second, heard_second) = oneshot::channel();
            let work = Box::pin(async move { (heard_first.await.unwrap(), heard_second.await.unwrap()) });
            let asked = tokio::spawn(Aside::new(Arc::clone(&rows), work));
            tokio::task::yield_now().await;
            // Now and then the store is done in the middle of it.
            rows.rewriting.store(round % 3 != 0, Ordering::Relaxed);
            first.send(1).unwrap();
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            second.send(2).unwrap();
            let answered = tokio::time::timeout(Duration::from_secs(30), asked).await;
            assert_eq!(answered.expect("an answer").unwrap(), (1, 2));
            rows.rewriting.store(true, Ordering::Relaxed);
        }
    }
}
