//! A session beside the journal's holder that is kept between uses: a new one costs both sides milliseconds of password hashing.

use std::sync::{Mutex, PoisonError};

use super::super::db::{DbError, Session};
use super::Server;

/// Made when it is first needed, and anew after it broke off.
pub(in crate::journal) struct Kept {
    server: Server,
    schema: String,
    /// What each session begins with.
    settings: &'static str,
    session: Mutex<Option<Session>>,
}

impl Kept {
    /// In this schema; each session begins with these settings.
    pub(in crate::journal) const fn new(server: Server, schema: String, settings: &'static str) -> Self {
        Self { server, schema, settings, session: Mutex::new(None) }
    }

    /// Does something with the session. What fails on one that was kept is done once more on a new one: it may have broken off
    /// since. So only what may be done twice.
    pub(in crate::journal) fn with<T, E: From<DbError>>(
        &self,
        work: impl Fn(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut kept = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = kept.take()
            && let Ok(done) = work(&session)
        {
            *kept = Some(session);
            return Ok(done);
        }
        let session = self.server.session(&self.schema)?;
        session.run(self.settings)?;
        let done = work(&session)?;
        *kept = Some(session);
        Ok(done)
    }
}
