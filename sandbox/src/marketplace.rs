//! The whole marketplace in one call: chain, contracts, providers, directory, a funded wallet.

use std::io;

use alloy::primitives::{Address, B256, U256, address, b256};
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::{Generation, Usdc};

use crate::chain::{ChainConfig, DevChain, Endpoint, Faults};
use crate::contracts::{self, CHANNEL_V1, CHANNEL_V2, InstallError, Settings, USDC};
use crate::directory::{Directory, DirectoryConfig, Listing};
use crate::observer::Observer;
use crate::paid::{Paid, PaidConfig};
use crate::provider::{Kind, Model, Provider, ProviderConfig};
use crate::rpc::RpcError;

/// Anvil's first key: the agent. Known to everybody, for play money only.
pub const AGENT_KEY: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
/// Anvil's next keys: LLM, data, image and V1 provider, in this order.
const PROVIDER_KEYS: [B256; 4] = [
    b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
];
/// Where V1 session fees go.
pub const FEE_WALLET: Address = address!("fEE00000000000000000000000000000000000fE");
/// Who is paid by HTTP 402: an address that nobody has the key of, so that its balance only grows.
pub const PAYEE: Address = Address::repeat_byte(0x4d);
/// What a request that is paid by HTTP 402 costs, in base units.
const PAID_PRICE: u32 = 10_000;
/// One POL in wei.
const POL: u64 = 1_000_000_000_000_000_000;

