//! `drain-mcp channels`: the books.

use std::time::Duration;

use drain_protocol::ChannelId;
use serde_json::json;

use super::exit::Exit;
use super::output::as_commands;
use super::prompt::{Tty, need_terminal};
use super::session::{Needs, Session};
use crate::actors::Runtime;
use crate::api::{ChannelState, ChannelView, unknown, unknown_told};
use crate::error::Failure;

/// How long the list waits for the chain's count of openings.
const ASK_CHAIN: Duration = Duration::from_secs(3);

/// Arguments of `drain-mcp channels`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  drain-mcp channels
  drain-mcp channels --all
  drain-mcp channels 0xCHANNEL
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

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Unix seconds as `2026-01-31 12:00 UTC` (civil-from-days; Gregorian, from 1970 on).
pub(super) fn utc(seconds: u64) -> String {
    // Beyond the year 9999 nobody reads a date.
    let seconds = seconds.min(253_402_300_799);
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds % 86_400 / 3_600, seconds % 3_600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_spans() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59 UTC"),
            (u64::MAX, "9999-12-31 23:59 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        for (seconds, text) in [(59, "59s"), (61, "1m"), (5_400, "1h 30m"), (90_000, "25h 0m"), (200_000, "2d 7h")] {
            assert_eq!(span(seconds), text);
        }
    }
}
