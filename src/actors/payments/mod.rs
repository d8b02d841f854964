//! Payments without a channel: the way of one from the journal's leave to its outcome (`purchase.rs`), and what the chain says
//! of each afterwards.
//!
//! A signed transfer is taken once or never: until its time is over, or the chain shows it, its amount stays reserved whatever
//! its server says.

mod purchase;
mod underway;

use std::time::Duration;

use actix::{Addr, WeakAddr};
use drain_protocol::Usdc;
use tokio::sync::OnceCell;

use super::services::{Purse, Services};
use super::supervisor::Supervisor;
use crate::chain::{Chain, ChainError, Head, Search, TempoOutcome, Wanted};
use crate::error::Failure;
use crate::journal::{BookedPayment as Booked, OnChain, OpenPayment};
use crate::metrics;
use crate::notify::EventKind;

pub(super) use purchase::{Bought, Purchase, unkept};
pub use underway::AllUnderway;

/// Payments that one look asks about.
const AT_ONCE: u32 = 100;
/// How soon it is seen that the runtime has ended.
const IDLE: Duration = Duration::from_secs(5);

/// Begins to ask the chain what became of payments, those of an earlier process included. Asks nothing while there are none.
pub(super) fn follow(services: Services, purse: Purse, supervisor: &Addr<Supervisor>) {
    let follower = Follower { services, purse, supervisor: supervisor.downgrade() };
    tokio::spawn(follower.run());
}

struct Follower {
    services: Services,
    purse: Purse,
    /// Gone with the runtime.
    supervisor: WeakAddr<Supervisor>,
}

impl Follower {
    async fn run(self) {
        while self.supervisor.upgrade().is_some_and(|supervisor| supervisor.connected()) {
            match self.look().await {
                Ok(0) => {
                    let _ = tokio::time::timeout(IDLE, self.purse.paid.notified()).await;
                }
                Ok(_) => tokio::time::sleep(self.services.config.chain.poll_interval).await,
                Err(failure) => {
                    tracing::warn!(%failure, "what became of payments is not known yet; asked again later");
                    tokio::time::sleep(self.services.config.chain.poll_interval).await;
                }
            }
        }
    }

    /// Asks about each that is open; gives how many still are.
    async fn look(&self) -> Result<usize, Failure> {
        let journal = &self.purse.journal;
        let (mut left, mut last) = (0, None);
        let (own, tempo) = (LastBlock::of(Some(&self.services.chain)), LastBlock::of(self.services.tempo.as_ref()));
        loop {
            let open = journal.open_payments(last, AT_ONCE).await?;
            let Some(newest) = open.last() else { return Ok(left) };
            last = Some(newest.id);
            for payment in open {
                let over_tempo = payment.chain_id != self.services.config.chain.chain_id;
                let block = if over_tempo { &tempo } else { &own };
                // One that cannot be asked about keeps none behind it waiting.
                let said = self.of(&payment, block).await.unwrap_or_else(|error| {
                    tracing::warn!(payment = %payment.id, %error, "what became of a payment is not known yet");
                    None
                });
                let Some(said) = said else {
                    left += 1;
                    continue;
                };
                let booked = journal.payment_on_chain(payment.id, said, self.services.clock.now()).await?;
                if let Some(Booked { agent, provider, amount }) = &booked {
                    metrics::spent(agent, provider, *amount);
                }
                self.tell(&payment, said);
            }
        }
    }

    fn tell(&self, payment: &OpenPayment, said: OnChain) {
        let id = payment.id;
        match (payment.unsent, said) {
            (true, OnChain::NeverTaken { .. }) => {}
            (true, OnChain::Taken { .. } | OnChain::Reverted { .. }) => {
                let what = format!(
                    "payment {id} never left this process and was taken all the same: somebody else may have the key"
                );
                tracing::error!(alarm = "unsent_payment_taken", payment = %id, "{what}");
                self.services.tell(Some(&self.purse), EventKind::Alarm, "unsent_payment_taken", what);
            }
            (false, said) => {
                tracing::info!(payment = %id, ?said, "the chain says what became of a payment");
                metrics::payment_on_chain(matches!(said, OnChain::Taken { .. }));
            }
        }
    }

