//! A small JSON-RPC client of our own, independent of the runtime that is tested against the sandbox.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::network::TxSignerSync;
use alloy::network::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use drain_protocol::contract::{DrainChannel, Erc20};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Tip of every transaction: Polygon's nodes refuse less than 25 gwei.
const TIP: u128 = 30_000_000_000;
/// Enough for every call of the contracts, for when the estimate is not to be had.
const GAS_LIMIT: u64 = 400_000;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No answer, or none that is JSON-RPC.
    #[error("the node did not answer: {0}")]
    Transport(String),
    /// The node answered with an error.
    #[error("the node refused ({code}): {message}")]
    Refused {
        /// JSON-RPC code; 3 is a revert.
        code: i64,
        /// The node's words.
        message: String,
        /// Revert data, where given.
        data: Option<Bytes>,
    },
    /// The answer is not of the expected shape.
    #[error("the node's answer is not understood: {0}")]
    Shape(String),
    /// The transaction could not be signed.
    #[error("the transaction could not be signed: {0}")]
    Signing(String),
    /// No receipt in time.
    #[error("transaction {0} is not mined yet")]
    NotMined(B256),
}

/// A channel as the contract holds it. All zero when it is closed or never existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Who opened it.
    pub consumer: Address,
    /// Who is paid.
    pub provider: Address,
    /// Locked at opening, in base units.
    pub deposit: U256,
    /// Taken by the provider so far.
    pub claimed: U256,
    /// When the consumer may close alone (unix seconds).
    pub expiry: U256,
}

impl ChannelRecord {
    /// False for a channel that is closed or never existed.
    pub fn exists(&self) -> bool {
        self.consumer != Address::ZERO
    }
}

/// JSON-RPC over HTTP.
#[derive(Debug)]
pub struct RpcClient {
    http: reqwest::Client,
    url: String,
    id: AtomicU64,
}

/// `reqwest` is built without a TLS provider and panics without one, even for plain HTTP.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Err means that the program has chosen one already: as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

impl RpcClient {
    /// A client of the node at `url`.
    pub fn new(url: impl Into<String>) -> Result<Self, RpcError> {
        install_tls_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .map_err(|error| RpcError::Transport(error.to_string()))?;
        Ok(Self { http, url: url.into(), id: AtomicU64::new(1) })
    }

