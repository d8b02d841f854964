//! A chain with the contracts on it and funded accounts, shared by the tests.

use std::time::Duration;

use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes, LogData, U256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::SolStruct;
use alloy::transports::TransportError;
use drain_sandbox::chain::{ChainConfig, DevChain};
use drain_sandbox::contracts::{self, CHANNEL_V1, CHANNEL_V2, Settings, USDC};
use serde_json::{Value, json};

sol! {
    #![sol(all_derives)]

    #[sol(rpc)]
    contract Drain {
        function open(address provider, uint256 amount, uint256 duration) external returns (bytes32);
        function close(bytes32 channelId) external;
        function claim(bytes32 channelId, uint256 amount, uint256 nonce, bytes signature) external;
        function cooperativeClose(bytes32 channelId, uint256 finalAmount, bytes providerSignature) external;
        function getChannel(bytes32 channelId) external view
            returns (address consumer, address provider, uint256 deposit, uint256 claimed, uint256 expiry);
        function channels(bytes32 channelId) external view
            returns (address consumer, address provider, uint256 deposit, uint256 claimed, uint256 expiry);
        function getBalance(bytes32 channelId) external view returns (uint256);
        function nonces(address consumer) external view returns (uint256);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function DOMAIN_TYPEHASH() external view returns (bytes32);
        function VOUCHER_TYPEHASH() external view returns (bytes32);
        function CLOSE_TYPEHASH() external view returns (bytes32);
        function owner() external view returns (address);
        function usdc() external view returns (address);
        function isImmutable() external view returns (bool);
        function feeBps() external view returns (uint256);
        function feeRecipient() external view returns (address);
        function totalLocked() external view returns (uint256);
        function setUSDC(address token) external;
        function renounceOwnership() external;
        function setFee(address recipient, uint256 bps) external;
        function sweep() external;

        event ChannelOpened(bytes32 indexed channelId, address indexed consumer, address indexed provider, uint256 deposit, uint256 expiry);
        event ChannelClaimed(bytes32 indexed channelId, address indexed provider, uint256 amount);
        event ChannelClosed(bytes32 indexed channelId, address indexed consumer, uint256 refund);
        event FeePaid(bytes32 indexed channelId, address indexed recipient, uint256 amount);
        event FeeUpdated(address indexed recipient, uint256 bps);
        event Swept(address indexed to, uint256 amount);
        event USDCUpdated(address indexed oldToken, address indexed newToken);
        event OwnershipRenounced(address indexed previousOwner);
        event Transfer(address indexed from, address indexed to, uint256 value);

        error NotOwner();
        error ZeroAddress();
        error ChannelExists();
        error ChannelNotFound();
        error NotProvider();
        error NotConsumer();
        error NotExpired();
        error InvalidSignature();
        error InvalidAmount();
        error TransferFailed();
        error FeeTooHigh();
        error NoExcess();
    }

    #[sol(rpc)]
    contract Token {
        function name() external view returns (string);
        function symbol() external view returns (string);
        function decimals() external view returns (uint8);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
    }

    struct Voucher { bytes32 channelId; uint256 amount; uint256 nonce; }
    struct CloseAuthorization { bytes32 channelId; uint256 finalAmount; }
}

pub const USDC_FUNDS: u64 = 100_000_000;

/// Both channel contracts and the token, driven by three funded accounts.
pub struct Rig {
    /// Absent when `SANDBOX_TEST_RPC` names another node.
    pub chain: Option<DevChain>,
    pub node: DynProvider,
    pub v1: Drain::DrainInstance<DynProvider>,
    pub v2: Drain::DrainInstance<DynProvider>,
    pub usdc: Token::TokenInstance<DynProvider>,
    pub consumer: PrivateKeySigner,
    pub provider: PrivateKeySigner,
    pub owner: PrivateKeySigner,
}

pub fn units(value: u64) -> U256 {
    U256::from(value)
}

/// A provider that signs for the accounts. Plain HTTP, but the client type wants
/// a TLS provider to exist.
pub fn connect(url: &str, signers: &[&PrivateKeySigner]) -> DynProvider {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut wallet = EthereumWallet::default();
    for signer in signers {
        wallet.register_signer((*signer).clone());
    }
    ProviderBuilder::new().with_simple_nonce_management().wallet(wallet).connect_http(url.parse().unwrap()).erased()
}

impl Rig {
    /// On the node that `SANDBOX_TEST_RPC` names (one test at a time, please),
    /// or on a chain of its own.
    pub async fn anywhere() -> Self {
        match std::env::var("SANDBOX_TEST_RPC") {
            Ok(url) => Self::at(None, &url).await,
            Err(_) => Self::start(ChainConfig::default()).await,
        }
    }

    pub async fn start(config: ChainConfig) -> Self {
        let chain = DevChain::start(config).await.unwrap();
        let url = chain.url().to_owned();
        Self::at(Some(chain), &url).await
    }

