//! The endpoints in the operator's order: one after another, a failing or slow one aside for a while. A read that is not
//! answered soon is asked of the next endpoint too; a broadcast never is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use alloy::primitives::{B256, U64};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::error::ChainError;
use super::rpc::{self, Trouble};
use super::shown::{clean, secrets_of};
use crate::http_client::origin;
use crate::metrics::{self, Rpc};

/// First and longest time that a failing endpoint is put aside.
const COOL_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a node that tells of the past is put aside.
const BEHIND: Duration = Duration::from_secs(10);

/// How one endpoint does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Scheme and host, nothing else of the URL (M12).
    pub host: String,
    /// False while it is aside.
    pub healthy: bool,
    /// What it failed with last.
    pub last_error: Option<String>,
    /// Requests sent to it.
    pub requests: u64,
    /// How many of them failed by its fault.
    pub failures: u64,
}

/// What became of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A node took it.
    Accepted,
    /// A node has it already.
    Known,
    /// A transaction with this account nonce is mined: this one, or another.
    NonceUsed,
}

/// All endpoints, and the client that they share.
pub(super) struct Pool {
    chain_id: u64,
    timeout: Duration,
    client: OnceLock<Result<Client, String>>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// One endpoint.
pub(super) struct Endpoint {
    url: Url,
    pub(super) host: String,
    secrets: Vec<String>,
    /// The chain it serves, once it said so.
    chain: OnceCell<u64>,
    state: Mutex<State>,
    requests: AtomicU64,
    failures: AtomicU64,
    /// The newest block that it is known to have.
    head: AtomicU64,
    /// Its word on a receipt was waited for in vain: until it gives one, it is not waited for again.
    mute: AtomicBool,
}

#[derive(Default)]
struct State {
    aside_until: Option<Instant>,
    /// Until then it counts as behind, however well it answers.
    behind_until: Option<Instant>,
    strikes: u32,
    last_error: Option<String>,
}

impl Endpoint {
    fn new(url: &Url) -> Self {
        let host = origin(url);
        metrics::rpc_there(&host);
        Self {
            url: url.clone(),
            host,
            secrets: secrets_of(url),
            chain: OnceCell::new(),
            state: Mutex::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            head: AtomicU64::new(0),
            mute: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a block that it told of.
    pub(super) fn saw(&self, number: u64) {
        let before = self.head.fetch_max(number, Ordering::Relaxed);
        metrics::rpc_head(&self.host, number.max(before));
    }

    pub(super) fn set_mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    pub(super) fn is_mute(&self) -> bool {
        self.mute.load(Ordering::Relaxed)
    }

    pub(super) fn aside(&self) -> Option<Instant> {
        let state = self.state();
        state.aside_until.max(state.behind_until).filter(|until| *until > Instant::now())
    }

    /// It tells of the past: others are asked before it for a while.
    pub(super) fn is_behind(&self, blocks: u64) {
        let reason = format!("it is {blocks} blocks behind another endpoint");
        tracing::warn!(endpoint = %self.host, reason, "RPC endpoint put aside");
        let mut state = self.state();
        (state.behind_until, state.last_error) = (Some(Instant::now() + BEHIND), Some(reason));
    }

    pub(super) fn note(&self, outcome: Result<(), &str>) {
        let mut state = self.state();
        match outcome {
            Ok(()) => (state.strikes, state.aside_until) = (0, None),
            Err(reason) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                // Requests that fail side by side are one strike.
                let aside = state.aside_until.is_some_and(|until| until > Instant::now());
                if aside && state.strikes > 0 {
                    state.last_error = Some(reason.to_owned());
                    return;
                }
                let pause = COOL_DOWN.0.saturating_mul(1 << state.strikes.min(10)).min(COOL_DOWN.1);
                state.strikes = state.strikes.saturating_add(1);
                state.aside_until = Some(Instant::now() + pause);
                if state.last_error.is_none() {
                    tracing::warn!(endpoint = %self.host, reason, "RPC endpoint put aside");
                }
                state.last_error = Some(reason.to_owned());
            }
        }
    }
}

impl Pool {
    pub(super) fn new(chain_id: u64, urls: &[Url], timeout: Duration) -> Result<Self, ChainError> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for url in urls {
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                let reason = format!("{} is not an http or https URL", origin(url));
                return Err(ChainError::Unavailable { reason });
            }
            // The same URL twice is one endpoint, and no second opinion.
            if endpoints.iter().all(|known| known.url != *url) {
                endpoints.push(Endpoint::new(url));
            }
        }
        if endpoints.is_empty() {
            return Err(ChainError::Unavailable { reason: "none is configured".into() });
        }
        Ok(Self { chain_id, timeout, client: OnceLock::new(), endpoints })
    }

