//! A sandbox with a runtime in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::sol_types::SolCall;
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelView, ChatCall, ChatReply, OpenRequest, Paid, PayFrom, Progress};
use drain_mcp::config::{ChainConfig, Config, SignerConfig, Sources};
use drain_mcp::error::{Code, Failure, Money, Retry, told};
use drain_protocol::chat::{Message, Role};
use drain_protocol::contract::{DrainChannel, Erc20};
use drain_protocol::{Address, Asset, ChannelId, U256, Usdc};
use drain_sandbox::chain::DevChain;
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use drain_sandbox::marketplace::{Sandbox, SandboxConfig};
use drain_sandbox::provider::{PaidRequest, Provider, ProviderConfig};
use drain_signers::{Backend, LocalBackend, Policy, Secret, Signer};
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::anvil::{self, Node};

/// Runs a test inside of an actix system over a multi-threaded runtime, as the binary does.
pub fn in_system<F: Future>(test: F) -> F::Output {
    let _ = rustls::crypto::ring::default_provider().install_default();
    actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
    .block_on(test)
}

/// A marketplace on loopback and a home for the runtime.
pub struct World {
    pub sandbox: Sandbox,
    pub home: TempDir,
    /// Somebody else's chain, where the world lives on one.
    _node: Option<Node>,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With a last change to each provider.
    pub async fn start_with(adjust: fn(&mut ProviderConfig)) -> Self {
        Self::with(SandboxConfig { adjust, ..SandboxConfig::default() }).await
    }