/// What a sandbox starts with.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// The chain of this process; ignored with `rpc_url`.
    pub chain: ChainConfig,
    /// A node that takes anvil's control methods, in place of the chain of this process.
    pub rpc_url: Option<String>,
    /// Storage of the contracts.
    pub contracts: Settings,
    /// The agent's key.
    pub agent_key: B256,
    /// The agent's tokens.
    pub agent_usdc: Usdc,
    /// The agent's native coins, in wei.
    pub agent_native: U256,
    /// V1 session fees; `None` for none.
    pub fee_wallet: Option<Address>,
    /// Last change to each standard provider before it starts.
    pub adjust: fn(&mut ProviderConfig),
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            chain: ChainConfig::default(),
            rpc_url: None,
            contracts: Settings::default(),
            agent_key: AGENT_KEY,
            agent_usdc: Usdc::new(100_000_000),
            agent_native: U256::from(10) * U256::from(POL),
            fee_wallet: Some(FEE_WALLET),
            adjust: |_| {},
        }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No port, or no task.
    #[error("the sandbox could not listen: {0}")]
    Io(#[from] io::Error),
    /// The contracts' artifacts are damaged.
    #[error("the contracts could not be installed: {0}")]
    Contracts(#[from] InstallError),
    /// The node refused.
    #[error("the chain refused: {0}")]
    Rpc(#[from] RpcError),
    /// Not a private key.
    #[error("the key is not a private key")]
    Key,
}

/// A running marketplace. Dropping it stops every part.
pub struct Sandbox {
    /// The chain of this process; `None` with an external node.
    pub chain: Option<DevChain>,
    /// "Sim-LLM", V2: sim-small at 225/900 units per 1000 tokens, sim-large at 3750/15000.
    pub llm: Provider,
    /// "Sim-Weather", V2: sim/forecast at 5000 units per request.
    pub data: Provider,
    /// "Sim-Image", V2: sim/image at 20000 units per request.
    pub image: Provider,
    /// "Sim-LLM-V1", V1: the same models as `llm`.
    pub v1: Provider,
    /// The server that is paid by HTTP 402: 10000 units per request.
    pub paid: Paid,
    /// The directory.
    pub directory: Directory,
    observer: Observer,
    office: Option<Endpoint>,
    agent: PrivateKeySigner,
    rpc_url: String,
}

impl Sandbox {
    /// Starts everything and funds the wallets.
    pub async fn start(config: SandboxConfig) -> Result<Self, SandboxError> {
        let (chain, office, rpc_url) = match config.rpc_url {
            Some(url) => (None, None, url),
            None => {
                let chain = DevChain::start(config.chain).await?;
                let office = chain.endpoint(Faults::default()).await?;
                let url = chain.url().to_owned();
                (Some(chain), Some(office), url)
            }
        };
        let office_url = office.as_ref().map_or(rpc_url.as_str(), Endpoint::url).to_owned();
        let observer = Observer::new(&office_url)?;
        let chain_id = observer.rpc().chain_id().await?;
        for write in contracts::writes(chain_id, &config.contracts)? {
            observer.control(write).await?;
        }
        let agent = signer(config.agent_key)?;
        observer.fund(agent.address(), config.agent_usdc, config.agent_native).await?;

        let [llm_key, data_key, image_key, v1_key] = PROVIDER_KEYS;
        let llm_models = || vec![Model::new("sim-small", 225, 900), Model::new("sim-large", 3_750, 15_000)];
        let standard = |name: &str, key: B256, contract: Address| -> Result<ProviderConfig, SandboxError> {
            Ok(ProviderConfig::new(name, signer(key)?, chain_id, contract, office_url.as_str()))
        };
        let llm = standard("Sim-LLM", llm_key, CHANNEL_V2)?.with_kind(Kind::Llm, llm_models());
        let data = standard("Sim-Weather", data_key, CHANNEL_V2)?
            .with_kind(Kind::Forecast, vec![Model::new("sim/forecast", 5_000, 0)]);
        let image = standard("Sim-Image", image_key, CHANNEL_V2)?
            .with_kind(Kind::Image, vec![Model::new("sim/image", 20_000, 0)]);
        let mut v1 = standard("Sim-LLM-V1", v1_key, CHANNEL_V1)?.with_kind(Kind::Llm, llm_models());
        v1.generation = Generation::V1;

        let mut started = Vec::new();
        for mut provider in [llm, data, image, v1] {
            (config.adjust)(&mut provider);
            observer.fund(provider.key.address(), Usdc::ZERO, U256::from(10) * U256::from(POL)).await?;
            started.push(Provider::start(provider).await?);
        }
        let Ok([llm, data, image, v1]) = <[Provider; 4]>::try_from(started) else {
            return Err(io::Error::other("a provider is missing").into());
        };
        let paid = Paid::start(office_url.as_str(), PaidConfig::new(PAYEE, Usdc::new(PAID_PRICE))).await?;
        let listings = vec![
            Listing::of("sim-llm", &llm),
            Listing::of("sim-weather", &data),
            Listing::of("sim-image", &image),
            Listing::of("sim-llm-v1", &v1),
            Listing::mpp("sim-mpp", &paid),
        ];
        let directory = Directory::start(DirectoryConfig {
            rpc_url: office_url,
            chain_id,
            contract_v1: CHANNEL_V1,
            contract_v2: CHANNEL_V2,
            usdc: USDC,
            fee_wallet: config.fee_wallet,
            listings,
        })
        .await?;
        Ok(Self { chain, llm, data, image, v1, paid, directory, observer, office, agent, rpc_url })
    }

    /// The agent's key.
    pub fn agent(&self) -> &PrivateKeySigner {
        &self.agent
    }

    /// Lists also the echo of the server that is paid by HTTP 402, as "sim-mpp-rest".
    pub fn list_mpp_rest(&self) {
        self.directory.listings().push(Listing::mpp_rest("sim-mpp-rest", &self.paid));
    }

    /// The node as providers, directory and observer see it: an endpoint of its own, so that faults and counts of the
    /// chain's main endpoint concern the runtime alone. `None` with an external node.
    pub fn office(&self) -> Option<&Endpoint> {
        self.office.as_ref()
    }

    /// The node as the runtime sees it.
    pub fn rpc_url(&self) -> &str {
        &self.rpc_url
    }

    /// Reads the chain independently of the runtime.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// What a runtime needs in its environment to use this sandbox.
    pub fn env(&self) -> Vec<(String, String)> {
        let key = format!("0x{}", alloy::hex::encode(self.agent.to_bytes()));
        [
            ("DRAIN_PRIVATE_KEY", key),
            ("DRAIN_CHAIN_ID", self.llm.config().chain_id.to_string()),
            ("DRAIN_RPC_URL", self.rpc_url.clone()),
            ("DRAIN_DIRECTORY_URL", self.directory.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn signer(key: B256) -> Result<PrivateKeySigner, SandboxError> {
    PrivateKeySigner::from_bytes(&key).map_err(|_| SandboxError::Key)
}