    async fn at(chain: Option<DevChain>, url: &str) -> Self {
        let [consumer, provider, owner] = [(); 3].map(|()| PrivateKeySigner::random());
        let node = connect(url, &[&consumer, &provider, &owner]);
        let settings = Settings { owner: owner.address(), owner_v1: owner.address(), ..Settings::default() };
        contracts::install(&node, &settings).await.unwrap();
        for account in [&consumer, &provider, &owner] {
            let wei = U256::from(10).pow(U256::from(20));
            contracts::set_native_balance(&node, account.address(), wei).await.unwrap();
        }
        let funds = units(USDC_FUNDS);
        contracts::set_usdc_balance(&node, consumer.address(), funds).await.unwrap();
        let rig = Self {
            chain,
            v1: Drain::new(CHANNEL_V1, node.clone()),
            v2: Drain::new(CHANNEL_V2, node.clone()),
            usdc: Token::new(USDC, node.clone()),
            node,
            consumer,
            provider,
            owner,
        };
        for channel in [CHANNEL_V1, CHANNEL_V2] {
            let approve = rig.usdc.approve(channel, U256::MAX).from(rig.consumer.address());
            assert!(rig.mined(approve.send().await).await.status());
        }
        rig
    }

    pub fn dev(&self) -> &DevChain {
        self.chain.as_ref().unwrap()
    }

    pub async fn control(&self, method: &'static str, params: Value) -> Value {
        self.node.raw_request(method.into(), params).await.unwrap()
    }

    /// Waits for the receipt, whatever its status.
    pub async fn mined<E: std::fmt::Debug>(
        &self,
        sent: Result<alloy::providers::PendingTransactionBuilder<alloy::network::Ethereum>, E>,
    ) -> TransactionReceipt {
        let hash = *sent.unwrap().tx_hash();
        for _ in 0..400 {
            if let Some(receipt) = self.node.get_transaction_receipt(hash).await.unwrap() {
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no receipt for {hash}");
    }

    pub async fn open(&self, on: &Drain::DrainInstance<DynProvider>, amount: u64, secs: u64) -> B256 {
        let open = on.open(self.provider.address(), units(amount), units(secs)).from(self.consumer.address());
        let receipt = self.mined(open.send().await).await;
        let opened = receipt.decoded_log::<Drain::ChannelOpened>().unwrap();
        assert_eq!(opened.address, *on.address());
        opened.channelId
    }

    pub async fn chain_time(&self) -> u64 {
        let block = self.node.get_block_by_number(Default::default()).await.unwrap();
        block.unwrap().header.timestamp
    }

    pub async fn usdc_of(&self, account: Address) -> u64 {
        self.usdc.balanceOf(account).call().await.unwrap().to()
    }

    /// The raw form of a signed transaction, for tests that send it themselves.
    pub async fn raw(&self, request: TransactionRequest, nonce: u64, tip_gwei: u128) -> (B256, Bytes) {
        let request = request
            .with_chain_id(137)
            .with_nonce(nonce)
            .with_gas_limit(300_000)
            .with_max_fee_per_gas(tip_gwei * 2_000_000_000)
            .with_max_priority_fee_per_gas(tip_gwei * 1_000_000_000);
        let wallet = EthereumWallet::from(self.consumer.clone());
        let tx = request.with_from(self.consumer.address()).build(&wallet).await.unwrap();
        (*tx.tx_hash(), tx.encoded_2718().into())
    }

    pub async fn next_time(&self, timestamp: u64) {
        self.control("evm_setNextBlockTimestamp", json!([timestamp])).await;
    }

    pub async fn mine_at(&self, timestamp: u64) {
        self.next_time(timestamp).await;
        self.control("evm_mine", json!([])).await;
    }
}

pub fn sign<S: SolStruct>(signer: &PrivateKeySigner, contract: Address, message: &S) -> Bytes {
    let digest = message.eip712_signing_hash(&contracts::domain(137, contract));
    signer.sign_hash_sync(&digest).unwrap().as_bytes().into()
}

pub fn voucher(signer: &PrivateKeySigner, on: Address, id: B256, amount: u64, nonce: u64) -> Bytes {
    let message = Voucher { channelId: id, amount: units(amount), nonce: units(nonce) };
    sign(signer, on, &message)
}

pub fn closing(signer: &PrivateKeySigner, on: Address, id: B256, amount: u64) -> Bytes {
    let message = CloseAuthorization { channelId: id, finalAmount: units(amount) };
    sign(signer, on, &message)
}

/// A transfer of some wei to an address nobody uses.
pub fn gift(wei: u64) -> TransactionRequest {
    TransactionRequest::default().with_to(Address::repeat_byte(0x77)).with_value(units(wei))
}

/// The message of the error reply.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, TransportError>) -> String {
    let error = result.unwrap_err();
    error.as_error_resp().unwrap_or_else(|| panic!("{error:?}")).message.to_string()
}

/// Addresses and content of a receipt's logs, in order.
pub fn emitted(receipt: &TransactionReceipt) -> Vec<(Address, LogData)> {
    let logs = receipt.logs().iter();
    logs.map(|log| (log.address(), log.inner.data.clone())).collect()
}

/// Asserts that a call reverts with a custom error.
#[macro_export]
macro_rules! reverts {
    ($call:expr, $from:expr, $error:ident) => {{
        let call = $call;
        let error = call.from($from.address()).call().await.err().unwrap();
        let data = error.as_revert_data().unwrap_or_else(|| panic!("{error:?}"));
        let wanted = <$crate::rig::Drain::$error as alloy::sol_types::SolError>::SELECTOR;
        assert_eq!(data.as_ref(), wanted, stringify!($error));
    }};
}
