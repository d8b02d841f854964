//! What statements are made with, whichever database the journal lies in.
//!
//! SQL is written once, in the words that both databases know. Values go in and out as SQLite's: integers of 64 bits, text and
//! bytes; a truth is 0 or 1.

#[cfg(feature = "postgres")]
mod dialect;
#[cfg(feature = "postgres")]
mod postgres;
mod sqlite;
#[cfg(feature = "postgres")]
mod value;

use std::time::Duration;

use rusqlite::types::FromSql;
pub(super) use rusqlite::{ToSql, params};
use tokio_util::sync::CancellationToken;

use super::JournalError;
#[cfg(feature = "postgres")]
use super::server::Lease;
#[cfg(feature = "postgres")]
pub(super) use postgres::{Prepared, Session};
pub(super) use sqlite::Sqlite;

/// What a database answered in place of what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum DbError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("no row was found where there is always one")]
    NoRow,
    /// The server refused.
    #[cfg(feature = "postgres")]
    #[error("{}", said(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// It cannot be reached, or not any more.
    #[cfg(feature = "postgres")]
    #[error("{0}")]
    Lost(String),
    /// A column holds what nobody reads.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Value(rusqlite::types::FromSqlError),
    /// What is written is not UTF-8.
    #[cfg(feature = "postgres")]
    #[error("a text is not UTF-8")]
    NotText,
}

/// A server's error in words: the driver's own text leaves out what the server says.
#[cfg(feature = "postgres")]
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), |why| format!("{error}: {why}")),
    }
}

impl From<DbError> for JournalError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Sqlite(error) => error.into(),
            DbError::NoRow => Self::Corrupt(error.to_string()),
            #[cfg(feature = "postgres")]
            DbError::Postgres(ref why) => crate::journal::server::trouble(why, error.to_string()),
            #[cfg(feature = "postgres")]
            DbError::Lost(reason) => Self::Server(reason),
            #[cfg(feature = "postgres")]
            DbError::Value(_) | DbError::NotText => Self::Corrupt(error.to_string()),
        }
    }
}

/// The writer's own connection.
pub(super) enum Connection {
    Sqlite(Sqlite),
    #[cfg(feature = "postgres")]
    Postgres(Box<Lease>),
}

impl Connection {
    pub(super) fn db(&self) -> Db<'_> {
        match self {
            Self::Sqlite(file) => (&file.connection).into(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => Db::Postgres(lease.session()),
        }
    }

    /// Cancelled when another process writes the journal.
    pub(super) fn lost(&self) -> CancellationToken {
        match self {
            Self::Sqlite(_) => CancellationToken::new(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.lost(),
        }
    }

    /// Begins a transaction that writes.
    pub(super) fn begin(&mut self) -> Result<(), JournalError> {
        match self {
            Self::Sqlite(file) => file.begin(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.begin(),
        }
    }

    /// Ends it, durably. One that changed something is counted.
    pub(super) fn commit(&mut self, changed: bool) -> Result<(), JournalError> {
        match self {
            Self::Sqlite(file) => file.commit(changed),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.commit(changed),
        }
    }

    /// Takes back what is left of it.
    pub(super) fn rollback(&mut self) {
        match self {
            Self::Sqlite(file) => file.rollback(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.rollback(),
        }
    }

    /// How long until it wants to be looked after; `None` where it does not.
    pub(super) fn upkeep_in(&self) -> Option<Duration> {
        match self {
            Self::Sqlite(file) => file.upkeep_in(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.upkeep_in(),
        }
    }

    /// Looks after it, between two transactions.
    pub(super) fn upkeep(&mut self) {
        match self {
            Self::Sqlite(file) => file.checkpoint(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.renew(),
        }
    }

    /// The last that is done with it.
    pub(super) fn end(&mut self) {
        match self {
            Self::Sqlite(file) => file.checkpoint(),
            #[cfg(feature = "postgres")]
            Self::Postgres(lease) => lease.release(),
        }
    }
}

/// A connection, as operations see it.
#[derive(Clone, Copy)]
pub(super) enum Db<'c> {
    Sqlite(&'c rusqlite::Connection),
    #[cfg(feature = "postgres")]
    Postgres(&'c Session),
}

impl<'c> From<&'c rusqlite::Connection> for Db<'c> {
    fn from(connection: &'c rusqlite::Connection) -> Self {
        Self::Sqlite(connection)
    }
}

impl<'c> Db<'c> {
    /// A statement, which is kept for the next time.
    pub(super) fn prepare_cached(&self, sql: &str) -> Result<Statement<'c>, DbError> {
        match self {
            Self::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => Ok(Statement::Postgres(session.prepare(sql)?)),
        }
    }

    /// Runs one statement; gives how many rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, DbError> {
        self.prepare_cached(sql)?.execute(params)
    }

    /// The one row of a query.
    pub(super) fn query_row<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        self.prepare_cached(sql)?.query_row(params, read)
    }

    /// A statement of the transaction's own course: a savepoint, or the way back to one.
    pub(super) fn control(&self, sql: &str) -> Result<(), DbError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => {
                session.control(sql);
                Ok(())
            }
        }
    }

