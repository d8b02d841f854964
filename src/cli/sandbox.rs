//! Keeps a marketplace of play money running on loopback.

use std::process::ExitCode;

use super::exit::Exit;
use super::output::Output;

/// Arguments of `drain-mcp sandbox`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drain-mcp sandbox                prints the environment and the line to paste into an MCP client"
)]
pub struct Args {
    /// From the global flag.
    #[arg(skip)]
    pub json: bool,
}

/// Runs it.
pub async fn run(args: Args) -> ExitCode {
    Output { json: args.json, play_money: true }.failure(&super::built_without("sandbox"));
    Exit::Failed.into()
}
