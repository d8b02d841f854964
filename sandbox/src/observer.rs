//! The chain as it is: what tests and demos compare the runtime's words with.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolEvent;
use drain_protocol::Usdc;
use drain_protocol::contract::DrainChannel;
use serde_json::{Value, json};

use crate::contracts::{self, CHANNEL_V2, USDC};
use crate::marketplace::SandboxError;
use crate::rpc::{ChannelRecord, RpcClient, RpcError};

/// Reads the chain with a client of its own, so that what it says is no echo of the runtime's bookkeeping.
#[derive(Debug)]
pub struct Observer {
    rpc: RpcClient,
}

impl Observer {
    /// An observer of the node at `url`.
    pub fn new(url: &str) -> Result<Self, RpcError> {
        Ok(Self { rpc: RpcClient::new(url)? })
    }

    /// The client, for anything else.
    pub fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    /// Tokens of an account.
    pub async fn usdc_balance(&self, account: Address) -> Result<Usdc, RpcError> {
        amount(self.rpc.token_balance(USDC, account).await?)
    }

    /// Native coins of an account, in wei.
    pub async fn native_balance(&self, account: Address) -> Result<U256, RpcError> {
        self.rpc.native_balance(account).await
    }

    /// A channel's record; `exists()` is false for one that is closed or never was.
    pub async fn channel(&self, contract: Address, id: B256) -> Result<ChannelRecord, RpcError> {
        self.rpc.channel(contract, id).await
    }

    /// What all channels of the V2 contract hold, by its own count.
    pub async fn total_locked(&self) -> Result<Usdc, RpcError> {
        amount(self.rpc.view(CHANNEL_V2, &DrainChannel::totalLockedCall {}).await?)
    }

    /// Sum of all protocol fees ever paid, from the events.
    pub async fn fees_paid(&self) -> Result<Usdc, RpcError> {
        self.event_sum(CHANNEL_V2, DrainChannel::FeePaid::SIGNATURE_HASH, None).await
    }

    /// Sum of all payouts of a channel (gross), from the events.
    pub async fn paid_out(&self, contract: Address, id: B256) -> Result<Usdc, RpcError> {
        self.event_sum(contract, DrainChannel::ChannelClaimed::SIGNATURE_HASH, Some(id)).await
    }

    /// Ids of all channels that a consumer ever opened on a contract, oldest first.
    pub async fn opened_by(&self, contract: Address, consumer: Address) -> Result<Vec<B256>, RpcError> {
        let topics = json!([DrainChannel::ChannelOpened::SIGNATURE_HASH, null, consumer.into_word()]);
        let logs = self.logs(contract, topics).await?;
        let ids = logs.iter().filter_map(|log| log.get("topics")?.get(1)?.as_str()?.parse().ok());
        Ok(ids.collect())
    }

    /// Sets an account's balances (development chains only).
    pub async fn fund(&self, account: Address, usdc: Usdc, wei: U256) -> Result<(), SandboxError> {
        self.control(contracts::usdc_balance_write(account, usdc.to_u256())?).await?;
        self.control(("anvil_setBalance", json!([account, wei]))).await?;
        Ok(())
    }

    pub(crate) async fn control(&self, (method, params): (&'static str, Value)) -> Result<(), RpcError> {
        self.rpc.call(method, params).await.map(|_| ())
    }

    async fn logs(&self, contract: Address, topics: Value) -> Result<Vec<Value>, RpcError> {
        let filter = json!([{"address": contract, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}]);
        self.rpc.get("eth_getLogs", filter).await
    }

    /// Sums the one number in the data of matching events.
    async fn event_sum(&self, contract: Address, event: B256, id: Option<B256>) -> Result<Usdc, RpcError> {
        let logs = self.logs(contract, json!([event, id])).await?;
        let numbers = logs.iter().filter_map(|log| log.get("data")?.as_str()?.parse::<U256>().ok());
        amount(numbers.fold(U256::ZERO, U256::saturating_add))
    }
}

fn amount(units: U256) -> Result<Usdc, RpcError> {
    Usdc::try_from(units).map_err(|error| RpcError::Shape(error.to_string()))
}
