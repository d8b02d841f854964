//! The one thread that writes: takes operations in order and commits all that wait together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::JournalError;
use crate::points::{Point, reach};

/// Operations that may wait. Each request has at most a few, so a full queue means a disk that stands still.
const MAX_WAITING: usize = 16_384;
/// Largest group.
const MAX_BATCH: usize = 512;
/// How long an outcome waits for a voucher to ride with.
const LINGER: Duration = Duration::from_millis(20);
/// Idle time after which the write-ahead log is copied into the database.
const IDLE: Duration = Duration::from_millis(500);
/// Commits after which it is copied even when busy (about 16 MB of log).
const CHECKPOINT_AFTER: u32 = 1_000;

/// When an operation must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before the caller goes on.
    Now,
    /// With the next commit, soon.
    Later,
}

type Finish = Box<dyn FnOnce(Result<(), JournalError>) + Send>;
/// Runs the operation, or hears why it cannot run; tells whether its writes are kept.
type Run = Box<dyn FnOnce(Result<&Connection, JournalError>) -> (bool, Finish) + Send>;

struct Job {
    when: When,
    run: Run,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<Sender<Job>>,
    waiting: std::sync::Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, JournalError> {
        let (queue, jobs) = channel();
        let waiting = std::sync::Arc::new(AtomicUsize::new(0));
        let count = waiting.clone();
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || work(connection, &jobs, &count))
            .map_err(|e| JournalError::Write(e.to_string()))?;
        Ok(Self { queue: Some(queue), waiting, thread: Some(thread) })
    }

    /// Queues `operation`; the answer comes after its commit. Dropping the answer does not cancel the operation.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        when: When,
        operation: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, JournalError>>, JournalError> {
        let (answer, receiver) = oneshot::channel();
        let run: Run = Box::new(move |connection| {
            let result = connection.and_then(operation);
            let keep = result.is_ok();
            let finish: Finish = Box::new(move |committed| {
                // Nobody waits any more: the record stands all the same.
                let _ = answer.send(committed.and(result));
            });
            (keep, finish)
        });
        let queue = self.queue.as_ref().ok_or(JournalError::Unavailable("closed"))?;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(JournalError::Unavailable("overloaded"));
        }
        queue.send(Job { when, run }).map_err(|_| JournalError::Unavailable("closed"))?;
        Ok(receiver)
    }

    /// Runs `operation` and waits for its commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.submit(When::Now, operation)?.await.map_err(|_| JournalError::Unavailable("closed"))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Closing the queue lets the thread finish what waits; then it checkpoints and ends.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(connection: Connection, jobs: &Receiver<Job>, waiting: &AtomicUsize) {
    let mut commits = 0;
    let mut closed = false;
    while !closed {
        let first = match jobs.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                if commits > 0 {
                    checkpoint(&connection);
                    commits = 0;
                }
                match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => break,
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let batch = gather(first, jobs, &mut closed);
        waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        commit(&connection, batch);
        commits += 1;
        if commits >= CHECKPOINT_AFTER {
            checkpoint(&connection);
            commits = 0;
        }
    }
    checkpoint(&connection);
}

/// Everything that waits; a batch of outcomes alone lingers a little for a voucher to ride with.
fn gather(first: Job, jobs: &Receiver<Job>, closed: &mut bool) -> Vec<Job> {
    let mut urgent = first.when == When::Now;
    let mut batch = vec![first];
    let linger = Instant::now() + LINGER;
    while batch.len() < MAX_BATCH {
        let wait = if urgent { Duration::ZERO } else { linger.saturating_duration_since(Instant::now()) };
        match jobs.recv_timeout(wait) {
            Ok(job) => {
                urgent |= job.when == When::Now;
                batch.push(job);
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => {
                *closed = true;
                break;
            }
        }
    }
    batch
}

/// One transaction for the batch. An operation that fails takes back its own writes only; a commit that fails takes
/// back all, and every caller hears of it.
fn commit(connection: &Connection, batch: Vec<Job>) {
    let mut result = run_sql(connection, "BEGIN IMMEDIATE");
    let mut finishes = Vec::with_capacity(batch.len());
    for job in batch {
        // After a failure nothing may run: outside of the transaction its writes would stay.
        result = result.and_then(|()| run_sql(connection, "SAVEPOINT operation"));
        let (keep, finish) = (job.run)(result.clone().map(|()| connection));
        finishes.push(finish);
        if result.is_ok() && !keep {
            result = run_sql(connection, "ROLLBACK TO operation");
        }
        result = result.and_then(|()| run_sql(connection, "RELEASE operation"));
    }
    reach(Point::JournalWritten);
    let result = result.and_then(|()| run_sql(connection, "COMMIT"));
    reach(Point::JournalCommitted);
    if result.is_err() && !connection.is_autocommit() {
        // What is left of the transaction must not reach the next batch.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for finish in finishes {
        finish(result.clone());
    }
}

fn run_sql(connection: &Connection, sql: &str) -> Result<(), JournalError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn checkpoint(connection: &Connection) {
    reach(Point::JournalCheckpoint);
    // A failed checkpoint loses nothing: the log stays, and the next one tries again.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}
