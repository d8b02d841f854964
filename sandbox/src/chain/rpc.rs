//! The standard JSON-RPC methods.

use alloy::consensus::Header;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::{FeeHistory, Filter, TransactionRequest};
use revm::context::BlockEnv;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::evm::{self, Rules};
use super::faults::Faults;
use super::state::{Chain, Mined};
use super::{control, views};

/// An error reply.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Bytes>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The code nodes use for most refusals.
    pub(super) fn server(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(super) fn revert(message: String, data: Bytes) -> Self {
        Self { code: 3, message, data: Some(data) }
    }
}

/// Positional parameters.
pub(super) struct Params<'a>(pub(super) &'a Value);

impl Params<'_> {
    pub(super) fn at(&self, index: usize) -> Option<&Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    pub(super) fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        self.at(index)
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
            .map_err(|error| RpcError::invalid_params(format!("argument {index}: {error}")))
    }

    pub(super) fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.optional(index)?.ok_or_else(|| RpcError::invalid_params(format!("missing value for argument {index}")))
    }

    /// A number, as hex or decimal text or as a JSON number.
    pub(super) fn number(&self, index: usize) -> Result<Option<u64>, RpcError> {
        let Some(value) = self.optional::<U256>(index)? else {
            return Ok(None);
        };
        u64::try_from(value).map(Some).map_err(|_| RpcError::invalid_params(format!("argument {index} is too large")))
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Value, RpcError> {
    serde_json::to_value(value).map_err(|error| RpcError::new(-32603, error.to_string()))
}

fn quantity(value: impl Into<U256>) -> Value {
    Value::from(format!("{:#x}", value.into()))
}

/// Answers one request. `faults` is a copy for reading: dropping transactions, the
/// one thing that counts down, is the listener's.
pub(super) fn dispatch(chain: &mut Chain, faults: &Faults, method: &str, params: &Value) -> Result<Value, RpcError> {
    let params = Params(params);
    let head = chain.head().saturating_sub(faults.lagging_reads);
    let chain_id = faults.wrong_chain_id.unwrap_or(chain.config.chain_id);
    let tip = chain.config.suggested_priority_fee;
    let base_fee = chain.base_fee;
    match method {
        "eth_chainId" => Ok(quantity(U256::from(chain_id))),
        "net_version" => Ok(Value::from(chain_id.to_string())),
        "web3_clientVersion" => Ok(Value::from("drain-sandbox")),
        "net_listening" => Ok(Value::Bool(true)),
        "eth_syncing" => Ok(Value::Bool(false)),
        "eth_accounts" => Ok(json!([])),
        "eth_blockNumber" => Ok(quantity(U256::from(head))),
        "eth_gasPrice" => Ok(quantity(U256::from(u128::from(base_fee) + u128::from(tip)))),
        "eth_maxPriorityFeePerGas" => Ok(quantity(U256::from(tip))),
        "eth_feeHistory" => chain.fee_history(&params, head),
        "eth_getBlockByNumber" => {
            let tag = params.required::<BlockNumberOrTag>(0)?;
            let full = params.optional(1)?.unwrap_or(false);
            chain.block_by_tag(tag, full, head)
        }
        "eth_getBlockByHash" => {
            let number = chain.by_hash.get(&params.required::<B256>(0)?).copied();
            let full = params.optional(1)?.unwrap_or(false);
            let known = number.filter(|number| *number <= head);
            match known.and_then(|number| chain.block(number)) {
                Some(block) => views::block(block, full),
                None => Ok(Value::Null),
            }
        }
        "eth_getTransactionCount" => {
            let address = params.required::<Address>(0)?;
            let nonce = evm::account(&chain.db, address).nonce;
            let pending = params.at(1).is_some_and(|tag| tag == "pending");
            let count = if pending { chain.pool.next_nonce(address, nonce) } else { nonce };
            Ok(quantity(U256::from(count)))
        }
        "eth_getBalance" => {
            let db = chain.state_at(chain.at(&params, 1, head)?);
            Ok(quantity(evm::account(&db, params.required(0)?).balance))
        }
        "eth_getCode" => {
            let db = chain.state_at(chain.at(&params, 1, head)?);
            to_json(&evm::code(&db, params.required(0)?))
        }
        "eth_getStorageAt" => {
            let db = chain.state_at(chain.at(&params, 2, head)?);
            let word = evm::slot(&db, params.required(0)?, params.required(1)?);
            to_json(&B256::from(word))
        }
        "eth_call" => chain.call(&params, faults, head),
        "eth_estimateGas" => {
            let request = params.required::<TransactionRequest>(0)?;
            let block = evm::block_env(&chain.next_header());
            let gas = evm::estimate(&chain.db, chain.config.chain_id, &block, &request)?;
            Ok(quantity(U256::from(gas)))
        }
        "eth_sendRawTransaction" => {
            let pending = chain.decode(&params.required::<Bytes>(0)?)?;
            chain.admit(pending).and_then(|hash| to_json(&hash))
        }
        "eth_getTransactionByHash" => chain.transaction_json(params.required(0)?, head),
        "eth_getTransactionReceipt" => {
            let mut receipt = chain.receipt_json(params.required(0)?, head)?;
            faults.forge(&mut receipt);
            Ok(receipt)
        }
        "eth_getLogs" => {
            let logs = chain.logs_json(&params.required::<Filter>(0)?, head)?;
            Ok(if faults.hide_logs { json!([]) } else { logs })
        }
        _ => control::dispatch(chain, method, &params),
    }
}

impl Chain {
    /// The block number behind a tag, for a node at this height.
    pub(super) fn tag(&self, tag: BlockNumberOrTag, head: u64) -> u64 {
        match tag {
            BlockNumberOrTag::Number(number) => number,
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => head,
            BlockNumberOrTag::Finalized | BlockNumberOrTag::Safe => head.saturating_sub(self.config.finality_depth),
        }
    }

    /// The block whose state a read is about.
    fn at(&self, params: &Params<'_>, index: usize, head: u64) -> Result<u64, RpcError> {
        let number = match params.optional::<BlockId>(index)?.unwrap_or_default() {
            BlockId::Number(tag) => self.tag(tag, head),
            BlockId::Hash(hash) => {
                *self.by_hash.get(&hash.block_hash).ok_or_else(|| RpcError::server("header not found"))?
            }
        };
        if number > head {
            return Err(RpcError::server("header not found"));
        }
        Ok(number)
    }

    fn block_by_tag(&self, tag: BlockNumberOrTag, full: bool, head: u64) -> Result<Value, RpcError> {
        if tag == BlockNumberOrTag::Pending {
            let header = self.next_header();
            let pending = Mined { hash: header.hash_slow(), header, txs: Vec::new() };
            return views::block(&pending, full);
        }
        let number = self.tag(tag, head);
        match self.block(number).filter(|_| number <= head) {
            Some(block) => views::block(block, full),
            None => Ok(Value::Null),
        }
    }

    /// What a call at a block sees. The newest block counts as just mined, so
    /// that time passes for calls on an idle chain as it does on a busy one.
    fn call_block(&self, number: u64) -> BlockEnv {
        let now = self.next_header();
        let past = self.block(number).filter(|_| number < self.head());
        evm::block_env(&past.map_or(Header { number, ..now }, |block| block.header.clone()))
    }

    fn call(&self, params: &Params<'_>, faults: &Faults, head: u64) -> Result<Value, RpcError> {
        let request = params.required::<TransactionRequest>(0)?;
        let number = self.at(params, 1, head)?;
        let selector = request.input.input().and_then(|data| data.first_chunk::<4>());
        let forged = selector.and_then(|selector| faults.call_overrides.get(selector));
        if let Some(forged) = forged {
            return to_json(forged);
        }
        let limit = self.config.gas_limit;
        let tx = evm::call_env(&request, request.gas.unwrap_or(limit).min(limit));
        let block = self.call_block(number);
        let db = self.state_at(number);
        let chain_id = self.config.chain_id;
        let done = evm::execute(&db, chain_id, block, tx, Rules::Simulated);
        let output = evm::output(done.map_err(RpcError::server)?.result)?;
        to_json(&output)
    }

    fn fee_history(&self, params: &Params<'_>, head: u64) -> Result<Value, RpcError> {
        let count = params.number(0)?.unwrap_or(1).clamp(1, 1024);
        let newest = self.tag(params.optional(1)?.unwrap_or_default(), head).min(head);
        let percentiles = params.optional::<Vec<f64>>(2)?;
        let oldest = (newest + 1).saturating_sub(count);
        let blocks: Vec<&Mined> = (oldest..=newest).filter_map(|at| self.block(at)).collect();
        let fee = |block: &&Mined| u128::from(block.header.base_fee_per_gas.unwrap_or_default());
        let used = |block: &&Mined| block.header.gas_used as f64 / self.config.gas_limit as f64;
        // Polygon's blocks are never empty; the suggestion stands for their traffic.
        let tip = u128::from(self.config.suggested_priority_fee);
        to_json(&FeeHistory {
            base_fee_per_gas: blocks.iter().map(fee).chain([u128::from(self.base_fee)]).collect(),
            gas_used_ratio: blocks.iter().map(used).collect(),
            oldest_block: oldest,
            reward: percentiles.map(|points| vec![vec![tip; points.len()]; blocks.len()]),
            base_fee_per_blob_gas: Vec::new(),
            blob_gas_used_ratio: Vec::new(),
        })
    }
}
