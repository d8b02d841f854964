//! The sums of the demo: what the tools told, what the chain has, and whether they agree to the unit.

use std::time::Duration;

use drain_protocol::Usdc;
use serde::Serialize;

use crate::cli::output::table;

/// One channel, told and observed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChannelSums {
    pub provider: String,
    pub deposited: Usdc,
    pub signed: Usdc,
    pub charged: Usdc,
    /// What the provider got, its fee included.
    pub paid: Usdc,
    pub protocol_fee: Usdc,
    pub refund: Usdc,
    /// Read from the contract before the close.
    pub chain_deposit: Usdc,
    /// Sum of the contract's claim events.
    pub chain_paid: Usdc,
    /// By how much the wallet's balance grew at the close.
    pub chain_refund: Usdc,
}

impl ChannelSums {
    /// What was told is what the chain has, and nothing is left over.
    fn agrees(&self) -> bool {
        self.deposited == self.chain_deposit
            && self.paid == self.chain_paid
            && self.refund == self.chain_refund
            && self.paid.checked_add(self.refund) == Some(self.deposited)
            && self.paid <= self.signed
            && self.charged <= self.signed
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub channels: Vec<ChannelSums>,
    /// In the marketplace's fee wallet.
    pub session_fees: Usdc,
    pub before: Usdc,
    pub after: Usdc,
    /// Left in the V2 contract.
    pub locked: Usdc,
}

/// What `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub agrees: bool,
    seconds: f32,
    channels: Vec<ChannelSums>,
    session_fees: Usdc,
    wallet_before: Usdc,
    wallet_after: Usdc,
    left_in_contract: Usdc,
}

impl Sums {
    pub(super) fn report(self, elapsed: Duration) -> Report {
        let paid: Usdc = self.channels.iter().map(|channel| channel.paid).sum();
        let gone = paid.saturating_add(self.session_fees);
        let agrees = self.channels.iter().all(ChannelSums::agrees)
            && self.before.checked_sub(gone) == Some(self.after)
            && self.locked.is_zero();
        Report {
            agrees,
            seconds: elapsed.as_secs_f32(),
            channels: self.channels,
            session_fees: self.session_fees,
            wallet_before: self.before,
            wallet_after: self.after,
            left_in_contract: self.locked,
        }
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let rows: Vec<[String; 7]> = self
            .channels
            .iter()
            .map(|c| {
                [
                    c.provider.clone(),
                    c.deposited.to_string(),
                    c.signed.to_string(),
                    c.charged.to_string(),
                    c.paid.to_string(),
                    c.protocol_fee.to_string(),
                    c.refund.to_string(),
                ]
            })
            .collect();
        let head = ["CHANNEL", "DEPOSITED", "SIGNED", "CHARGED", "PAID", "OF IT FEE", "REFUNDED"];
        let verdict = if self.agrees {
            "Every sum agrees to the unit with the chain, read by an observer of its own."
        } else {
            "THE SUMS DO NOT AGREE."
        };
        format!(
            "{}\n\nWallet before {} USDC, session fees {}, wallet after {} USDC; left in the contract {}.\n{verdict} ({:.1} s)",
            table(head, &rows),
            self.wallet_before,
            self.session_fees,
            self.wallet_after,
            self.left_in_contract,
            self.seconds
        )
    }
}
