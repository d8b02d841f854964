//! The file of kept answers: SQLite, bounded in time and size.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::AnswerId;
use crate::api::KeptAnswer;
use crate::config::Keep;
use crate::policy::repeat::sha256;

/// Its name in the wallet's folder.
pub(super) const FILE: &str = "answers.db";
/// What a damaged one is called afterwards.
pub(super) const DAMAGED: &str = "answers.db.damaged";

/// `hash` is over the body: a page that changed is noticed. What is deleted is overwritten, and its room given back.
const SCHEMA: &str = "
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA secure_delete = ON;
    CREATE TABLE IF NOT EXISTS answers (
        receipt TEXT    NOT NULL,
        channel TEXT    NOT NULL,
        agent   TEXT    NOT NULL,
        at      INTEGER NOT NULL,
        bytes   INTEGER NOT NULL,
        hash    TEXT    NOT NULL,
        body    TEXT    NOT NULL,
        PRIMARY KEY (receipt, channel)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS answers_by_time ON answers (at);";

pub(super) struct FileStore {
    folder: PathBuf,
    keep: Keep,
    open: Option<Open>,
}

struct Open {
    db: Connection,
    /// Of all that is kept.
    bytes: u64,
}

impl FileStore {
    pub(super) const fn new(folder: PathBuf, keep: Keep) -> Self {
        Self { folder, keep, open: None }
    }

    pub(super) fn keep(&mut self, id: &AnswerId, body: &str, now: u64) -> Result<(), String> {
        let size = body.len() as u64;
        if size > self.keep.bytes {
            return Err(format!("it is larger than DRAIN_ANSWERS_MAX_BYTES ({})", self.keep.bytes));
        }
        let keep = self.keep;
        self.with(|open| open.keep(id, body, now, keep))
    }

    pub(super) fn find(&mut self, id: &AnswerId, now: u64) -> Result<Option<KeptAnswer>, String> {
        if self.keep.time.is_zero() {
            return Ok(None);
        }
        let oldest = oldest(self.keep, now);
        let found = self.with(|open| open.find(id, oldest))?;
        found.map(|(hash, body)| read(&hash, &body)).transpose()
    }

    /// Deletes what is too old. Where nothing was ever kept, no file is made.
    pub(super) fn forget_old(&mut self, now: u64) {
        if self.open.is_none() && !self.folder.join(FILE).exists() {
            return;
        }
        let keep = self.keep;
        if let Err(error) = self.with(|open| open.forget(keep, now)) {
            tracing::warn!(%error, "old answers could not be deleted");
        }
    }

    /// Works on the file. A damaged one is set aside, and the work begun anew on an empty one.
    fn with<T>(&mut self, work: impl Fn(&mut Open) -> rusqlite::Result<T>) -> Result<T, String> {
        for last in [false, true] {
            let done = match self.open.as_mut() {
                Some(open) => work(open),
                None => open(&self.folder).and_then(|open| work(self.open.insert(open))),
            };
            match done {
                Ok(value) => return Ok(value),
                Err(error) if !last && is_damage(&error) => {
                    self.open = None;
                    set_aside(&self.folder).map_err(|e| e.to_string())?;
                    tracing::warn!(%error, file = %self.folder.join(FILE).display(), "the kept answers are damaged; the file is set aside as {DAMAGED} and begun anew. No money is in it");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("the file of answers is damaged".into())
    }
}

/// A body, if it is the one that was written.
pub(super) fn read(hash: &str, body: &str) -> Result<KeptAnswer, String> {
    if sha256(body).to_string() != hash {
        return Err("it is not what was written".into());
    }
    serde_json::from_str(body).map_err(|e| e.to_string())
}

/// Before it, what is kept is too old.
pub(super) fn oldest(keep: Keep, now: u64) -> i64 {
    column(now.saturating_sub(keep.time.as_secs()))
}

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn open(folder: &Path) -> rusqlite::Result<Open> {
    let path = folder.join(FILE);
    // Made here, so that there is no moment in which others can read it. Where that fails SQLite says why.
    let _ = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let db = Connection::open(&path)?;
    db.busy_timeout(Duration::from_secs(1))?;
    db.execute_batch(SCHEMA)?;
    let bytes: i64 = db.query_row("SELECT COALESCE(SUM(bytes), 0) FROM answers", [], |row| row.get(0))?;
    Ok(Open { db, bytes: u64::try_from(bytes).unwrap_or(0) })
}

impl Open {
    fn keep(&mut self, id: &AnswerId, body: &str, now: u64, keep: Keep) -> rusqlite::Result<()> {
        let size = body.len() as u64;
        self.forget(Keep { bytes: keep.bytes.saturating_sub(size), ..keep }, now)?;
        self.db
            .prepare_cached("INSERT INTO answers (receipt, channel, agent, at, bytes, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![id.receipt, id.channel, id.agent, column(now), column(size), sha256(body).to_string(), body])?;
        self.bytes = self.bytes.saturating_add(size);
        Ok(())
    }

    fn find(&self, id: &AnswerId, oldest: i64) -> rusqlite::Result<Option<(String, String)>> {
        self.db
            .prepare_cached(
                "SELECT hash, body FROM answers WHERE receipt = ?1 AND channel = ?2 AND agent = ?3 AND at >= ?4",
            )?
            .query_row(params![id.receipt, id.channel, id.agent, oldest], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    fn forget(&mut self, keep: Keep, now: u64) -> rusqlite::Result<()> {
        let oldest = if keep.time.is_zero() { i64::MAX } else { oldest(keep, now) };
        let mut gone = self.delete("DELETE FROM answers WHERE at < ?1 RETURNING bytes", oldest)?;
        while self.bytes > keep.bytes {
            // One after another: how many make room is not known before.
            let freed = self.delete("DELETE FROM answers WHERE rowid = (SELECT rowid FROM answers ORDER BY at, rowid LIMIT ?1) RETURNING bytes", 1)?;
            if freed == 0 {
                break;
            }
            gone += freed;
        }
        if gone > 0 {
            self.db.execute_batch("PRAGMA incremental_vacuum")?;
        }
        Ok(())
    }

    /// How many rows went.
    fn delete(&mut self, sql: &str, argument: i64) -> rusqlite::Result<usize> {
        let mut statement = self.db.prepare_cached(sql)?;
        let freed = statement.query_map([argument], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
        for bytes in &freed {
            self.bytes = self.bytes.saturating_sub(u64::try_from(*bytes).unwrap_or(0));
        }
        Ok(freed.len())
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => {
            matches!(code.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // Another table than ours, or another kind of value.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

/// One set-aside file is enough; its logs belong to it.
fn set_aside(folder: &Path) -> std::io::Result<()> {
    for ending in ["-wal", "-shm"] {
        match fs::remove_file(folder.join(format!("{FILE}{ending}"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(folder.join(FILE), folder.join(DAMAGED))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;
    use drain_protocol::Usdc;

    const DAY: u64 = 86_400;

    fn keep(bytes: u64) -> Keep {
        Keep { time: Duration::from_secs(DAY), bytes }
    }

    fn id(receipt: &str) -> AnswerId {
        AnswerId { receipt: receipt.into(), channel: "0x01".into(), agent: "ann".into() }
    }

    fn json_of(text: &str) -> String {
        serde_json::to_string(&answer(text)).unwrap()
    }

    fn answer(text: &str) -> KeptAnswer {
        KeptAnswer {
            content: text.into(),
            raw: json!({ "a": 1 }),
            finish_reason: Some("stop".into()),
            max_tokens_sent: Some(7),
            cost: Usdc::new(5),
            disputed: Usdc::ZERO,
            notes: vec!["n".into()],
        }
    }

    #[test]
    fn an_answer_is_its_receipts_and_its_agents() {
        let home = tempfile::tempdir().unwrap();
        let mut store = FileStore::new(home.path().into(), keep(10_000));
        store.forget_old(0);
        assert!(!home.path().join(FILE).exists());
        store.keep(&id("c1-1"), &json_of("one"), 100).unwrap();
        let mode = fs::metadata(home.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut store = FileStore::new(home.path().into(), keep(10_000));
        assert_eq!(store.find(&id("c1-1"), 100), Ok(Some(answer("one"))));
        assert_eq!(store.find(&AnswerId { agent: "bob".into(), ..id("c1-1") }, 100), Ok(None));
        // A journal that was begun anew gives the same receipts again.
        assert_eq!(store.find(&AnswerId { channel: "0x02".into(), ..id("c1-1") }, 100), Ok(None));
        store.keep(&AnswerId { channel: "0x02".into(), ..id("c1-1") }, &json_of("two"), 100).unwrap();
    }

    #[test]
    fn what_is_old_or_too_much_goes_and_leaves_no_bytes_behind() {
        let home = tempfile::tempdir().unwrap();
        let mut store = FileStore::new(home.path().into(), keep(1_000));
        store.keep(&id("c1-1"), &json_of("first secret"), 100).unwrap();
        assert_eq!(store.find(&id("c1-1"), 100 + DAY + 1), Ok(None));
        for number in 2..30 {
            store.keep(&id(&format!("c1-{number}")), &json_of("text"), 200).unwrap();
            assert!(store.open.as_ref().unwrap().bytes <= 1_000);
        }
        assert_eq!(store.find(&id("c1-1"), 200), Ok(None));
        assert!(store.find(&id("c1-29"), 200).unwrap().is_some());
        let too_large = store.keep(&id("c1-30"), &json_of(&"x".repeat(2_000)), 200).unwrap_err();
        assert!(too_large.contains("DRAIN_ANSWERS_MAX_BYTES"), "{too_large}");
        assert!(store.find(&id("c1-29"), 200).unwrap().is_some());
        store.open.as_ref().unwrap().db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let file = fs::read(home.path().join(FILE)).unwrap();
        assert!(!file.windows(12).any(|part| part == b"first secret"));
        // Who keeps none keeps none of before either.
        let mut store = FileStore::new(home.path().into(), Keep { time: Duration::ZERO, bytes: 1_000 });
        store.forget_old(200);
        assert_eq!(FileStore::new(home.path().into(), keep(1_000)).find(&id("c1-29"), 200), Ok(None));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_begun_anew() {
        let home = tempfile::tempdir().unwrap();
        for rubbish in [&b"no database at all, but long enough to be read as the head of one"[..], &[0x53; 9_000]] {
            fs::write(home.path().join(FILE), rubbish).unwrap();
            let mut store = FileStore::new(home.path().into(), keep(10_000));
            store.keep(&id("c1-1"), &json_of("one"), 100).unwrap();
            assert_eq!(store.find(&id("c1-1"), 100), Ok(Some(answer("one"))));
            assert_eq!(fs::read(home.path().join(DAMAGED)).unwrap(), rubbish);
        }
        let mut store = FileStore::new(home.path().into(), keep(10_000));
        store.forget_old(100);
        let db = &store.open.as_ref().unwrap().db;
        db.execute("UPDATE answers SET body = replace(body, 'one', 'two')", []).unwrap();
        assert!(store.find(&id("c1-1"), 100).is_err());
    }
}
