//! A development chain in this process: an EVM behind JSON-RPC on loopback,
//! with control over time, mining and reorganisation, and with switches that
//! make it misbehave the way public nodes do.

mod control;
mod evm;
mod faults;
mod pool;
mod rpc;
mod server;
mod state;
mod views;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use faults::{FailKind, Faults, ForgedReceipt};
pub use state::ReorgTxs;

use server::{Listener, listen, lock};
use state::Chain;

/// One gwei in wei.
const GWEI: u64 = 1_000_000_000;

/// How a [`DevChain`] behaves.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Chain id; 137 by default, so that production addresses and domains hold.
    pub chain_id: u64,
    /// Loopback port of the main endpoint; 0 picks a free one.
    pub port: u16,
    /// Time of the first block and start of the clock; now if absent.
    pub genesis_timestamp: Option<u64>,
    /// Base fee of every block, in wei.
    pub base_fee: u64,
    /// Transactions that tip less are refused, as Polygon's nodes do.
    pub min_priority_fee: u64,
    /// The tip that fee queries suggest.
    pub suggested_priority_fee: u64,
    /// Gas limit of a block.
    pub gas_limit: u64,
    /// How many blocks the `finalized` tag is behind the newest.
    pub finality_depth: u64,
    /// Most blocks one `eth_getLogs` may span; no limit if absent.
    pub max_log_range: Option<u64>,
    /// Mine at this interval; if absent, each transaction is mined at once.
    pub block_time: Option<Duration>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            chain_id: 137,
            port: 0,
            genesis_timestamp: None,
            base_fee: 25 * GWEI,
            min_priority_fee: 25 * GWEI,
            suggested_priority_fee: 30 * GWEI,
            gas_limit: 45_000_000,
            finality_depth: 0,
            max_log_range: None,
            block_time: None,
        }
    }
}

/// An error reply of the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct ChainError {
    /// JSON-RPC error code.
    pub code: i64,
    /// What the chain says.
    pub message: String,
}

/// One URL under which the chain answers, with faults of its own. Dropping it
/// closes the port.
pub struct Endpoint {
    listener: Arc<Listener>,
    url: String,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.listener.stop.cancel();
    }
}

impl Endpoint {
    async fn open(chain: Arc<Mutex<Chain>>, port: u16, stop: CancellationToken) -> io::Result<Self> {
        let listener = Arc::new(Listener {
            chain,
            faults: Mutex::default(),
            carried: Mutex::default(),
            counts: Mutex::default(),
            stop,
        });
        let address = listen(Arc::clone(&listener), port).await?;
        Ok(Self { listener, url: format!("http://{address}") })
    }

    /// Where the endpoint listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        lock(&self.listener.faults).clone()
    }

    /// Changes the faults in place.
    pub fn update_faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.listener.faults));
    }

    /// Replaces the faults; the default makes the endpoint honest again.
    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.listener.faults) = faults;
    }

    /// Requests received so far over HTTP, by method.
    #[must_use]
    pub fn request_count(&self) -> HashMap<String, u64> {
        lock(&self.listener.counts).clone()
    }

    /// Forgets the counts.
    pub fn reset_request_count(&self) {
        lock(&self.listener.counts).clear();
    }
}

/// A running development chain. Dropping it stops its server and its miner.
pub struct DevChain {
    main: Endpoint,
    chain: Arc<Mutex<Chain>>,
    stop: CancellationToken,
}

