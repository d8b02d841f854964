//! `drain-mcp demo`: watches an agent find, pay and close, with play money, and checks the sums on the chain.

#[cfg(feature = "sandbox")]
mod agent;
#[cfg(feature = "sandbox")]
mod story;
#[cfg(feature = "sandbox")]
mod sums;

use std::process::ExitCode;

use super::exit::Exit;
use super::output::Output;

/// Arguments of `drain-mcp demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  drain-mcp demo\n  drain-mcp demo --json | jq .agrees")]
pub struct Args {
    /// From the global flag.
    #[arg(skip)]
    pub json: bool,
}

/// Runs it. Success only when everything worked and every sum agrees to the unit.
#[cfg(feature = "sandbox")]
pub async fn run(args: Args) -> ExitCode {
    let output = Output { json: args.json, play_money: true };
    let started = std::time::Instant::now();
    let sums = match story::tell(&output).await {
        Ok(sums) => sums,
        Err(failure) => {
            output.failure(&failure);
            return Exit::Failed.into();
        }
    };
    let report = sums.report(started.elapsed());
    if let Err(failure) = output.answer(&report, || report.text()) {
        output.failure(&failure);
        return Exit::Failed.into();
    }
    if report.agrees { Exit::Ok.into() } else { Exit::Failed.into() }
}

/// Says what is missing.
#[cfg(not(feature = "sandbox"))]
pub async fn run(args: Args) -> ExitCode {
    Output { json: args.json, play_money: true }.failure(&super::built_without("sandbox"));
    Exit::Failed.into()
}
