//! `drain-mcp` without a command: MCP on stdin and stdout.

use super::exit::Exit;
use super::prompt::Nobody;
use super::session::{Session, hold_to_the_end, interrupted};
use super::signer::{address_of, no_signer, open, take};
use crate::actors::Runtime;
use crate::config::SignerConfig;
use crate::error::{Code, Failure};
use crate::mcp;
use crate::metrics;

pub(super) async fn run(session: &mut Session) -> Result<Exit, Failure> {
    let mut config = session.take_config()?;
    // While an agent is served, unspent money comes back by itself (M10).
    config.refunds.automatic = true;
    let configured = !matches!(config.signer, SignerConfig::None);
    if configured {
        session.output.remark(&format!("limits: {} (docs/configuration.md)", config.limits));
    }
    let wallet = address_of(&config).ok().flatten();
    let at_once = matches!(config.signer, SignerConfig::None | SignerConfig::Local(_));
    let closed = take(&mut config, Vec::new());
    let runtime = if at_once {
        Runtime::start(config, open(closed, &mut Nobody).await?).await?
    } else {
        // A keystore takes half a second, a keyring may ask the person, a service is far away: the client is answered
        // meanwhile. Discovery and docs work without a key: one that cannot be opened is said, and does not keep the
        // server down. Its wallet is paid from while another process has it.
        let output = session.output;
        Runtime::opening(config, wallet, async move {
            let opened = open(closed, &mut Nobody).await.and_then(|signer| signer.ok_or_else(no_signer));
            if let Err(failure) = &opened {
                output.remark(&format!(
                    "warning: serving without the key of the wallet: {} {}",
                    failure.message, failure.next
                ));
            }
            opened
        })?
    };
    // Beside the serving, and when the chain is read for something else anyway.
    let (output, told) = (session.output, runtime.clone());
    let telling = tokio::spawn(async move {
        if let Some(told) = told.unknown_openings().await {
            output.remark(&format!("warning: {told}"));
        }
    });
    // By the process that has the wallet; a thin one takes that over with the wallet.
    let measured = runtime.config().metrics.map(|addr| {
        let runtime = runtime.clone();
        tokio::spawn(async move {
            runtime.held().await;
            drop(runtime);
            metrics::http::listen(addr).await;
        })
    });
    let result = tokio::select! {
        result = mcp::serve_stdio(runtime.clone()) => result.map_err(|e| {
            Failure::unspent(Code::Internal, format!("MCP: {e}."), "Start drain-mcp from an MCP client, or see drain-mcp --help.")
        }),
        () = interrupted() => Ok(()),
    };
    telling.abort();
    if let Some(measured) = measured {
        measured.abort();
    }
    // The client left: what is under way is recorded first.
    tokio::select! {
        _ = runtime.shutdown() => {}
        () = interrupted() => {}
    }
    hold_to_the_end(runtime);
    result.map(|()| Exit::Ok)
}
