//! Looks at a wallet for its metrics: at the journal's sums every few seconds, at the chain from time to time, while
//! somebody is served. It decides nothing, and holds nothing of the runtime: that ends without it.

use std::time::Duration;

use actix::{Addr, WeakAddr};
use drain_protocol::Address;
use tokio::time::Instant;

use super::services::{Purse, Services};
use super::supervisor::Supervisor;
use crate::chain::ChainError;
use crate::journal::{Totals, TotalsAsked};
use crate::metrics;
use crate::metrics::state::{Books, Holdings, Shown};
use crate::policy::Pol;

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at what the wallet holds on chain, where nothing is known to have moved: three requests or so.
const HOLDINGS: Duration = Duration::from_secs(60);

/// Begins to look, as soon as metrics are served.
pub(super) fn start(services: Services, purse: &Purse, supervisor: &Addr<Supervisor>) {
    metrics::signer_there(purse.address, purse.signer);
    let observer = Observer {
        services,
        wallet: purse.address,
        totals: purse.journal.totals(),
        supervisor: supervisor.downgrade(),
        shown: Shown::of(purse.address),
    };
    tokio::spawn(observer.run());
}

struct Observer {
    services: Services,
    wallet: Address,
    totals: Totals,
    /// Gone with the runtime.
    supervisor: WeakAddr<Supervisor>,
    shown: Shown,
}

impl Observer {
    async fn run(self) {
        metrics::served().await;
        let mut holdings_at = Instant::now();
        let mut moved = Books::default();
        while self.supervisor.upgrade().is_some_and(|supervisor| supervisor.connected()) {
            match self.books().await {
                Ok(books) => {
                    self.shown.books(&books);
                    // A channel or a transaction came or ended.
                    if books.channels != moved.channels
                        || books.oldest_transaction.is_some() != moved.oldest_transaction.is_some()
                    {
                        holdings_at = Instant::now();
                    }
                    moved = books;
                }
                Err(reason) => tracing::warn!(reason, "the journal's sums cannot be shown as metrics"),
            }
            if holdings_at <= Instant::now() {
                holdings_at = Instant::now() + HOLDINGS;
                match self.holdings().await {
                    Ok(holdings) => self.shown.holdings(&holdings),
                    Err(error) => tracing::debug!(%error, "the wallet's balances cannot be shown as metrics"),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn books(&self) -> Result<Books, String> {
        let (services, totals) = (&self.services, self.totals.clone());
        let asked = TotalsAsked {
            chain_id: services.config.chain.chain_id,
            wallet: self.wallet,
            limits: services.config.limits.clone(),
            agents: metrics::state::agent_limits(),
            moment: services.clock.moment(),
            block_time: services.clock.block_time(),
        };
        let read = tokio::task::spawn_blocking(move || totals.read(&asked)).await;
        read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn holdings(&self) -> Result<Holdings, ChainError> {
        let chain = &self.services.chain;
        let deployments = &self.services.config.chain.deployments;
        let pol = Pol::from_wei(chain.native_balance(self.wallet).await?);
        let Some(first) = deployments.first() else { return Ok(Holdings { pol, ..Holdings::default() }) };
        let usdc = chain.usdc_balance(first.usdc, self.wallet).await?;
        let mut allowances = Vec::new();
        for on in deployments {
            allowances.push((on.contract(), chain.allowance(on.usdc, self.wallet, on.contract()).await?));
        }
        Ok(Holdings { usdc, pol, allowances })
    }
}
