//! Against the sandbox's chain, whose endpoints lie, fail and lag on command.

mod canned;
mod endpoints;
mod events;
mod money;
mod relay;
mod tempo;
mod tracking;

use std::time::Duration;

use alloy::consensus::SignableTransaction;
use alloy::primitives::Bytes;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use drain_protocol::deployment::{POLYGON, builtin};
use drain_protocol::duration::ChannelDuration;
use drain_protocol::{Address, ChannelId, Deployment, U256, Usdc};
use drain_sandbox::chain::{ChainConfig as DevConfig, DevChain};
use drain_sandbox::contracts::Settings;
use drain_signers::request::{Call, TransactionRequest};

use super::track::Pace;
use super::*;

const FUNDS: u32 = 100_000_000;

/// A development chain, a funded wallet and a provider.
struct Rig {
    dev: DevChain,
    wallet: PrivateKeySigner,
    provider: Address,
    v1: Deployment,
    v2: Deployment,
}

fn chain_on(urls: &[&str]) -> Chain {
    chain_with(urls, Duration::from_secs(5))
}

fn chain_with(urls: &[&str], rpc_timeout: Duration) -> Chain {
    Chain::new(&ChainConfig {
        generation: None,
        chain_id: POLYGON,
        rpc_urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
        deployments: builtin(POLYGON),
        rpc_timeout,
        confirmations: 3,
        poll_interval: Duration::from_secs(1),
        transaction_timeout: Duration::from_secs(2),
        replace_after: Duration::from_secs(90),
    })
    .unwrap()
}

impl Rig {
    async fn new() -> Self {
        Self::with(DevConfig::default()).await
    }

    async fn with(config: DevConfig) -> Self {
        let dev = DevChain::start(config).await.unwrap();
        dev.install(&Settings::default()).unwrap();
        let wallet = PrivateKeySigner::random();
        dev.fund(wallet.address(), U256::from(10).pow(U256::from(20)), U256::from(FUNDS)).unwrap();
        let [v2, v1] = builtin(POLYGON)[..] else { panic!("two deployments") };
        Self { dev, wallet, provider: Address::repeat_byte(0x77), v1, v2 }
    }

    fn chain(&self) -> Chain {
        chain_on(&[self.dev.url()])
    }

    fn address(&self) -> Address {
        self.wallet.address()
    }

    /// A signed transaction with the wallet's next nonce, or the given one.
    async fn signed(&self, chain: &Chain, on: Deployment, call: Call, nonce: Option<u64>, bumps: u32) -> Broadcast {
        let latest = chain.account_nonce_at(self.address(), Default::default()).await.unwrap();
        let mut fees = chain.fees().await.unwrap();
        for _ in 0..bumps {
            fees = fees.bumped();
        }
        let request = TransactionRequest {
            deployment: on,
            call,
            account_nonce: nonce.unwrap_or(latest),
            gas_limit: 300_000,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
        };
        let unsigned = request.unsigned();
        let signature = self.wallet.sign_hash_sync(&unsigned.signature_hash()).unwrap();
        let signed = unsigned.into_signed(signature);
        let mut raw = Vec::new();
        signed.eip2718_encode(&mut raw);
        Broadcast {
            raw: Some(raw.into()),
            hash: *signed.hash(),
            wallet: self.address(),
            account_nonce: request.account_nonce,
        }
    }

    async fn done(&self, chain: &Chain, on: Deployment, call: Call) -> Receipt {
        let transaction = self.signed(chain, on, call, None, 0).await;
        match await_final(chain, &transaction, |_| {}).await.unwrap() {
            Finality::Final(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }

    fn open_call(&self, units: u32) -> Call {
        let duration = ChannelDuration::from_seconds(3_600).unwrap();
        Call::Open { provider: self.provider, amount: Usdc::new(units), duration }
    }

    /// Approves and opens.
    async fn opened(&self, chain: &Chain, on: Deployment, units: u32) -> (Receipt, OpenedEvent) {
        self.done(chain, on, Call::Approve { amount: Usdc::new(units) }).await;
        let receipt = self.done(chain, on, self.open_call(units)).await;
        let event = expect_opened(&receipt, &on, self.address(), self.provider, Usdc::new(units)).unwrap();
        (receipt, event)
    }
}

/// A signed transaction.
#[derive(Clone, Debug)]
struct Broadcast {
    raw: Option<Bytes>,
    hash: drain_protocol::B256,
    wallet: Address,
    account_nonce: u64,
}

impl Broadcast {
    fn attempt(&self) -> Attempt {
        Attempt { raw: self.raw.clone(), hash: self.hash }
    }

    fn way(&self, pace: Pace, chain: &Chain) -> Way {
        Way::at(pace, chain, Slot { wallet: self.wallet, account_nonce: self.account_nonce }, vec![self.attempt()])
    }
}

async fn await_final(
    chain: &Chain,
    transaction: &Broadcast,
    note: impl FnMut(Progress) + Send,
) -> Result<Finality, ChainError> {
    transaction.way(Pace::default(), chain).end(note).await
}

/// A pace for tests that wait for something to happen twice.
fn quick() -> Pace {
    Pace {
        pause: (Duration::from_millis(10), Duration::from_millis(50)),
        rebroadcast: (Duration::from_millis(200), Duration::from_millis(100)),
        second_look: Duration::from_millis(200),
        catch_up: 5,
        stalled: Duration::MAX,
    }
}

fn close_data(id: ChannelId) -> Bytes {
    use alloy::sol_types::SolCall;
    drain_protocol::contract::DrainChannel::closeCall { channelId: id.0 }.abi_encode().into()
}
