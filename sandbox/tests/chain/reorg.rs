//! Blocks can be replaced.

use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent as _;
use drain_sandbox::chain::{ChainConfig, ReorgTxs};
use serde_json::json;

use crate::rig::{Drain, Rig, USDC_FUNDS, units};

async fn opened(rig: &Rig) -> Vec<(B256, B256)> {
    let topic = Drain::ChannelOpened::SIGNATURE_HASH;
    let filter = Filter::new().from_block(0).event_signature(topic);
    let logs = rig.node.get_logs(&filter).await.unwrap();
    let found = logs.iter().map(|log| (log.topics()[1], log.transaction_hash.unwrap()));
    found.collect()
}

#[tokio::test]
async fn mining_again_later_changes_the_channel_id() {
    let rig = Rig::start(ChainConfig::default()).await;
    let id = rig.open(&rig.v2, 1000, 1000).await;
    let old = opened(&rig).await;
    let head = rig.dev().block_number();
    let block = rig.node.get_block_by_number(head.into()).await.unwrap().unwrap();

    rig.dev().reorg(1, ReorgTxs::Remine { shift: 3 });
    assert_eq!(rig.dev().block_number(), head);
    let new = opened(&rig).await;
    assert_eq!(new.len(), 1);
    assert_eq!(new[0].1, old[0].1, "the same transaction");
    assert_ne!(new[0].0, id, "another channel");
    let gone = rig.v2.getChannel(id).call().await.unwrap();
    assert!(gone.deposit.is_zero());
    let channel = rig.v2.getChannel(new[0].0).call().await.unwrap();
    assert_eq!(channel.deposit, units(1000));
    assert_eq!(channel.expiry, units(block.header.timestamp + 3 + 1000));
    let replaced = rig.node.get_block_by_number(head.into()).await.unwrap().unwrap();
    assert_ne!(replaced.header.hash, block.header.hash);
    assert_eq!(replaced.header.parent_hash, block.header.parent_hash);
    assert!(rig.node.get_block_by_hash(block.header.hash).await.unwrap().is_none());
}

#[tokio::test]
async fn dropped_transactions_leave_no_trace() {
    let rig = Rig::start(ChainConfig::default()).await;
    let me = rig.consumer.address();
    rig.open(&rig.v2, 1000, 1000).await;
    rig.open(&rig.v2, 2000, 1000).await;
    let hash = opened(&rig).await[0].1;
    let head = rig.dev().block_number();
    rig.control("sandbox_reorg", json!([2, "drop"])).await;
    assert_eq!(rig.dev().block_number(), head);
    assert!(opened(&rig).await.is_empty());
    assert!(rig.node.get_transaction_by_hash(hash).await.unwrap().is_none());
    assert_eq!(rig.usdc_of(me).await, USDC_FUNDS);
    assert_eq!(rig.node.get_transaction_count(me).await.unwrap(), 2);
    assert!(rig.v2.totalLocked().call().await.unwrap().is_zero());
    rig.open(&rig.v2, 3000, 1000).await;
    assert_eq!(rig.v2.nonces(me).call().await.unwrap(), units(1));
}

#[tokio::test]
async fn requeued_transactions_come_back_with_the_next_block() {
    let rig = Rig::start(ChainConfig::default()).await;
    rig.open(&rig.v2, 1000, 1000).await;
    rig.open(&rig.v2, 2000, 1000).await;
    let before = opened(&rig).await;
    rig.dev().reorg(2, ReorgTxs::Requeue);
    assert!(opened(&rig).await.is_empty());
    assert_eq!(rig.dev().pending(), 2);
    rig.dev().mine(1);
    let after = opened(&rig).await;
    assert_eq!(after.len(), 2);
    assert_eq!(after[0].1, before[0].1);
    assert_eq!(rig.v2.totalLocked().call().await.unwrap(), units(3000));
}
