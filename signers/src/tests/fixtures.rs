//! Public test keys, vectors and requests.

use std::sync::LazyLock;

use drain_protocol::deployment::{POLYGON, builtin};
use drain_protocol::{
    Address, Asset, B256, ChannelId, Deployment, Nonce, TempoTransfer, Transfer, Usdc, Voucher, tempo,
};
use serde_json::Value;

use crate::{Call, Policy, Secret, TempoRequest, TransactionRequest, TransferRequest, VoucherRequest};

/// Anvil's first key.
pub const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

pub static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../protocol/vectors.json")).unwrap());

pub fn list(name: &str) -> &'static [Value] {
    VECTORS[name].as_array().unwrap()
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

pub fn secret() -> Secret {
    Secret::parse(KEY).unwrap()
}

pub fn own() -> Address {
    secret().address()
}

pub fn other() -> Address {
    Address::repeat_byte(0x77)
}

pub fn v2() -> Deployment {
    builtin(POLYGON)[0]
}

pub fn v1() -> Deployment {
    builtin(POLYGON)[1]
}

pub fn policy() -> Policy {
    Policy::new(POLYGON, builtin(POLYGON))
}

pub fn channel() -> ChannelId {
    ChannelId([0x82; 32].into())
}

pub fn voucher(amount: u32) -> VoucherRequest {
    VoucherRequest {
        domain: v2().domain,
        voucher: Voucher { channel_id: channel(), amount: Usdc::new(amount), nonce: Nonce::new(7).unwrap() },
        deposit: Usdc::new(5_000_000),
    }
}

pub fn transaction(deployment: Deployment, call: Call) -> TransactionRequest {
    TransactionRequest {
        deployment,
        call,
        account_nonce: 3,
        gas_limit: 250_000,
        max_fee_per_gas: 60_000_000_000,
        max_priority_fee_per_gas: 30_000_000_000,
    }
}

pub fn open() -> TransactionRequest {
    let duration = "1d".parse().unwrap();
    transaction(v2(), Call::Open { provider: other(), amount: Usdc::new(5_000_000), duration })
}

/// A minute's payment of a cent by this account.
pub fn transfer(from: Address) -> TransferRequest {
    let now = 1_795_175_686;
    TransferRequest {
        asset: Asset::usdc(POLYGON, v2().usdc),
        transfer: Transfer {
            from,
            to: other(),
            value: Usdc::new(10_000),
            valid_after: 0,
            valid_before: now + 60,
            nonce: B256::repeat_byte(9),
        },
        now,
    }
}

/// The same over Tempo, for half a minute.
pub fn tempo_transfer(from: Address) -> TempoRequest {
    let TransferRequest { transfer, now, .. } = transfer(from);
    let gas = tempo::Gas { limit: 105_100, price: 20_000_000_000, tip: 0 };
    let transfer = Transfer { valid_before: now + tempo::LONGEST, ..transfer };
    let (chain_id, token) = (tempo::MAINNET, tempo::tokens(tempo::MAINNET)[0]);
    TempoRequest { order: TempoTransfer { chain_id, token, transfer, gas, sponsored: false }, now }
}

/// A policy by which transfers of up to five USDC are signed.
pub fn paying() -> Policy {
    let assets = vec![Asset::usdc(POLYGON, v2().usdc)];
    Policy { assets, tempo: Some(tempo::MAINNET), max_transfer: Usdc::new(5_000_000), ..policy() }
}
