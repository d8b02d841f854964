//! The software Ledger of `drain-mcp sandbox --ledger`: its screens on the terminal, and Enter for the press.

use std::io::BufRead;
use std::time::Duration;

use alloy::primitives::{Address, U256, address};
use drain_protocol::Usdc;
use drain_sandbox::ledger::{Finger, LedgerPeer, LedgerPeerConfig};
use drain_sandbox::marketplace::Sandbox;
use tokio::sync::mpsc;

use super::output::Output;
use crate::error::Failure;

/// The first account of the public test words.
const ACCOUNT: Address = address!("9858EfFD232B4033E47d90003D41EC34EcaEda94");
/// Play money on it: 100 USDC and 10 POL.
const USDC: Usdc = Usdc::new(100_000_000);
const WEI: U256 = U256::from_limbs([10_000_000_000_000_000_000, 0, 0, 0]);
/// How often the device is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Starts the device with money on its account.
pub async fn start(sandbox: &Sandbox) -> Result<LedgerPeer, Failure> {
    let failed = |e: String| Failure::internal(format!("the software Ledger did not start: {e}"));
    let config = LedgerPeerConfig { raw_messages: true, ..LedgerPeerConfig::default() };
    let device = LedgerPeer::start(config).await.map_err(|e| failed(e.to_string()))?;
    device.finger(Finger::Wait);
    sandbox.observer().fund(ACCOUNT, USDC, WEI).await.map_err(|e| failed(e.to_string()))?;
    Ok(device)
}

/// What makes drain-mcp use it, in place of the sandbox's key.
pub fn env(device: &LedgerPeer) -> [(String, String); 2] {
    [
        ("DRAIN_LEDGER_ADDRESS".into(), ACCOUNT.to_string()),
        ("DRAIN_LEDGER_EMULATOR".into(), device.address().to_string()),
    ]
}

/// Shows each prompt and presses as the person says. Never ends.
pub async fn attend(device: &LedgerPeer, output: &Output) {
    let (sender, mut lines) = mpsc::channel(16);
    // A thread of its own: a read of the terminal cannot be taken back at the end.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || sender.blocking_send(line.unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    let mut shown = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let screens = device.screens();
        if !device.asking() || screens.len() == shown {
            continue;
        }
        shown = screens.len();
        let text = screens.last().map(|screens| screens.join(" | ")).unwrap_or_default();
        output.remark(&format!("\nLedger: {text}\nEnter approves, r and Enter rejects"));
        // What was typed before the prompt is no answer to it.
        while lines.try_recv().is_ok() {}
        let Some(line) = lines.recv().await else { std::future::pending().await };
        device.finger(if line.trim().eq_ignore_ascii_case("r") { Finger::Reject } else { Finger::Approve });
        while device.asking() {
            tokio::time::sleep(LOOK).await;
        }
        device.finger(Finger::Wait);
    }
}
