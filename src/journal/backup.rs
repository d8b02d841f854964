//! Copies of a journal: out of the live file without stopping its owner, and the look at one that tells what is wrong. Back
//! in it goes by `restore.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drain_protocol::Address;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::channel::ChannelRecord;
use super::channels;
use super::db::{Db, params};
use super::distrust;
use super::location::Reader;
use super::mark::{Identity, Mark};
pub use super::restore::{Imported, import};
use super::schema::{self, FILE};
use super::{JournalError, KnownOpenings, Location, check, openings};
use crate::clock::Clock;
use crate::error::{Code, Failure};

/// Longest wait for the owner's short locks.
const BUSY: Duration = Duration::from_secs(5);
/// The first schema in which a journal has a name.
const IDENTIFIED: i64 = 6;
/// A manifest has less.
const MAX_MANIFEST: u64 = 64 * 1024;

/// What an export is, in `FILE.manifest.json` beside it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// The chain.
    pub chain_id: u64,
    /// The account that pays.
    pub wallet: Address,
    /// The journal's schema.
    pub schema: i64,
    /// Which journal; empty where its schema has no name for it.
    pub journal: String,
    /// How many commits it held.
    pub commits: u64,
    /// Channels that were not over.
    pub channels: usize,
    /// Unix seconds.
    pub exported_at: u64,
    /// Of the file.
    pub bytes: u64,
    /// Of the file, hexadecimal.
    pub sha256: String,
}

/// What was found in a journal.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// The file.
    pub path: PathBuf,
    /// Its schema.
    pub schema: i64,
    /// Commits that changed something.
    pub commits: u64,
    /// Channels that are not over.
    pub channels: usize,
    /// Those of them whose history may be incomplete.
    pub recovered: usize,
    /// Vouchers on record.
    pub vouchers: u64,
    /// Transactions whose end is not known.
    pub unfinished: u64,
    /// What a person should know of it.
    pub notice: Option<String>,
    /// What is wrong; nothing is signed from a journal with any.
    pub problems: Vec<String>,
}

/// Where a wallet's journal lies.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn manifest_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens a journal for reading only; its owner goes on undisturbed.
pub(super) fn reader(path: &Path) -> Result<(Connection, i64), JournalError> {
    if !path.exists() {
        return Err(JournalError::Missing { path: path.into() });
    }
    let opened = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let opened = opened.map_err(JournalError::from).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        let version = schema::version(&connection)?;
        if version == 0 {
            return Err(JournalError::Damaged { path: path.into(), reason: "it holds no journal".into() });
        }
        Ok((connection, version))
    });
    opened.map_err(|error| error.at(path))
}

/// Writes a consistent copy of the wallet's journal to `to`, and its manifest beside it; neither may exist. The runtime
/// that owns the journal goes on.
pub fn export(folder: &Path, to: &Path, chain_id: u64, wallet: Address) -> Result<Manifest, Failure> {
    let (source, schema) = reader(&path(folder))?;
    for file in [to, &manifest_path(to)] {
        if file.exists() {
            let message = format!("{} exists and is not overwritten", file.display());
            return Err(Failure::unspent(Code::InvalidArgument, message, "Name another file."));
        }
    }
    let failed = |e: std::io::Error| Failure::from(JournalError::of_file(to, &e));
    // Made first, so that there is no moment in which others can read it.
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(to).map_err(failed)?;
    let copied = copy_out(&source, schema, to, chain_id, wallet);
    if copied.is_err() {
        // A half of a copy helps nobody, and would be in the way of the next one.
        for file in [to, &manifest_path(to)] {
            let _ = fs::remove_file(file);
        }
    }
    copied
}

