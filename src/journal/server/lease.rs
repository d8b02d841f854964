//! Who writes a journal on a server: one process at a time, by a lease with a fencing number (design section 7).
//!
//! The number is in the row that every transaction counts up as its last act (`keep`): one that is not the holder's any more
//! is taken back there, whatever it had decided. Each new session of the holder counts the number up too, so that what an
//! earlier session still has on its way ends the same way, and what the count says afterwards is what was committed.

use std::time::{Duration, Instant};

use rusqlite::params;
use tokio_util::sync::CancellationToken;

use super::super::JournalError;
use super::super::db::{Db, Optional, Session};
use super::super::mark::Identity;
use super::{Server, schema};
use crate::metrics;

/// Between two tries to reach the server again.
const PAUSE: Duration = Duration::from_millis(100);

/// The right to write, as long as it is renewed.
pub(in crate::journal) struct Lease {
    server: Server,
    schema: String,
    session: Session,
    fence: i64,
    renewed: Instant,
    /// Commits that are known to be there.
    commits: u64,
    /// The count before a commit of which nothing was heard.
    unheard: Option<u64>,
    /// Let go: the next one may have it.
    released: bool,
    /// Another process has it, or may have.
    lost: CancellationToken,
}

/// What a new holder found.
pub(in crate::journal) struct Taken {
    pub lease: Lease,
    pub identity: Identity,
    /// Unix seconds by the server's clock.
    pub now: u64,
    /// The server went on from another history than the one that wrote the journal.
    pub forked: bool,
}

struct Back {
    session: Session,
    fence: i64,
    identity: Identity,
    now: u64,
    forked: bool,
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Taken").field("fence", &self.lease.fence).field("forked", &self.forked).finish_non_exhaustive()
    }
}

impl Lease {
    /// Takes the journal of this schema where nobody holds it. Makes the schema where there is none and the account may.
    pub(in crate::journal) fn take(server: &Server, schema: &str) -> Result<Option<Taken>, JournalError> {
        let session = server.session(schema)?;
        schema::ready(&session, schema)?;
        let Some(Back { session, fence, identity, now, forked }) =
            count_up(session, server, "leased_until < clock_timestamp()", None)?
        else {
            return Ok(None);
        };
        let lease = Self {
            server: server.clone(),
            schema: schema.into(),
            session,
            fence,
            renewed: Instant::now(),
            commits: identity.commits,
            unheard: None,
            released: false,
            lost: CancellationToken::new(),
        };
        Ok(Some(Taken { lease, identity, now, forked }))
    }

    pub(in crate::journal) const fn session(&self) -> &Session {
        &self.session
    }

    /// Cancelled when the journal is not this process' any more.
    pub(in crate::journal) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    pub(in crate::journal) fn begin(&mut self) -> Result<(), JournalError> {
        if self.is_over() {
            return Err(JournalError::Fenced);
        }
        if self.unheard.is_none() && self.session.run("BEGIN").is_ok() {
            return Ok(());
        }
        // What was heard last is no more than a moment old, or a commit's end is still to be found out.
        self.again(self.unheard)?;
        Ok(self.session.run("BEGIN")?)
    }

    /// The end of a transaction. Where nothing was heard of it, the server is asked for it anew before anybody is told.
    pub(in crate::journal) fn commit(&mut self, changed: bool) -> Result<(), JournalError> {
        if !changed {
            // What was only read is read, whatever becomes of the session.
            self.rollback();
            return Ok(());
        }
        let lease = self.server.lease.as_millis();
        let kept = self.session.run(&format!("SELECT keep({}, {}, '{lease} ms'); COMMIT", self.fence, self.commits));
        match kept.map_err(JournalError::from) {
            Ok(()) => {
                self.renewed = Instant::now();
                self.commits += 1;
                Ok(())
            }
            Err(error @ JournalError::Unsafe(_)) => Err(error),
            Err(JournalError::Fenced) => Err(self.over()),
            Err(error) => {
                let before = self.commits;
                self.again(Some(before))?;
                if self.commits > before { Ok(()) } else { Err(error) }
            }
        }
    }

    pub(in crate::journal) fn rollback(&mut self) {
        self.session.forget();
        // A session that is gone took its transaction along.
        let _ = self.session.run("ROLLBACK");
    }

