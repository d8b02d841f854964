//! A sandbox with a runtime in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChatCall, ChatReply, OpenRequest, Paid, Progress};
use drain_mcp::config::{ChainConfig, Config, Limits, MarketplaceConfig, RequestConfig, SignerConfig};
use drain_mcp::error::Failure;
use drain_protocol::chat::{Message, Role};
use drain_protocol::contract::Erc20;
use drain_protocol::deployment::builtin;
use drain_protocol::{Address, ChannelId, U256, Usdc};
use drain_sandbox::chain::DevChain;
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use drain_sandbox::marketplace::{Sandbox, SandboxConfig};
use drain_signers::{LocalBackend, Policy, Secret, Signer};
use tempfile::TempDir;

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
}

impl World {
    pub async fn start() -> Self {
        Self { sandbox: Sandbox::start(SandboxConfig::default()).await.unwrap(), home: tempfile::tempdir().unwrap() }
    }

    pub fn config(&self) -> Config {
        let directory: reqwest::Url = self.sandbox.directory.url().parse().unwrap();
        Config {
            home: self.home.path().to_owned(),
            chain: ChainConfig {
                chain_id: 137,
                rpc_urls: vec![self.sandbox.rpc_url().parse().unwrap()],
                deployments: builtin(137),
                generation: None,
                rpc_timeout: Duration::from_secs(5),
                confirmations: 1,
                poll_interval: Duration::from_millis(200),
                transaction_timeout: Duration::from_secs(20),
            },
            marketplace: MarketplaceConfig {
                base_url: directory.join("/").unwrap(),
                directory_url: directory,
                timeout: Duration::from_secs(5),
                max_age: Duration::ZERO,
                telemetry: false,
            },
            signer: SignerConfig::None,
            limits: Limits {
                per_channel: Usdc::new(5_000_000),
                locked: Usdc::new(20_000_000),
                unlimited_allowance: false,
                session_fee: Usdc::new(10_000),
            },
            requests: RequestConfig {
                default_max_tokens: 1_024,
                default_max_cost: Usdc::new(50_000),
                timeout: Duration::from_secs(5),
                max_answer_bytes: 1 << 20,
                max_request_bytes: 100_000,
                queue: 64,
                price_tolerance_percent: 0,
                allow_insecure: false,
                default_duration: "24h".parse().unwrap(),
            },
            providers: Vec::new(),
            play_money: true,
            warnings: Vec::new(),
        }
    }

    pub async fn runtime(&self) -> Runtime {
        self.runtime_with(self.config()).await
    }

    pub async fn runtime_with(&self, config: Config) -> Runtime {
        let key = self.sandbox.env().into_iter().find(|(name, _)| name == "DRAIN_PRIVATE_KEY").unwrap().1;
        let signer = Signer::new(
            LocalBackend::new(Secret::parse(&key).unwrap()),
            Policy::new(config.chain.chain_id, config.chain.deployments.clone()),
        );
        Runtime::start(config, Some(signer)).await.unwrap()
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

pub async fn ask(runtime: &Runtime, channel: ChannelId, model: &str, text: &str) -> Result<Box<Paid>, Failure> {
    let call = ChatCall {
        channel,
        model: model.into(),
        messages: vec![Message { role: Role::User, content: text.into() }],
        max_tokens: None,
        temperature: None,
        max_cost: None,
    };
    match runtime.chat(call, Progress::none()).await? {
        ChatReply::Paid(paid) => Ok(paid),
        ChatReply::ReadFirst { docs } => panic!("asked to read first: {docs}"),
    }
}

// === the chain's side of a world, and its end ===

impl World {
    pub async fn with(config: SandboxConfig) -> Self {
        Self { sandbox: Sandbox::start(config).await.unwrap(), home: tempfile::tempdir().unwrap() }
    }

    pub fn chain(&self) -> &DevChain {
        self.sandbox.chain.as_ref().unwrap()
    }

    pub fn agent(&self) -> Address {
        self.sandbox.agent().address()
    }

    /// The agent's tokens, by the observer's word.
    pub async fn held(&self) -> Usdc {
        self.sandbox.observer().usdc_balance(self.agent()).await.unwrap()
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

/// Waits for what another part does; there is nothing to be told by.
pub async fn until(what: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !what().await {
        assert!(started.elapsed() < Duration::from_secs(20), "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An opening of the default duration.
pub fn wish(provider: &str, amount: &str) -> OpenRequest {
    OpenRequest { provider: provider.into(), amount: usdc(amount), duration: None, cap: None }
}
