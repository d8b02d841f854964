//! Receipts and logs against the protocol's vectors.

use alloy::primitives::{B256, LogData};
use alloy::rpc::types::Log;
use drain_protocol::contract::Erc20;
use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../protocol/vectors.json")).unwrap()
}

/// The vector's event as a log in block 7.
fn log_of(event: &Value) -> Log {
    let topics = event["topics"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().parse().unwrap());
    let data = LogData::new_unchecked(topics.collect(), event["data"].as_str().unwrap().parse().unwrap());
    placed(event["address"].as_str().unwrap().parse().unwrap(), data)
}

fn placed(address: Address, data: LogData) -> Log {
    Log {
        inner: alloy::primitives::Log { address, data },
        block_hash: Some(B256::repeat_byte(7)),
        block_number: Some(7),
        transaction_hash: Some(B256::repeat_byte(1)),
        log_index: Some(3),
        ..Log::default()
    }
}

fn transfer(token: Address, from: Address, to: Address, units: u64) -> Log {
    use alloy::sol_types::SolEvent;
    placed(token, Erc20::Transfer { from, to, value: U256::from(units) }.encode_log_data())
}

fn receipt(logs: Vec<Log>) -> Receipt {
    Receipt {
        hash: B256::repeat_byte(1),
        block_number: 7,
        block_hash: B256::repeat_byte(7),
        success: true,
        logs,
        gas_used: 1,
        effective_gas_price: 1,
    }
}

fn v2() -> Deployment {
    builtin(POLYGON)[0]
}

const CONSUMER: Address = alloy::primitives::address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const PROVIDER: Address = alloy::primitives::address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");

#[test]
fn every_event_of_the_vectors_is_read() {
    let logs: Vec<Log> = vectors()["events"].as_array().unwrap().iter().map(log_of).collect();
    let events = channel_events(&builtin(POLYGON), &logs);
    assert_eq!(events.len(), 7);
    let id: ChannelId = "0xeb8be6fadb377547fdd17120dde997f4af27e12431a6635123691d0e4a65e3f0".parse().unwrap();
    let at = LogPlace {
        contract: v2().contract(),
        block_number: 7,
        block_hash: B256::repeat_byte(7),
        log_index: 3,
        transaction: B256::repeat_byte(1),
    };
    let (channel_id, consumer, provider) = (id, CONSUMER, PROVIDER);
    let (deposit, expiry) = (Usdc::new(5_000_000), 1_772_409_600);
    assert_eq!(events[0], ChannelEvent::Opened { at, channel_id, consumer, provider, deposit, expiry });
    // An expiry beyond every clock.
    assert!(matches!(events[1], ChannelEvent::Opened { expiry, .. } if expiry == i64::MAX as u64));
    assert_eq!(events[2], ChannelEvent::Claimed { at, channel_id, provider, amount: Usdc::new(150_000) });
    assert_eq!(events[3], ChannelEvent::Closed { at, channel_id, consumer, refund: Usdc::new(4_850_000) });
    assert!(matches!(events[5], ChannelEvent::FeePaid { amount, .. } if amount == Usdc::new(3_000)));
    assert!(matches!(events[6], ChannelEvent::FeeUpdated { bps, .. } if bps == U256::from(200)));
    assert!(events.iter().all(|event| event.at().block_number == 7));
}

#[test]
fn logs_of_others_of_gone_blocks_and_of_other_shapes_are_left_out() {
    let log = log_of(&vectors()["events"][0]);
    let mut elsewhere = log.clone();
    elsewhere.inner.address = Address::repeat_byte(5);
    let gone = Log { removed: true, ..log.clone() };
    let pending = Log { block_hash: None, ..log.clone() };
    let mut long = log.clone();
    long.inner.data = LogData::new_unchecked(log.inner.data.topics()[..3].to_vec(), log.inner.data.data.clone());
    assert!(channel_events(&builtin(POLYGON), &[elsewhere, gone, pending, long]).is_empty());
}

