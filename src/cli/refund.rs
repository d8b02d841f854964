//! `drain-mcp refund`: everything that can come back now.

use drain_protocol::Usdc;
use drain_protocol::duration::ChannelDuration;
use serde_json::json;

use super::exit::Exit;
use super::output::{as_commands, short};
use super::session::{Needs, Session};
use crate::api::RefundReport;
use crate::error::{Code, Failure};
use crate::times::utc;

/// Arguments of `drain-mcp refund`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp refund                close what is expired
  drain-mcp refund --idle         and, with their providers' consent, what paid nothing for DRAIN_CLOSE_IDLE
  drain-mcp refund --idle=10m     and what paid nothing for ten minutes

It waits until every close is final and says what waits until when. A close whose gas would cost more than it brings back
is not sent (DRAIN_POL_USDC). packaging/ holds timers for systemd and launchd that run it.

Exit: 0 all that can come back now is back; 1 a close failed, run it again; 3 a transaction is on its way, run it again.")]
pub struct Args {
    /// Close idle channels too, with their providers' consent (V2, at least 75 minutes before expiry)
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    pub idle: Option<Option<ChannelDuration>>,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let configured = session.config()?.refunds.settings.idle.map(|idle| idle.as_secs());
    let idle = idle_of(args.idle, configured)?;
    let reports = session.run(Needs::Money, async |runtime, progress| runtime.refund(idle, progress).await).await?;
    let back: Usdc = reports
        .iter()
        .filter_map(|report| report.closed.as_ref())
        .fold(Usdc::ZERO, |sum, closed| sum.saturating_add(closed.refund));
    session.output.answer(&json!({ "refunded": back, "channels": reports }), || match reports.len() {
        0 => "No channels are open: nothing is locked.".into(),
        _ => {
            let mut lines: Vec<String> = reports.iter().map(line).collect();
            lines.push(format!("{back} USDC came back."));
            lines.join("\n")
        }
    })?;
    Ok(exit(&reports))
}

/// After how many unused seconds a channel is closed too, if at all.
fn idle_of(asked: Option<Option<ChannelDuration>>, configured: Option<u64>) -> Result<Option<u64>, Failure> {
    let Some(given) = asked else { return Ok(None) };
    given.map(ChannelDuration::seconds).or(configured).map(Some).ok_or_else(|| {
        Failure::unspent(
            Code::InvalidArgument,
            "--idle names no time, and DRAIN_CLOSE_IDLE is off.",
            "Write for example --idle=6h, or leave --idle out.",
        )
    })
}

fn line(report: &RefundReport) -> String {
    let channel = &report.channel;
    let id = channel.channel_id.as_deref().unwrap_or("(not mined yet)");
    let name = short(&channel.provider_name, 40);
    match (&report.closed, report.waits_until, &report.failure) {
        (Some(closed), _, _) => format!("{id} ({name}): {} USDC came back, {} was paid", closed.refund, closed.paid),
        (None, Some(at), _) => {
            let left = channel.deposit.saturating_sub(channel.signed.max(channel.claimed));
            format!("{id} ({name}): {left} USDC waits until {}", utc(at))
        }
        (None, None, Some(failure)) => {
            format!("{id} ({name}): {} {}", failure.message, as_commands(&failure.next))
        }
        (None, None, None) => format!("{id} ({name}): closed already"),
    }
}

/// A close that would not be worth its gas is no failure: it waits.
pub(super) fn exit(reports: &[RefundReport]) -> Exit {
    let failures = || reports.iter().filter_map(|report| report.failure.as_ref());
    if failures().any(|failure| failure.pending) {
        Exit::Pending
    } else if failures().any(|failure| failure.code != Code::NotWorthIt.as_str()) {
        Exit::Failed
    } else {
        Exit::Ok
    }
}