impl Drop for DevChain {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl DevChain {
    /// Starts a chain on the current tokio runtime.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start(config: ChainConfig) -> io::Result<Self> {
        let port = config.port;
        let (interval, changes) = watch::channel(config.block_time.unwrap_or_default());
        let chain = Arc::new(Mutex::new(Chain::new(config, interval)));
        let stop = CancellationToken::new();
        let main = Endpoint::open(Arc::clone(&chain), port, stop.child_token()).await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(mine_at_intervals(Arc::clone(&chain), changes)));
        Ok(Self { main, chain, stop })
    }

    /// The main endpoint's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        self.main.url()
    }

    /// The main endpoint, for its faults and counts.
    #[must_use]
    pub fn main(&self) -> &Endpoint {
        &self.main
    }

    /// Opens another endpoint over the same chain, so that tests can play
    /// several nodes of which one lies.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn endpoint(&self, faults: Faults) -> io::Result<Endpoint> {
        let chain = Arc::clone(&self.chain);
        let endpoint = Endpoint::open(chain, 0, self.stop.child_token()).await?;
        endpoint.set_faults(faults);
        Ok(endpoint)
    }

    /// Requests the main endpoint received over HTTP, by method.
    #[must_use]
    pub fn request_count(&self) -> HashMap<String, u64> {
        self.main.request_count()
    }

    /// Moves the clock forward and mines a block, so that the time is visible.
    pub fn advance(&self, seconds: u64) {
        let mut chain = lock(&self.chain);
        chain.shift_clock(i64::try_from(seconds).unwrap_or(i64::MAX));
        chain.mine();
    }

    /// Mines blocks.
    pub fn mine(&self, count: u64) {
        let mut chain = lock(&self.chain);
        for _ in 0..count {
            chain.mine();
        }
    }

    /// The time the next block would get.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        lock(&self.chain).clock()
    }

    /// Gives the next block this time; the clock runs on from there.
    ///
    /// # Errors
    /// When the time lies before the newest block.
    pub fn set_next_timestamp(&self, timestamp: u64) -> Result<(), ChainError> {
        let set = lock(&self.chain).set_next_timestamp(timestamp);
        set.map_err(|message| ChainError { code: -32602, message })
    }

    /// Number of the newest block.
    #[must_use]
    pub fn block_number(&self) -> u64 {
        lock(&self.chain).head()
    }

    /// Replaces the newest blocks by as many others.
    pub fn reorg(&self, depth: u64, transactions: ReorgTxs) {
        lock(&self.chain).reorg(depth, transactions);
    }

    /// Switches mining at once on or off.
    pub fn set_automine(&self, on: bool) {
        let mut chain = lock(&self.chain);
        chain.automine = on;
        chain.mine_ready();
    }

    /// Sets the base fee; pending transactions that offer less wait.
    pub fn set_base_fee(&self, wei: u64) {
        let mut chain = lock(&self.chain);
        chain.base_fee = wei;
        chain.mine_ready();
    }

    /// Keeps every transaction in the pool until released.
    pub fn hold(&self, on: bool) {
        let mut chain = lock(&self.chain);
        chain.hold = on;
        chain.mine_ready();
    }

    /// Makes the next transactions fail when they are mined: receipt status 0,
    /// gas paid, nothing else changed.
    pub fn revert_next(&self, count: u64) {
        lock(&self.chain).revert_next = count;
    }

    /// Transactions in the pool.
    #[must_use]
    pub fn pending(&self) -> usize {
        lock(&self.chain).pool.len()
    }

    /// Calls a method in this process, past the network and its faults.
    ///
    /// # Errors
    /// What the chain answers to a wrong request.
    pub fn call(&self, method: &str, params: Value) -> Result<Value, ChainError> {
        let honest = Faults::default();
        let done = rpc::dispatch(&mut lock(&self.chain), &honest, method, &params);
        done.map_err(|error| ChainError { code: error.code, message: error.message })
    }

    /// Puts the payment contracts in place (see [`crate::contracts`]).
    ///
    /// # Errors
    /// When the committed contract artifacts are damaged.
    pub fn install(&self, settings: &crate::contracts::Settings) -> Result<(), crate::contracts::InstallError> {
        let chain_id = lock(&self.chain).config.chain_id;
        for (method, params) in crate::contracts::writes(chain_id, settings)? {
            self.call(method, params)?;
        }
        Ok(())
    }

    /// Gives an account native coins and USDC, replacing what it had.
    ///
    /// # Errors
    /// When the committed contract artifacts are damaged.
    pub fn fund(
        &self,
        account: alloy::primitives::Address,
        wei: alloy::primitives::U256,
        usdc: alloy::primitives::U256,
    ) -> Result<(), crate::contracts::InstallError> {
        self.call("anvil_setBalance", json!([account, wei]))?;
        let (method, params) = crate::contracts::usdc_balance_write(account, usdc)?;
        self.call(method, params)?;
        Ok(())
    }
}

/// Mines whenever the chosen interval has passed; zero means never.
async fn mine_at_intervals(chain: Arc<Mutex<Chain>>, mut changes: watch::Receiver<Duration>) {
    loop {
        let period = *changes.borrow_and_update();
        let tick = async {
            if period.is_zero() {
                std::future::pending().await
            } else {
                tokio::time::sleep(period).await;
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tick => { lock(&chain).mine(); }
        }
    }
}