    /// What a person gets who sets nothing, on this marketplace, with a chain and a directory that answer at once.
    pub fn config(&self) -> Config {
        let home = self.home.path().display().to_string();
        let own = [("DRAIN_HOME", home.as_str()), ("DRAIN_AGENT", "tester"), ("DRAIN_PLAY_MONEY", "on")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut config = Config::load(Sources::from_pairs(self.sandbox.env().into_iter().chain(own))).unwrap();
        config.signer = SignerConfig::None;
        config.chain = ChainConfig {
            rpc_timeout: Duration::from_secs(5),
            confirmations: 1,
            poll_interval: Duration::from_millis(200),
            transaction_timeout: Duration::from_secs(20),
            ..config.chain
        };
        (config.marketplace.timeout, config.marketplace.max_age) = (Duration::from_secs(5), Duration::ZERO);
        config.approvals.wait = Duration::ZERO;
        (config.requests.timeout, config.requests.max_answer_bytes) = (Duration::from_secs(5), 1 << 20);
        config
    }

    pub async fn runtime(&self) -> Runtime {
        self.runtime_with(self.config()).await
    }

    pub async fn runtime_with(&self, config: Config) -> Runtime {
        let backend = self.backend();
        self.runtime_of(config, backend).await
    }

    /// One that does not wait long for a provider.
    pub async fn impatient(&self) -> Runtime {
        let mut config = self.config();
        config.requests.timeout = Duration::from_millis(1_500);
        self.runtime_with(config).await
    }

    /// Signs with a backend of the test's own.
    pub async fn runtime_of(&self, config: Config, backend: impl Backend + 'static) -> Runtime {
        let asset = Asset::usdc(config.chain.chain_id, USDC);
        let policy = Policy {
            assets: vec![asset],
            max_transfer: config.limits.per_payment.min(config.limits.per_request),
            ..Policy::new(config.chain.chain_id, config.chain.deployments.clone())
        };
        let signer = Signer::new(backend, policy);
        Runtime::start(config, Some(signer)).await.unwrap()
    }

    /// The agent's key.
    pub fn backend(&self) -> LocalBackend {
        let key = self.sandbox.env().into_iter().find(|(name, _)| name == "DRAIN_PRIVATE_KEY").unwrap().1;
        LocalBackend::new(Secret::parse(&key).unwrap())
    }

    /// The journal's file through a connection of the test's own, as another process would see it.
    pub fn journal(&self) -> Connection {
        let folder = format!("137-{:#x}", self.sandbox.agent().address());
        Connection::open(self.home.path().join(folder).join("journal.db")).unwrap()
    }

    /// One number from the journal's file.
    pub fn journaled(&self, query: &str) -> i64 {
        self.journal().query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// How many transactions the agent has sent.
    pub fn transactions(&self) -> u64 {
        let agent = self.sandbox.agent().address();
        let count = self.chain().call("eth_getTransactionCount", json!([agent, "latest"])).unwrap();
        u64::from_str_radix(count.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    /// Lets `seconds` pass on the chain.
    pub async fn advance(&self, seconds: u64) {
        let rpc = self.sandbox.observer().rpc();
        rpc.call("evm_increaseTime", json!([seconds])).await.unwrap();
        rpc.call("evm_mine", json!([])).await.unwrap();
    }

    /// Closes an expired channel with the agent's key, past the runtime, as another program would.
    pub async fn close_elsewhere(&self, contract: Address, channel: ChannelId) {
        let call = DrainChannel::closeCall { channelId: channel.0 }.abi_encode();
        self.sandbox.observer().rpc().execute(self.sandbox.agent(), contract, call).await.unwrap();
    }

    /// The agent's tokens, read from the chain.
    pub async fn held(&self) -> Usdc {
        self.sandbox.observer().usdc_balance(self.sandbox.agent().address()).await.unwrap()
    }
}

/// What a provider was sent with a voucher, in order. The questions that a runtime asks before it opens are left out.
pub fn vouchers(provider: &Provider) -> Vec<PaidRequest> {
    provider.request_log().paid.into_iter().filter(|request| request.header.is_some()).collect()
}

/// Amounts and numbers of these vouchers.
pub fn figures(provider: &Provider) -> Vec<(u64, u64)> {
    vouchers(provider).iter().map(|request| (request.amount.unwrap(), request.nonce.unwrap())).collect()
}

/// Waits for something that another task brings about; a test that waits in vain fails.
pub async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !happened().await {
        assert!(started.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn usdc(text: &str) -> Usdc {
    text.parse().unwrap()
}

pub async fn open(runtime: &Runtime, provider: &str, amount: &str, duration: &str) -> Result<ChannelId, Failure> {
    let request = OpenRequest {
        provider: provider.into(),
        amount: usdc(amount),
        duration: Some(duration.parse().unwrap()),
        cap: None,
    };
    Ok(runtime.open(request, Progress::none()).await?.channel.channel_id.unwrap().parse().unwrap())
}

/// A runtime that does not wait long, and a channel of one USDC to Sim-LLM.
pub async fn llm(world: &World) -> (Runtime, ChannelId) {
    let runtime = world.impatient().await;
    let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    (runtime, channel)
}

pub async fn ask(runtime: &Runtime, channel: ChannelId, model: &str, text: &str) -> Result<Box<Paid>, Failure> {
    pay(runtime, call(channel, model, text)).await
}

/// A request of one user message.
pub fn call(channel: ChannelId, model: &str, text: &str) -> ChatCall {
    ChatCall {
        from: PayFrom::Channel(channel),
        model: model.into(),
        messages: vec![Message { role: Role::User, content: text.into() }],
        max_tokens: None,
        temperature: None,
        max_cost: None,
        request_id: None,
    }
}

pub async fn pay(runtime: &Runtime, call: ChatCall) -> Result<Box<Paid>, Failure> {
    match runtime.chat(call, Progress::none()).await? {
        ChatReply::Paid(paid) => Ok(paid),
        ChatReply::ReadFirst { docs } => panic!("asked to read first: {docs}"),
    }
}

pub async fn view(runtime: &Runtime, channel: ChannelId) -> ChannelView {
    runtime.channel(channel).await.unwrap()
}

/// M15: the failure has this code, and says what to do next and what became of the money.
pub fn failed<T>(result: Result<T, Failure>, code: Code) -> Failure {
    let Err(failure) = result else { panic!("this should have failed with {}", code.as_str()) };
    told(&failure);
    assert_eq!(failure.code, code, "{failure:?}");
    assert!(!failure.message.trim().is_empty() && !failure.next.trim().is_empty(), "{failure:?}");
    assert!(!failure.money.sentence().is_empty() && !code.retry().sentence().is_empty());
    failure
}

/// M15: nothing was signed, nothing was sent.
pub fn unspent<T>(result: Result<T, Failure>, code: Code) -> Failure {
    let failure = failed(result, code);
    assert_eq!(failure.money, Money::NotSpent, "{failure:?}");
    failure
}

/// M15: a voucher left and nobody knows its fate. Gives the most that it can cost; such a call is never safe to repeat.
pub fn reserved<T>(result: Result<T, Failure>, code: Code) -> Usdc {
    let failure = failed(result, code);
    assert_eq!(code.retry(), Retry::No, "{failure:?}");
    let Money::Reserved { receipt, at_most } = &failure.money else { panic!("{failure:?}") };
    assert!(!receipt.is_empty() && !at_most.is_zero(), "{failure:?}");
    *at_most
}

/// M15: a voucher left, and the provider says that it did nothing for it.
pub fn credit<T>(result: Result<T, Failure>, code: Code) -> Failure {
    let failure = failed(result, code);
    let Money::Credit { receipt } = &failure.money else { panic!("{failure:?}") };
    assert!(!receipt.is_empty(), "{failure:?}");
    failure
}

/// JSON of an answer's text.
pub fn content(paid: &Paid) -> Value {
    serde_json::from_str(&paid.content).unwrap()
}

// === the chain's side of a world, and its end ===

impl World {
    pub async fn with(config: SandboxConfig) -> Self {
        Self::on(Node::wanted(config.chain.chain_id), config).await
    }

    /// On this node, or on our own chain.
    pub async fn on(node: Option<Node>, config: SandboxConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rpc_url = node.as_ref().map(|node| node.url.clone()).or(config.rpc_url);
        let sandbox = Sandbox::start(SandboxConfig { rpc_url, ..config }).await.unwrap();
        Self { sandbox, home: tempfile::tempdir().unwrap(), _node: node }
    }

    /// Our own chain and its switches.
    pub fn chain(&self) -> &DevChain {
        self.sandbox.chain.as_ref().expect(anvil::OWN_CHAIN)
    }

    pub fn agent(&self) -> Address {
        self.sandbox.agent().address()
    }

    /// How many transactions of the agent were mined.
    pub async fn sent(&self) -> u64 {
        let params = serde_json::json!([self.agent(), "latest"]);
        self.sandbox.observer().rpc().get::<U256>("eth_getTransactionCount", params).await.unwrap().to()
    }

    /// What the V2 contract may take from the agent.
    pub async fn allowance(&self) -> Usdc {
        let call = Erc20::allowanceCall { owner: self.agent(), spender: CHANNEL_V2 };
        self.sandbox.observer().rpc().view(USDC, &call).await.unwrap().try_into().unwrap()
    }

    /// A runtime in a thread and a system of its own: when `life` ends, all of it is gone at once, as of a process that
    /// was killed.
    pub async fn life<T: Send + 'static>(
        self: &Arc<Self>,
        config: Config,
        life: impl AsyncFnOnce(Runtime, Arc<Self>) -> T + Send + 'static,
    ) -> T {
        let world = Arc::clone(self);
        let (reply, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let outcome = in_system(async { life(world.runtime_with(config).await, Arc::clone(&world)).await });
            drop(world);
            let _ = reply.send(outcome);
        });
        ended.await.expect("the life panicked")
    }
}

/// An opening of the default duration.
pub fn wish(provider: &str, amount: &str) -> OpenRequest {
    OpenRequest { provider: provider.into(), amount: usdc(amount), duration: None, cap: None }
}
