//! Every switch does what it says.

use std::time::{Duration, Instant};

use alloy::primitives::{Bytes, FixedBytes, U256};
use alloy::providers::Provider;
use alloy::sol_types::SolCall as _;
use drain_sandbox::chain::{ChainConfig, FailKind, Faults, ForgedReceipt};
use serde_json::json;

use crate::rig::{Drain, Rig, USDC_FUNDS, connect, gift, refusal, units};

async fn rig() -> Rig {
    Rig::start(ChainConfig::default()).await
}

#[tokio::test]
async fn a_forced_revert_costs_gas_and_changes_nothing_else() {
    let rig = rig().await;
    let me = rig.consumer.address();
    let wei = rig.node.get_balance(me).await.unwrap();
    rig.dev().revert_next(1);
    let open = rig.v2.open(rig.provider.address(), units(1000), units(10)).from(me);
    let receipt = rig.mined(open.send().await).await;
    assert!(!receipt.status());
    assert!(receipt.logs().is_empty());
    assert_eq!(rig.usdc_of(me).await, USDC_FUNDS);
    assert_eq!(rig.node.get_transaction_count(me).await.unwrap(), 3);
    let cost = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
    assert_eq!(wei - rig.node.get_balance(me).await.unwrap(), cost);
    rig.open(&rig.v2, 1000, 10).await;
}

#[tokio::test]
async fn a_dropped_transaction_gets_a_hash_and_is_never_seen_again() {
    let rig = rig().await;
    rig.dev().main().update_faults(|faults| faults.drop_next = 1);
    let (hash, raw) = rig.raw(gift(1), 2, 30).await;
    assert_eq!(*rig.node.send_raw_transaction(&raw).await.unwrap().tx_hash(), hash);
    rig.dev().mine(3);
    assert!(rig.node.get_transaction_by_hash(hash).await.unwrap().is_none());
    assert_eq!(rig.dev().pending(), 0);
    // Sent again, it is mined.
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    assert!(rig.node.get_transaction_receipt(hash).await.unwrap().is_some());
}

#[tokio::test]
async fn held_transactions_wait_for_their_release() {
    let rig = rig().await;
    let hold = |on| json!([{ "hold": on }]);
    rig.control("sandbox_setFaults", hold(true)).await;
    let (hash, raw) = rig.raw(gift(1), 2, 30).await;
    let _ = rig.node.send_raw_transaction(&raw).await.unwrap();
    rig.dev().mine(2);
    assert!(rig.node.get_transaction_receipt(hash).await.unwrap().is_none());
    let me = rig.consumer.address();
    assert_eq!(rig.node.get_transaction_count(me).pending().await.unwrap(), 3);
    rig.control("sandbox_setFaults", hold(false)).await;
    assert!(rig.node.get_transaction_receipt(hash).await.unwrap().is_some());
}

#[tokio::test]
async fn lagging_reads_are_of_the_past() {
    let rig = rig().await;
    let behind = Faults { lagging_reads: 2, ..Faults::default() };
    let endpoint = rig.dev().endpoint(behind).await.unwrap();
    let slow = connect(endpoint.url(), &[]);
    let channel = Drain::new(*rig.v2.address(), slow.clone());
    let open = rig.v2.open(rig.provider.address(), units(1000), units(10));
    let sent = open.from(rig.consumer.address()).send().await.unwrap();
    let head = rig.dev().block_number();
    assert_eq!(slow.get_block_number().await.unwrap(), head - 2);
    assert!(slow.get_transaction_receipt(*sent.tx_hash()).await.unwrap().is_none());
    assert!(channel.totalLocked().call().await.unwrap().is_zero());
    assert_eq!(rig.v2.totalLocked().call().await.unwrap(), units(1000));
    rig.dev().mine(2);
    assert!(slow.get_transaction_receipt(*sent.tx_hash()).await.unwrap().is_some());
    assert_eq!(channel.totalLocked().call().await.unwrap(), units(1000));
}

#[tokio::test]
async fn requests_fail_as_told() {
    let rig = rig().await;
    let main = rig.dev().main();
    main.update_faults(|faults| faults.fail_next = 1);
    let error = rig.node.get_block_number().await.unwrap_err();
    assert!(format!("{error}").contains("500"), "{error}");
    rig.node.get_block_number().await.unwrap();
    main.update_faults(|faults| (faults.fail_next, faults.fail_kind) = (1, FailKind::Http429));
    let error = rig.node.get_block_number().await.unwrap_err();
    assert!(format!("{error}").contains("429"), "{error}");
    main.update_faults(|faults| (faults.fail_rate, faults.fail_kind) = (0.25, FailKind::RpcError));
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(rig.node.get_block_number().await.is_err());
    }
    assert_eq!(failed, 5);
    // Only the named methods.
    main.update_faults(|faults| {
        faults.fail_rate = 1.0;
        faults.methods = vec!["eth_chainId".to_owned()];
    });
    rig.node.get_block_number().await.unwrap();
    let failed = rig.node.raw_request::<_, String>("eth_chainId".into(), json!([])).await;
    assert_eq!(refusal(failed), "sandbox: failed on purpose");
}

