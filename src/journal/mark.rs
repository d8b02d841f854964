//! The mark beside the journal: which one it was last, and how many commits it held.
//!
//! Written over in place after each commit and never synced: it costs no request anything, and a power cut makes it older
//! than the journal at most. A mark that is ahead of its journal, or of another one, tells that an older copy was put back,
//! that the log was lost, or that the file was replaced.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use alloy::primitives::keccak256;

/// Beside the journal.
pub(super) const FILE: &str = "journal.mark";
/// Longer than a line is.
const MAX_LINE: u64 = 256;

/// Which journal, and how far it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Random, new with each file and each time that its history forks.
    pub id: String,
    /// Commits that changed something.
    pub commits: u64,
}

impl Identity {
    fn line(&self) -> String {
        let text = format!("drain-journal 1 {} {:020}", self.id, self.commits);
        let check = keccak256(&text);
        format!("{text} {}\n", alloy::hex::encode(&check[..4]))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace().skip(2);
        let found = Self { id: words.next()?.into(), commits: words.next()?.parse().ok()? };
        (found.line() == line).then_some(found)
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    file: Option<File>,
    /// A disk without room for it is said once.
    said: bool,
}

impl Mark {
    /// What the mark in `folder` says. One that cannot be read tells nothing: a power cut may tear it.
    pub(super) fn read(folder: &Path) -> Option<Identity> {
        let path = folder.join(FILE);
        let read = std::fs::metadata(&path).and_then(|data| match data.len() {
            0..=MAX_LINE => std::fs::read_to_string(&path),
            _ => Err(ErrorKind::InvalidData.into()),
        });
        match read {
            Ok(line) => {
                let found = Identity::parse(&line);
                if found.is_none() {
                    tracing::warn!(path = %path.display(), "the journal's mark makes no sense; it is written anew");
                }
                found
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the journal's mark cannot be read");
                None
            }
        }
    }

    /// The mark in `folder`, to be written.
    pub(super) fn open(folder: &Path) -> Self {
        Self { path: folder.join(FILE), file: None, said: false }
    }

    /// Writes it. A failure loses a warning at most, and never holds up money.
    pub(super) fn write(&mut self, identity: &Identity) {
        let written = self.file().and_then(|file| {
            let line = identity.line();
            file.write_all_at(line.as_bytes(), 0)?;
            // Lines have one length; what is longer was never ours.
            if file.metadata()?.len() == line.len() as u64 { Ok(()) } else { file.set_len(line.len() as u64) }
        });
        if let Err(error) = written
            && !std::mem::replace(&mut self.said, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "the journal's mark cannot be written: an older copy put back would not be noticed");
        }
    }

    fn file(&mut self) -> std::io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_or_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(folder.path()), None);
        let mut mark = Mark::open(folder.path());
        for commits in [0, 7, u64::MAX] {
            let identity = Identity { id: "ab".repeat(16), commits };
            mark.write(&identity);
            assert_eq!(Mark::read(folder.path()), Some(identity));
        }
        let path = folder.path().join(FILE);
        let line = std::fs::read(&path).unwrap();
        for place in 0..line.len() {
            let mut torn = line.clone();
            torn[place] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(Mark::read(folder.path()), None, "byte {place}");
            std::fs::write(&path, &line[..place]).unwrap();
            assert_eq!(Mark::read(folder.path()), None, "cut at {place}");
        }
        std::fs::write(&path, [line.as_slice(), line.as_slice()].concat()).unwrap();
        mark.write(&Identity { id: "cd".repeat(16), commits: 1 });
        assert_eq!(Mark::read(folder.path()).map(|found| found.commits), Some(1));
    }
}