#[test]
fn m7_an_opening_counts_with_contract_parties_deposit_and_transfer_only() {
    let opened = log_of(&vectors()["events"][0]);
    let (on, deposit) = (v2(), Usdc::new(5_000_000));
    let paid = transfer(on.usdc, CONSUMER, on.contract(), 5_000_000);
    let good = receipt(vec![paid.clone(), opened.clone()]);
    let event = expect_opened(&good, &on, CONSUMER, PROVIDER, deposit).unwrap();
    assert_eq!((event.deposit, event.expiry), (deposit, 1_772_409_600));

    let refused = |receipt: &Receipt, on: &Deployment, consumer, provider, deposit| {
        let error = expect_opened(receipt, on, consumer, provider, deposit).unwrap_err();
        assert!(matches!(error, ChainError::Unexpected { .. }), "{error}");
    };
    refused(&good, &on, PROVIDER, PROVIDER, deposit);
    refused(&good, &on, CONSUMER, CONSUMER, deposit);
    refused(&good, &on, CONSUMER, PROVIDER, Usdc::new(4_999_999));
    refused(&good, &builtin(POLYGON)[1], CONSUMER, PROVIDER, deposit);
    let mut elsewhere = opened.clone();
    elsewhere.inner.address = Address::repeat_byte(5);
    refused(&receipt(vec![paid.clone(), elsewhere]), &on, CONSUMER, PROVIDER, deposit);
    refused(&receipt(vec![opened.clone()]), &on, CONSUMER, PROVIDER, deposit);
    for wrong in [
        transfer(Address::repeat_byte(6), CONSUMER, on.contract(), 5_000_000),
        transfer(on.usdc, CONSUMER, PROVIDER, 5_000_000),
        transfer(on.usdc, PROVIDER, on.contract(), 5_000_000),
        transfer(on.usdc, CONSUMER, on.contract(), 4_999_999),
    ] {
        refused(&receipt(vec![wrong, opened.clone()]), &on, CONSUMER, PROVIDER, deposit);
    }
    let reverted = Receipt { success: false, ..good };
    let error = expect_opened(&reverted, &on, CONSUMER, PROVIDER, deposit).unwrap_err();
    assert!(matches!(error, ChainError::Reverted { .. }));
}

#[test]
fn m7_a_cooperative_close_tells_payout_fee_and_refund() {
    let events = vectors();
    let log = |index: usize| log_of(&events["events"][index]);
    let (on, id) = (v2(), "0xeb8be6fadb377547fdd17120dde997f4af27e12431a6635123691d0e4a65e3f0".parse().unwrap());
    let refund = transfer(on.usdc, on.contract(), CONSUMER, 4_850_000);
    let full = receipt(vec![log(5), log(2), refund.clone(), log(3)]);
    assert_eq!(
        expect_closed(&full, &on, id, CONSUMER).unwrap(),
        ClosedEvent {
            refund: Usdc::new(4_850_000),
            claimed_increment: Some(Usdc::new(150_000)),
            fee: Usdc::new(3_000)
        }
    );
    // Nothing left: no transfer is due.
    let empty = expect_closed(&receipt(vec![log(4)]), &on, id, CONSUMER).unwrap();
    assert_eq!((empty.refund, empty.claimed_increment), (Usdc::ZERO, None));
    // A refund that did not arrive, or less of it.
    for logs in [vec![log(3)], vec![transfer(on.usdc, on.contract(), CONSUMER, 4_849_999), log(3)], vec![refund]] {
        assert!(matches!(expect_closed(&receipt(logs), &on, id, CONSUMER), Err(ChainError::Unexpected { .. })));
    }
}

#[test]
fn m11_a_claims_voucher_names_its_signer() {
    let vectors = vectors();
    let claims: Vec<&Value> = vectors["calldata"].as_array().unwrap().iter().filter(|c| c["name"] == "claim").collect();
    assert!(!claims.is_empty());
    let input: Bytes = claims[0]["data"].as_str().unwrap().parse().unwrap();
    let voucher = claimed_voucher(&v2().domain, &input).unwrap();
    assert_eq!((voucher.signer, voucher.amount, voucher.nonce), (CONSUMER, U256::from(150_000), U256::from(1)));
    // On the other contract the same bytes are somebody else's.
    assert_ne!(claimed_voucher(&builtin(POLYGON)[1].domain, &input).map(|v| v.signer), Some(CONSUMER));
    let open: Bytes = vectors["calldata"][0]["data"].as_str().unwrap().parse().unwrap();
    assert_eq!(claimed_voucher(&v2().domain, &open), None);
}
