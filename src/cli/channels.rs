//! `drain-mcp channels`: the books.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drain_protocol::ChannelId;
use serde_json::json;

use super::exit::Exit;
use super::output::as_commands;
use super::prompt::{Tty, need_terminal};
use super::session::{Needs, Session};
use crate::actors::Runtime;
use crate::actors::import::read;
use crate::api::{ChannelState, ChannelView, Import, Imported, Progress, unknown, unknown_told};
use crate::error::{Code, Failure};
use crate::times::{span, utc};

/// How long the list waits for the chain's count of openings.
const ASK_CHAIN: Duration = Duration::from_secs(3);
/// How many channels of a file are looked at by one command.
const AT_ONCE: usize = 100;

/// Arguments of `drain-mcp channels`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  drain-mcp channels
  drain-mcp channels --all
  drain-mcp channels 0xCHANNEL
  drain-mcp channels import channels.json
  drain-mcp channels recover
  drain-mcp channels adopt 0xCHANNEL --provider ID
  drain-mcp channels --json | jq '.channels[] | select(.state == \"expired\") | .channel_id'"
)]
pub struct Args {
    /// One channel
    pub channel: Option<ChannelId>,
    /// Those that are over, too
    #[arg(long, conflicts_with = "channel")]
    pub all: bool,
    /// What to do instead of listing
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done about channels that the record does not know.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Take over the channels that the TypeScript drain-mcp's file names
    #[command(after_help = "\
Examples:
  drain-mcp channels import ~/.drain-mcp/channels.json

The file is read and left as it is. A channel of it that the chain has for this wallet is a recovered one from then on: it can
be paid on, its whole deposit counts as exposed, and it is closed at expiry. A channels.json in the home folder is taken over
at each start without this.")]
    Import {
        /// The file
        file: PathBuf,
    },
    /// Search the chain for channels of this wallet that are not in the record; goes on where it was broken off
    #[command(after_help = "\
Examples:
  drain-mcp channels recover

It is complete when it has found as many openings as both contracts count. What it finds is shown, counted as locked and
closed at expiry; drain-mcp channels adopt makes a channel payable.")]
    Recover,
    /// Say whom a channel pays that the record did not open: it can be paid then
    #[command(after_help = "\
Examples:
  drain-mcp channels adopt 0xCHANNEL
  drain-mcp channels adopt 0xCHANNEL --provider ID")]
    Adopt {
        /// The channel
        channel: ChannelId,
        /// The provider's id; without it the only listing with the channel's wallet
        #[arg(long)]
        provider: Option<String>,
    },
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Args { channel, all, command } = args;
    match command {
        None => {}
        Some(Command::Import { file }) => return import(&file, session).await,
        Some(Command::Recover) => return recover(session).await,
        Some(Command::Adopt { channel, provider }) => return adopt(session, channel, provider).await,
    }
    if let Some(id) = channel {
        let view = session.run(Needs::Wallet, async |runtime, _| runtime.channel(id).await).await?;
        session.output.answer(&view, || details(&view))?;
        return Ok(Exit::Ok);
    }
    let listed = async |runtime: Runtime, _| {
        let views = runtime.channels(all).await?;
        // Only a hint: the record is told without the chain too.
        let openings = tokio::time::timeout(ASK_CHAIN, runtime.openings()).await;
        Ok((views, openings.ok().and_then(Result::ok)))
    };
    let (views, openings) = session.run(Needs::Wallet, listed).await?;
    let missing = openings.as_deref().map(unknown);
    session.output.answer(&json!({ "channels": views, "unknown_openings": missing }), || {
        let mut text = match views.len() {
            0 => {
                "No channels. Open one with drain-mcp open PROVIDER AMOUNT; drain-mcp providers lists providers.".into()
            }
            _ => views.iter().map(line).collect::<Vec<_>>().join("\n\n"),
        };
        if let Some(told) = openings.as_deref().and_then(unknown_told) {
            text.push_str("\n\n");
            text.push_str(&told);
        }
        text
    })?;
    Ok(Exit::Ok)
}