    /// Rows changed since the connection was made.
    pub(super) fn total_changes(&self) -> u64 {
        match self {
            Self::Sqlite(connection) => connection.total_changes(),
            #[cfg(feature = "postgres")]
            Self::Postgres(session) => session.changes(),
        }
    }
}

/// A statement of one of the databases.
pub(super) enum Statement<'c> {
    Sqlite(rusqlite::CachedStatement<'c>),
    #[cfg(feature = "postgres")]
    Postgres(Prepared<'c>),
}

impl Statement<'_> {
    /// Runs it; gives how many rows it changed.
    pub(super) fn execute(&mut self, params: impl Params) -> Result<usize, DbError> {
        match self {
            Self::Sqlite(statement) => params.with(|params| Ok(statement.execute(params)?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(statement) => params.with(|params| statement.execute(params)),
        }
    }

    /// Its rows, one after another.
    pub(super) fn query(&mut self, params: impl Params) -> Result<Rows<'_>, DbError> {
        match self {
            Self::Sqlite(statement) => params.with(|params| Ok(Rows::Sqlite(statement.query(params)?))),
            #[cfg(feature = "postgres")]
            Self::Postgres(statement) => params.with(|params| Ok(Rows::postgres(statement.query(params)?))),
        }
    }

    /// Its first row.
    pub(super) fn query_row<T>(
        &mut self,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let mut rows = self.query(params)?;
        read(&rows.next()?.ok_or(DbError::NoRow)?)
    }

    /// Each of its rows.
    pub(super) fn query_map<T>(
        &mut self,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let mut rows = self.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(&row)?);
        }
        Ok(found)
    }
}

/// What a query found.
pub(super) enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    /// All of them, and which is next.
    #[cfg(feature = "postgres")]
    Postgres(Vec<tokio_postgres::Row>, usize),
}

impl Rows<'_> {
    #[cfg(feature = "postgres")]
    const fn postgres(rows: Vec<tokio_postgres::Row>) -> Self {
        Self::Postgres(rows, 0)
    }

    /// The next row; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, DbError> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            #[cfg(feature = "postgres")]
            Self::Postgres(rows, next) => {
                *next += 1;
                Ok(rows.get(*next - 1).map(Row::Postgres))
            }
        }
    }
}

/// One row.
pub(super) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    #[cfg(feature = "postgres")]
    Postgres(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// A column, by its place or its name.
    pub(super) fn get<I: Column, T: FromSql>(&self, column: I) -> Result<T, DbError> {
        match self {
            Self::Sqlite(row) => Ok(row.get(column)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(row) => row.try_get::<_, value::Value>(column)?.read(),
        }
    }
}

/// How a column is named.
#[cfg(not(feature = "postgres"))]
pub(super) trait Column: rusqlite::RowIndex {}
#[cfg(not(feature = "postgres"))]
impl<C: rusqlite::RowIndex> Column for C {}

/// How a column is named.
#[cfg(feature = "postgres")]
pub(super) trait Column: rusqlite::RowIndex + tokio_postgres::row::RowIndex + std::fmt::Display {}
#[cfg(feature = "postgres")]
impl<C: rusqlite::RowIndex + tokio_postgres::row::RowIndex + std::fmt::Display> Column for C {}

/// What a statement's places hold.
pub(super) trait Params {
    fn with<T>(&self, run: impl FnOnce(&[&dyn ToSql]) -> T) -> T;
}

impl Params for &[&dyn ToSql] {
    fn with<T>(&self, run: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        run(self)
    }
}

impl<V: ToSql, const N: usize> Params for [V; N] {
    fn with<T>(&self, run: impl FnOnce(&[&dyn ToSql]) -> T) -> T {
        run(&self.each_ref().map(|value| value as &dyn ToSql))
    }
}

/// None where there was no row.
pub(super) trait Optional<T> {
    fn optional(self) -> Result<Option<T>, DbError>;
}

impl<T> Optional<T> for Result<T, DbError> {
    fn optional(self) -> Result<Option<T>, DbError> {
        match self {
            Ok(found) => Ok(Some(found)),
            Err(DbError::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
