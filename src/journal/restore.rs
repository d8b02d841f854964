//! A copy put in place as the wallet's journal: checked first, with all its channels recovered, and without a moment in
//! which a crash leaves less than one of both.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use drain_protocol::Address;
use rusqlite::Connection;
use serde::Serialize;

use super::backup::{alive, beside, contradiction, problems, read_manifest, reader, sync_folder_of};
use super::distrust;
use super::mark::Mark;
use super::schema::{self, FILE, LOG};
use super::{JournalError, carry, freeze, row};
use crate::error::{Code, Failure};

/// The copy under way, in the wallet's folder.
const INCOMING: &str = "journal.importing";
/// The same, checked: from here on it is only put in place.
const CHECKED: &str = "journal.imported";

/// A journal that was taken in.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Where it lies now.
    pub path: PathBuf,
    /// Channels that are not over: all of them are recovered now.
    pub channels: usize,
    /// The one before, kept.
    pub replaced: Option<PathBuf>,
    /// Whether a manifest vouched for the file.
    pub manifest: bool,
    /// What of the one before could not be read, and so is as the copy knew it.
    pub began_anew: Vec<String>,
}

/// Takes a copy in as the wallet's journal, checked first, with every channel that is not over recovered. Whoever calls
/// has the wallet's lock. The one before is kept beside it, and only `replace` moves it away; what it knows of used limits
/// and of freezes goes over. After a crash in the last step the next start does that step.
pub fn import(folder: &Path, from: &Path, replace: bool, chain_id: u64, wallet: Address) -> Result<Imported, Failure> {
    let target = folder.join(FILE);
    let failed = |e: std::io::Error| Failure::from(JournalError::of_file(&target, &e));
    finish(folder).map_err(failed)?;
    let exists = target.exists() || folder.join(LOG).exists();
    if exists && !replace {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            format!("{} is there already: a copy put over it would forget what was signed since", target.display()),
            "With --replace it is taken all the same, and the present one is kept beside it.",
        ));
    }
    let incoming = folder.join(INCOMING);
    let checked = read_manifest(from).and_then(|manifest| {
        if let Some(manifest) = &manifest {
            contradiction(manifest, from).map_err(|reason| JournalError::Damaged { path: from.into(), reason })?;
        }
        let before = exists.then_some(target.as_path());
        let (channels, began_anew) = take_in(&incoming, from, before, chain_id, wallet)?;
        Ok((manifest.is_some(), channels, began_anew))
    });
    let (manifest, channels, began_anew) = checked.map_err(|failure| {
        remove(&incoming);
        let next = "Nothing was changed. Use another copy: drain-mcp journal verify FILE tells what is wrong with one.";
        Failure { next: next.into(), ..failure }
    })?;
    fs::rename(&incoming, folder.join(CHECKED)).and_then(|()| sync_folder_of(&target)).map_err(failed)?;
    let replaced = finish(folder).map_err(failed)?;
    Ok(Imported { path: target, channels, replaced, manifest, began_anew })
}

/// Puts a copy that was checked in place, and keeps what was there; nothing where there is none. Tried again after a crash
/// it goes on.
pub(super) fn finish(folder: &Path) -> std::io::Result<Option<PathBuf>> {
    let (checked, target) = (folder.join(CHECKED), folder.join(FILE));
    let Ok(data) = checked.metadata() else { return Ok(None) };
    // The copy's own time, so that journal and log go under one name however often this is begun.
    let at = data.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let replaced = move_away(&target, at)?;
    fs::rename(&checked, &target)?;
    sync_folder_of(&target)?;
    if let Ok(identity) = reader(&target).and_then(|(db, _)| distrust::identity(&(&db).into())) {
        Mark::open(folder).write(&identity);
    }
    Ok(replaced)
}

/// Copies, checks and marks; the result is durable.
fn take_in(
    incoming: &Path,
    from: &Path,
    before: Option<&Path>,
    chain_id: u64,
    wallet: Address,
) -> Result<(usize, Vec<String>), Failure> {
    remove(incoming);
    // A copy of files at rest may have its log beside it.
    for ending in ["", "-wal"] {
        let (source, copy) = (beside(from, ending), beside(incoming, ending));
        if ending.is_empty() || source.exists() {
            let mut source = File::open(&source).map_err(|e| JournalError::of_file(&source, &e))?;
            let to = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&copy);
            to.and_then(|mut to| std::io::copy(&mut source, &mut to)).map_err(|e| JournalError::of_file(&copy, &e))?;
        }
    }
    let taken = Connection::open(incoming).map_err(JournalError::from).and_then(|mut db| {
        let version = schema::version(&db)?;
        let first = if version == 0 { Some("it holds no journal".into()) } else { problems(&(&db).into()).into_iter().next() };
        if let Some(reason) = first {
            return Err(JournalError::Damaged { path: from.into(), reason });
        }
        let others: bool = db.query_row(
            "SELECT EXISTS (SELECT 1 FROM channels WHERE chain_id != ?1 OR consumer != ?2) \
             OR EXISTS (SELECT 1 FROM transactions WHERE chain_id != ?1 OR wallet != ?2)",
            (row::column(chain_id)?, row::address(wallet)),
            |found| found.get(0),
        )?;
        if others {
            let reason = format!("it belongs to another wallet or chain than {wallet} on {chain_id}");
            return Err(JournalError::Damaged { path: from.into(), reason });
        }
        // One file from here on, whatever it was, and durable.
        db.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
        db.pragma_update(None, "synchronous", "FULL")?;
        schema::migrate(&mut db, version)?;
        let (began_anew, limits) = match before {
            None => (Vec::new(), "Budgets, freezes, set-asides and pins are as it knew them.".into()),
            Some(before) => {
                let unread = carry::over(before, &mut db)?;
                if !unread.is_empty() {
                    // Only a person lifts a freeze or opens a limit again (M5): nobody here knows which stood.
                    freeze::because_nobody_knows(&(&db).into(), &unread)?;
                }
                let limits = match unread.as_slice() {
                    [] => "What was used of budgets, and who is frozen, set aside or pinned, went over from the one before.".into(),
                    unread => format!("Of the one before could not be read, and is as the copy knew it: {}.", unread.join(", ")),
                };
                (unread, limits)
            }
        };
        schema::distrust(&db, &format!("was imported from {}.", from.display()), &limits)?;
        Ok((alive(&(&db).into(), "1 = 1")?, began_anew))
    });
    let taken = taken.map_err(|error| error.at(from))?;
    File::open(incoming).and_then(|file| file.sync_all()).map_err(|e| JournalError::of_file(incoming, &e))?;
    Ok(taken)
}

fn remove(file: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        // What is not there need not be removed; what cannot be is refused when it is made anew.
        let _ = fs::remove_file(beside(file, ending));
    }
}

/// Keeps the present journal and its log under a name that says when it was replaced; the log first: without it the journal
/// is an older one, with another one's log it is none.
fn move_away(target: &Path, at: u64) -> std::io::Result<Option<PathBuf>> {
    let free = (at..).map(|at| beside(target, &format!(".replaced-{at}"))).find(|path| !path.exists());
    let kept = free.unwrap_or_else(|| beside(target, ".replaced"));
    let mut any = false;
    for ending in ["-wal", ""] {
        let file = beside(target, ending);
        if file.exists() {
            fs::rename(file, beside(&kept, ending))?;
            any = true;
        }
    }
    let _ = fs::remove_file(beside(target, "-shm"));
    Ok(any.then_some(kept))
}
