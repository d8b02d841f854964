//! The chain speaks JSON-RPC as a Polygon node does.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, LogData, TxHash, U256, b256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, TransactionReceipt};
use alloy::sol_types::SolEvent as _;
use alloy::transports::TransportError;
use drain_sandbox::chain::{ChainConfig, DevChain};
use drain_sandbox::contracts::{CHANNEL_V2, Settings};
use serde_json::{Value, json};

use crate::rig::{Drain, Rig, connect, emitted, gift, refusal, units};

fn vectors() -> Value {
    let text = include_str!("../../../protocol/vectors.json");
    serde_json::from_str(text).unwrap()
}

/// The channel that the signatures of the vectors are about; no `open` leads to it.
const MADE_UP: B256 = b256!("82a9ffc76f7278708ca6008cfde035cfcc3129123126c48df9bfbb6189eee47c");

/// Writes a channel of 5 USDC into storage, beside the one that is open.
fn put_channel(chain: &DevChain, id: B256, consumer: &Value, provider: &Value) {
    let first = keccak256([id, B256::with_last_byte(2)].concat());
    let word = |address: &Value| address.as_str().unwrap().parse::<Address>().unwrap().into_word();
    let deposit = B256::from(units(5_000_000));
    for (field, value) in [word(consumer), word(provider), deposit].into_iter().enumerate() {
        let slot = U256::from_be_bytes(first.0) + U256::from(field);
        chain.call("anvil_setStorageAt", json!([CHANNEL_V2, slot, value])).unwrap();
    }
    let both = B256::from(units(10_000_000));
    chain.call("anvil_setStorageAt", json!([CHANNEL_V2, "0x6", both])).unwrap();
    chain.fund(CHANNEL_V2, U256::ZERO, both.into()).unwrap();
}