fn copy_out(source: &Connection, schema: i64, to: &Path, chain_id: u64, wallet: Address) -> Result<Manifest, Failure> {
    let failed = |e: std::io::Error| Failure::from(JournalError::of_file(to, &e));
    let name = to.to_str().ok_or_else(|| Failure::argument("FILE", "its name is not UTF-8"))?;
    source.execute("VACUUM INTO ?1", [name]).map_err(|error| JournalError::from(error).at(to))?;
    let (copy, _) = reader(to)?;
    let problems = problems(&(&copy).into());
    if let Some(first) = problems.first() {
        let reason = format!("{first} (the copy was not kept)");
        return Err(JournalError::Damaged { path: source.path().unwrap_or_default().into(), reason }.into());
    }
    let channels = alive(&(&copy).into(), "1 = 1").map_err(|error| error.at(to))?;
    let identity = match distrust::identity(&(&copy).into()) {
        Err(_) if schema < IDENTIFIED => Identity { id: String::new(), commits: 0 },
        identity => identity.map_err(|error| error.at(to))?,
    };
    drop(copy);
    File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    let (bytes, sha256) = digest(to).map_err(failed)?;
    let manifest = Manifest {
        chain_id,
        wallet,
        schema,
        journal: identity.id,
        commits: identity.commits,
        channels,
        exported_at: Clock::default().now(),
        bytes,
        sha256,
    };
    let text = serde_json::to_string_pretty(&manifest).map_err(|e| Failure::internal(e.to_string()))?;
    let beside = OpenOptions::new().create_new(true).write(true).mode(0o600).open(manifest_path(to));
    beside.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())).map_err(failed)?;
    sync_folder_of(to).map_err(failed)?;
    Ok(manifest)
}

fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hash)?;
    Ok((bytes, alloy::hex::encode(hash.finalize())))
}

