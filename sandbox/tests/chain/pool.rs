//! Pending transactions: gaps, replacement, fees too low for now.

use alloy::primitives::Address;
use alloy::providers::Provider;
use drain_sandbox::chain::ChainConfig;
use serde_json::json;

use crate::rig::{Rig, gift, refusal, units};

#[tokio::test]
async fn a_nonce_gap_waits_until_it_is_filled() {
    let rig = Rig::start(ChainConfig::default()).await;
    let me = rig.consumer.address();
    let (late, raw) = rig.raw(gift(1), 3, 30).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    assert!(rig.node.get_transaction_receipt(late).await.unwrap().is_none());
    assert_eq!(rig.node.get_transaction_count(me).pending().await.unwrap(), 2);
    assert_eq!(refusal(rig.node.send_raw_transaction(&raw).await), "already known");
    let (early, raw) = rig.raw(gift(2), 2, 30).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    let block = async |hash| {
        let receipt = rig.node.get_transaction_receipt(hash).await.unwrap();
        receipt.unwrap().block_number.unwrap()
    };
    // Mined at once, each in a block of its own.
    assert_eq!(block(early).await + 1, block(late).await);
    assert_eq!(rig.node.get_transaction_count(me).await.unwrap(), 4);
}

#[tokio::test]
async fn a_replacement_must_offer_a_tenth_more() {
    let rig = Rig::start(ChainConfig::default()).await;
    rig.dev().hold(true);
    let (stuck, raw) = rig.raw(gift(1), 2, 30).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    let (_, raw) = rig.raw(gift(2), 2, 32).await;
    let refused = refusal(rig.node.send_raw_transaction(&raw).await);
    assert_eq!(refused, "replacement transaction underpriced");
    let (better, raw) = rig.raw(gift(3), 2, 33).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    assert_eq!(rig.dev().pending(), 1);
    rig.dev().mine(1);
    assert!(rig.node.get_transaction_receipt(better).await.unwrap().is_none());
    rig.dev().hold(false);
    let receipt = rig.node.get_transaction_receipt(better).await.unwrap();
    assert!(receipt.unwrap().status());
    assert!(rig.node.get_transaction_by_hash(stuck).await.unwrap().is_none());
    let gifts = rig.node.get_balance(Address::repeat_byte(0x77)).await.unwrap();
    assert_eq!(gifts, units(3));
}

#[tokio::test]
async fn a_fee_below_the_base_fee_waits() {
    let rig = Rig::start(ChainConfig::default()).await;
    rig.dev().set_base_fee(100_000_000_000);
    let (hash, raw) = rig.raw(gift(1), 2, 30).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    rig.dev().mine(2);
    assert_eq!(rig.dev().pending(), 1);
    rig.control("anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca00"])).await;
    let receipt = rig.node.get_transaction_receipt(hash).await.unwrap().unwrap();
    assert_eq!(receipt.effective_gas_price, 31_000_000_000);
}

#[tokio::test]
async fn one_block_takes_many_transactions() {
    let rig = Rig::start(ChainConfig::default()).await;
    rig.dev().set_automine(false);
    for nonce in 2..22 {
        let (_, raw) = rig.raw(gift(1), nonce, 30).await;
        let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    }
    let head = rig.dev().block_number();
    rig.dev().mine(1);
    let block = rig.node.get_block_by_number((head + 1).into()).await.unwrap().unwrap();
    assert_eq!(block.transactions.len(), 20);
    assert_eq!(block.header.gas_used, 20 * 21_000);
}