/// The transactions of the protocol vectors, made by another library, lead to
/// the channel id and the logs that the vectors name.
#[tokio::test]
async fn the_protocol_vectors_replay() {
    const OPENED: u64 = 1_772_323_200;
    let config = ChainConfig { genesis_timestamp: Some(OPENED - 100), ..ChainConfig::default() };
    let chain = DevChain::start(config).await.unwrap();
    chain.install(&Settings::default()).unwrap();
    let node = connect(chain.url(), &[]);
    let vectors = vectors();
    let txs = vectors["rawTransactions"].as_array().unwrap();
    for tx in txs {
        let from: Address = tx["from"].as_str().unwrap().parse().unwrap();
        let wei = U256::from(10).pow(U256::from(18));
        chain.fund(from, wei, units(5_000_000)).unwrap();
    }
    let mut seen: Vec<(Address, LogData)> = Vec::new();
    for name in ["approve 5 USDC", "open", "claim (provider)", "cooperativeClose"] {
        let tx = txs.iter().find(|tx| tx["name"] == name).unwrap();
        match name {
            "open" => chain.set_next_timestamp(OPENED).unwrap(),
            "claim (provider)" => put_channel(&chain, MADE_UP, &txs[0]["from"], &tx["from"]),
            _ => {}
        }
        let raw: Bytes = tx["raw"].as_str().unwrap().parse().unwrap();
        let hash: TxHash = tx["hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(*node.send_raw_transaction(&raw).await.unwrap().tx_hash(), hash);
        let receipt = node.get_transaction_receipt(hash).await.unwrap().unwrap();
        assert!(receipt.status(), "{name}");
        seen.extend(emitted(&receipt));
    }
    let (_, opened) = seen.iter().find(|log| log.0 == CHANNEL_V2).unwrap();
    let id: B256 = vectors["channelIds"][0]["channelId"].as_str().unwrap().parse().unwrap();
    assert_eq!(opened.topics()[1], id);
    let events = vectors["events"].as_array().unwrap();
    for (name, amount) in
        [("ChannelOpened", 5_000_000), ("FeePaid", 3000), ("ChannelClaimed", 150_000), ("ChannelClosed", 4_850_000)]
    {
        let event = events.iter().find(|event| event["event"] == name).unwrap();
        let mut topics: Vec<B256> = serde_json::from_value(event["topics"].clone()).unwrap();
        if name != "ChannelOpened" {
            topics[1] = MADE_UP;
        }
        let data: Bytes = serde_json::from_value(event["data"].clone()).unwrap();
        assert_eq!(U256::from_be_slice(&data[..32]), units(amount));
        let wanted = LogData::new_unchecked(topics, data);
        assert!(seen.contains(&(CHANNEL_V2, wanted)), "{name}");
    }
    // A transaction for another chain is refused, one far ahead waits.
    for (name, answer) in [("open on local chain", "invalid chain id"), ("close", "")] {
        let tx = txs.iter().find(|tx| tx["name"] == name).unwrap();
        let sent = chain.call("eth_sendRawTransaction", json!([tx["raw"]]));
        match sent {
            Ok(hash) => assert_eq!(hash, tx["hash"]),
            Err(error) => assert!(!answer.is_empty() && error.message.contains(answer)),
        }
    }
    assert_eq!(chain.pending(), 1);
}

#[tokio::test]
async fn blocks_and_state_read_as_alloy_expects() {
    let rig = Rig::start(ChainConfig { finality_depth: 3, ..ChainConfig::default() }).await;
    rig.open(&rig.v2, 1000, 1000).await;
    let node = &rig.node;
    assert_eq!(node.get_chain_id().await.unwrap(), 137);
    assert_eq!(node.get_net_version().await.unwrap(), 137);
    let head = node.get_block_number().await.unwrap();
    for (tag, number) in [
        (BlockNumberOrTag::Latest, head),
        (BlockNumberOrTag::Finalized, head - 3),
        (BlockNumberOrTag::Safe, head - 3),
        (BlockNumberOrTag::Earliest, 0),
        (BlockNumberOrTag::Pending, head + 1),
        (BlockNumberOrTag::Number(1), 1),
    ] {
        let block = node.get_block_by_number(tag).full().await.unwrap().unwrap();
        assert_eq!(block.header.number, number);
        assert_eq!(block.header.base_fee_per_gas, Some(25_000_000_000));
        assert_eq!(block.header.hash, block.header.inner.hash_slow());
        if number > 0 {
            let parent = node.get_block_by_hash(block.header.parent_hash).await.unwrap();
            assert_eq!(parent.unwrap().header.number, number - 1);
        }
    }
    assert!(node.get_block_by_number((head + 1).into()).await.unwrap().is_none());
    assert!(!node.get_code_at(CHANNEL_V2).await.unwrap().is_empty());
    let locked = node.get_storage_at(CHANNEL_V2, units(6)).await.unwrap();
    assert_eq!(locked, units(1000));
    // The state before the channel was opened.
    let before = node.get_storage_at(CHANNEL_V2, units(6)).number(head - 1).await.unwrap();
    assert!(before.is_zero());
    let past = rig.v2.totalLocked().block((head - 1).into()).call().await.unwrap();
    assert!(past.is_zero());
    let ahead = rig.v2.totalLocked().block((head + 9).into()).call().await;
    assert!(ahead.is_err());

    let fees = node.estimate_eip1559_fees().await.unwrap();
    assert_eq!(fees.max_priority_fee_per_gas, 30_000_000_000);
    assert_eq!(node.get_gas_price().await.unwrap(), 55_000_000_000);
    let spent = node.get_balance(rig.consumer.address()).await.unwrap();
    assert!(spent < U256::from(10).pow(U256::from(20)));
}

#[tokio::test]
async fn an_estimate_is_enough_and_not_much_more() {
    let rig = Rig::start(ChainConfig::default()).await;
    let id = rig.open(&rig.v2, 1000, 0).await;
    let close = rig.v2.close(id).from(rig.consumer.address());
    let gas = close.estimate_gas().await.unwrap();
    let receipt = rig.mined(close.gas(gas).send().await).await;
    assert!(receipt.status());
    assert!(gas < receipt.gas_used * 3 / 2, "{gas} for {}", receipt.gas_used);
    // With fees and without a chain, as viem asks.
    let call = json!({ "from": rig.consumer.address(), "to": rig.consumer.address(), "maxFeePerGas": "0xdf8475800",
        "maxPriorityFeePerGas": "0x6fc23ac00" });
    let plain = rig.chain.as_ref().unwrap().call("eth_estimateGas", json!([call])).unwrap();
    assert!(plain.as_str().unwrap() >= "0x5208", "{plain}");
    let error = rig.v2.close(id).from(rig.consumer.address()).estimate_gas().await;
    let data = error.err().unwrap().as_revert_data().unwrap();
    assert_eq!(data.as_ref(), 0x1e07dd94_u32.to_be_bytes());
}

#[tokio::test]
async fn logs_filter_by_address_topics_and_range() {
    let rig = Rig::start(ChainConfig { max_log_range: Some(100), ..ChainConfig::default() }).await;
    let first = rig.open(&rig.v1, 1000, 0).await;
    let second = rig.open(&rig.v2, 1000, 0).await;
    let opened = Drain::ChannelOpened::SIGNATURE_HASH;
    let closed = Drain::ChannelClosed::SIGNATURE_HASH;
    let me = rig.consumer.address().into_word();
    let all = Filter::new().from_block(0);
    let ids = async |filter: &Filter| -> Vec<B256> {
        let logs = rig.node.get_logs(filter).await.unwrap();
        logs.iter().map(|log| log.topics()[1]).collect()
    };
    let both = all.clone().event_signature(vec![closed, opened]).topic2(me);
    assert_eq!(ids(&both).await, [first, second]);
    assert_eq!(ids(&both.clone().address(CHANNEL_V2)).await, [second]);
    let two = vec![CHANNEL_V2, *rig.v1.address()];
    assert_eq!(ids(&both.clone().address(two)).await, [first, second]);
    assert!(ids(&all.clone().event_signature(closed)).await.is_empty());
    assert!(ids(&all.clone().event_signature(opened).topic2(B256::ZERO)).await.is_empty());
    let head = rig.dev().block_number();
    assert_eq!(ids(&both.clone().from_block(head)).await, [second]);
    assert_eq!(ids(&both.clone().to_block(head - 1)).await, [first]);
    let block = rig.node.get_block_by_number(head.into()).await.unwrap().unwrap();
    let at = Filter::new().at_block_hash(block.header.hash).event_signature(opened);
    assert_eq!(ids(&at).await, [second]);
    let logs = rig.node.get_logs(&at).await.unwrap();
    assert_eq!((logs[0].log_index, logs[0].block_number), (Some(1), Some(head)));
    let wide = Filter::new().from_block(0).to_block(100);
    let refused = refusal(rig.node.get_logs(&wide).await);
    assert_eq!(refused, "query exceeds max block range 100");
}

#[tokio::test]
async fn senders_learn_what_is_wrong_with_a_transaction() {
    let rig = Rig::start(ChainConfig::default()).await;
    let send = async |tx: &[u8]| refusal(rig.node.send_raw_transaction(tx).await);
    let (_, tx) = rig.raw(gift(1), 0, 30).await;
    assert!(send(&tx).await.starts_with("nonce too low: next nonce 2, tx nonce 0"));
    let (_, tx) = rig.raw(gift(1), 2, 24).await;
    assert!(send(&tx).await.starts_with("transaction underpriced"));
    let much = gift(1).value(U256::from(10).pow(U256::from(21)));
    let (_, tx) = rig.raw(much, 2, 30).await;
    assert!(send(&tx).await.starts_with("insufficient funds for gas * price + value"));
    assert!(send(&[1, 2, 3]).await.starts_with("rlp"));
    assert!(send(&tx[..tx.len() - 1]).await.starts_with("rlp"));
}

#[tokio::test]
async fn nothing_a_client_sends_breaks_the_server() {
    let rig = Rig::start(ChainConfig::default()).await;
    let http = reqwest::Client::new();
    let post = async |body: String| -> Value {
        let answer = http.post(rig.dev().url()).body(body).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let code = |answer: &Value| answer["error"]["code"].as_i64().unwrap();
    assert_eq!(code(&post("{".into()).await), -32700);
    assert_eq!(code(&post("[]".into()).await), -32600);
    assert_eq!(code(&post("7".into()).await), -32600);
    let unknown = json!({"jsonrpc": "2.0", "id": "x", "method": "eth_nothing", "params": []});
    let answer = post(unknown.to_string()).await;
    assert_eq!((code(&answer), &answer["id"]), (-32601, &json!("x")));
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber", "params": null},
    ]);
    let answer = post(batch.to_string()).await;
    assert_eq!(answer[0]["result"], "0x89");
    assert_eq!(answer[1]["id"], 2);

    let huge = "0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    let values = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!("0x"),
        json!("zz"),
        json!(huge),
        json!({}),
        json!([]),
        json!(u64::MAX),
        json!({"gas": huge, "maxFeePerGas": huge, "value": huge}),
        json!({"from": Address::ZERO, "gasPrice": "0xffffffffffffffffffffffffffffffff", "gas": "0xffffffff"}),
        json!({"blockHash": huge}),
        json!({"fromBlock": "0xffffffffffffffff", "toBlock": "latest"}),
        json!({"fromBlock": "0x0", "toBlock": "0xffffffffffffffff"}),
        json!({"timestamp": huge}),
        json!({"input": "0xfe"}),
        json!({"hang": 1}),
        json!({"revert_next": "x"}),
        json!(CHANNEL_V2),
        json!("0xffffffffffffffff"),
    ];
    let methods = [
        "eth_getBlockByNumber",
        "eth_getBlockByHash",
        "eth_getTransactionCount",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_call",
        "eth_sendRawTransaction",
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "eth_getLogs",
        "eth_getBalance",
        "eth_getCode",
        "eth_getStorageAt",
        "evm_mine",
        "evm_increaseTime",
        "evm_setNextBlockTimestamp",
        "anvil_mine",
        "anvil_setBalance",
        "anvil_setCode",
        "anvil_setStorageAt",
        "anvil_setNonce",
        "evm_setAutomine",
        "evm_setIntervalMining",
        "anvil_setNextBlockBaseFeePerGas",
        "anvil_dropTransaction",
        "sandbox_reorg",
        "sandbox_setFaults",
    ];
    for method in methods {
        for first in &values {
            for second in &values {
                let request = json!({"id": 1, "method": method, "params": [first, second, first]});
                // In this process, a panic would end the test; over HTTP it
                // would end the connection.
                let _ = rig.dev().call(method, request["params"].clone());
            }
            let request = json!({"id": 1, "method": method, "params": first});
            post(request.to_string()).await;
        }
    }
    assert_eq!(rig.node.get_chain_id().await.unwrap(), 137);
}