pub(super) fn sync_folder_of(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

pub(super) fn problems(db: &Db<'_>) -> Vec<String> {
    let mut problems = check::pages(db, true);
    if problems.is_empty() {
        problems = check::books(db);
    }
    problems
}

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Looked {
    /// The wallet's journal.
    Live(Location),
    /// A copy of one.
    Copy(PathBuf),
}

impl Looked {
    fn name(&self) -> PathBuf {
        match self {
            Self::Live(location) => location.name(),
            Self::Copy(path) => path.clone(),
        }
    }

    fn reader(&self) -> Result<Reader, JournalError> {
        match self {
            Self::Live(location) => location.reader(),
            Self::Copy(path) => Ok(Reader::File(reader(path)?.0)),
        }
    }
}

/// Looks at a journal or a copy of one, and changes nothing.
pub fn verify(looked: &Looked) -> Result<Verified, Failure> {
    // Before the journal: its owner may go on meanwhile.
    let remembered = match looked {
        Looked::Live(location) => Mark::read(location.folder()),
        Looked::Copy(_) => None,
    };
    let (reader, path) = (looked.reader()?, looked.name());
    let found = schema_of(&reader).and_then(|schema| look(&reader, &path, schema)).map_err(|error| error.at(&path));
    let mut verified = match found {
        Ok(verified) => verified,
        Err(JournalError::Damaged { reason, .. }) => Verified {
            path: path.clone(),
            schema: schema_of(&reader).unwrap_or_default(),
            commits: 0,
            channels: 0,
            recovered: 0,
            vouchers: 0,
            unfinished: 0,
            notice: None,
            problems: vec![reason],
        },
        Err(error) => return Err(error.into()),
    };
    if let (Some(before), Ok(identity)) = (remembered, distrust::identity(&reader.db()))
        && (before.id != identity.id || before.commits > identity.commits)
    {
        verified.problems.push(
            "it is an older copy, or another one, than was last used here: at the next start its channels are recovered ones".into(),
        );
    }
    if let Looked::Copy(_) = looked
        && let Some(manifest) = read_manifest(&path)?
    {
        verified.problems.extend(contradiction(&manifest, &path).err());
    }
    Ok(verified)
}

fn schema_of(reader: &Reader) -> Result<i64, JournalError> {
    match reader {
        Reader::File(file) => schema::version(file),
        #[cfg(feature = "postgres")]
        Reader::Server(_) => {
            Ok(reader.db().query_row("SELECT version FROM schema_version", params![], |row| row.get(0))?)
        }
    }
}

fn look(reader: &Reader, path: &Path, schema: i64) -> Result<Verified, JournalError> {
    let db = &reader.db();
    let mut problems = match reader {
        Reader::File(_) => problems(db),
        #[cfg(feature = "postgres")]
        Reader::Server(_) => check::books(db),
    };
    if problems.is_empty() && schema == schema::KNOWN {
        problems = check::budgets(db);
        problems.extend(check::audit(db));
    }
    let number = |query: &str| db.query_row(query, params![], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    // An older schema has no identity.
    let identity = distrust::identity(db).ok();
    Ok(Verified {
        path: path.into(),
        schema,
        commits: identity.map_or(0, |identity| identity.commits),
        channels: alive(db, "1 = 1")?,
        recovered: alive(db, "recovered = 1")?,
        vouchers: number("SELECT COUNT(*) FROM vouchers")?,
        unfinished: number("SELECT COUNT(*) FROM transactions WHERE state IN ('planned', 'signed', 'broadcast')")?,
        notice: db.query_row(super::NOTICE, params![], |row| row.get(0)).ok().flatten(),
        problems,
    })
}

/// Channels that are not over and of which this is true, in a journal of any version.
pub(super) fn alive(db: &Db<'_>, which: &str) -> Result<usize, JournalError> {
    let query = format!("SELECT COUNT(*) FROM channels WHERE state IN ('opening', 'open', 'closing') AND {which}");
    let count: i64 = db.query_row(&query, params![], |row| row.get(0))?;
    usize::try_from(count).map_err(|_| JournalError::Corrupt(format!("{count} channels")))
}

/// All channels of a journal, read beside its owner.
pub fn channels(looked: &Looked) -> Result<Vec<ChannelRecord>, Failure> {
    let (reader, path) = (looked.reader()?, looked.name());
    let found = schema_of(&reader)?;
    if found < schema::KNOWN {
        return Err(JournalError::Older { path, found, known: schema::KNOWN }.into());
    }
    Ok(channels::list(&reader.db(), None, true).map_err(|error| error.at(&path))?)
}

/// How many openings on this contract a journal knows, read beside its owner; none where there is no journal.
pub fn known_openings(
    location: &Location,
    chain_id: u64,
    contract: Address,
    consumer: Address,
) -> Result<KnownOpenings, Failure> {
    match location.reader() {
        Err(JournalError::Missing { .. }) => Ok(KnownOpenings::default()),
        Err(error) => Err(error.into()),
        Ok(reader) => {
            let known = openings::known_openings(&reader.db(), chain_id, contract, consumer);
            Ok(known.map_err(|error| error.at(&location.name()))?)
        }
    }
}

pub(super) fn read_manifest(file: &Path) -> Result<Option<Manifest>, Failure> {
    let path = manifest_path(file);
    let Ok(opened) = File::open(&path) else { return Ok(None) };
    let mut text = String::new();
    let read = opened.take(MAX_MANIFEST).read_to_string(&mut text).map_err(|e| e.to_string());
    let parsed = read.and_then(|_| serde_json::from_str(&text).map_err(|e| e.to_string()));
    parsed.map(Some).map_err(|reason| Failure::from(JournalError::Damaged { path, reason }))
}

pub(super) fn contradiction(manifest: &Manifest, file: &Path) -> Result<(), String> {
    let (bytes, sha256) = digest(file).map_err(|e| e.to_string())?;
    if (bytes, &sha256) == (manifest.bytes, &manifest.sha256) {
        return Ok(());
    }
    Err(format!(
        "it is not the file that was exported: {bytes} bytes with SHA-256 {sha256}, the manifest says {} with {}",
        manifest.bytes, manifest.sha256
    ))
}
