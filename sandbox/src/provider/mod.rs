//! A service provider on loopback, faithful to protocol.md sections 5 to 8, that can be told to misbehave.
//!
//! By default it is honest and stricter than the live templates in one point: it refuses signatures that the contract
//! would refuse (protocol.md section 2.8). Everything else that it does wrong is a switch in [`Faults`].

mod books;
pub(crate) mod chat;
mod claim;
mod close;
mod config;
mod deliver;
mod faults;
pub(crate) mod model;
pub(crate) mod refusal;
mod server;
mod services;
mod stream;
mod validate;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, B256};
use alloy::sol_types::Eip712Domain;
use axum::http::HeaderMap;
use serde_json::Value;
use tokio::task::JoinHandle;

pub use books::{Books, KeptVoucher, PaidRequest, RequestLog};
pub use claim::Claim;
pub(crate) use config::decimal;
pub use config::{Answers, AutoClaim, Kind, Model, ProviderConfig};
pub use faults::{CloseAmount, CloseSignature, Correction, Dialect, Faults, ForgedHeaders, Times, Usage};

use crate::loopback::Server;
use crate::rpc::{ChannelRecord, RpcClient};
use books::Pages;

/// What the routes share.
pub(crate) struct Shared {
    config: ProviderConfig,
    address: Address,
    domain: Eip712Domain,
    rpc: RpcClient,
    faults: Arc<Mutex<Faults>>,
    pages: Mutex<Pages>,
    log: Mutex<RequestLog>,
    records: Mutex<HashMap<String, ChannelRecord>>,
    claims: tokio::sync::Mutex<()>,
    completions: AtomicU64,
    last_answer: Mutex<Option<(HeaderMap, String)>>,
    first_close: Mutex<Option<Value>>,
}

impl Shared {
    fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    fn with_faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut lock(&self.faults))
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        lock(&self.pages)
    }

    fn log(&self) -> MutexGuard<'_, RequestLog> {
        lock(&self.log)
    }

    fn cached_record(&self, key: &str) -> Option<ChannelRecord> {
        lock(&self.records).get(key).copied()
    }

    fn cache_record(&self, key: &str, record: ChannelRecord) {
        lock(&self.records).insert(key.to_owned(), record);
    }

    /// Id and `created` (seconds) of the next completion.
    fn next_completion(&self) -> (String, u64) {
        let number = self.completions.fetch_add(1, Ordering::Relaxed);
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        (format!("sim-{number}"), created)
    }
}

/// A lock's data, also after a test thread panicked while it held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running provider. Dropping it is a crash: every connection is reset.
pub struct Provider {
    shared: Arc<Shared>,
    server: Server,
    auto_claim: Option<JoinHandle<()>>,
}

impl Provider {
    /// Starts serving on a free port of 127.0.0.1.
    pub async fn start(config: ProviderConfig) -> io::Result<Self> {
        let rpc = RpcClient::new(config.rpc_url.clone()).map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            address: config.key.address(),
            domain: validate::domain(config.chain_id, config.contract),
            rpc,
            faults: Arc::new(Mutex::new(config.faults.clone())),
            pages: Mutex::default(),
            log: Mutex::default(),
            records: Mutex::default(),
            claims: tokio::sync::Mutex::default(),
            completions: AtomicU64::new(1),
            last_answer: Mutex::default(),
            first_close: Mutex::default(),
            config,
        });
        let server = Server::start(server::router(Arc::clone(&shared))).await?;
        let auto_claim =
            shared.config.auto_claim.map(|settings| tokio::spawn(claim::auto_claim(Arc::downgrade(&shared), settings)));
        Ok(Self { shared, server, auto_claim })
    }

    /// Base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The wallet.
    pub fn address(&self) -> Address {
        self.shared.address
    }

    /// What it was started with.
    pub fn config(&self) -> &ProviderConfig {
        &self.shared.config
    }

    /// The switches, shared with the running provider.
    pub fn faults(&self) -> Arc<Mutex<Faults>> {
        Arc::clone(&self.shared.faults)
    }

    /// Changes switches.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.with_faults(change);
    }

    /// Back to an honest provider. The books stay.
    pub fn reset_faults(&self) {
        self.set(|faults| *faults = Faults::default());
    }

    /// While down, every connection is reset. Books survive.
    pub fn set_down(&self, down: bool) {
        self.server.set_down(down);
    }

    /// What the provider wrote about a channel.
    pub fn books(&self, channel: B256) -> Option<Books> {
        self.shared.pages().values().find(|page| page.channel == channel).map(Books::from)
    }

    /// Forgets everything, as a redeployment without a volume does.
    pub fn lose_books(&self) {
        self.shared.pages().clear();
    }

    /// What was asked so far.
    pub fn request_log(&self) -> RequestLog {
        self.shared.log().clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        *self.shared.log() = RequestLog::default();
    }

    /// Claims one channel's highest voucher, whatever its amount, and waits until it is mined. `None` if there is none.
    pub async fn claim(&self, channel: B256) -> Option<Claim> {
        let claims = self.shared.claim(0, Some(channel)).await;
        self.shared.settle(claims).await.into_iter().next()
    }

    /// Claims every channel, whatever the amounts, and waits until all is mined.
    pub async fn claim_all(&self) -> Vec<Claim> {
        let claims = self.shared.claim(0, None).await;
        self.shared.settle(claims).await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Some(task) = self.auto_claim.take() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider").field("name", &self.shared.config.name).field("url", &self.url()).finish()
    }
}