async fn import(file: &Path, session: &mut Session) -> Result<Exit, Failure> {
    let left = read(file).await.map_err(|error| {
        Failure::unspent(
            Code::InvalidArgument,
            format!("{} cannot be read: {error}", file.display()),
            "Name the channels.json of the TypeScript drain-mcp; it is in ~/.drain-mcp.",
        )
    })?;
    let all = session
        .run(Needs::Wallet, async |runtime, progress: Progress| {
            let mut all = Vec::new();
            for some in left.chunks(AT_ONCE) {
                progress.say(format!("{} of {} channels", all.len(), left.len()));
                all.extend(runtime.import(some.to_vec()).await?);
            }
            Ok(all)
        })
        .await?;
    let count = |outcome: Import| all.iter().filter(|one| one.outcome == outcome).count();
    session.output.answer(&json!({ "channels": all }), || {
        let mut lines: Vec<String> = all
            .iter()
            .map(|Imported { channel_id, outcome, message }| {
                let outcome = match outcome {
                    Import::TakenOver => "taken over",
                    Import::Known => "known already",
                    Import::NotThere => "not there: over, or not of this wallet",
                    Import::Failed => "not taken over",
                };
                let message = message.as_ref().map(|message| format!("; {message}")).unwrap_or_default();
                format!("{channel_id}: {outcome}{message}")
            })
            .collect();
        lines.push(format!("{} of {} channels were taken over.", count(Import::TakenOver), all.len()));
        lines.join("\n")
    })?;
    Ok(if count(Import::Failed) == 0 { Exit::Ok } else { Exit::Failed })
}

async fn recover(session: &mut Session) -> Result<Exit, Failure> {
    let recovery = session.run(Needs::Wallet, async |runtime, progress| runtime.recover(progress).await).await?;
    session.output.answer(&recovery, || {
        let mut lines: Vec<String> = recovery
            .contracts
            .iter()
            .map(|on| format!("{} {}: {} of {} openings are known", on.generation, on.contract, on.known, on.on_chain))
            .collect();
        lines.push(match recovery.complete {
            true => format!("Complete; {} were found. drain-mcp channels lists those that hold money.", recovery.found),
            false => format!(
                "Not complete; {} were found. The RPC endpoint may not have all events: try another (DRAIN_RPC_URL) and run it again.",
                recovery.found
            ),
        });
        lines.join("\n")
    })?;
    Ok(if recovery.complete { Exit::Ok } else { Exit::Failed })
}

async fn adopt(session: &mut Session, channel: ChannelId, provider: Option<String>) -> Result<Exit, Failure> {
    need_terminal(&Tty, "Adopting a channel")?;
    let view = session.run(Needs::Wallet, async |runtime, _| runtime.adopt(channel, provider).await).await?;
    session.output.answer(&view, || details(&view))?;
    Ok(Exit::Ok)
}

/// A channel in two lines.
pub(super) fn line(channel: &ChannelView) -> String {
    format!(
        "{}\n  {} with {} ({}): deposit {}, charged {}, left {}, until {}",
        channel.channel_id.as_deref().unwrap_or("(not mined yet)"),
        state(channel.state),
        channel.provider_name,
        channel.generation,
        channel.deposit,
        channel.charged,
        channel.available,
        when(channel)
    )
}

/// A channel with all its accounting.
pub(super) fn details(channel: &ChannelView) -> String {
    let mut lines = vec![
        line(channel),
        format!("  requests   {}", channel.requests),
        format!("  signed     {} USDC: the most that the provider can take", channel.signed),
        format!("  charged    {} USDC accepted as owed", channel.charged),
        format!("  in flight  {} USDC reserved for requests whose outcome is not known", channel.in_flight),
        format!("  claimed    {} USDC taken by the provider on chain", channel.claimed),
        format!("  cap        {} USDC", channel.cap),
    ];
    if !channel.disputed.is_zero() {
        lines.push(format!("  disputed   {} USDC that price and usage do not explain; not paid", channel.disputed));
    }
    if let Some(refunded) = channel.refunded {
        lines.push(format!("  refunded   {refunded} USDC"));
    }
    if channel.recovered {
        lines.push("  recovered: our record of it may be incomplete, the whole deposit counts as exposed".into());
    }
    lines.extend(channel.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(format!("  next: {}", as_commands(&channel.next)));
    lines.join("\n")
}

const fn state(state: ChannelState) -> &'static str {
    match state {
        ChannelState::Opening => "opening",
        ChannelState::Open => "open",
        ChannelState::Closing => "closing",
        ChannelState::Expired => "expired",
        ChannelState::Closed => "closed",
        ChannelState::Failed => "failed",
    }
}

/// The expiry as people read it: the chain's time and how far that is.
pub(super) fn when(channel: &ChannelView) -> String {
    if channel.expires_at == 0 {
        return "(not mined yet)".into();
    }
    let far = span(channel.expires_in.unsigned_abs());
    let far = if channel.expires_in < 0 { format!("{far} ago") } else { format!("in {far}") };
    format!("{} ({far})", utc(channel.expires_at))
}
