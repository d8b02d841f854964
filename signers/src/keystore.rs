//! Encrypted key files, as geth and other wallets read and write them.
//!
//! Deriving the key from the password takes about a second and 128 MiB (up to 256 for other wallets' files), by intent:
//! call [`create`] and [`open`] from a thread that may block.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use drain_protocol::Address;
use zeroize::Zeroizing;

use crate::error::SignerError;
use crate::local::LocalBackend;
use crate::sealed::{Cost, OpenError, Sealed};
use crate::secret::Secret;

/// A real file has about 500 bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Writes a key to a new file: encrypted, readable by its owner only, all of it or nothing, never over another file.
///
/// When this returns, the file is on the disk. The directory must exist.
pub fn create(path: &Path, secret: &Secret, password: &str) -> Result<(), SignerError> {
    create_at_cost(path, secret, password, Cost::STANDARD)
}

/// Opens a file that [`create`] or another wallet wrote.
pub fn open(path: &Path, password: &str) -> Result<LocalBackend, SignerError> {
    let secret = read(path)?.unseal(password).map_err(|e| e.at(path))?;
    Ok(LocalBackend::of_kind(secret, "keystore"))
}

/// The account of a file without its password. `None` where the file does not say it, as some wallets' do not.
///
/// Unauthenticated: who can write the file can change it. [`open`] checks it against the key.
pub fn address_of(path: &Path) -> Result<Option<Address>, SignerError> {
    read(path)?.address().map_err(|e| e.at(path))
}

pub(crate) fn create_at_cost(path: &Path, secret: &Secret, password: &str, cost: Cost) -> Result<(), SignerError> {
    if password.is_empty() {
        return Err(SignerError::EmptyPassword);
    }
    let exists = || SignerError::KeystoreExists { path: path.into() };
    let failed = |e: std::io::Error| SignerError::Unavailable {
        problem: format!("the keystore {} cannot be written: {e}", path.display()),
    };
    // Saves the work; the rename below decides.
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let json = Sealed::seal(secret, password, cost)?.to_json()?;

    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Created with mode 0600 and removed again if anything below fails.
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
    file.write_all(json.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(path)
        .map_err(|e| if e.error.kind() == ErrorKind::AlreadyExists { exists() } else { failed(e.error) })?;
    // The name is durable only when its directory is.
    #[cfg(unix)]
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
    Ok(())
}

fn read(path: &Path) -> Result<Sealed, SignerError> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => SignerError::KeystoreMissing { path: path.into() },
        _ => SignerError::Unavailable { problem: format!("the keystore {} cannot be read: {e}", path.display()) },
    };
    let corrupt = |problem: &str| OpenError::Corrupt(problem.into()).at(path);
    // Asked before opening, since opening a pipe waits for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(corrupt("it is not a regular file"));
    }
    // Erased, since a person may have pointed at a file with a bare key in it.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    File::open(path).map_err(failed)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(corrupt("it is too large"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| corrupt("it is not text"))?;
    Sealed::parse(text).map_err(|e| e.at(path))
}

impl OpenError {
    fn at(self, path: &Path) -> SignerError {
        match self {
            Self::WrongPassword => SignerError::WrongPassword { path: path.into() },
            Self::Corrupt(problem) => SignerError::KeystoreCorrupt { path: path.into(), problem },
        }
    }
}
