//! Methods that steer the chain. Names and arguments are anvil's, so that the
//! same helpers work against a real one.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use serde_json::Value;

use super::evm;
use super::rpc::{Params, RpcError, to_json};
use super::state::{Chain, ReorgTxs};

/// Blocks one request may mine.
const MOST_BLOCKS: u64 = 10_000;

pub(super) fn dispatch(chain: &mut Chain, method: &str, params: &Params<'_>) -> Result<Value, RpcError> {
    match method {
        "evm_mine" => {
            // Either a timestamp or an object that holds one.
            let time = match params.at(0).and_then(|value| value.get("timestamp")) {
                Some(time) => Params(&Value::Array(vec![time.clone()])).number(0)?,
                None if params.at(0).is_some_and(Value::is_object) => None,
                None => params.number(0)?,
            };
            if let Some(time) = time {
                chain.set_next_timestamp(time).map_err(RpcError::invalid_params)?;
            }
            chain.mine();
            Ok(Value::from("0x0"))
        }
        "anvil_mine" | "hardhat_mine" => {
            let count = params.number(0)?.unwrap_or(1);
            if count > MOST_BLOCKS {
                return Err(RpcError::invalid_params("too many blocks"));
            }
            let spacing = params.number(1)?.unwrap_or(0);
            for index in 0..count {
                if index > 0 {
                    chain.shift_clock(i64::try_from(spacing).unwrap_or(0));
                }
                chain.mine();
            }
            Ok(Value::Null)
        }
        "evm_increaseTime" => {
            let seconds = params.number(0)?.unwrap_or(0);
            let signed = i64::try_from(seconds).map_err(|_| RpcError::invalid_params("argument 0 is too large"))?;
            chain.shift_clock(signed);
            Ok(Value::from(seconds))
        }
        "evm_setNextBlockTimestamp" => {
            let time = params.number(0)?;
            let time = time.ok_or_else(|| RpcError::invalid_params("missing timestamp"))?;
            chain.set_next_timestamp(time).map_err(RpcError::invalid_params)?;
            Ok(Value::Null)
        }
        "evm_setAutomine" => {
            chain.automine = params.required(0)?;
            chain.mine_ready();
            Ok(Value::Null)
        }
        "evm_setIntervalMining" | "anvil_setIntervalMining" => {
            let period = Duration::from_secs(params.number(0)?.unwrap_or(0));
            chain.automine = chain.automine && period.is_zero();
            chain.interval.send_replace(period);
            Ok(Value::Null)
        }
        "anvil_setBalance" => {
            let (address, balance) = (params.required::<Address>(0)?, params.required::<U256>(1)?);
            let mut info = evm::account(&chain.db, address);
            info.balance = balance;
            chain.db.insert_account_info(address, info);
            Ok(Value::Null)
        }
        "anvil_setNonce" => {
            let address = params.required::<Address>(0)?;
            let mut info = evm::account(&chain.db, address);
            info.nonce = params.number(1)?.unwrap_or(0);
            chain.db.insert_account_info(address, info);
            Ok(Value::Null)
        }
        "anvil_setCode" => {
            evm::set_code(&mut chain.db, params.required(0)?, params.required::<Bytes>(1)?);
            Ok(Value::Null)
        }
        "anvil_setStorageAt" => {
            let value = params.required::<B256>(2)?;
            let (address, key) = (params.required(0)?, params.required::<U256>(1)?);
            evm::set_slot(&mut chain.db, address, key, value.into());
            Ok(Value::Bool(true))
        }
        "anvil_setNextBlockBaseFeePerGas" => {
            chain.base_fee = params.number(0)?.unwrap_or(0);
            chain.mine_ready();
            Ok(Value::Null)
        }
        "anvil_dropTransaction" => {
            let dropped = chain.pool.remove(params.required(0)?);
            to_json(&dropped.map(|pending| pending.hash))
        }
        "anvil_dropAllTransactions" => {
            chain.pool.clear();
            Ok(Value::Null)
        }
        "sandbox_reorg" => {
            // depth, then "drop", "requeue" or the seconds to shift by.
            let depth = params.number(0)?.unwrap_or(1);
            let fate = match params.at(1).and_then(Value::as_str) {
                Some("drop") => ReorgTxs::Drop,
                Some("requeue") => ReorgTxs::Requeue,
                _ => ReorgTxs::Remine { shift: params.number(1)?.unwrap_or(0) },
            };
            chain.reorg(depth, fate);
            Ok(Value::Null)
        }
        _ => Err(RpcError::new(-32601, format!("the method {method} does not exist/is not available"))),
    }
}

/// Splits the keys of `sandbox_setFaults` that concern the whole chain from
/// those of one endpoint, applies the former and returns the latter.
pub(super) fn chain_faults(
    chain: &mut Chain,
    mut keys: serde_json::Map<String, Value>,
) -> Result<serde_json::Map<String, Value>, RpcError> {
    let wrong = |name: &str| RpcError::invalid_params(format!("{name} has the wrong type"));
    if let Some(count) = keys.remove("revert_next") {
        chain.revert_next = count.as_u64().ok_or_else(|| wrong("revert_next"))?;
    }
    if let Some(hold) = keys.remove("hold") {
        chain.hold = hold.as_bool().ok_or_else(|| wrong("hold"))?;
        chain.mine_ready();
    }
    Ok(keys)
}