#[tokio::test]
async fn time_and_mining_are_under_control() {
    let rig = Rig::start(ChainConfig::default()).await;
    let before = rig.chain_time().await;
    rig.dev().advance(3600);
    let after = rig.chain_time().await;
    assert!((3600..3660).contains(&(after - before)));
    rig.next_time(after + 10).await;
    rig.mined::<TransportError>(rig.node.send_transaction(from(&rig, gift(1))).await).await;
    assert_eq!(rig.chain_time().await, after + 10);
    let head = rig.dev().block_number();
    rig.control("anvil_mine", json!(["0x5", "0x2"])).await;
    assert_eq!(rig.dev().block_number(), head + 5);
    assert!(rig.dev().set_next_timestamp(before).is_err());

    rig.control("evm_setAutomine", json!([false])).await;
    let hash = *rig.node.send_transaction(from(&rig, gift(2))).await.unwrap().tx_hash();
    assert!(receipt(&rig, hash).await.is_none());
    let pending = rig.node.get_transaction_by_hash(hash).await.unwrap().unwrap();
    assert_eq!(pending.block_number, None);
    rig.control("evm_mine", json!([])).await;
    assert!(receipt(&rig, hash).await.is_some());

    let block_time = Some(std::time::Duration::from_millis(20));
    let rig = Rig::start(ChainConfig { block_time, ..ChainConfig::default() }).await;
    let head = rig.dev().block_number();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(rig.dev().block_number() > head);
}

fn from(rig: &Rig, request: alloy::rpc::types::TransactionRequest) -> alloy::rpc::types::TransactionRequest {
    request.from(rig.consumer.address())
}

async fn receipt(rig: &Rig, hash: TxHash) -> Option<TransactionReceipt> {
    rig.node.get_transaction_receipt(hash).await.unwrap()
}