    /// The node's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One call, its result as JSON.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.id.fetch_add(1, Ordering::Relaxed);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let transport = |error: reqwest::Error| RpcError::Transport(error.without_url().to_string());
        let answer: Value = self
            .http
            .post(&self.url)
            .json(&request)
            .send()
            .await
            .map_err(transport)?
            .json()
            .await
            .map_err(transport)?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(RpcError::Refused {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                message: error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
                data: error.get("data").and_then(Value::as_str).and_then(|data| data.parse().ok()),
            });
        }
        answer.get("result").cloned().ok_or_else(|| RpcError::Shape("neither result nor error".into()))
    }

    /// One call, its result as a type.
    pub async fn get<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        let value = self.call(method, params).await?;
        serde_json::from_value(value).map_err(|error| RpcError::Shape(format!("{method}: {error}")))
    }

    /// `eth_call` of a contract's view at the latest block.
    pub async fn view<C: SolCall>(&self, contract: Address, call: &C) -> Result<C::Return, RpcError> {
        let data = Bytes::from(call.abi_encode());
        let answer: Bytes = self.get("eth_call", json!([{"to": contract, "data": data}, "latest"])).await?;
        C::abi_decode_returns(&answer).map_err(|error| RpcError::Shape(error.to_string()))
    }

    /// The contract's record of a channel.
    pub async fn channel(&self, contract: Address, id: B256) -> Result<ChannelRecord, RpcError> {
        let found = self.view(contract, &DrainChannel::getChannelCall { channelId: id }).await?;
        Ok(ChannelRecord {
            consumer: found.consumer,
            provider: found.provider,
            deposit: found.deposit,
            claimed: found.claimed,
            expiry: found.expiry,
        })
    }

    /// An account's tokens in base units.
    pub async fn token_balance(&self, token: Address, account: Address) -> Result<U256, RpcError> {
        self.view(token, &Erc20::balanceOfCall { account }).await
    }

    /// An account's native coin in wei.
    pub async fn native_balance(&self, account: Address) -> Result<U256, RpcError> {
        self.get("eth_getBalance", json!([account, "latest"])).await
    }

    /// The chain's id.
    pub async fn chain_id(&self) -> Result<u64, RpcError> {
        let id: U256 = self.get("eth_chainId", json!([])).await?;
        u64::try_from(id).map_err(|error| RpcError::Shape(error.to_string()))
    }

    /// Timestamp of the latest block: the clock that channels expire by.
    pub async fn block_time(&self) -> Result<u64, RpcError> {
        let block = self.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        u64::try_from(word(&block, "timestamp")?).map_err(|error| RpcError::Shape(error.to_string()))
    }

    /// The chain's clock: the time of the block that is being made, which passes also while no block comes.
    pub async fn clock(&self) -> Result<u64, RpcError> {
        let block = self.call("eth_getBlockByNumber", json!(["pending", false])).await?;
        if block.is_null() {
            return self.block_time().await;
        }
        u64::try_from(word(&block, "timestamp")?).map_err(|error| RpcError::Shape(error.to_string()))
    }

    /// Signs and sends a type 2 transaction with the sender's next account nonce. Does not wait for it to be mined.
    pub async fn send(&self, key: &PrivateKeySigner, to: Address, data: Vec<u8>) -> Result<B256, RpcError> {
        let from = key.address();
        let data = Bytes::from(data);
        let nonce: U256 = self.get("eth_getTransactionCount", json!([from, "pending"])).await?;
        let nonce = u64::try_from(nonce).map_err(|error| RpcError::Shape(error.to_string()))?;
        let block = self.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        let base_fee = u128::try_from(word(&block, "baseFeePerGas").unwrap_or_default())
            .map_err(|error| RpcError::Shape(error.to_string()))?;
        // A revert is known before it costs gas; anything else that keeps the node from estimating is not decisive.
        let gas_limit = match self.get::<U256>("eth_estimateGas", json!([{"from": from, "to": to, "data": data}])).await
        {
            Ok(gas) => u64::try_from(gas).unwrap_or(GAS_LIMIT).saturating_mul(5) / 4,
            Err(error @ RpcError::Refused { .. }) => return Err(error),
            Err(_) => GAS_LIMIT,
        };
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id().await?,
            nonce,
            gas_limit,
            max_fee_per_gas: base_fee.saturating_mul(2).saturating_add(TIP),
            max_priority_fee_per_gas: TIP,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: data,
        };
        let signature =
            key.sign_transaction_sync(&mut transaction).map_err(|error| RpcError::Signing(error.to_string()))?;
        let raw = Bytes::from(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718());
        self.get("eth_sendRawTransaction", json!([raw])).await
    }

    /// Waits for a receipt, up to ten seconds. A receipt may say that the transaction failed: read its `status`.
    pub async fn receipt(&self, hash: B256) -> Result<Value, RpcError> {
        for _ in 0..200 {
            let receipt = self.call("eth_getTransactionReceipt", json!([hash])).await?;
            if !receipt.is_null() {
                return Ok(receipt);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(RpcError::NotMined(hash))
    }

    /// Sends and waits; `Refused` when the transaction was mined and failed.
    pub async fn execute(&self, key: &PrivateKeySigner, to: Address, data: Vec<u8>) -> Result<Value, RpcError> {
        let hash = self.send(key, to, data).await?;
        let receipt = self.receipt(hash).await?;
        if succeeded(&receipt) {
            return Ok(receipt);
        }
        Err(RpcError::Refused { code: 3, message: format!("transaction {hash} failed"), data: None })
    }
}

/// A receipt's `status`.
pub fn succeeded(receipt: &Value) -> bool {
    receipt.get("status").and_then(Value::as_str) == Some("0x1")
}

/// A hexadecimal number in a JSON object.
fn word(object: &Value, field: &str) -> Result<U256, RpcError> {
    object
        .get(field)
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| RpcError::Shape(format!("no {field}")))
}
