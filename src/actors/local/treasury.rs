//! Money between the operator's treasury and the wallet (design section 8). Both ways are bounded here, whoever asks: a
//! sweep goes to the treasury alone, and refills a day have a limit.

use drain_protocol::{Address, Usdc};

use super::Local;
use crate::actors::wallet::{Send, ask_wallet};
use crate::api::{ChannelState, Progress, SendAmount, Swept};
use crate::config::TreasuryConfig;
use crate::error::{Code, Failure};
use crate::journal::TxKind;
use crate::notify::EventKind;
use crate::policy::Pol;

/// A day, in seconds.
const DAY: u64 = 86_400;

impl Local {
    fn treasury(&self) -> Result<&TreasuryConfig, Failure> {
        self.services.config.treasury.as_ref().ok_or_else(|| {
            Failure::unspent(
                Code::InvalidConfig,
                "No treasury is configured",
                "Set DRAIN_TREASURY to ledger, or to the operator's own address (docs/signers.md).",
            )
        })
    }

    /// What this account sent to `to` in the last day, and in how many transfers.
    async fn sent_today(&self, to: Address) -> Result<(Usdc, usize), Failure> {
        let purse = self.purse()?;
        let since = self.services.clock.now().saturating_sub(DAY);
        let chain_id = self.services.config.chain.chain_id;
        let sends = purse.journal.sends(chain_id, purse.address, TxKind::SendUsdc, to, since).await?;
        let sum = sends.iter().filter_map(|send| send.amount).fold(Usdc::ZERO, Usdc::saturating_add);
        Ok((sum, sends.len()))
    }

    async fn transfer(&self, to: Address, amount: SendAmount, progress: &Progress) -> Result<String, Failure> {
        let (wallet, progress) = (self.wallet().await?, progress.clone());
        ask_wallet(&wallet, |reply| Send { to, amount, again: false, progress, reply }).await
    }

    /// Sends USDC and POL from the treasury, whose runtime this is, to the wallet that software uses.
    pub(in crate::actors) async fn fund(
        &self,
        to: Address,
        usdc: Usdc,
        pol: Pol,
        progress: Progress,
    ) -> Result<Vec<String>, Failure> {
        let treasury = self.treasury()?;
        let (sent, _) = self.sent_today(to).await?;
        if sent.saturating_add(usdc) > treasury.fund_per_day {
            return Err(Failure::unspent(
                Code::LimitReached,
                format!(
                    "{sent} USDC were sent to {to} in the last day; with {usdc} more it is above DRAIN_MAX_FUND_PER_DAY ({})",
                    treasury.fund_per_day
                ),
                "Send less, wait, or raise the limit in the configuration.",
            ));
        }
        if pol > treasury.keep_pol {
            return Err(Failure::unspent(
                Code::LimitReached,
                format!("{pol} POL are more than a wallet keeps (DRAIN_SWEEP_KEEP_POL, {})", treasury.keep_pol),
                "Send less: gas for a channel's life is about 0.02 POL.",
            ));
        }
        let mut hashes = Vec::new();
        if !usdc.is_zero() {
            hashes.push(self.transfer(to, SendAmount::Usdc(Some(usdc)), &progress).await?);
        }
        if pol > Pol::ZERO {
            hashes.push(self.transfer(to, SendAmount::Native(Some(pol.to_wei())), &progress).await?);
        }
        Ok(hashes)
    }

    /// Sends back to the treasury what is above the marks and what pending openings need.
    pub(super) async fn sweep(&self, progress: Progress) -> Result<Swept, Failure> {
        let treasury = self.treasury()?;
        let purse = self.purse()?;
        if treasury.address == purse.address {
            return Err(Failure::unspent(
                Code::InvalidConfig,
                "The treasury is this very wallet",
                "Set DRAIN_TREASURY to another account.",
            ));
        }
        let (_, sweeps) = self.sent_today(treasury.address).await?;
        if sweeps >= treasury.sweeps_per_day {
            return Err(Failure::unspent(
                Code::LimitReached,
                format!("{sweeps} sweeps were sent in the last day (DRAIN_MAX_SWEEPS_PER_DAY)"),
                "Sweep later.",
            ));
        }
        let opening = purse.journal.channels(false).await?;
        let pending = opening
            .iter()
            .filter(|record| record.state == ChannelState::Opening)
            .fold(Usdc::ZERO, |sum, record| sum.saturating_add(record.books.deposit));
        let (held, coin) = self.held().await?;
        let usdc = held.saturating_sub(treasury.keep).saturating_sub(pending);
        let pol = coin.saturating_sub(treasury.keep_pol);
        let mut swept = Swept { to: treasury.address, usdc: Usdc::ZERO, pol: "0".into(), transactions: Vec::new() };
        if !usdc.is_zero() {
            let hash = self.transfer(treasury.address, SendAmount::Usdc(Some(usdc)), &progress).await?;
            (swept.usdc, swept.transactions) = (usdc, vec![hash]);
        }
        // Worth its own gas several times over.
        if pol > treasury.keep_pol {
            swept
                .transactions
                .push(self.transfer(treasury.address, SendAmount::Native(Some(pol.to_wei())), &progress).await?);
            swept.pol = pol.to_string();
        }
        Ok(swept)
    }

    /// USDC and coin of the wallet, as the chain has them.
    async fn held(&self) -> Result<(Usdc, Pol), Failure> {
        let (chain, owner) = (&self.services.chain, self.purse()?.address);
        let view = self.balance().await?;
        Ok((view.usdc, Pol::from_wei(chain.native_balance(owner).await?)))
    }

    /// A wallet that is short of money asks for a refill, where there is a treasury.
    pub(super) fn asking_for_refill(&self, failure: Failure) -> Failure {
        let short = matches!(failure.code, Code::InsufficientUsdc | Code::InsufficientGas);
        let Some(treasury) = self.services.config.treasury.as_ref().filter(|_| short) else { return failure };
        let failure = Failure { next: format!("{} Then call again.", treasury.refill()), ..failure };
        self.services.tell(
            self.purse().ok(),
            EventKind::RefillNeeded,
            failure.code.as_str(),
            format!("{} {}", failure.message, failure.next),
        );
        failure
    }
}
