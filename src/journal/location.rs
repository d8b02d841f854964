//! Where a wallet's journal lies, and who may write it: a file in the wallet's folder, by that folder's lock, or a schema on a
//! server, by its lease (design section 7).

use std::fs::File;
use std::path::{Path, PathBuf};

#[cfg(feature = "postgres")]
use drain_protocol::Address;

#[cfg(feature = "postgres")]
use super::db::Session;
use super::db::{Db, Optional, params};
#[cfg(feature = "postgres")]
use super::server::{Lease, Server, Taken};
use super::view::View;
use super::{JournalError, backup, schema};

/// Where the records of a wallet are.
#[derive(Clone, Debug)]
pub struct Location {
    folder: PathBuf,
    #[cfg(feature = "postgres")]
    server: Option<(Server, String)>,
}

/// Another process that holds a journal on a server.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Where its own agents reach it; none where it serves none, or does not yet.
    pub url: Option<reqwest::Url>,
}

/// Who holds a journal on a server, asked again and again.
pub struct Holders(View);

impl Holders {
    /// Of the journal that lies there.
    pub fn of(location: &Location) -> Self {
        Self(View::of(location))
    }

    /// Where the process that holds it is reached, as it told. `None` where nobody holds it.
    pub fn now(&self) -> Result<Option<Holder>, JournalError> {
        let held = "SELECT address FROM identity WHERE leased_until > clock_timestamp()";
        let address = |db: &Db<'_>| Ok(db.query_row(held, params![], |row| row.get(0)).optional()?);
        let address: Option<Option<String>> = self.0.read(address)?;
        Ok(address.map(|url| Holder { url: url.and_then(|url| url.parse().ok()) }))
    }
}

/// The right to write a journal, from which it is opened.
#[derive(Debug)]
pub struct Hold {
    pub(super) location: Location,
    pub(super) lock: Lock,
    /// On a server.
    #[cfg(feature = "postgres")]
    pub(super) lease: Option<Taken>,
}

impl Hold {
    /// Unix seconds by the clock of the server that the journal lies on.
    pub fn server_time(&self) -> Option<u64> {
        #[cfg(feature = "postgres")]
        if let Some(lease) = &self.lease {
            return Some(lease.now);
        }
        None
    }
}

/// The lock of the wallet's folder: held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Location {
    /// A folder of this machine.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            #[cfg(all(test, feature = "postgres"))]
            server: testing::server(&folder),
            #[cfg(all(not(test), feature = "postgres"))]
            server: None,
            folder,
        }
    }

    /// The same, with the journal of this wallet on a server.
    #[cfg(feature = "postgres")]
    pub fn on(self, server: Server, chain_id: u64, wallet: Address) -> Self {
        Self { server: Some((server, format!("drain_{chain_id}_{wallet:#x}"))), ..self }
    }

    /// Of what belongs to this machine alone.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server and the schema on it, where it is not a file.
    #[cfg(feature = "postgres")]
    pub const fn server(&self) -> Option<&(Server, String)> {
        self.server.as_ref()
    }

    /// Whether there is anything yet.
    pub fn is_made(&self) -> bool {
        #[cfg(feature = "postgres")]
        if self.server.is_some() {
            return true;
        }
        self.folder.exists()
    }

    /// Whether another process may write it at this moment. Makes nothing; nobody, where that cannot be found out.
    pub fn is_held(&self) -> bool {
        #[cfg(feature = "postgres")]
        if self.server.is_some() {
            return Holders::of(self).now().is_ok_and(|holder| holder.is_some());
        }
        self.folder.exists() && matches!(schema::lock(&self.folder), Ok(None))
    }

    /// Whether the journal is a file of this machine.
    pub const fn is_a_file(&self) -> bool {
        #[cfg(feature = "postgres")]
        if self.server.is_some() {
            return false;
        }
        true
    }

    /// The journal's file.
    pub(super) fn file(&self) -> PathBuf {
        backup::path(&self.folder)
    }

    /// What errors call it.
    pub fn name(&self) -> PathBuf {
        #[cfg(feature = "postgres")]
        if let Some((server, schema)) = &self.server {
            return format!("{server} {schema}").into();
        }
        self.file()
    }

    /// A connection that reads beside who writes.
    pub(super) fn reader(&self) -> Result<Reader, JournalError> {
        #[cfg(feature = "postgres")]
        if let Some((server, schema)) = &self.server {
            return Ok(Reader::Server(Box::new(server.session(schema)?)));
        }
        Ok(Reader::File(backup::reader(&self.file())?.0))
    }
}

/// Takes the right to write: one process at a time signs for a wallet. `None` when another one has it.
///
/// # Errors
/// Where the place cannot be used at all.
pub fn take(location: &Location) -> Result<Option<Hold>, JournalError> {
    // Of a journal on a server too: a process of this machine that knows of no server must not take the wallet beside it.
    let Some(_file) = schema::lock(&location.folder)? else { return Ok(None) };
    #[cfg(feature = "postgres")]
    let lease = match &location.server {
        None => None,
        Some((server, schema)) => match Lease::take(server, schema).map_err(|error| error.at(&location.name()))? {
            None => return Ok(None),
            taken => taken,
        },
    };
    Ok(Some(Hold {
        location: location.clone(),
        lock: Lock { _file },
        #[cfg(feature = "postgres")]
        lease,
    }))
}

/// What reads a journal, whoever writes it.
pub(super) enum Reader {
    File(rusqlite::Connection),
    #[cfg(feature = "postgres")]
    Server(Box<Session>),
}

impl Reader {
    pub(super) fn db(&self) -> Db<'_> {
        match self {
            Self::File(connection) => connection.into(),
            #[cfg(feature = "postgres")]
            Self::Server(session) => Db::Postgres(session),
        }
    }
}

/// The journal's own tests run on the server that this names.
#[cfg(all(test, feature = "postgres"))]
pub(super) const TEST_SERVER: &str = "DRAIN_TEST_JOURNAL_URL";

#[cfg(all(test, feature = "postgres"))]
#[allow(clippy::unwrap_used)]
mod testing {
    use std::collections::hash_map::DefaultHasher;
    use std::hash::{Hash, Hasher};
    use std::path::Path;
    use std::time::Duration;

    use super::Server;

    /// A schema for each folder.
    pub(super) fn server(folder: &Path) -> Option<(Server, String)> {
        let url = std::env::var(super::TEST_SERVER).ok()?;
        let mut hash = DefaultHasher::new();
        (folder, std::process::id()).hash(&mut hash);
        let server = Server::parse(&url, Duration::from_secs(10)).unwrap();
        Some((server, format!("test_{:016x}", hash.finish())))
    }
}