    /// What the chain says of one, as of a block that stays; `None` while it may still be taken, or its request is on its way.
    async fn of(&self, payment: &OpenPayment, last: &LastBlock<'_>) -> Result<Option<OnChain>, ChainError> {
        if self.purse.underway.has(payment.id) {
            return Ok(None);
        }
        let (chain, block) = last.known(payment.chain_id).await?;
        if payment.chain_id != self.services.config.chain.chain_id {
            return self.over_tempo(payment, chain, block).await;
        }
        if chain.transfer_used(payment.token, self.purse.address, payment.nonce, block.number).await? {
            return Ok(Some(OnChain::Taken { cost: payment.value }));
        }
        Ok(payment.never_at(block.timestamp))
    }

    /// The same over Tempo, where a transaction is what is looked for.
    async fn over_tempo(
        &self,
        payment: &OpenPayment,
        chain: &Chain,
        block: Head,
    ) -> Result<Option<OnChain>, ChainError> {
        let never = payment.never_at(block.timestamp);
        let OpenPayment { nonce: memo, valid_before, value, transaction, sponsored, .. } = *payment;
        let wanted = Wanted::Memo { from: self.purse.address, memo };
        let hash = match (transaction, sponsored) {
            // Its server makes the transaction, and its word for which one it is counts where the chain agrees.
            (Some(claimed), true) if chain.tempo_is(wanted, claimed).await? => claimed,
            (_, true) if never.is_none() => return Ok(None),
            (_, true) => match chain.tempo_search(wanted, valid_before, block.number).await? {
                Search::At(hash) => hash,
                Search::Nowhere => return Ok(never),
                Search::NotYet => return Ok(None),
            },
            (Some(hash), false) => hash,
            // A transaction is recorded before anybody has it: without one there is none.
            (None, false) => return Ok(never),
        };
        match chain.tempo_outcome(hash, block.number).await? {
            Some(TempoOutcome { gas, .. }) if !sponsored && gas.is_zero() => {
                Err(ChainError::malformed("a receipt of gas that cost nothing"))
            }
            Some(TempoOutcome { success, gas }) => {
                let gas = if sponsored { Usdc::ZERO } else { gas };
                Ok(Some(match success {
                    true => OnChain::Taken { cost: value.saturating_add(gas) },
                    false => OnChain::Reverted { cost: gas },
                }))
            }
            None if never.is_none() || sponsored => Ok(None),
            None => match chain.tempo_search(Wanted::Hash(hash), valid_before, block.number).await? {
                Search::Nowhere => Ok(never),
                Search::At(_) | Search::NotYet => Ok(None),
            },
        }
    }
}

/// The newest block of a chain that stays, read once.
struct LastBlock<'a> {
    chain: Option<&'a Chain>,
    block: OnceCell<Head>,
}

impl<'a> LastBlock<'a> {
    fn of(chain: Option<&'a Chain>) -> Self {
        Self { chain, block: OnceCell::new() }
    }

    /// Of the chain of this id, if it is that one.
    async fn known(&self, chain_id: u64) -> Result<(&'a Chain, Head), ChainError> {
        let chain = self.chain.filter(|chain| chain.chain_id() == chain_id).ok_or_else(|| ChainError::Unavailable {
            reason: format!(
                "it was paid on chain {chain_id}, for which DRAIN_TEMPO_RPC_URL names no endpoint any more"
            ),
        })?;
        let block =
            self.block.get_or_try_init(|| async { chain.block_agreed(chain.finalized_number().await?).await }).await?;
        Ok((chain, *block))
    }
}
