//! A client's file on disk: read as it is, replaced as a whole, with its mode and owner, and a copy of it beside.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Code, Failure};

/// Some clients keep their whole history in it.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A client's file as it was read.
pub struct ClientFile {
    /// Where it is, links followed.
    pub path: PathBuf,
    /// What it holds; `None` where there is none.
    pub text: Option<String>,
}

impl ClientFile {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unusable(path, error);
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(unusable(path, "it is a link to a file that does not exist"));
                }
                return Ok(Self { path: std::path::absolute(path).map_err(failed)?, text: None });
            }
            Err(error) => return Err(failed(error)),
        };
        let text = Some(content(&path).map_err(|error| unusable(&path, error))?);
        Ok(Self { path, text })
    }

    /// The copy that the last change left beside it.
    pub fn before(&self) -> Option<String> {
        content(&self.backup()).ok()
    }

    /// Where that copy is.
    pub fn backup(&self) -> PathBuf {
        beside(&self.path, ".before-drain")
    }

    /// Puts `text` in its place, and what was there beside it. A crash leaves the old file or the new one.
    pub fn replace(&self, text: &str) -> Result<(), Failure> {
        let replaced = || -> io::Result<()> {
            self.unchanged()?;
            if let Some(old) = &self.text {
                self.write(&self.backup(), old)?;
            } else if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            self.write(&self.path, text)
        };
        replaced().map_err(|error| unusable(&self.path, error))
    }

    /// Puts back what was there before the only change was made, and takes the copy away; `None` is no file.
    pub fn restore(&self, before: Option<&str>) -> Result<(), Failure> {
        let restored = || -> io::Result<()> {
            self.unchanged()?;
            match before {
                Some(text) => {
                    self.write(&self.path, text)?;
                    fs::remove_file(self.backup())
                }
                None => fs::remove_file(&self.path),
            }
        };
        restored().map_err(|error| unusable(&self.path, error))
    }

    /// A client that writes its file at the same time is not overwritten, and a file that may not be written is left alone.
    fn unchanged(&self) -> io::Result<()> {
        let now = match content(&self.path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if now != self.text {
            return Err(io::Error::other("somebody else has just changed it; run the command again"));
        }
        if now.is_some() && fs::metadata(&self.path)?.permissions().readonly() {
            return Err(io::Error::other("it is read-only"));
        }
        Ok(())
    }

    /// Beside, then in its place; as the client's file it may be read by whoever may read that one.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let new = beside(path, ".drain-new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
            if self.text.is_some() {
                let (old, own) = (fs::metadata(&self.path)?, file.metadata()?);
                if (old.uid(), old.gid()) != (own.uid(), own.gid()) {
                    fchown(&file, Some(old.uid()), Some(old.gid()))?;
                }
                file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        written().inspect_err(|_| drop(fs::remove_file(&new)))
    }
}

fn content(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(io::Error::other("it is not a client's file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// A file that is left as it is.
pub fn unusable(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::unspent(
        Code::InvalidConfig,
        format!("{} cannot be used: {reason}. It was left as it is.", path.display()),
        "Mend that and run the command again, or put in by hand what drain-mcp install --print shows.",
    )
}
