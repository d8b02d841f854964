//! `drain-mcp` without a command: MCP on stdin and stdout.

use super::exit::Exit;
use super::prompt::Tty;
use super::session::{Session, hold_to_the_end, interrupted};
use super::signer::{address_of, signer_of};
use crate::actors::Runtime;
use crate::config::SignerConfig;
use crate::error::{Code, Failure};
use crate::mcp;

pub(super) async fn run(session: &mut Session) -> Result<Exit, Failure> {
    let mut config = session.take_config()?;
    // While an agent is served, unspent money comes back by itself (M10).
    config.refunds.automatic = true;
    let configured = !matches!(config.signer, SignerConfig::None);
    if configured {
        session.output.remark(&format!("limits: {} (docs/configuration.md)", config.limits));
    }
    let wallet = address_of(&config).ok().flatten();
    // Discovery and docs work without a key: a wallet that cannot be opened is said, and does not keep the server down. It
    // is paid from while another process has it.
    let runtime = match signer_of(&mut config, Vec::new(), &mut Tty).await {
        Ok(signer) => Runtime::start(config, signer).await?,
        Err(failure) if configured => {
            session.output.remark(&format!(
                "warning: serving without the key of the wallet: {} {}",
                failure.message, failure.next
            ));
            match wallet {
                Some(wallet) => Runtime::locked(config, wallet, failure).await?,
                None => Runtime::without_wallet(config, failure)?,
            }
        }
        Err(failure) => return Err(failure),
    };
    let result = tokio::select! {
        result = mcp::serve_stdio(runtime.clone()) => result.map_err(|e| {
            Failure::unspent(Code::Internal, format!("MCP: {e}."), "Start drain-mcp from an MCP client, or see drain-mcp --help.")
        }),
        () = interrupted() => Ok(()),
    };
    // The client left: what is under way is recorded first.
    tokio::select! {
        _ = runtime.shutdown() => {}
        () = interrupted() => {}
    }
    hold_to_the_end(runtime);
    result.map(|()| Exit::Ok)
}
