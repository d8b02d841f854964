//! A look at a journal beside who writes it, again and again.

use super::db::Db;
#[cfg(feature = "postgres")]
use super::server::Kept;
use super::{JournalError, Location, backup};

/// Neither writes nor keeps a file open; a session on a server is kept for the next look.
pub(super) enum View {
    File(Location),
    #[cfg(feature = "postgres")]
    Server(Box<Kept>),
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl View {
    pub(super) fn of(location: &Location) -> Self {
        #[cfg(feature = "postgres")]
        if let Some((server, schema)) = location.server() {
            return Self::Server(Box::new(Kept::new(server.clone(), schema.clone(), "")));
        }
        Self::File(location.clone())
    }

    /// Reads one state of the journal. Blocks for some milliseconds.
    pub(super) fn read<T>(&self, work: impl Fn(&Db<'_>) -> Result<T, JournalError>) -> Result<T, JournalError> {
        match self {
            Self::File(location) => {
                let (connection, _) = backup::reader(&location.file())?;
                connection.execute_batch("BEGIN")?;
                work(&(&connection).into())
            }
            #[cfg(feature = "postgres")]
            Self::Server(kept) => kept.with(|session| {
                session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
                let read = work(&Db::Postgres(session))?;
                session.run("COMMIT")?;
                Ok(read)
            }),
        }
    }
}
