//! A door for the fuzzer: whatever a node may answer, put through every reader of it.

use drain_protocol::deployment::{POLYGON, POLYGON_USDC, builtin};
use drain_protocol::{Address, B256, ChannelId, U256, Usdc};
use reqwest::StatusCode;

use super::events::{Receipt, channel_events, expect_approval, expect_closed, expect_opened, expect_transfer};
use super::{claims, pool, reads, rpc};

const METHODS: &[&str] = &["eth_call", "eth_getLogs", "eth_getBlockByNumber", "eth_sendRawTransaction", "eth_chainId"];

/// Reads `answer` as the reply to each method. Nothing may panic.
pub fn read_reply(answer: &[u8]) {
    for method in METHODS {
        let status = if answer.len() % 2 == 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let value = match rpc::result(method, status, answer) {
            Ok(value) => value,
            Err(trouble) => {
                let _ = trouble.text();
                continue;
            }
        };
        let _ = (reads::header(value.clone()), reads::quantity(value.clone()), pool::number(value.clone()));
        let _ = value.as_str().and_then(|text| text.parse().ok()).map(|input| {
            builtin(POLYGON).iter().map(|on| claims::claimed_voucher(&on.domain, &input)).collect::<Vec<_>>()
        });
        if let Ok(logs) = reads::plain::<Vec<_>>(value.clone()) {
            let _ = channel_events(&builtin(POLYGON), &logs);
        }
        let hash = value.get("transactionHash").and_then(|hash| hash.as_str()).and_then(|text| text.parse().ok());
        if let Ok(Some(receipt)) = Receipt::read(value, hash.unwrap_or(B256::ZERO)) {
            expectations(&receipt);
        }
    }
}

fn expectations(receipt: &Receipt) {
    let (somebody, amount) = (Address::ZERO, Usdc::new(1));
    let _ = receipt.gas_cost_wei();
    for on in builtin(POLYGON) {
        let _ = expect_opened(receipt, &on, somebody, somebody, amount);
        let _ = expect_closed(receipt, &on, ChannelId(B256::ZERO), somebody);
    }
    let _ = expect_transfer(receipt, POLYGON_USDC, somebody, somebody, amount);
    let _ = expect_approval(receipt, POLYGON_USDC, somebody, somebody, U256::ZERO);
}
