//! A server on loopback that wants to be paid by HTTP 402: over MPP (method evm, intent charge) and over x402 of both
//! versions, all by transfers by signature (EIP-3009) of the sandbox's token.
//!
//! By default it is honest: it checks what it is given as the deployed servers do, and settles on the chain before it
//! answers. Everything that it does wrong is a switch in [`PaidFaults`]. It reads and writes the wire with its own code.

mod config;
mod demand;
mod faults;
mod log;
mod mpp;
mod server;
mod settle;
mod terms;
mod token;
mod wire;
mod work;
mod x402;

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::Address;
use drain_protocol::Usdc;
use serde_json::json;
use tokio::net::TcpListener;

pub use config::PaidConfig;
pub use faults::PaidFaults;
pub use log::{Credential, PaidRequest, Protocol};

use crate::loopback::Server;
use crate::provider::lock;
use crate::rpc::RpcClient;

/// What the settling account has for gas, in wei.
const GAS_MONEY: u128 = 100_000_000_000_000_000_000;

/// What the routes share.
pub(crate) struct Shared {
    config: PaidConfig,
    chain_id: u64,
    url: String,
    rpc: RpcClient,
    faults: Mutex<PaidFaults>,
    log: Mutex<Vec<PaidRequest>>,
    settling: tokio::sync::Mutex<()>,
    challenges: AtomicU64,
    answers: AtomicU64,
}

impl Shared {
    fn faults(&self) -> PaidFaults {
        lock(&self.faults).clone()
    }

    fn with_faults<T>(&self, change: impl FnOnce(&mut PaidFaults) -> T) -> T {
        change(&mut lock(&self.faults))
    }

    fn next_challenge(&self) -> u64 {
        self.challenges.fetch_add(1, Ordering::Relaxed)
    }

    /// Number and time (seconds) of the next answer.
    fn next_answer(&self) -> (u64, u64) {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        (number, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

/// A running server. Dropping it is a crash: every connection is reset.
///
/// The first part of a path says how it wants to be paid: `/mpp`, `/x402v2`, `/x402v1`, `/both` (MPP and x402 v2 in one
/// 402), `/other` (a 402 of no known protocol) and `/free`. Every method and everything below them is served: the JSON
/// `{"ok": path, "echo": body}`, or an OpenAI completion where the path ends in `/chat/completions`.
pub struct Paid {
    shared: Arc<Shared>,
    server: Server,
}

impl Paid {
    /// Starts serving on a free port of 127.0.0.1, and settling on the development chain of the node at `rpc_url`, which
    /// gives the settling account what it needs for gas.
    pub async fn start(rpc_url: impl Into<String>, config: PaidConfig) -> io::Result<Self> {
        let rpc = RpcClient::new(rpc_url).map_err(io::Error::other)?;
        let chain_id = rpc.chain_id().await.map_err(io::Error::other)?;
        let gas = json!([config.key.address(), format!("{GAS_MONEY:#x}")]);
        rpc.call("anvil_setBalance", gas).await.map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            config,
            chain_id,
            url: format!("http://{}", listener.local_addr()?),
            rpc,
            faults: Mutex::default(),
            log: Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            challenges: AtomicU64::new(1),
            answers: AtomicU64::new(1),
        });
        let server = Server::start_on(listener, server::router(Arc::clone(&shared)))?;
        Ok(Self { shared, server })
    }

    /// Base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// What it was started with.
    pub fn config(&self) -> &PaidConfig {
        &self.shared.config
    }

    /// Who is paid.
    pub fn payee(&self) -> Address {
        self.shared.config.payee
    }

    /// What a request costs.
    pub fn price(&self) -> Usdc {
        self.shared.config.price
    }

    /// The chain that it settles on.
    pub fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    /// Changes switches.
    pub fn set(&self, change: impl FnOnce(&mut PaidFaults)) {
        self.shared.with_faults(change);
    }

    /// Back to an honest server. The log stays.
    pub fn reset_faults(&self) {
        self.set(|faults| *faults = PaidFaults::default());
    }

    /// While down, every connection is reset.
    pub fn set_down(&self, down: bool) {
        self.server.set_down(down);
    }

    /// Every request so far, in order of arrival.
    pub fn log(&self) -> Vec<PaidRequest> {
        lock(&self.shared.log).clone()
    }

    /// Settles every verified credential that is not settled, as a thief or a late facilitator does. Returns how many
    /// the chain took; those that it refuses stay as they are.
    pub async fn settle_held(&self) -> usize {
        self.shared.settle_held().await
    }
}

impl std::fmt::Debug for Paid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paid").field("url", &self.url()).field("payee", &self.payee()).finish()
    }
}
