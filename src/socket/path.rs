//! Where the socket lies: in the wallet's folder, or, where that path is too long for a socket, in a folder of the user's
//! own under /tmp.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use alloy::primitives::keccak256;

/// The longest path that every system takes (macOS: 104 bytes with the final zero; Linux: 108).
const LONGEST: usize = 103;
const FILE: &str = "socket";

/// The socket of a wallet's folder, which must exist. Two names of one folder lead to one socket.
pub fn of(folder: &Path) -> io::Result<PathBuf> {
    let folder = fs::canonicalize(folder)?;
    let near = folder.join(FILE);
    if near.as_os_str().len() <= LONGEST {
        return Ok(near);
    }
    let name = format!("{:x}", keccak256(folder.as_os_str().as_encoded_bytes()));
    Ok(short_folder().join(&name[..32]))
}

/// Of this user alone.
fn short_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/drain-mcp-{}", rustix::process::getuid().as_raw()))
}

/// Listens there. Only the process that has the wallet's lock may call this: a socket that is there already is a dead
/// one's.
pub fn listen(folder: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let path = of(folder)?;
    if path.starts_with(short_folder()) {
        private(&short_folder())?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, path))
}

/// Makes the folder, or checks that nobody else can reach into it: /tmp is everybody's.
fn private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    if found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} is not a folder of this user alone; remove it, or use a shorter DRAIN_HOME", folder.display()),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn in_the_wallets_folder_or_where_the_path_is_short_enough() {
        let home = tempfile::tempdir().unwrap();
        let near = home.path().canonicalize().unwrap();
        assert_eq!(of(home.path()).unwrap(), near.join(FILE));

        let long = home.path().join("l".repeat(120));
        fs::create_dir(&long).unwrap();
        let path = of(&long).unwrap();
        assert!(path.starts_with(short_folder()) && path.as_os_str().len() <= LONGEST, "{path:?}");
        // Another name of the folder leads to the same socket, another folder to another.
        let alias = home.path().join("a");
        std::os::unix::fs::symlink(&long, &alias).unwrap();
        assert_eq!(of(&alias).unwrap(), path);
        let other = home.path().join("m".repeat(120));
        fs::create_dir(&other).unwrap();
        assert_ne!(of(&other).unwrap(), path);

        let (listener, bound) = listen(&long).unwrap();
        assert_eq!(bound, path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(short_folder()).unwrap().mode() & 0o777, 0o700);
        drop(listener);
        // What a dead process left behind is no obstacle.
        listen(&long).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert!(private(&open).unwrap_err().to_string().contains("shorter DRAIN_HOME"));
        let link = home.path().join("link");
        private(&home.path().join("own")).unwrap();
        std::os::unix::fs::symlink(home.path().join("own"), &link).unwrap();
        assert!(private(&link).is_err());
    }
}
