//! The directory's other endpoints (protocol.md section 10.2).

use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::{SolCall, SolEvent};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use drain_protocol::contract::DrainChannel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, error, json_answer};
use crate::provider::lock;
use crate::rpc::RpcError;

/// The gas station serves wallets that hold this much: 5 USDC.
const LEAST_USDC: u64 = 5_000_000;
/// What it gives: 0.1 POL.
const GIFT: u64 = 100_000_000_000_000_000;

pub(crate) async fn config(State(shared): State<Arc<Shared>>) -> Response {
    if shared.faults().config_down {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    }
    let wallet = *lock(&shared.fee_wallet);
    json_answer(StatusCode::OK, &json!({"feeWallet": wallet.map(|wallet| wallet.to_string())}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusQuery {
    #[serde(default)]
    channel_ids: String,
}

pub(crate) async fn channel_status(State(shared): State<Arc<Shared>>, Query(query): Query<StatusQuery>) -> Response {
    let mut channels = Vec::new();
    for spelled in query.channel_ids.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        match shared.status(spelled).await {
            Ok(channel) => channels.push(channel),
            Err(failure) => return error(StatusCode::BAD_GATEWAY, &failure.to_string()),
        }
    }
    if channels.is_empty() {
        return error(StatusCode::BAD_REQUEST, "channelIds required");
    }
    json_answer(StatusCode::OK, &json!({"channels": channels}))
}

impl Shared {
    async fn status(&self, spelled: &str) -> Result<Value, RpcError> {
        let faults = self.faults();
        let Ok(id) = spelled.parse::<B256>() else {
            return Ok(json!({"channelId": spelled, "status": "unknown"}));
        };
        let mut channel = json!({"channelId": spelled, "status": "unknown"});
        for contract in [self.config.contract_v2, self.config.contract_v1] {
            let record = self.rpc.channel(contract, id).await?;
            if record.exists() {
                let expired = U256::from(self.rpc.block_time().await?) >= record.expiry;
                channel["status"] = json!(if expired { "expired_unclosed" } else { "active" });
                channel["contract"] = json!(contract.to_string());
                channel["consumer"] = json!(record.consumer.to_string());
                channel["provider"] = json!(record.provider.to_string());
                channel["deposit"] = json!(record.deposit.to_string());
                channel["claimed"] = json!(record.claimed.to_string());
                channel["expiry"] = json!(record.expiry.to_string());
                if expired {
                    let calldata = DrainChannel::closeCall { channelId: id }.abi_encode();
                    channel["closeCalldata"] = json!(format!("0x{}", alloy::hex::encode(calldata)));
                }
                break;
            }
            if self.was_opened(contract, id).await? {
                channel["status"] = json!("closed");
                channel["contract"] = json!(contract.to_string());
                break;
            }
        }
        if let Some(status) = faults.forged_status {
            channel["status"] = json!(status);
        }
        if let Some(calldata) = faults.forged_calldata {
            channel["closeCalldata"] = json!(calldata);
        }
        Ok(channel)
    }

    /// A closed channel's record is all zero: only its event shows that it existed.
    async fn was_opened(&self, contract: Address, id: B256) -> Result<bool, RpcError> {
        let topics = json!([DrainChannel::ChannelOpened::SIGNATURE_HASH, id]);
        let filter = json!([{"address": contract, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}]);
        Ok(self.rpc.call("eth_getLogs", filter).await?.as_array().is_some_and(|logs| !logs.is_empty()))
    }

    /// 0.1 POL for a wallet with USDC, once. The reason of a refusal is for people.
    async fn fuel(&self, address: Address) -> Result<B256, String> {
        let text = |error: RpcError| error.to_string();
        let held = self.rpc.token_balance(self.config.usdc, address).await.map_err(text)?;
        if held < U256::from(LEAST_USDC) {
            return Err("Wallet must hold at least 5 USDC".into());
        }
        if !lock(&self.fuelled).insert(address) {
            return Err("Gas was already sent to this address".into());
        }
        let balance = self.rpc.native_balance(address).await.map_err(text)? + U256::from(GIFT);
        self.rpc.call("anvil_setBalance", json!([address, balance])).await.map_err(text)?;
        // A balance written into a development chain has no transaction: the hash is invented.
        Ok(keccak256(address))
    }
}

pub(crate) async fn gas_station(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let faults = shared.faults();
    if faults.gas_hang {
        return std::future::pending().await;
    }
    if let Some(reason) = faults.gas_refusal {
        return error(StatusCode::FORBIDDEN, &reason);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(address) = body.get("address").and_then(Value::as_str).and_then(|text| text.parse().ok()) else {
        return error(StatusCode::BAD_REQUEST, "address required");
    };
    match shared.fuel(address).await {
        Ok(hash) => json_answer(StatusCode::OK, &json!({"success": true, "txHash": hash})),
        Err(reason) => error(StatusCode::BAD_REQUEST, &reason),
    }
}

pub(crate) async fn telemetry(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    if shared.faults().feedback_down {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    }
    let Ok(report) = serde_json::from_slice(&body) else {
        return error(StatusCode::BAD_REQUEST, "invalid JSON");
    };
    lock(&shared.telemetry).push(report);
    json_answer(StatusCode::OK, &json!({"success": true}))
}

pub(crate) async fn feedback(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    if shared.faults().feedback_down {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    }
    let report: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| report.get(name).and_then(Value::as_str);
    let outcome = field("outcome").unwrap_or_default();
    if field("providerId").is_none_or(str::is_empty) || !matches!(outcome, "success" | "failure") {
        return error(StatusCode::BAD_REQUEST, "providerId and outcome are required");
    }
    if let Some(reason) = field("reason") {
        let known = ["quality", "timeout", "error", "format", "unavailable"].contains(&reason);
        if !known || outcome == "success" {
            return error(StatusCode::BAD_REQUEST, "invalid reason");
        }
    }
    lock(&shared.feedback).push(report);
    json_answer(StatusCode::OK, &json!({"success": true}))
}

pub(crate) async fn signing(State(shared): State<Arc<Shared>>) -> Response {
    let config = &shared.config;
    let field = |name: &str, kind: &str| json!({"name": name, "type": kind});
    let channel = field("channelId", "bytes32");
    json_answer(
        StatusCode::OK,
        &json!({
            "chainId": config.chain_id, "contract": config.contract_v2.to_string(), "usdc": config.usdc.to_string(),
            "domain": {"name": "DrainChannel", "version": "1", "chainId": config.chain_id,
                "verifyingContract": config.contract_v2.to_string()},
            "types": {
                "Voucher": [channel, field("amount", "uint256"), field("nonce", "uint256")],
                "CloseAuthorization": [channel, field("finalAmount", "uint256")]},
            "endpoints": {"chat": "POST /v1/chat/completions", "close": "POST /v1/close-channel",
                "pricing": "GET /v1/pricing", "docs": "GET /v1/docs"},
        }),
    )
}
