//! Selectors, topics, errors, calldata, results, logs, transactions.

use std::collections::BTreeMap;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Bytes, TxKind};
use alloy::rpc::types::Filter;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Panic, Revert, SolCall, SolError, SolEvent};
use drain_protocol::contract::revert_reason;
use drain_protocol::contract::{DrainChannel as Channel, Erc20};
use drain_protocol::{B256, deployment};
use serde_json::{Value, json};

use super::{Vectors, address, bytes, keys, number, text, word};

fn table<const N: usize>(entries: [(&str, &[u8]); N]) -> BTreeMap<String, String> {
    entries.into_iter().map(|(name, hash)| (name.to_owned(), alloy::hex::encode_prefixed(hash))).collect()
}

macro_rules! calls {
    ($($call:ty),* $(,)?) => { table([$((<$call>::SIGNATURE, &<$call>::SELECTOR[..])),*]) };
}

macro_rules! topics {
    ($($event:ty),* $(,)?) => { table([$((<$event>::SIGNATURE, &<$event>::SIGNATURE_HASH[..])),*]) };
}

pub fn selectors(v: &mut Vectors) {
    let ours = calls![
        Channel::openCall,
        Channel::closeCall,
        Channel::claimCall,
        Channel::cooperativeCloseCall,
        Channel::getChannelCall,
        Channel::getBalanceCall,
        Channel::channelsCall,
        Channel::noncesCall,
        Channel::totalLockedCall,
        Channel::feeBpsCall,
        Channel::feeRecipientCall,
        Channel::ownerCall,
        Channel::usdcCall,
        Channel::isImmutableCall,
        Channel::DOMAIN_SEPARATORCall,
        Channel::DOMAIN_TYPEHASHCall,
        Channel::VOUCHER_TYPEHASHCall,
        Channel::CLOSE_TYPEHASHCall,
        Channel::setUSDCCall,
        Channel::renounceOwnershipCall,
        Channel::setFeeCall,
        Channel::sweepCall,
        Erc20::approveCall,
        Erc20::transferCall,
        Erc20::transferFromCall,
        Erc20::balanceOfCall,
        Erc20::allowanceCall,
    ];
    same_table(v, "functionSelectors", ours);
}

pub fn topics(v: &mut Vectors) {
    let ours = topics![
        Channel::ChannelOpened,
        Channel::ChannelClaimed,
        Channel::ChannelClosed,
        Channel::FeePaid,
        Channel::FeeUpdated,
        Channel::Swept,
        Channel::USDCUpdated,
        Channel::OwnershipRenounced,
        Erc20::Transfer,
        Erc20::Approval,
    ];
    same_table(v, "eventTopics", ours);
}

fn same_table(v: &mut Vectors, section: &str, ours: BTreeMap<String, String>) {
    let theirs = v.section(section);
    for (name, hash) in theirs.as_object().unwrap() {
        v.same(name, ours.get(name).map(String::as_str), hash.as_str());
    }
    v.same("as many", ours.len(), theirs.as_object().unwrap().len());
}

pub fn custom_errors(v: &mut Vectors) {
    let ours = calls![
        Channel::NotOwner,
        Channel::NoOwner,
        Channel::ZeroAddress,
        Channel::ChannelExists,
        Channel::ChannelNotFound,
        Channel::NotProvider,
        Channel::NotConsumer,
        Channel::NotExpired,
        Channel::InvalidSignature,
        Channel::InvalidAmount,
        Channel::TransferFailed,
        Channel::FeeTooHigh,
        Channel::NoExcess,
        Revert,
        Panic,
    ];
    let theirs = v.section("customErrors");
    for (name, entry) in theirs.as_object().unwrap() {
        keys(entry, &["selector", "in"]);
        v.same(name, ours.get(name).map(String::as_str), entry["selector"].as_str());
        if !text(entry, "in").starts_with("standard") {
            let shown = revert_reason(&Bytes::from(bytes(entry, "selector")));
            v.same("shown", format!("{shown}()"), name.clone());
        }
    }
    v.same("as many", ours.len(), theirs.as_object().unwrap().len());
}

