//! `drain-mcp journal`: backups of the records, and the look at them.

use std::path::PathBuf;

use drain_protocol::Address;
use serde::Serialize;

use super::exit::Exit;
use super::session::Session;
use super::signer::{find_address, no_signer};
use crate::actors::journal_location;
use crate::api::ChannelState;
use crate::chain::{Chain, OnChainChannel};
use crate::error::{Code, Failure};
use crate::journal::backup::{self, Looked, Manifest, Verified};
use crate::journal::{self, ChannelRecord, Location};

/// `drain-mcp journal ...`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  drain-mcp journal export drain.backup
  drain-mcp journal verify --on-chain
  drain-mcp journal import drain.backup --replace")]
pub enum Command {
    /// Write a consistent copy, while drain-mcp runs or not
    Export(Export),
    /// Put a copy in place; its channels are recovered ones from then on
    Import(Import),
    /// Check the file, its sums, and what the contract says
    Verify(Verify),
    /// Make the journal on a server, or bring it up to date, as its owner
    Prepare(Prepare),
}

/// Arguments of `journal prepare`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  DRAIN_JOURNAL_URL=postgres://owner:...@db/drain drain-mcp journal prepare --grant drain
  drain-mcp journal prepare --json

Each wallet has a schema of its own. The account that DRAIN_JOURNAL_URL names owns it; replicas work as another one (--grant),
which adds to the audit record and changes nothing of it. Replicas of the version before go on meanwhile, where the step
allows it.")]
pub struct Prepare {
    /// The account that replicas work as
    #[arg(long, value_name = "ROLE")]
    pub grant: Option<String>,
}

/// Arguments of `journal export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp journal export drain.backup
  drain-mcp journal export /mnt/usb/drain.backup --json

FILE.manifest.json beside it holds its checksum. A copy is old as soon as one more request is paid: it finds the channels
again, and what was signed after it is asked from the providers.")]
pub struct Export {
    /// Where to; it must not exist
    pub file: PathBuf,
}

/// Arguments of `journal import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp journal import drain.backup
  drain-mcp journal import drain.backup --replace    keeps the present one beside it

