//! What goes wrong with the journal's file, what that means for the money, and the way out.

use std::path::Path;

use rusqlite::ErrorCode;

use super::JournalError;

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTrouble {
    /// No room.
    Full,
    /// It, or the file, may not be written.
    ReadOnly,
    /// It fails.
    Failing,
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        let (path, reason) = (Default::default(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, reason },
            Some(ErrorCode::DiskFull) => Self::Disk { path, kind: DiskTrouble::Full, reason },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Self::Disk { path, kind: DiskTrouble::ReadOnly, reason }
            }
            Some(ErrorCode::SystemIoFailure) => Self::Disk { path, kind: DiskTrouble::Failing, reason },
            _ => Self::Write(reason),
        }
    }
}

impl JournalError {
    /// The same, told of this file.
    pub(super) fn at(mut self, file: &Path) -> Self {
        if let Self::Disk { path, .. } | Self::Damaged { path, .. } | Self::Newer { path, .. } = &mut self
            && path.as_os_str().is_empty()
        {
            *path = file.into();
        }
        self
    }

    /// Of a file operation.
    pub(super) fn of_file(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let (path, reason) = (path.to_path_buf(), error.to_string());
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Disk { path, kind: DiskTrouble::Full, reason },
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                Self::Disk { path, kind: DiskTrouble::ReadOnly, reason }
            }
            _ => Self::Open { path, reason },
        }
    }
}

/// What it means for the money.
pub(super) const fn meaning(error: &JournalError) -> &'static str {
    match error {
        JournalError::Damaged { .. } | JournalError::Corrupt(_) => {
            "Nothing is signed, and the file is left as it is. Deposits stay in the contract: what providers can take is what was signed before"
        }
        JournalError::Missing { .. } => "Deposits stay in the contract",
        JournalError::Unsafe(_) => "Nothing is signed by such a server",
        JournalError::Older { .. } => "Nothing was changed",
        _ => "Nothing is signed while the record cannot be written",
    }
}

/// What to do.
pub(super) fn way_out(error: &JournalError) -> String {
    match error {
        JournalError::Missing { .. } => "It is made when the wallet is first used. Check that DRAIN_HOME, chain and wallet are the ones that were used before; where it is gone, put a backup in its place with drain-mcp journal import FILE, or find the channels on chain with drain-mcp channels recover.".into(),
        JournalError::Server(_) => "Look at the server that DRAIN_JOURNAL_URL names, and at what its account may do (drain-mcp journal prepare), then call again.".into(),
        JournalError::Unsafe(_) => "Set fsync and synchronous_commit to on, and let DRAIN_JOURNAL_URL name the primary.".into(),
        JournalError::NetworkDisk { .. } => {
            "Set DRAIN_HOME to a folder on a local disk; move the records there while no drain-mcp runs.".into()
        }
        JournalError::Damaged { path, .. } => format!(
            "Look with drain-mcp journal verify. Put a backup in its place with drain-mcp journal import BACKUP --replace; without one, \
             move {} away and run drain-mcp channels recover, which finds the channels on chain.",
            path.display()
        ),
        JournalError::Corrupt(_) => "Look with drain-mcp journal verify, and put a backup in its place with drain-mcp journal import BACKUP --replace.".into(),
        JournalError::Older { .. } => "Start drain-mcp once: that brings it up to date. A copy is brought up to date by drain-mcp journal import.".into(),
        JournalError::Newer { .. } => "Use the newer drain-mcp with this DRAIN_HOME.".into(),
        JournalError::Disk { kind: DiskTrouble::Full, .. } => {
            "Make room on the disk of DRAIN_HOME, then call again.".into()
        }
        JournalError::Disk { kind: DiskTrouble::ReadOnly, .. } => {
            "Let this user write to DRAIN_HOME (it and its files must belong to it, and its disk be mounted for writing), then call again.".into()
        }
        JournalError::Disk { kind: DiskTrouble::Failing, .. } => {
            "Check the disk of DRAIN_HOME (dmesg tells). Save the records first: drain-mcp journal export FILE on another disk.".into()
        }
        _ => "Check free space and permissions of DRAIN_HOME, then run drain-mcp doctor.".into(),
    }
}