pub fn calldata(v: &mut Vectors) {
    for entry in v.list("calldata") {
        keys(&entry, &["name", "to", "signature", "args", "data", "note"]);
        let args: BTreeMap<String, &Value> =
            entry["args"].as_array().unwrap().iter().enumerate().map(|(i, arg)| (i.to_string(), arg)).collect();
        let args = json!(args);
        let (a, n, w) = (|i| address(&args, i), |i| number(&args, i), |i| word(&args, i));
        let b = |i| Bytes::from(bytes(&args, i));
        let data = match text(&entry, "name") {
            "open" => Channel::openCall { provider: a("0"), amount: n("1"), duration: n("2") }.abi_encode(),
            "close" => Channel::closeCall { channelId: w("0") }.abi_encode(),
            "claim" => {
                Channel::claimCall { channelId: w("0"), amount: n("1"), nonce: n("2"), signature: b("3") }.abi_encode()
            }
            "cooperativeClose" => {
                let call =
                    Channel::cooperativeCloseCall { channelId: w("0"), finalAmount: n("1"), providerSignature: b("2") };
                call.abi_encode()
            }
            "getChannel" => Channel::getChannelCall { channelId: w("0") }.abi_encode(),
            "getBalance" => Channel::getBalanceCall { channelId: w("0") }.abi_encode(),
            "channels" => Channel::channelsCall { channelId: w("0") }.abi_encode(),
            "nonces" => Channel::noncesCall { consumer: a("0") }.abi_encode(),
            "approve" => Erc20::approveCall { spender: a("0"), amount: n("1") }.abi_encode(),
            "transfer" => Erc20::transferCall { to: a("0"), amount: n("1") }.abi_encode(),
            "balanceOf" => Erc20::balanceOfCall { account: a("0") }.abi_encode(),
            "allowance" => Erc20::allowanceCall { owner: a("0"), spender: a("1") }.abi_encode(),
            name => panic!("{name}"),
        };
        v.same(text(&entry, "signature"), data, bytes(&entry, "data"));
        let known = [deployment::POLYGON_V2, deployment::POLYGON_USDC];
        v.holds("sent to a known contract", known.contains(&address(&entry, "to")));
    }
}

pub fn call_results(v: &mut Vectors) {
    for entry in v.list("callResults") {
        keys(&entry, &["function", "note", "decoded", "data"]);
        let (data, decoded) = (bytes(&entry, "data"), &entry["decoded"]);
        match text(&entry, "function") {
            "getChannel(bytes32)" => {
                keys(decoded, &["consumer", "provider", "deposit", "claimed", "expiry"]);
                let ours = Channel::getChannelCall::abi_decode_returns(&data).unwrap();
                v.same("consumer", ours.consumer, address(decoded, "consumer"));
                v.same("provider", ours.provider, address(decoded, "provider"));
                v.same("deposit", ours.deposit, number(decoded, "deposit"));
                v.same("claimed", ours.claimed, number(decoded, "claimed"));
                v.same("expiry", ours.expiry, number(decoded, "expiry"));
            }
            "getBalance(bytes32)" => {
                let ours = Channel::getBalanceCall::abi_decode_returns(&data).unwrap();
                v.same("balance", ours, decoded.as_str().unwrap().parse().unwrap());
            }
            function => panic!("{function}"),
        }
    }
}