#[tokio::test]
async fn slow_and_silent_endpoints() {
    let rig = rig().await;
    let slow = Faults { latency_ms: 100, ..Faults::default() };
    let endpoint = rig.dev().endpoint(slow).await.unwrap();
    let node = connect(endpoint.url(), &[]);
    let start = Instant::now();
    node.get_block_number().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));

    endpoint.set_faults(Faults { hang: true, ..Faults::default() });
    let waiting = tokio::time::timeout(Duration::from_millis(200), node.get_block_number());
    assert!(waiting.await.is_err());
    // The switch itself stays reachable.
    let lift = json!([{ "hang": false }]);
    node.raw_request::<_, serde_json::Value>("sandbox_setFaults".into(), lift).await.unwrap();
    node.get_block_number().await.unwrap();
}

#[tokio::test]
async fn one_endpoint_lies_while_the_other_does_not() {
    let rig = rig().await;
    let liar = rig.dev().endpoint(Faults::default()).await.unwrap();
    let node = connect(liar.url(), &[]);
    rig.open(&rig.v2, 1000, 10).await;
    rig.dev().revert_next(1);
    let open = rig.v2.open(rig.provider.address(), units(1000), units(10));
    let failed = rig.mined(open.from(rig.consumer.address()).send().await).await;
    let block = failed.block_number.unwrap();
    let mined = rig.node.get_block_by_number((block - 1).into()).await.unwrap().unwrap();
    let good = mined.transactions.hashes().next().unwrap();
    let forge = |kind| liar.update_faults(|faults| faults.forged_receipt = Some(kind));
    let honest = rig.node.get_transaction_receipt(good).await.unwrap().unwrap();
    let id = honest.decoded_log::<Drain::ChannelOpened>().unwrap().channelId;

    forge(ForgedReceipt::Success);
    let hash = failed.transaction_hash;
    assert!(node.get_transaction_receipt(hash).await.unwrap().unwrap().status());
    assert!(!rig.node.get_transaction_receipt(hash).await.unwrap().unwrap().status());
    forge(ForgedReceipt::Failure);
    assert!(!node.get_transaction_receipt(good).await.unwrap().unwrap().status());
    forge(ForgedReceipt::Logs);
    let receipt = node.get_transaction_receipt(good).await.unwrap().unwrap();
    let other = receipt.decoded_log::<Drain::ChannelOpened>().unwrap().channelId;
    assert_ne!(other, id);

    liar.update_faults(|faults| {
        faults.wrong_chain_id = Some(1);
        faults.hide_logs = true;
        let answer = Bytes::from(U256::from(9).to_be_bytes::<32>());
        let selector = FixedBytes(Drain::totalLockedCall::SELECTOR);
        faults.call_overrides.insert(selector, answer);
    });
    assert_eq!(node.get_chain_id().await.unwrap(), 1);
    assert!(node.get_logs(&Default::default()).await.unwrap().is_empty());
    let channel = Drain::new(*rig.v2.address(), node.clone());
    assert_eq!(channel.totalLocked().call().await.unwrap(), units(9));
    assert_eq!(rig.v2.totalLocked().call().await.unwrap(), units(1000));
}

#[tokio::test]
async fn another_process_can_set_the_switches() {
    let rig = rig().await;
    let set = json!([{ "lagging_reads": 1, "revert_next": 2, "fail_kind": "http429" }]);
    let answer = rig.control("sandbox_setFaults", set).await;
    assert_eq!(answer["lagging_reads"], 1);
    assert_eq!(rig.dev().main().faults().fail_kind, FailKind::Http429);
    let unknown = json!([{ "no_such_switch": 1 }]);
    let refused = rig.node.raw_request::<_, serde_json::Value>("sandbox_setFaults".into(), unknown);
    assert!(refusal(refused.await).contains("no_such_switch"));
    let keep = rig.control("sandbox_setFaults", json!([{ "lagging_reads": 0 }])).await;
    assert_eq!(keep["fail_kind"], "http429");
}

#[tokio::test]
async fn requests_are_counted_and_dropping_closes_the_port() {
    let rig = rig().await;
    rig.dev().main().reset_request_count();
    rig.node.get_block_number().await.unwrap();
    rig.node.get_block_number().await.unwrap();
    rig.dev().mine(1);
    let counts = rig.dev().request_count();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("eth_blockNumber".to_owned(), 2)]);
    let node = rig.node.clone();
    drop(rig);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.get_block_number().await.is_err());
}
