//! The SQLite file: where it lives, who may read it, and its schema over time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::JournalError;

/// Each step runs once, in order, in its own transaction. Never edit a step that was released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_budgets.sql"),
    include_str!("migrations/0006_survival.sql"),
    include_str!("migrations/0007_approvals.sql"),
];

/// `drain` in ASCII: marks the file as ours.
const APPLICATION_ID: i64 = 0x6472_6169;

const FILE: &str = "journal.db";

pub(super) fn open(folder: &Path) -> Result<Connection, JournalError> {
    let path = folder.join(FILE);
    let failed = |reason: String| JournalError::Open { path: path.clone(), reason };
    private_folder(folder).map_err(|e| failed(e.to_string()))?;
    // Created here, so that there is no moment in which others can read it; SQLite gives WAL and SHM the same mode.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| failed(e.to_string()))?;
    let mut connection = Connection::open(&path).map_err(|e| failed(e.to_string()))?;
    configure(&connection).map_err(|e| failed(e.to_string()))?;
    migrate(&mut connection).map_err(|error| match error {
        JournalError::Write(reason) => failed(reason),
        other => other,
    })?;
    Ok(connection)
}

/// Takes the wallet's lock: one process at a time signs for it (design section 7). `None` when another one has it. Held
/// as long as the file is.
pub fn lock(folder: &Path) -> Result<Option<File>, JournalError> {
    let path = folder.join("lock");
    let failed = |e: std::io::Error| JournalError::Open { path: path.clone(), reason: e.to_string() };
    private_folder(folder).map_err(failed)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// The folder, 0700. An existing one of ours is narrowed.
fn private_folder(folder: &Path) -> std::io::Result<()> {
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

fn migrate(connection: &mut Connection) -> Result<(), JournalError> {
    let known = MIGRATIONS.len() as i64;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if application != APPLICATION_ID && (application != 0 || found != 0) {
        return Err(JournalError::Write("it is another program's database".into()));
    }
    if found > known {
        return Err(JournalError::Newer { found, known });
    }
    for (index, step) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", index as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
