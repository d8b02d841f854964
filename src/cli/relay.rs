//! `drain-mcp` without a command where a server is named: MCP on stdin and stdout, carried to `drain-mcp serve`.

use super::Global;
use super::exit::Exit;
use super::output::Output;
use super::session::{interrupted, sources};
use crate::config::RelayConfig;
use crate::error::Failure;
use crate::relay;

/// The server that this process is to be a client of. A sandbox is its own.
pub(super) async fn server(global: &Global) -> Result<Option<RelayConfig>, Failure> {
    if global.sandbox {
        return Ok(None);
    }
    let (_, sources) = sources(global).await?;
    Ok(RelayConfig::load(&sources)?)
}

pub(super) async fn run(config: RelayConfig, global: &Global) -> Result<Exit, Failure> {
    let output = Output { json: global.json, play_money: false };
    for warning in &config.warnings {
        output.remark(&format!("warning: {warning}"));
    }
    relay::run(config, interrupted()).await?;
    Ok(Exit::Ok)
}