Nobody knows what was signed after the copy was made. So every channel of it is a recovered one: its whole deposit counts
as exposed, its provider's books are read before it pays, and it is closed at expiry only.")]
pub struct Import {
    /// The copy
    pub file: PathBuf,
    /// Even if there is a journal
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `journal verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp journal verify
  drain-mcp journal verify --on-chain       compares each channel with its contract too
  drain-mcp journal verify drain.backup --json | jq .problems

Nothing is changed, and a drain-mcp that runs goes on.")]
pub struct Verify {
    /// A copy, in place of the wallet's journal
    pub file: Option<PathBuf>,
    /// Ask the contracts too
    #[arg(long)]
    pub on_chain: bool,
}

/// Where a wallet's records are, without its key.
pub(super) struct Place {
    pub location: Location,
    chain_id: u64,
    wallet: Address,
}

pub(super) async fn place(session: &mut Session) -> Result<Place, Failure> {
    let config = session.config()?;
    let wallet = find_address(config).await?.ok_or_else(no_signer)?;
    Ok(Place { location: journal_location(config, wallet), chain_id: config.chain.chain_id, wallet })
}

/// Files are read and written on a thread of their own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Failure::internal(e.to_string())))
}

pub(super) async fn run(command: Command, session: &mut Session) -> Result<Exit, Failure> {
    match command {
        Command::Export(args) => export(args, session).await,
        Command::Import(args) => import(args, session).await,
        Command::Verify(args) => verify(args, session).await,
        Command::Prepare(args) => prepare(args, session).await,
    }
}

/// What is on a server is copied by the server's own means.
fn only_a_file(location: &Location) -> Result<(), Failure> {
    if location.is_a_file() {
        return Ok(());
    }
    Err(Failure::unspent(
        Code::InvalidArgument,
        format!("the journal lies on a server: {}", location.name().display()),
        "Copy and restore it there (docs/guides/replicas.md). One that was restored is noticed, and its channels are recovered ones.",
    ))
}

/// The answer of `journal export`.
#[derive(Serialize)]
struct Exported {
    path: PathBuf,
    #[serde(flatten)]
    manifest: Manifest,
}

async fn export(Export { file: path }: Export, session: &mut Session) -> Result<Exit, Failure> {
    let Place { location, chain_id, wallet } = place(session).await?;
    only_a_file(&location)?;
    let to = path.clone();
    let manifest = blocking(move || backup::export(location.folder(), &to, chain_id, wallet)).await?;
    let exported = Exported { path, manifest };
    session.output.answer(&exported, || {
        let Exported { path, manifest } = &exported;
        format!(
            "{}: {} bytes, {} channels not over, as of commit {}\nSHA-256 {}",
            path.display(),
            manifest.bytes,
            manifest.channels,
            manifest.commits,
            manifest.sha256
        )
    })?;
    Ok(Exit::Ok)
}

async fn import(Import { file, replace }: Import, session: &mut Session) -> Result<Exit, Failure> {
    let Place { location, chain_id, wallet } = place(session).await?;
    only_a_file(&location)?;
    let imported = blocking(move || {
        let Some(_hold) = journal::take(&location)? else {
            return Err(Failure::unspent(
                Code::WalletInUse,
                format!("Another drain-mcp uses the journal of {wallet} now"),
                "End it (close its MCP client), then import.",
            ));
        };
        backup::import(location.folder(), &file, replace, chain_id, wallet)
    })
    .await?;
    session.output.answer(&imported, || {
        let mut lines = vec![format!(
            "{} is in place. {} channels are recovered ones: their providers' books are read before they pay.",
            imported.path.display(),
            imported.channels
        )];
        lines.extend(imported.replaced.iter().map(|kept| format!("The one before is kept as {}.", kept.display())));
        if !imported.began_anew.is_empty() {
            lines.push(format!(
                "Of the one before could not be read, and is as the copy knew it: {}. So the wallet is frozen: drain-mcp wallet unfreeze, on a terminal, once you know that no freeze and no used limit is forgotten.",
                imported.began_anew.join(", ")
            ));
        }
        if !imported.manifest {
            lines.push("No manifest lay beside the copy: its checksum was not compared.".into());
        }
        lines.push("Channels that the copy does not know are found by drain-mcp channels recover.".into());
        lines.join("\n")
    })?;
    Ok(Exit::Ok)
}

#[cfg(feature = "postgres")]
async fn prepare(Prepare { grant }: Prepare, session: &mut Session) -> Result<Exit, Failure> {
    let Place { location, .. } = place(session).await?;
    let Some((server, schema)) = location.server().cloned() else {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            "the journal is a file, which is made by itself",
            "Set DRAIN_JOURNAL_URL to a PostgreSQL server, as the account that is to own the journal there.",
        ));
    };
    let made = blocking(move || Ok(journal::server::prepare(&server, &schema, grant.as_deref())?)).await?;
    session.output.answer(&made, || {
        let before = made.before.map_or_else(|| "made".into(), |before| format!("was of version {before}"));
        let granted = made.granted.as_ref().map_or_else(String::new, |role| format!("; {role} may work with it"));
        format!("{}: {before}, is of version {}{granted}", made.schema, made.version)
    })?;
    Ok(Exit::Ok)
}

#[cfg(not(feature = "postgres"))]
async fn prepare(_: Prepare, _: &mut Session) -> Result<Exit, Failure> {
    Err(super::built_without("postgres"))
}

async fn verify(Verify { file, on_chain }: Verify, session: &mut Session) -> Result<Exit, Failure> {
    let Place { location, .. } = place(session).await?;
    // A copy is a journal in a file of its own.
    let looked = file.map_or(Looked::Live(location), Looked::Copy);
    let again = looked.clone();
    let mut verified = blocking(move || backup::verify(&looked)).await?;
    let mut notes: Vec<String> = verified.notice.iter().cloned().collect();
    if on_chain && verified.problems.is_empty() {
        let known = blocking(move || backup::channels(&again)).await?;
        let chain = Chain::new(&session.config()?.chain)?;
        for record in known.iter().filter(|record| record.state != ChannelState::Failed) {
            let Some(id) = record.channel_id else { continue };
            let on_chain = chain.channel(&record.deployment, id).await?;
            let (wrong, odd) = compare(record, on_chain.as_ref());
            verified.problems.extend(wrong);
            notes.extend(odd);
        }
    }
    session.output.answer(&Answer { verified: &verified, notes: &notes, on_chain }, || text(&verified, &notes))?;
    Ok(if verified.problems.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// The answer of `journal verify`.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    verified: &'a Verified,
    /// What is odd, and no problem.
    notes: &'a [String],
    /// Whether the contracts were asked.
    on_chain: bool,
}

fn text(verified: &Verified, notes: &[String]) -> String {
    let mut lines = vec![format!(
        "{}: schema {}, commit {}, {} channels not over ({} of them recovered), {} vouchers, {} transactions under way",
        verified.path.display(),
        verified.schema,
        verified.commits,
        verified.channels,
        verified.recovered,
        verified.vouchers,
        verified.unfinished
    )];
    lines.extend(verified.problems.iter().map(|problem| format!("  wrong: {problem}")));
    lines.extend(notes.iter().map(|note| format!("  note: {note}")));
    lines.push(if verified.problems.is_empty() {
        "Nothing is wrong.".into()
    } else {
        "Put a backup in its place with drain-mcp journal import BACKUP --replace, or find the channels on chain with drain-mcp channels recover.".into()
    });
    lines.join("\n")
}

/// A channel's record against its contract: what is wrong, and what the next run catches up with.
fn compare(record: &ChannelRecord, on_chain: Option<&OnChainChannel>) -> (Vec<String>, Vec<String>) {
    let (mut wrong, mut odd) = (Vec::new(), Vec::new());
    let intent = record.intent;
    let over = record.state == ChannelState::Closed;
    let Some(found) = on_chain else {
        if !over {
            odd.push(format!("{intent}: the contract has it no more; the next run reads how it ended"));
        }
        return (wrong, odd);
    };
    if over {
        wrong.push(format!("{intent}: it is over by the journal, and the contract still holds {} USDC", found.deposit));
        return (wrong, odd);
    }
    let books = &record.books;
    if found.consumer != record.consumer || found.provider != record.provider_wallet {
        wrong.push(format!("{intent}: the contract has other parties ({} and {})", found.consumer, found.provider));
    }
    if found.deposit != books.deposit {
        wrong.push(format!(
            "{intent}: the contract holds a deposit of {} USDC, the journal {}",
            found.deposit, books.deposit
        ));
    }
    if found.expiry != record.expires_at {
        wrong.push(format!(
            "{intent}: the contract has it end at {}, the journal at {}",
            found.expiry, record.expires_at
        ));
    }
    if found.claimed > books.signed {
        let what = format!("{intent}: {} USDC were claimed, and {} are known as signed", found.claimed, books.signed);
        // Of a recovered one it is known that not all is known.
        if record.recovered { odd.push(what) } else { wrong.push(what) }
    } else if found.claimed != books.claimed {
        odd.push(format!("{intent}: {} USDC were claimed by now; the journal has {}", found.claimed, books.claimed));
    }
    (wrong, odd)
}
