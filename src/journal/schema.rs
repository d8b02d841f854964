//! The SQLite file: where it lives, who may read it, and its schema over time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::db::{self, Sqlite};
use super::distrust::{self, identity};
use super::mark::{Identity, Mark};
use super::{JournalError, check, place, restore};

/// Each step runs once, in order, in its own transaction. Never edit a step that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_budgets.sql"),
    include_str!("migrations/0003_providers.sql"),
    include_str!("migrations/0004_flags.sql"),
    include_str!("migrations/0005_reorgs.sql"),
    include_str!("migrations/0006_survival.sql"),
    include_str!("migrations/0007_approvals.sql"),
    include_str!("migrations/0008_given_back.sql"),
    include_str!("migrations/0009_left_in_contract.sql"),
    include_str!("migrations/0010_audit.sql"),
    include_str!("migrations/0011_members.sql"),
    include_str!("migrations/0012_receipts.sql"),
    include_str!("migrations/0013_payments.sql"),
];

/// The schema of this version.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// The first schema with an audit record.
pub(super) const AUDITED: i64 = 10;

/// The first schema in which requests may have names.
pub(super) const NAMED: i64 = 12;

/// The first schema with payments without a channel.
pub(super) const PAYING: i64 = 13;

/// `drain` in ASCII: marks the file as ours.
const APPLICATION_ID: i64 = 0x6472_6169;

/// The journal's name in the wallet's folder.
pub(super) const FILE: &str = "journal.db";
/// SQLite's log beside it.
pub(super) const LOG: &str = "journal.db-wal";

/// Measured: 50,000 vouchers are 3 MB and take 25 ms. A larger one is checked by `drain-mcp journal verify` only: a start must not wait for it.
pub(super) const CHECKED_AT_START: u64 = 32 * 1024 * 1024;
/// Up to here indexes are compared with their tables too.
const THOROUGHLY: u64 = 8 * 1024 * 1024;

/// A journal that can be believed, and its mark.
pub(super) struct Opened {
    pub connection: db::Connection,
    pub path: PathBuf,
    pub identity: Identity,
    pub mark: Mark,
}

/// Opens or makes the journal. One that is damaged is left as it is; one that is not what the mark remembers is used with
/// all its channels recovered (design section 4).
pub(super) fn open(folder: &Path) -> Result<Opened, JournalError> {
    let path = folder.join(FILE);
    private_folder(folder).map_err(|e| JournalError::of_file(folder, &e))?;
    place::check(folder)?;
    restore::finish(folder).map_err(|e| JournalError::of_file(&path, &e))?;
    let remembered = Mark::read(folder);
    let fresh = !path.exists();
    let size = fs::metadata(&path).map(|data| data.len());
    if let (Ok(0), Some(before)) = (&size, &remembered)
        && before.commits > 0
    {
        let reason = format!("it is empty, and {} commits were recorded in it", before.commits);
        return Err(JournalError::Damaged { path, reason });
    }
    // Created here, so that there is no moment in which others can read it; SQLite gives WAL and SHM the same mode.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| JournalError::of_file(&path, &e))?;
    let opened = Connection::open(&path).map_err(JournalError::from).and_then(|mut connection| {
        // What is not ours, or not sound, is left as it is: its log too.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        let found = version(&connection)?;
        let size = size.unwrap_or(0).saturating_add(fs::metadata(folder.join(LOG)).map_or(0, |data| data.len()));
        if found > 0 && size <= CHECKED_AT_START {
            believable(&connection, size <= THOROUGHLY)?;
        }
        configure(&connection)?;
        migrate(&mut connection, found)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        let identity = match identity(&(&connection).into())? {
            known
                if remembered
                    .as_ref()
                    .is_none_or(|before| before.id == known.id && before.commits <= known.commits) =>
            {
                known
            }
            _ => {
                let (made, limits) = if fresh {
                    ("was made anew: the one before is gone.", "Budgets, freezes, set-asides and pins begin anew.")
                } else {
                    (
                        "is an older copy, or another one, than was last used here.",
                        "Budgets, freezes, set-asides and pins are as it knew them.",
                    )
                };
                let (identity, notice) = distrust(&connection, &format!("{} {made}", path.display()), limits)?;
                tracing::error!("{notice}");
                identity
            }
        };
        Ok((connection, identity))
    });
    let (connection, identity) = opened.map_err(|error| match error.at(&path) {
        JournalError::Write(reason) => JournalError::Open { path: path.clone(), reason },
        other => other,
    })?;
    let mut mark = Mark::open(folder);
    mark.write(&identity);
    Ok(Opened { connection: db::Connection::Sqlite(Sqlite::new(connection)), path, identity, mark })
}

/// Pages and sums, so that a damaged journal signs nothing.
fn believable(connection: &Connection, thoroughly: bool) -> Result<(), JournalError> {
    let mut problems = check::pages(&connection.into(), thoroughly);
    if problems.is_empty() {
        problems = check::books(&connection.into());
    }
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(JournalError::Damaged { path: PathBuf::new(), reason: first.clone() }),
    }
}

/// The same in a transaction of its own; see [`distrust::distrust`].
pub(super) fn distrust(connection: &Connection, why: &str, limits: &str) -> Result<(Identity, String), JournalError> {
    let transaction = connection.unchecked_transaction()?;
    let notice = distrust::distrust(&(&*transaction).into(), why, limits)?;
    transaction.execute("UPDATE identity SET commits = commits + 1", [])?;
    transaction.commit()?;
    Ok((identity(&connection.into())?, notice))
}

/// Takes the wallet's lock: one process at a time signs for it (design section 7). `None` when another one has it. Held
/// as long as the file is.
pub fn lock(folder: &Path) -> Result<Option<File>, JournalError> {
    let path = folder.join("lock");
    let failed = |e: std::io::Error| JournalError::of_file(&path, &e);
    private_folder(folder).map_err(failed)?;
    // Where the lock itself could not be relied on.
    place::check(folder)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// The folder, 0700. An existing one of ours is narrowed.
pub(super) fn private_folder(folder: &Path) -> std::io::Result<()> {
    // What a power cut takes is not only a file's bytes but also its name: each new folder's is synced in its parent.
    // SQLite does the same for its files.
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for parent in missing.iter().rev().filter_map(|folder| folder.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(2))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    // NORMAL may lose the last commits in a power cut: not for vouchers (M1).
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS a plain fsync leaves the data in the drive's own cache.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // The writer checkpoints when idle, so that no request waits for it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The schema's version, 0 of a new file. Reads only.
pub(super) fn version(connection: &Connection) -> Result<i64, JournalError> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if application != APPLICATION_ID && (application != 0 || found != 0) {
        return Err(JournalError::Damaged { path: PathBuf::new(), reason: "it is another program's database".into() });
    }
    if found > KNOWN {
        return Err(JournalError::Newer { path: PathBuf::new(), found, known: KNOWN });
    }
    Ok(found)
}

/// A journal of an older version.
#[cfg(test)]
pub(super) fn make(path: &Path, version: i64) -> Result<(), JournalError> {
    let mut connection = Connection::open(path)?;
    steps(&mut connection, MIGRATIONS.iter().enumerate().take(usize::try_from(version).unwrap_or(0)))
}

pub(super) fn migrate(connection: &mut Connection, found: i64) -> Result<(), JournalError> {
    steps(connection, MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)))
}

fn steps<'a>(
    connection: &mut Connection,
    steps: impl Iterator<Item = (usize, &'a &'static str)>,
) -> Result<(), JournalError> {
    for (index, step) in steps {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
