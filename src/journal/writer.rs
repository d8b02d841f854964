//! The one thread that writes: takes operations in order and commits all that wait together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::db::Db;
use super::schema::Opened;
use super::{JournalError, Location};
use crate::metrics;
use crate::points::{Point, reach};

/// Operations that may wait. Each request has at most a few, so a full queue means a disk that stands still.
const MAX_WAITING: usize = 16_384;
/// Largest group.
const MAX_BATCH: usize = 512;
/// How long an outcome waits for a voucher to ride with.
const LINGER: Duration = Duration::from_millis(20);
/// When an operation must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before the caller goes on.
    Now,
    /// With the next commit, soon.
    Later,
}

type Finish = Box<dyn FnOnce(Result<(), JournalError>) + Send>;
/// Runs the operation, or hears why it cannot run; tells whether its writes are kept, or why not.
type Run = Box<dyn FnOnce(Result<&Db<'_>, JournalError>) -> (Result<(), JournalError>, Finish) + Send>;

struct Job {
    when: When,
    run: Run,
}

#[derive(Debug)]
pub(super) struct Writer {
    location: Location,
    name: Arc<Path>,
    queue: Option<Sender<Job>>,
    waiting: Arc<AtomicUsize>,
    leaving: Arc<AtomicBool>,
    lost: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(opened: Opened, location: Location) -> Result<Self, JournalError> {
        let name: Arc<Path> = opened.path.as_path().into();
        let (queue, jobs) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let leaving = Arc::new(AtomicBool::new(false));
        let lost = opened.connection.lost();
        let (count, end) = (waiting.clone(), leaving.clone());
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || work(opened, &jobs, &count, &end))
            .map_err(|e| JournalError::Write(e.to_string()))?;
        Ok(Self { location, name, queue: Some(queue), waiting, leaving, lost, thread: Some(thread) })
    }

    /// Queues `operation`; the answer comes after its commit. Dropping the answer does not cancel the operation.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        when: When,
        operation: impl FnOnce(&Db<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, JournalError>>, JournalError> {
        let (job, receiver) = job(self.name.clone(), when, operation);
        let queue = self.queue.as_ref().ok_or(JournalError::Unavailable("closed"))?;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(JournalError::Unavailable("overloaded"));
        }
        queue.send(job).map_err(|_| JournalError::Unavailable("closed"))?;
        Ok(receiver)
    }

    /// Where it lies.
    pub(super) const fn location(&self) -> &Location {
        &self.location
    }

    /// Cancelled when the journal is another process'.
    pub(super) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Ends with the batch that holds what was asked before.
    pub(super) async fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        // What cannot be committed cannot be waited for.
        let _ = self.run(|_| Ok(())).await;
    }

    /// Runs `operation` and waits for its commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Db<'_>) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.submit(When::Now, operation)?.await.map_err(|_| JournalError::Unavailable("closed"))?
    }
}

