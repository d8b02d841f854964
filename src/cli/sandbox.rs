//! `drain-mcp sandbox`: keeps a marketplace of play money running on loopback.

use std::process::ExitCode;

use super::exit::Exit;
use super::output::Output;

/// Between two blocks without a transaction.
#[cfg(feature = "sandbox")]
const BLOCK_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// Arguments of `drain-mcp sandbox`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  drain-mcp sandbox           prints the environment and the lines to paste into an MCP client\n  \
              drain-mcp sandbox --ledger      with a software Ledger: its screens here, Enter for the press\n  \
              drain-mcp sandbox --json | head -1 | jq .env"
)]
pub struct Args {
    /// Give the key to a software Ledger whose prompts are shown and answered here
    #[arg(long)]
    pub ledger: bool,
    /// From the global flag.
    #[arg(skip)]
    pub json: bool,
}

/// A home of play money's own, so that its records never mix with real ones. Made under a name that nobody can guess and
/// for this user alone: a configuration in it counts. Removed when it is dropped.
#[cfg(feature = "sandbox")]
pub fn home() -> Result<tempfile::TempDir, crate::error::Failure> {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let made = tempfile::Builder::new().prefix("drain-mcp-sandbox-").permissions(private).tempdir();
    made.map_err(|e| crate::error::Failure::internal(format!("no temporary folder can be made: {e}")))
}

/// A marketplace for a person to play with. A transaction is mined at once, and blocks come by themselves too: on a chain
/// that stands still nothing expires, and whoever watches it seems to be late.
#[cfg(feature = "sandbox")]
pub async fn start() -> Result<drain_sandbox::Sandbox, crate::error::Failure> {
    use drain_sandbox::chain::ChainConfig;
    use drain_sandbox::{Sandbox, SandboxConfig};

    let chain = ChainConfig { block_time: Some(BLOCK_TIME), ..ChainConfig::default() };
    let sandbox = Sandbox::start(SandboxConfig { chain, ..SandboxConfig::default() }).await;
    let sandbox =
        sandbox.map_err(|error| crate::error::Failure::internal(format!("the sandbox did not start: {error}")))?;
    if let Some(chain) = &sandbox.chain {
        chain.set_automine(true);
    }
    Ok(sandbox)
}

/// Runs until it is interrupted.
#[cfg(feature = "sandbox")]
pub async fn run(args: Args) -> ExitCode {
    use serde_json::{Map, Value, json};

    use super::sandbox_ledger;

    let output = Output { json: args.json, play_money: true };
    let sandbox = match start().await {
        Ok(sandbox) => sandbox,
        Err(failure) => {
            output.failure(&failure);
            return Exit::Failed.into();
        }
    };
    let home = match home() {
        Ok(home) => home,
        Err(failure) => {
            output.failure(&failure);
            return Exit::Failed.into();
        }
    };
    let device = match args.ledger {
        false => None,
        true => match sandbox_ledger::start(&sandbox).await {
            Ok(device) => Some(device),
            Err(failure) => {
                output.failure(&failure);
                return Exit::Failed.into();
            }
        },
    };
    let mut env = sandbox.env();
    if let Some(device) = &device {
        env.retain(|(name, _)| name != "DRAIN_PRIVATE_KEY");
        env.extend(sandbox_ledger::env(device));
    }
    env.push(("DRAIN_HOME".into(), home.path().display().to_string()));
    env.push(("DRAIN_PLAY_MONEY".into(), "on".into()));
    let pairs: Map<String, Value> = env.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let client = json!({ "mcpServers": { "drain": { "command": "drain-mcp", "env": pairs } } });
    let text = || {
        let exports: Vec<String> = env.iter().map(|(name, value)| format!("export {name}={value}")).collect();
        format!(
            "A chain, a directory and five providers run on loopback until you press Ctrl-C. Nothing here has any value.\n\n\
             For a shell:\n{}\n\nFor an MCP client's configuration:\n{client}\n\n\
             Then, in that shell: drain-mcp providers; drain-mcp open sim-llm 1; drain-mcp doctor",
            exports.join("\n")
        )
    };
    if let Err(failure) = output.answer(&json!({ "env": pairs, "client": client }), text) {
        output.failure(&failure);
        return Exit::Failed.into();
    }
    let attended = async {
        match &device {
            Some(device) => sandbox_ledger::attend(device, &output).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = super::session::interrupted() => {}
        () = attended => {}
    }
    drop((sandbox, home));
    Exit::Ok.into()
}

/// Says what is missing.
#[cfg(not(feature = "sandbox"))]
pub async fn run(args: Args) -> ExitCode {
    Output { json: args.json, play_money: true }.failure(&super::built_without("sandbox"));
    Exit::Failed.into()
}
