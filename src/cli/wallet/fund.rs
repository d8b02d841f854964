//! `drain-mcp wallet fund`: the treasury's Ledger sends USDC and POL to the wallet, each by a press (design section 8).

use drain_protocol::Usdc;
use serde_json::json;

use super::super::exit::Exit;
use super::super::session::{Needs, Session};
use super::super::signer::{find_address, no_signer};
use super::backup;
use crate::config::SignerConfig;
use crate::error::{Code, Failure};
use crate::policy::Pol;

/// Arguments of `drain-mcp wallet fund`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet fund --usdc 5 --pol 0.1

It takes one press on the Ledger for USDC and one for POL. DRAIN_TREASURY=ledger names the device's account as the treasury;
DRAIN_MAX_FUND_PER_DAY limits what it sends in a day. The wallet's backup must be confirmed first (drain-mcp wallet backup):
who loses its key loses its deposits.")]
pub struct Args {
    /// How much USDC
    #[arg(long, default_value = "0")]
    pub usdc: Usdc,
    /// How much POL
    #[arg(long, default_value = "0")]
    pub pol: Pol,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let Args { usdc, pol } = args;
    let presses = usize::from(!usdc.is_zero()) + usize::from(pol > Pol::ZERO);
    if presses == 0 {
        return Err(Failure::argument("usdc", "say how much: --usdc 5, --pol 0.1, or both"));
    }
    let config = session.config()?;
    let Some(ledger) = config.treasury.as_ref().and_then(|treasury| treasury.ledger.clone()) else {
        return Err(Failure::unspent(
            Code::InvalidConfig,
            "No Ledger is configured as the treasury.",
            "Set DRAIN_TREASURY=ledger and DRAIN_LEDGER_ADDRESS (docs/signers.md), or send the wallet money from elsewhere.",
        ));
    };
    backup::need(&config.signer)?;
    let wallet = find_address(config).await?.ok_or_else(no_signer)?;
    if wallet == ledger.address {
        return Err(Failure::unspent(
            Code::InvalidConfig,
            "The wallet is the Ledger itself.",
            "Set DRAIN_SIGNER to the key that software uses: keystore or aws-kms.",
        ));
    }
    let treasury = ledger.address;
    // From here on the treasury's own runtime, with its own record.
    config.signer = SignerConfig::Ledger(ledger);
    session.output.remark(&format!(
        "{presses} {} on the Ledger: from {treasury} to {wallet}, {usdc} USDC and {pol} POL",
        if presses == 1 { "press" } else { "presses" }
    ));
    let hashes = session
        .run_towards(Needs::Money, vec![wallet], async |runtime, progress| {
            runtime.fund(wallet, usdc, pol, progress).await
        })
        .await?;
    let object = json!({ "from": treasury.to_string(), "to": wallet.to_string(), "usdc": usdc, "pol": pol.to_string(), "transactions": hashes });
    session.output.answer(&object, || format!("{usdc} USDC and {pol} POL are in {wallet}."))?;
    Ok(Exit::Ok)
}