fn job<T: Send + 'static>(
    path: Arc<Path>,
    when: When,
    operation: impl FnOnce(&Db<'_>) -> Result<T, JournalError> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, JournalError>>) {
    let (answer, receiver) = oneshot::channel();
    // Counted until it is committed.
    let counted = metrics::asked(metrics::Actor::Journal);
    let run: Run = Box::new(move |connection| {
        let result = connection.and_then(operation).map_err(|error| error.at(&path));
        let kept = result.as_ref().map(drop).map_err(Clone::clone);
        let finish: Finish = Box::new(move |committed| {
            let _counted = counted;
            // Where nobody waits any more, the record stands all the same; nobody ever waits for what rides along.
            if let Err(Err(error)) = answer.send(committed.and(result))
                && when == When::Later
            {
                tracing::error!(%error, "an outcome could not be recorded; what was reserved for it stays so");
            }
        });
        (kept, finish)
    });
    (Job { when, run }, receiver)
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

fn work(mut opened: Opened, jobs: &Receiver<Job>, waiting: &AtomicUsize, leaving: &AtomicBool) {
    let mut closed = false;
    // A damaged file is not written any more: nothing is signed until a person has looked at it.
    let mut damaged: Result<(), JournalError> = Ok(());
    while !closed {
        let next = match opened.connection.upkeep_in() {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Duration::ZERO) => {
                opened.connection.upkeep();
                continue;
            }
            Some(pause) => jobs.recv_timeout(pause),
        };
        let first = match next {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let batch = gather(first, jobs, &mut closed);
        waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        let result = commit(&mut opened, damaged.clone(), batch, leaving);
        if matches!(result, Err(JournalError::Damaged { .. })) {
            damaged = result;
        }
    }
    opened.connection.end();
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
/// back all, and every caller hears of it. After `before` failed, nothing runs.
fn commit(
    opened: &mut Opened,
    before: Result<(), JournalError>,
    batch: Vec<Job>,
    leaving: &AtomicBool,
) -> Result<(), JournalError> {
    let Opened { connection, path, identity, mark } = opened;
    let mut result = before.and_then(|()| connection.begin());
    let db = connection.db();
    let unchanged = db.total_changes();
    let mut finishes = Vec::with_capacity(batch.len());
    for job in batch {
        // After a failure nothing may run: outside of the transaction its writes would stay.
        result = result.and_then(|()| Ok(db.control("SAVEPOINT operation")?));
        let (kept, finish) = (job.run)(result.clone().map_err(|error| error.at(path)).map(|()| &db));
        finishes.push(finish);
        match kept {
            // What one operation reads as damaged, the next would write over.
            Err(error @ JournalError::Damaged { .. }) => result = result.and(Err(error)),
            Err(error) if result.is_ok() => {
                if error.is_fault() {
                    metrics::journal_failed();
                }
                result = db.control("ROLLBACK TO operation").map_err(Into::into);
            }
            _ => {}
        }
        result = result.and_then(|()| Ok(db.control("RELEASE operation")?));
    }
    // Reading changes nothing, and so needs no sync.
    let changed = db.total_changes() != unchanged;
    reach(Point::JournalWritten);
    let begun = Instant::now();
    let result = result.and_then(|()| connection.commit(changed)).map_err(|error| error.at(path));
    reach(Point::JournalCommitted);
    if changed {
        metrics::journal_committed(begun.elapsed());
    }
    match &result {
        Ok(()) => metrics::progressed(metrics::Actor::Journal),
        // What ended runtimes still ask of a wallet that is another's is no fault.
        Err(JournalError::Fenced) => {}
        Err(_) => metrics::journal_failed(),
    }
    if result.is_err() {
        // What is left of the transaction must not reach the next batch.
        connection.rollback();
    }
    // Before anybody is told: a mark behind what was told would not notice that the log was lost.
    if changed && result.is_ok() {
        identity.commits += 1;
        mark.write(identity);
    }
    if leaving.load(Ordering::SeqCst) {
        connection.end();
    }
    for finish in finishes {
        finish(result.clone());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// Who rides along does not wait for an answer: that it was not recorded must be found somewhere.
    #[test]
    fn an_outcome_that_cannot_be_recorded_is_logged() {
        let home = tempfile::tempdir().unwrap();
        let mut opened = schema::open(home.path()).unwrap();
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let lines = LogLines(log.clone());
        let subscriber = tracing_subscriber::fmt().with_writer(move || lines.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let fails = |_: &Db<'_>| Err::<(), _>(JournalError::Write("no room for it".into()));
            let batch = [When::Later, When::Now].map(|when| job(home.path().into(), when, fails).0);
            commit(&mut opened, Ok(()), batch.into(), &AtomicBool::new(false)).unwrap();
        });
        let said = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert_eq!(said.matches("no room for it").count(), 1, "{said}");
    }

    #[derive(Clone)]
    struct LogLines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for LogLines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is damaged in one place is not written over in another.
    #[tokio::test]
    async fn m1_after_damage_was_found_nothing_is_written_any_more() {
        let home = tempfile::tempdir().unwrap();
        let writer = Writer::start(schema::open(home.path()).unwrap(), Location::new(home.path().into())).unwrap();
        let note =
            |text: &'static str| move |db: &Db<'_>| Ok(db.execute("INSERT INTO docs_read VALUES (?1, 1)", [text])?);
        writer.run(note("before")).await.unwrap();
        let full = |_: &Db<'_>| {
            Err::<(), _>(JournalError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(13), None)))
        };
        assert!(matches!(
            writer.run(full).await,
            Err(JournalError::Disk { kind: super::super::DiskTrouble::Full, .. })
        ));
        writer.run(note("room again")).await.unwrap();

        let damage = |_: &Db<'_>| {
            Err::<(), _>(JournalError::from(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), None)))
        };
        let found = writer.run(damage).await;
        assert!(matches!(&found, Err(JournalError::Damaged { path, .. }) if path.ends_with("journal.db")), "{found:?}");
        assert!(matches!(writer.run(note("after")).await, Err(JournalError::Damaged { .. })));
        drop(writer);
        let db = rusqlite::Connection::open(home.path().join("journal.db")).unwrap();
        let kept: i64 = db.query_row("SELECT COUNT(*) FROM docs_read", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 2);
    }
}
