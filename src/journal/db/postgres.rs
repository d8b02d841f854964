//! A session on a PostgreSQL server, used by one thread.
//!
//! What a savepoint or its end would wait for is sent together with the next statement: the server answers both at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use rusqlite::ToSql;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Row, Statement};

use super::value::Value;
use super::{DbError, dialect};

/// Longest wait for one answer. A statement takes less than a millisecond; what does not answer is cut off.
const ANSWER: Duration = Duration::from_secs(10);

/// What a prepared statement says after a step of another version changed its columns, or when it is gone: it is prepared anew.
const OUTDATED: [&str; 2] = ["0A000", "26000"];

pub(in crate::journal) struct Session {
    /// Drives the connection while a call waits for it. There until this is dropped.
    runtime: Option<Runtime>,
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    /// What goes ahead of the next statement.
    ahead: RefCell<String>,
    changes: Cell<u64>,
}

impl Session {
    /// Blocks. Not on a thread that runs tasks.
    pub(in crate::journal) fn open(connect: impl Future<Output = Result<Client, DbError>>) -> Result<Self, DbError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| DbError::Lost(format!("no connection can be made: {error}")))?;
        let client = runtime.block_on(connect)?;
        Ok(Self {
            runtime: Some(runtime),
            client,
            statements: RefCell::default(),
            ahead: RefCell::default(),
            changes: Cell::new(0),
        })
    }

    pub(in crate::journal) fn prepare(&self, sql: &str) -> Result<Prepared<'_>, DbError> {
        let known = self.statements.borrow().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = self.wait(self.client.prepare(&dialect::postgres(sql)))?;
                self.statements.borrow_mut().insert(sql.into(), statement.clone());
                statement
            }
        };
        // What only reads changes nothing, whatever it finds.
        let reads = sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("select"));
        Ok(Prepared { session: self, statement, reads })
    }

    /// Goes ahead of the next statement.
    pub(in crate::journal) fn control(&self, sql: &str) {
        let mut ahead = self.ahead.borrow_mut();
        ahead.push_str(sql);
        ahead.push(';');
    }

    /// Runs what was put ahead, and this, which may be several statements: the first that fails ends it.
    pub(in crate::journal) fn run(&self, sql: &str) -> Result<(), DbError> {
        let mut all = self.ahead.take();
        all.push_str(sql);
        self.wait(self.client.batch_execute(&all))
    }

    /// Forgets what was put ahead.
    pub(in crate::journal) fn forget(&self) {
        self.ahead.take();
    }

    pub(in crate::journal) fn changes(&self) -> u64 {
        self.changes.get()
    }

    fn changed(&self, rows: u64) {
        self.changes.set(self.changes.get().saturating_add(rows));
    }

    fn wait<T>(&self, call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DbError> {
        let ahead = self.ahead.take();
        let both = async {
            if ahead.is_empty() {
                return call.await;
            }
            // Polled in this order, and so sent in it.
            let (before, answer) = futures::join!(self.client.batch_execute(&ahead), call);
            before?;
            answer
        };
        let timed = async { tokio::time::timeout(ANSWER, both).await };
        let Some(runtime) = &self.runtime else { return Err(DbError::Lost("it is closed".into())) };
        match runtime.block_on(timed) {
            Ok(Err(error)) => {
                if error.code().is_some_and(|code| OUTDATED.contains(&code.code())) {
                    self.statements.borrow_mut().clear();
                }
                Err(error.into())
            }
            Ok(Ok(answer)) => Ok(answer),
            Err(_) => Err(DbError::Lost(format!("it did not answer for {} seconds", ANSWER.as_secs()))),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // On a thread that runs tasks too: whoever kept a session to look at a journal may end there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A statement that the server knows.
pub(in crate::journal) struct Prepared<'s> {
    session: &'s Session,
    statement: Statement,
    reads: bool,
}

impl Prepared<'_> {
    pub(super) fn execute(&self, params: &[&dyn ToSql]) -> Result<usize, DbError> {
        let values = Value::all(params)?;
        let rows = self.session.wait(self.session.client.execute_raw(&self.statement, &values))?;
        self.session.changed(rows);
        Ok(usize::try_from(rows).unwrap_or(usize::MAX))
    }

    pub(super) fn query(&self, params: &[&dyn ToSql]) -> Result<Vec<Row>, DbError> {
        let values = Value::all(params)?;
        let places: Vec<_> = values.iter().map(Value::place).collect();
        let rows = self.session.wait(self.session.client.query(&self.statement, &places))?;
        if !self.reads {
            self.session.changed(rows.len() as u64);
        }
        Ok(rows)
    }
}
