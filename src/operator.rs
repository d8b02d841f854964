//! The operator's passphrase: what tells a person at a terminal from an agent that can type there (M5).
//!
//! Only a slow salted hash of it is kept, in `DRAIN_HOME/operator`. Whoever can write that file can replace it, as it can
//! replace the journal: this holds against an agent that runs commands, not against one that owns the files.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use scrypt::Scrypt;
use scrypt::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};

use crate::error::{Code, Failure};

const FILE: &str = "operator";
/// A hash has some hundred bytes.
const MAX_FILE: u64 = 1_024;
/// A passphrase that a program guesses in no time is none.
const SHORTEST: usize = 8;

fn path(home: &Path) -> PathBuf {
    home.join(FILE)
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::unspent(
        Code::InvalidConfig,
        format!("the operator's passphrase file {} cannot be used: {reason}", path.display()),
        "Check that file; removing it removes the passphrase, and drain-mcp approvals passphrase sets a new one.",
    )
}

fn read(home: &Path) -> Result<Option<String>, Failure> {
    let path = path(home);
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| unusable(&path, error))?;
    Ok(Some(text.trim().to_owned()))
}

/// Whether a passphrase is set.
pub fn is_set(home: &Path) -> Result<bool, Failure> {
    Ok(read(home)?.is_some())
}

/// Sets the passphrase; another one that is set already must have been verified by the caller.
pub fn set(home: &Path, passphrase: &str) -> Result<(), Failure> {
    if passphrase.chars().count() < SHORTEST {
        return Err(Failure::argument("passphrase", format!("it has less than {SHORTEST} characters")));
    }
    let path = path(home);
    let salt = SaltString::b64_encode(alloy::primitives::B128::random().as_slice()).map_err(|e| unusable(&path, e))?;
    let hash = Scrypt.hash_password(passphrase.as_bytes(), &salt).map_err(|e| unusable(&path, e))?.to_string();
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
        // Beside it and then in its place: a crash leaves the old one or the new one.
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(hash.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(|error| unusable(&path, error))
}

/// Checks what was typed. Slow by design: call it where waiting blocks nobody.
pub fn verify(home: &Path, passphrase: &str) -> Result<(), Failure> {
    let Some(text) = read(home)? else {
        return Err(Failure::unspent(
            Code::InvalidConfig,
            "no operator's passphrase is set, so nobody can show to be the operator",
            "Set one on a terminal: drain-mcp approvals passphrase.",
        ));
    };
    let hash = PasswordHash::new(&text).map_err(|error| unusable(&path(home), error))?;
    Scrypt
        .verify_password(passphrase.as_bytes(), &hash)
        .map_err(|_| Failure::unspent(Code::NotAllowed, "that is not the operator's passphrase", "Type it again."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_passphrase_itself_opens() {
        let home = tempfile::tempdir().unwrap();
        assert!(!is_set(home.path()).unwrap());
        assert!(verify(home.path(), "anything").unwrap_err().next.contains("approvals passphrase"));
        assert_eq!(set(home.path(), "short").unwrap_err().code, Code::InvalidArgument);
        set(home.path(), "correct horse").unwrap();
        assert!(is_set(home.path()).unwrap());
        verify(home.path(), "correct horse").unwrap();
        for wrong in ["", "correct hors", "correct horse "] {
            assert_eq!(verify(home.path(), wrong).unwrap_err().code, Code::NotAllowed);
        }
        let file = home.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = fs::read_to_string(&file).unwrap();
        assert!(kept.starts_with("$scrypt$") && !kept.contains("horse"));
    }

    #[test]
    fn a_home_that_it_makes_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let home = parent.path().join("a/home");
        set(&home, "correct horse").unwrap();
        assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_file_opens_for_nobody() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), "nonsense").unwrap();
        assert_eq!(verify(home.path(), "nonsense").unwrap_err().code, Code::InvalidConfig);
    }
}