    pub(super) fn health(&self) -> Vec<EndpointHealth> {
        let health = |endpoint: &Endpoint| EndpointHealth {
            host: endpoint.host.clone(),
            healthy: endpoint.aside().is_none() && self.wrong_chain(endpoint).is_none(),
            last_error: endpoint.state().last_error.clone(),
            requests: endpoint.requests.load(Ordering::Relaxed),
            failures: endpoint.failures.load(Ordering::Relaxed),
        };
        self.endpoints.iter().map(health).collect()
    }

    /// How many endpoints there are, whatever their health.
    pub(super) const fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn wrong_chain(&self, endpoint: &Endpoint) -> Option<u64> {
        endpoint.chain.get().copied().filter(|found| *found != self.chain_id)
    }

    /// In the order in which to try them: the healthy ones as configured, then those aside, the soonest back first.
    pub(super) fn order(&self) -> Vec<&Endpoint> {
        let mut order: Vec<_> = self.endpoints.iter().map(|endpoint| (endpoint.aside(), endpoint)).collect();
        order.sort_by_key(|(aside, _)| *aside);
        order.into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// Asks one endpoint. What `decode` refuses is the endpoint's fault.
    pub(super) async fn ask<T>(
        &self,
        endpoint: &Endpoint,
        method: &str,
        params: &Value,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, Trouble> {
        let none = json!([]);
        let found = *endpoint.chain.get_or_try_init(|| self.once(endpoint, "eth_chainId", &none, number)).await?;
        if found != self.chain_id {
            endpoint.state().last_error = Some(Trouble::WrongChain(found).text());
            return Err(Trouble::WrongChain(found));
        }
        self.once(endpoint, method, params, decode).await
    }

    async fn once<T>(
        &self,
        endpoint: &Endpoint,
        method: &str,
        params: &Value,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, Trouble> {
        let client = self.client.get_or_init(|| rpc::client(self.timeout)).as_ref();
        let client = client.map_err(|reason| Trouble::fault(reason.clone(), false))?;
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let outcome = match rpc::exchange(client, &endpoint.url, method, params).await {
            Ok(value) => decode(value).map_err(|reason| Trouble::fault(format!("{method}: {reason}"), true)),
            Err(trouble) => Err(trouble.worded(|reason| clean(&reason, &endpoint.secrets))),
        };
        metrics::rpc(&endpoint.host, outcome.as_ref().map_or_else(Trouble::counted, |_| Rpc::Ok), begun.elapsed());
        match &outcome {
            Err(Trouble::Fault { reason, .. }) => endpoint.note(Err(reason)),
            _ => endpoint.note(Ok(())),
        }
        outcome
    }

    /// Makes sure that the endpoint has a block.
    async fn reaches(&self, endpoint: &Endpoint, block: u64) -> Result<(), Trouble> {
        if endpoint.head.load(Ordering::Relaxed) >= block {
            return Ok(());
        }
        let head = self.ask(endpoint, "eth_blockNumber", &json!([]), number).await?;
        endpoint.saw(head);
        if head < block { Err(Trouble::Unable(format!("is at block {head}, behind {block}"))) } else { Ok(()) }
    }

    /// Asks one endpoint after another until one gives a usable answer.
    pub(super) async fn read<T>(
        &self,
        method: &str,
        params: &Value,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, ChainError> {
        self.read_of(method, params, None, decode).await
    }

    /// The same, of endpoints that have this block: one that is behind would answer with the past, or with nothing.
    pub(super) async fn read_of<T>(
        &self,
        method: &str,
        params: &Value,
        block: Option<u64>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, ChainError> {
        self.read_range(method, params, block, decode).await.map_err(|error| match error {
            ReadError::Chain(error) => error,
            ReadError::TooWide(reason) => ChainError::Unavailable { reason },
        })
    }

    /// The same, with a refused range kept apart.
    pub(super) async fn read_range<T>(
        &self,
        method: &str,
        params: &Value,
        block: Option<u64>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, ReadError> {
        let decode = &decode;
        let asked = self.hedged(1, 1, |endpoint| async move {
            match self.ask_at(endpoint, method, params, block, decode).await {
                // Another node would say the same.
                Err(Trouble::Reverted(reason)) => Ok(Err(ChainError::Reverted { reason })),
                Err(Trouble::Refused(reason)) => Ok(Err(ChainError::Rejected { reason })),
                answer => answer.map(Ok),
            }
        });
        let (mut said, troubles) = asked.await;
        if let Some((_, answer)) = said.pop() {
            return answer.map_err(ReadError::Chain);
        }
        let too_wide = troubles.iter().find_map(|(_, trouble)| match trouble {
            Trouble::TooWide(reason) => Some(reason.clone()),
            _ => None,
        });
        Err(too_wide.map_or_else(|| ReadError::Chain(self.summary(&troubles)), ReadError::TooWide))
    }

    /// Asks one endpoint, where it has this block.
    pub(super) async fn ask_at<T>(
        &self,
        endpoint: &Endpoint,
        method: &str,
        params: &Value,
        block: Option<u64>,
        decode: impl Fn(Value) -> Result<T, String>,
    ) -> Result<T, Trouble> {
        if let Some(block) = block {
            self.reaches(endpoint, block).await?;
        }
        self.ask(endpoint, method, params, decode).await
    }

    /// Broadcasts: one endpoint after another until one takes it, or to `all` of them.
    pub(super) async fn send_raw(&self, raw: &[u8], hash: B256, all: bool) -> Result<Sent, ChainError> {
        let params = json!([alloy::hex::encode_prefixed(raw)]);
        let (mut troubles, mut taken, mut used, mut refused) = (Vec::new(), None, false, None);
        for endpoint in self.order() {
            let decode = |value: Value| serde_json::from_value::<B256>(value).map_err(|_| "not a hash".to_owned());
            match self.ask(endpoint, "eth_sendRawTransaction", &params, decode).await {
                Ok(answered) if answered == hash => taken = Some(Sent::Accepted),
                Ok(_) => troubles.push((endpoint, Trouble::fault("answers with another hash", true))),
                Err(Trouble::Refused(reason)) => {
                    let text = reason.to_ascii_lowercase();
                    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
                    if has(&[
                        "already known",
                        "known transaction",
                        "already imported",
                        "already exists",
                        "already_exists",
                    ]) {
                        taken = taken.or(Some(Sent::Known));
                    } else {
                        used |= has(&["nonce too low", "nonce is too low", "old nonce"]);
                        refused.get_or_insert(reason.clone());
                        troubles.push((endpoint, Trouble::Refused(reason)));
                    }
                }
                Err(trouble) => troubles.push((endpoint, trouble)),
            }
            if taken.is_some() && !all {
                break;
            }
        }
        if let Some(taken) = taken {
            return Ok(taken);
        }
        let unsure = troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Fault { delivered: true, .. }));
        match refused {
            _ if used => Ok(Sent::NonceUsed),
            Some(reason) if !unsure => Err(ChainError::Rejected { reason }),
            _ => Err(self.summary(&troubles)),
        }
    }

    /// One error for all that went wrong.
    pub(super) fn summary(&self, troubles: &[(&Endpoint, Trouble)]) -> ChainError {
        let wrong = |(_, trouble): &(&Endpoint, Trouble)| matches!(trouble, Trouble::WrongChain(_));
        if let [(endpoint, Trouble::WrongChain(found)), ..] = troubles
            && troubles.iter().all(wrong)
        {
            let endpoint = endpoint.host.clone();
            return ChainError::WrongChain { expected: self.chain_id, found: *found, endpoint };
        }
        let each = troubles.iter().map(|(endpoint, trouble)| format!("{}: {}", endpoint.host, trouble.text()));
        ChainError::Unavailable { reason: each.collect::<Vec<_>>().join("; ") }
    }
}

/// Why no endpoint answered.
#[derive(Debug)]
pub(super) enum ReadError {
    Chain(ChainError),
    TooWide(String),
}

/// A quantity that fits 64 bits.
pub(super) fn number(value: Value) -> Result<u64, String> {
    serde_json::from_value::<U64>(value).map(|number| number.to()).map_err(|_| "not a number".to_owned())
}