    pub(in crate::journal) fn upkeep_in(&self) -> Option<Duration> {
        let every = self.server.lease / 3;
        (!self.is_over()).then(|| every.saturating_sub(self.renewed.elapsed()))
    }

    /// Where nothing was written for a while.
    pub(in crate::journal) fn renew(&mut self) {
        let lease = self.server.lease.as_millis();
        let renewed = self.session.run(&format!("SELECT renew({}, '{lease} ms')", self.fence));
        let renewed = match renewed.map_err(JournalError::from) {
            Err(JournalError::Fenced) => Err(self.over()),
            Err(_) => self.again(self.unheard),
            Ok(()) => Ok(()),
        };
        self.renewed = Instant::now();
        if let Err(error) = renewed {
            tracing::warn!(%error, "the hold on the journal could not be renewed");
        }
    }

    /// Lets the next one take it at once.
    pub(in crate::journal) fn release(&mut self) {
        if !self.is_over() {
            let free = "UPDATE identity SET leased_until = '-infinity', address = NULL WHERE fence = ";
            // Else it ends by itself.
            let _ = self.session.run(&format!("{free}{}", self.fence));
            self.released = true;
        }
    }

    fn is_over(&self) -> bool {
        self.released || self.lost.is_cancelled()
    }

    /// Reaches the server anew, and counts the number up: from here on nothing that was sent before is committed. `before`
    /// is the count before a commit of which nothing was heard.
    fn again(&mut self, before: Option<u64>) -> Result<(), JournalError> {
        let until = Instant::now() + self.server.lease;
        loop {
            let mine = format!("fence = {}", self.fence);
            let back = self.server.session(&self.schema).map_err(JournalError::from);
            match back.and_then(|session| count_up(session, &self.server, &mine, Some(self.fence))) {
                Ok(Some(back)) if !back.forked => {
                    (self.session, self.fence, self.renewed) = (back.session, back.fence, Instant::now());
                    self.commits = back.identity.commits;
                    metrics::journal_reconnected();
                    if self.unheard.take().is_some_and(|count| count != back.identity.commits) {
                        // Who asked was told that it failed, and it did not: only the journal knows now.
                        return Err(self.over());
                    }
                    return Ok(());
                }
                // Somebody else's, or of another history.
                Ok(_) | Err(JournalError::Fenced) => return Err(self.over()),
                Err(error) if Instant::now() >= until || matches!(error, JournalError::Unsafe(_)) => {
                    self.unheard = self.unheard.or(before);
                    return Err(error);
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn over(&self) -> JournalError {
        if !self.lost.is_cancelled() {
            tracing::error!("another process has taken the journal over, or may have: this one writes it no more");
            self.lost.cancel();
        }
        JournalError::Fenced
    }
}

/// Counts the fencing number up where `which` is true of the journal, and gives what is there.
fn count_up(session: Session, server: &Server, which: &str, after: Option<i64>) -> Result<Option<Back>, JournalError> {
    let db = Db::Postgres(&session);
    let may_lose: Option<String> = db.query_row("SELECT may_lose()", params![], |row| row.get(0))?;
    if let Some(why) = may_lose {
        return Err(JournalError::Unsafe(why));
    }
    let lease = server.lease.as_millis();
    // Whoever had it before is not asked any more.
    let forget = if after.is_none() { ", address = NULL" } else { "" };
    let taken = db
        .query_row(
            &format!(
                "UPDATE identity SET fence = fence + 1, leased_until = clock_timestamp() + INTERVAL '{lease} ms'{forget} \
                 WHERE {which} RETURNING fence, id, commits, cluster != cluster() AS forked, unixepoch() AS now"
            ),
            params![],
            |row| {
                let identity = (row.get::<_, String>("id")?, row.get::<_, i64>("commits")?);
                Ok((row.get::<_, i64>("fence")?, identity, row.get::<_, bool>("forked")?, row.get::<_, i64>("now")?))
            },
        )
        .optional()?;
    let Some((fence, (id, commits), forked, now)) = taken else { return Ok(None) };
    debug_assert!(after.is_none_or(|after| fence > after));
    let commits = u64::try_from(commits).map_err(|_| JournalError::Corrupt(format!("identity.commits = {commits}")))?;
    let now = u64::try_from(now).map_err(|_| JournalError::Corrupt(format!("the server's clock is at {now}")))?;
    Ok(Some(Back { session, fence, identity: Identity { id, commits }, now, forked }))
}