pub fn events(v: &mut Vectors) {
    for entry in v.list("events") {
        keys(&entry, &["event", "address", "topics", "data", "decoded"]);
        let topics: Vec<B256> =
            entry["topics"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().parse().unwrap()).collect();
        let (data, d) = (bytes(&entry, "data"), &entry["decoded"]);
        let id = || word(d, "channelId");
        v.same("contract", address(&entry, "address"), deployment::POLYGON_V2);
        match text(&entry, "event") {
            "ChannelOpened" => {
                let (consumer, provider) = (address(d, "consumer"), address(d, "provider"));
                let (deposit, expiry) = (number(d, "deposit"), number(d, "expiry"));
                let event = Channel::ChannelOpened { channelId: id(), consumer, provider, deposit, expiry };
                same_event(v, d, 5, event, topics, data);
            }
            "ChannelClaimed" => {
                let (provider, amount) = (address(d, "provider"), number(d, "amount"));
                same_event(v, d, 3, Channel::ChannelClaimed { channelId: id(), provider, amount }, topics, data);
            }
            "ChannelClosed" => {
                let (consumer, refund) = (address(d, "consumer"), number(d, "refund"));
                same_event(v, d, 3, Channel::ChannelClosed { channelId: id(), consumer, refund }, topics, data);
            }
            "FeePaid" => {
                let (recipient, amount) = (address(d, "recipient"), number(d, "amount"));
                same_event(v, d, 3, Channel::FeePaid { channelId: id(), recipient, amount }, topics, data);
            }
            "FeeUpdated" => {
                let event =
                    Channel::FeeUpdated { feeRecipient: address(d, "feeRecipient"), feeBps: number(d, "feeBps") };
                same_event(v, d, 2, event, topics, data);
            }
            event => panic!("{event}"),
        }
    }
}

fn same_event<E: SolEvent + PartialEq + std::fmt::Debug>(
    v: &mut Vectors,
    decoded: &Value,
    fields: usize,
    event: E,
    topics: Vec<B256>,
    data: Vec<u8>,
) {
    v.same("no field unread", decoded.as_object().unwrap().len(), fields);
    v.same("written", event.encode_data(), data.clone());
    let written: Vec<B256> = event.encode_topics().iter().map(|topic| topic.0).collect();
    v.same("topics", written, topics.clone());
    v.same("read", E::decode_raw_log_validate(topics, &data).unwrap(), event);
}

pub fn logs_filter(v: &mut Vectors) {
    let theirs = v.section("getLogsFilterForConsumerRecovery");
    keys(&theirs, &["address", "fromBlock", "toBlock", "topics"]);
    let consumer = B256::from_slice(&bytes(&json!({"topic": theirs["topics"][2]}), "topic"));
    let ours = Filter::new()
        .address(deployment::POLYGON_V2)
        .event_signature(Channel::ChannelOpened::SIGNATURE_HASH)
        .topic2(consumer)
        .from_block(0)
        .to_block(alloy::eips::BlockNumberOrTag::Latest);
    let ours = serde_json::to_value(ours).unwrap();
    for key in ["fromBlock", "toBlock", "topics"] {
        v.same(key, &ours[key], &theirs[key]);
    }
    v.same("address", address(&ours, "address"), address(&theirs, "address"));
}

pub fn raw_transactions(v: &mut Vectors) {
    let keys_of: BTreeMap<String, String> = v.file["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| (text(account, "name").to_owned(), text(account, "privateKey").to_owned()))
        .collect();
    for entry in v.list("rawTransactions") {
        keys(&entry, &["name", "key", "from", "tx", "raw", "hash"]);
        let fields = &entry["tx"];
        keys(
            fields,
            &[
                "type",
                "chainId",
                "nonce",
                "to",
                "value",
                "data",
                "gas",
                "maxFeePerGas",
                "maxPriorityFeePerGas",
                "accessList",
            ],
        );
        let wei = |key: &str| text(fields, key).parse::<u128>().unwrap();
        let tx = TxEip1559 {
            chain_id: fields["chainId"].as_u64().unwrap(),
            nonce: fields["nonce"].as_u64().unwrap(),
            gas_limit: text(fields, "gas").parse().unwrap(),
            max_fee_per_gas: wei("maxFeePerGas"),
            max_priority_fee_per_gas: wei("maxPriorityFeePerGas"),
            to: TxKind::Call(address(fields, "to")),
            value: number(fields, "value"),
            access_list: serde_json::from_value(fields["accessList"].clone()).unwrap(),
            input: bytes(fields, "data").into(),
        };
        v.same("type", fields["type"].as_u64(), Some(2));
        let signer: PrivateKeySigner = keys_of[text(&entry, "key")].parse().unwrap();
        v.same("from", signer.address(), address(&entry, "from"));
        let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
        let signed = TxEnvelope::from(tx.into_signed(signature));
        v.same(text(&entry, "name"), signed.encoded_2718(), bytes(&entry, "raw"));
        v.same("hash", *signed.tx_hash(), word(&entry, "hash"));
    }
}
