//! Paid answers on the server, so that one whose caller has gone is found through every replica. Who lost the journal may still
//! keep one here: it holds no money.

use std::sync::Mutex;

use super::super::db::{Db, DbError, Optional, Session, params};
use super::super::{JournalError, Location};
use crate::answers::AnswerId;

/// The table `answers` of a wallet's schema. Its session is made when it is needed, and anew after it broke off.
pub struct AnswersTable {
    location: Location,
    session: Mutex<Option<Session>>,
}

impl AnswersTable {
    /// Of the journal that lies there.
    pub const fn new(location: Location) -> Self {
        Self { location, session: Mutex::new(None) }
    }

    /// Keeps an answer; the first one of a receipt stays.
    pub fn keep(&self, id: &AnswerId, hash: &str, body: &str, now: i64) -> Result<(), JournalError> {
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        self.with(|db| {
            db.execute(
                "INSERT INTO answers (receipt, channel, agent, at, bytes, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![id.receipt, id.channel, id.agent, now, size, hash, body],
            )
        })
        .map(drop)
    }

    /// Hash and body of an answer that is not older than this.
    pub fn find(&self, id: &AnswerId, oldest: i64) -> Result<Option<(String, String)>, JournalError> {
        self.with(|db| {
            db.query_row(
                "SELECT hash, body FROM answers WHERE receipt = ?1 AND channel = ?2 AND agent = ?3 AND at >= ?4",
                params![id.receipt, id.channel, id.agent, oldest],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
        })
    }

    /// Deletes what is older than this, and the oldest beyond so many bytes.
    pub fn forget(&self, oldest: i64, bytes: i64) -> Result<(), JournalError> {
        self.with(|db| {
            db.execute("DELETE FROM answers WHERE at < ?1", [oldest])?;
            db.execute(
                "DELETE FROM answers WHERE (receipt, channel) IN (SELECT receipt, channel FROM \
                 (SELECT receipt, channel, CAST(SUM(bytes) OVER (ORDER BY at DESC, receipt, channel) AS BIGINT) AS newer FROM answers) kept WHERE newer > ?1)",
                [bytes],
            )
        })
        .map(drop)
    }

    fn with<T>(&self, work: impl Fn(&Db<'_>) -> Result<T, DbError>) -> Result<T, JournalError> {
        let mut open = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = open.take();
        let had = known.is_some();
        let session = known.map_or_else(|| self.session(), Ok)?;
        match work(&Db::Postgres(&session)) {
            Ok(done) => {
                *open = Some(session);
                Ok(done)
            }
            // It may have broken off since it was last used.
            Err(_) if had => {
                let session = open.insert(self.session()?);
                Ok(work(&Db::Postgres(session))?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn session(&self) -> Result<Session, JournalError> {
        let (server, schema) = self.location.server().ok_or(JournalError::Unavailable("no server's"))?;
        let session = server.session(schema)?;
        // A crash of the server may take the last answers: a call does not wait for a second sync.
        session.run("SET synchronous_commit TO off")?;
        Ok(session)
    }
}
