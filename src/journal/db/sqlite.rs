//! The connection of the writer to a file: when its log is copied back.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Db;
use crate::journal::JournalError;
use crate::points::{Point, reach};

/// Idle time after which the write-ahead log is copied into the database.
const IDLE: Duration = Duration::from_millis(500);
/// Commits after which it is copied even when busy (about 16 MB of log).
const CHECKPOINT_AFTER: u32 = 1_000;

pub(in crate::journal) struct Sqlite {
    pub(super) connection: Connection,
    /// Commits that the log holds more than the database, and when the last of them was.
    ahead: u32,
    changed_at: Instant,
}

impl Sqlite {
    pub(in crate::journal) fn new(connection: Connection) -> Self {
        Self { connection, ahead: 0, changed_at: Instant::now() }
    }

    fn db(&self) -> Db<'_> {
        (&self.connection).into()
    }

    pub(super) fn begin(&self) -> Result<(), JournalError> {
        Ok(self.db().control("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&mut self, changed: bool) -> Result<(), JournalError> {
        if changed {
            self.db().control("UPDATE identity SET commits = commits + 1")?;
        }
        self.db().control("COMMIT")?;
        if changed {
            self.ahead += 1;
            self.changed_at = Instant::now();
        }
        Ok(())
    }

    pub(super) fn rollback(&self) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Reading is no work for the disk: who only looks from time to time does not keep the log from being copied.
    pub(super) fn upkeep_in(&self) -> Option<Duration> {
        match self.ahead {
            0 => None,
            CHECKPOINT_AFTER.. => Some(Duration::ZERO),
            _ => Some(IDLE.saturating_sub(self.changed_at.elapsed())),
        }
    }

    pub(super) fn checkpoint(&mut self) {
        reach(Point::JournalCheckpoint);
        // A failed checkpoint loses nothing: the log stays, and the next one tries again.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.ahead = 0;
    }
}
