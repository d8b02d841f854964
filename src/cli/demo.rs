//! Watches an agent find, pay and close, with play money.

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

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    Output { json: args.json, play_money: true }.failure(&super::built_without("demo"));
    Exit::Failed.into()
}
