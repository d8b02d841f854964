//! `drain-mcp doctor`: looks at everything that a paid request needs, and says what to do about each.
//!
//! It reads; nothing is signed or sent. What it finds is judged by pure functions in [`judge`].

mod judge;
mod look;
mod report;

use super::exit::Exit;
use super::session::{Session, interrupted};
use crate::error::Failure;

pub use report::{Line, Report, Status};

/// Arguments of `drain-mcp doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp doctor
  drain-mcp doctor --json | jq '.checks[] | select(.status != \"ok\")'
  drain-mcp --sandbox doctor

Exit code 0 when nothing failed (warnings are not failures), 1 otherwise.

What a wallet needs: to be used for nothing else, $1-5 of native USDC on Polygon and about 0.10 POL for gas. Bridged
USDC.e (0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174) does not count.")]
pub struct Args {}

pub(super) async fn run(_: Args, session: &mut Session) -> Result<Exit, Failure> {
    let config = session.take_config()?;
    let report = tokio::select! {
        report = look::everything(&config) => report,
        () = interrupted() => return Ok(Exit::Interrupted),
    };
    session.output.answer(&report, || report.text())?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failed })
}
