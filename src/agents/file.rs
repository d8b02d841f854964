//! The file on disk: who may read and write it, and a write that leaves the old one or the new one.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Code, Failure};

/// A thousand agents with long lists have less.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where it is.
pub(super) fn path(home: &Path) -> PathBuf {
    home.join("agents.toml")
}

/// A file that cannot be used, and so nobody in it.
pub(super) fn unusable(path: &Path, reason: impl std::fmt::Display, next: &str) -> Failure {
    Failure::unspent(
        Code::InvalidConfig,
        format!("the agents' file {} cannot be used: {reason}. It was left as it is", path.display()),
        next,
    )
}

/// Tells one content of the file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    owner: u32,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            mode: meta.mode(),
            owner: meta.uid(),
        }
    }

    /// Of the file as it is now; `None` without one.
    pub(super) fn now(path: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self::of(&meta))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Its text, and which one that is; `None` without a file. Who can write it makes agents, who can read it learns names and
/// budgets: it must be this user's alone.
pub(super) fn read(path: &Path) -> Result<Option<(String, Stamp)>, Failure> {
    let failed =
        |error: std::io::Error| unusable(path, error, "Let this user read it: it must belong to it, with mode 0600.");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(unusable(
            path,
            "it is not a file that drain-mcp agents wrote",
            "Put a copy of the right one there.",
        ));
    }
    let owners = [0, rustix::process::geteuid().as_raw()];
    if !owners.contains(&meta.uid()) || crate::config::others_than_owner_can(&meta) {
        return Err(unusable(
            path,
            "other users of this machine can read or write it",
            "Check with drain-mcp agents list that nobody was added, after: chown it to this user and chmod 600 it.",
        ));
    }
    let stamp = Stamp::of(&meta);
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    Ok(Some((text, stamp)))
}

/// Held while the file is read and written anew: two commands do not lose each other's agents.
pub(super) fn lock(home: &Path) -> Result<File, Failure> {
    let path = home.join("agents.lock");
    let locked = || -> std::io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(home)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|error| unusable(&path, error, "Let this user write to DRAIN_HOME, then run it again."))
}

/// Replaces the file. A crash leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let replaced = || -> std::io::Result<()> {
        let beside = path.with_extension("toml.new");
        // What a crash left there may have another mode.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        // A revocation that a power cut takes back would be none.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    replaced().map_err(|error| unusable(path, error, "Make room on the disk of DRAIN_HOME, then run it again."))
}
