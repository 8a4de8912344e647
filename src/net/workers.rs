//! The threads that connections live on. Each is an async runtime of its own: a connection never changes threads, and an
//! event of one thread wakes no other. (One work-stealing runtime wakes a second thread for most events of a quiet
//! connection, which costs more than serving them.)

use super::metrics::NetMetrics;
use super::server::NetError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The threads. Dropping them ends them, with whatever still runs there; not to be dropped on one of them.
#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

/// A thread, until it is told to end.
#[derive(Debug)]
struct Worker {
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Gives tasks to the threads: as many to each, and so that each client's working connections are spread, too. A client opens
/// one connection to find its broker and works on another: given in turn, all working connections of a broker with two
/// threads would live on one of them.
#[derive(Debug)]
pub(super) struct Turns {
    runtimes: Vec<Handle>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts so many threads. With none, connections live where the listeners do: for tests, which want one thread.
    pub(super) fn start(threads: usize, metrics: &Arc<NetMetrics>) -> Result<(Workers, Turns), NetError> {
        let (mut workers, mut runtimes) = (Vec::new(), Vec::new());
        for number in 0..threads {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(NetError::Worker)?;
            runtime.spawn(watch(number, Arc::clone(metrics)));
            runtimes.push(runtime.handle().clone());
            workers.push(Worker::start(number, runtime)?);
        }
        Ok((Workers(workers), Turns { runtimes, next: AtomicUsize::new(0) }))
    }
}

/// How often a thread is asked whether it is on time: what holds it up for longer than this is seen, and nobody notices
/// what asking costs.
const PROBE: Duration = Duration::from_millis(50);

/// Notes by how much the thread it runs on is late: by as much every connection there waits for whatever came meanwhile.
async fn watch(number: usize, metrics: Arc<NetMetrics>) {
    let Some(thread) = metrics.thread(number) else { return };
    // Set once: each thread has one watch.
    let _ = thread.runtime.set(Handle::current().metrics());
    loop {
        let due = Instant::now() + PROBE;
        tokio::time::sleep_until(due).await;
        thread.lag.observe_time(due.elapsed());
    }
}

impl Turns {
    /// Runs a task on the thread whose turn it is.
    pub(super) fn spawn(&self, into: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        match self.runtimes.get(thread_of(turn, self.runtimes.len())) {
            Some(runtime) => into.spawn_on(task, runtime),
            None => into.spawn(task),
        };
    }
}

/// Which of so many threads a connection lives on, by how many came before it: the sum of that number's digits in a numeral
/// system of so many digits (for two threads the Thue-Morse sequence). So each thread gets one of `threads` in a row, and the
/// connections that come second are spread as well.
fn thread_of(mut turn: usize, threads: usize) -> usize {
    if threads < 2 {
        return 0;
    }
    let mut sum = 0;
    while turn > 0 {
        sum += turn % threads;
        turn /= threads;
    }
    sum % threads
}

impl Worker {
    fn start(number: usize, runtime: Runtime) -> Result<Worker, NetError> {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("semel-net-{number}"))
            .spawn(move || run(runtime, stopped))
            .map_err(NetError::Worker)?;
        Ok(Worker { stop: Some(stop), thread: Some(thread) })
    }
}

fn run(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    // The sender is only ever dropped.
    let _ = runtime.block_on(stopped);
    // A read of the log that is under way is not waited for.
    runtime.shutdown_background();
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            drop(worker.stop.take());
        }
        for thread in self.0.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A panic of a task stays in the task; the thread itself does nothing that could.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    /// How many of the connections with these numbers live on the busiest of so many threads.
    fn most_on_one(threads: usize, connections: impl Iterator<Item = usize>) -> usize {
        let mut on = vec![0_usize; threads];
        for connection in connections {
            on[thread_of(connection, threads)] += 1;
        }
        on.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn working_connections_are_spread_over_the_threads_too() {
        for threads in 1..=16 {
            let clients = 4 * threads;
            assert_eq!(most_on_one(threads, 0..clients), 4, "one each, {threads} threads");
            for kind in 0..2 {
                let most = most_on_one(threads, (0..clients).map(|client| 2 * client + kind));
                let may = if threads % 2 == 0 { 4 } else { 8 };
                assert!(most <= may, "number {kind} of two each, {threads} threads: {most} on one");
            }
        }
    }

    #[tokio::test]
    async fn tasks_are_spread_over_the_threads_and_end_with_them() {
        let limits = crate::net::Limits { threads: 3, ..crate::net::Limits::default() };
        let (workers, turns) = Workers::start(3, &Arc::new(NetMetrics::new(&limits))).unwrap();
        let mut tasks = JoinSet::new();
        let (names, seen) = mpsc::channel();
        for _ in 0..6 {
            let names = names.clone();
            turns.spawn(&mut tasks, async move {
                names.send(std::thread::current().name().map(str::to_owned)).unwrap();
            });
        }
        while tasks.join_next().await.is_some() {}
        let seen: BTreeSet<_> = seen.try_iter().collect();
        assert_eq!(seen.len(), 3, "{seen:?}");
        turns.spawn(&mut tasks, std::future::pending());
        drop(workers);
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    }
}
