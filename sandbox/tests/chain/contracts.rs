//! The contracts behave as the protocol reference says.

use alloy::primitives::{Address, B256, Bytes, U256, address, b256, keccak256};
use alloy::sol_types::{Revert, SolError as _, SolEvent as _};
use drain_sandbox::contracts::{self, CHANNEL_V1, CHANNEL_V2, FEE_RECIPIENT, USDC, USDC_BRIDGED};
use serde_json::json;

use crate::reverts;
use crate::rig::{Drain, Rig, Token, USDC_FUNDS, closing, emitted, units, voucher};

#[tokio::test]
async fn constants_are_those_of_the_deployed_contracts() {
    let rig = Rig::anywhere().await;
    let v1 = b256!("35e85db0bac72c426b3ec95e40abae4c375915e0d891ddb0be838114d5a6cdb7");
    let v2 = b256!("3a505b795c73ae4827c5622a9ef10b92248e48efc96f3ca8bd2244f6ba0a887f");
    let domain = b256!("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");
    let voucher = b256!("c9cdc4cc70aa6358dcce05ec5203e3ddb46e60ae0e8342801841c1ae755cdfc6");
    let closing = b256!("7fa765c9247bedb83040169a17cce26ece72c26aaecf88aa8941ae0ebe06eff8");
    for (channel, separator) in [(&rig.v1, v1), (&rig.v2, v2)] {
        assert_eq!(channel.DOMAIN_SEPARATOR().call().await.unwrap(), separator);
        assert_eq!(channel.DOMAIN_TYPEHASH().call().await.unwrap(), domain);
        assert_eq!(channel.VOUCHER_TYPEHASH().call().await.unwrap(), voucher);
        assert_eq!(channel.usdc().call().await.unwrap(), USDC);
        assert_eq!(channel.owner().call().await.unwrap(), rig.owner.address());
        assert!(!channel.isImmutable().call().await.unwrap());
    }
    assert_eq!(rig.v2.CLOSE_TYPEHASH().call().await.unwrap(), closing);
    assert_eq!(rig.v2.feeBps().call().await.unwrap(), units(200));
    assert_eq!(rig.v2.feeRecipient().call().await.unwrap(), FEE_RECIPIENT);

    for token in [USDC, USDC_BRIDGED] {
        let token = Token::new(token, &rig.node);
        assert_eq!(token.decimals().call().await.unwrap(), 6);
        assert_eq!(token.name().call().await.unwrap(), "USD Coin");
        assert_eq!(token.symbol().call().await.unwrap(), "USDC");
    }
}

#[test]
fn domains_follow_chain_and_address() {
    let amoy = address!("61f1C1E04d6Da1C92D0aF1a3d7Dc0fEFc8794d7C");
    let wanted = b256!("7a942db3bd0ae2c747fbee172e6dccb44142c5ac637d1cb35796432a6f4309f1");
    assert_eq!(contracts::domain(80002, amoy).separator(), wanted);
    let local = address!("5FbDB2315678afecb367f032d93F642f64180aa3");
    let wanted = b256!("e878976936cecf55649f4a04626d32453de210352dc5dd79b2e73b9c5b765749");
    assert_eq!(contracts::domain(31337, local).separator(), wanted);
}

#[tokio::test]
async fn v2_life_with_fees_events_and_locked_sum() {
    let rig = Rig::anywhere().await;
    let (consumer, provider) = (rig.consumer.address(), rig.provider.address());
    let locked_before = rig.v2.totalLocked().call().await.unwrap();
    let fees_before = rig.usdc_of(FEE_RECIPIENT).await;
    let id = rig.open(&rig.v2, 5_000_000, 86_400).await;

    let time = rig.chain_time().await;
    let mut packed = [consumer.as_slice(), provider.as_slice()].concat();
    packed.extend(B256::from(units(time)));
    packed.extend(B256::ZERO);
    assert_eq!(id, keccak256(&packed));
    assert_eq!(rig.v2.nonces(consumer).call().await.unwrap(), units(1));
    let channel = rig.v2.getChannel(id).call().await.unwrap();
    assert_eq!((channel.consumer, channel.provider), (consumer, provider));
    assert_eq!(channel.expiry, units(time + 86_400));
    assert_eq!(rig.usdc_of(consumer).await, USDC_FUNDS - 5_000_000);
    let locked = rig.v2.totalLocked().call().await.unwrap();
    assert_eq!(locked - locked_before, units(5_000_000));

    let paid = |to: Address, value: u64| {
        let value = units(value);
        let event = Drain::Transfer { from: CHANNEL_V2, to, value };
        (USDC, event.encode_log_data())
    };
    let fee = |amount: u64| {
        let (recipient, amount) = (FEE_RECIPIENT, units(amount));
        let event = Drain::FeePaid { channelId: id, recipient, amount };
        (CHANNEL_V2, event.encode_log_data())
    };
    let claimed = |amount: u64| {
        let amount = units(amount);
        let event = Drain::ChannelClaimed { channelId: id, provider, amount };
        (CHANNEL_V2, event.encode_log_data())
    };
    let closed = |refund: u64| {
        let refund = units(refund);
        let event = Drain::ChannelClosed { channelId: id, consumer, refund };
        (CHANNEL_V2, event.encode_log_data())
    };

    let signature = voucher(&rig.consumer, CHANNEL_V2, id, 150_000, 1);
    let claim = rig.v2.claim(id, units(150_000), units(1), signature).from(provider);
    let receipt = rig.mined(claim.send().await).await;
    let wanted = vec![paid(FEE_RECIPIENT, 3000), fee(3000), paid(provider, 147_000), claimed(150_000)];
    assert_eq!(emitted(&receipt), wanted);
    assert_eq!(rig.v2.getBalance(id).call().await.unwrap(), units(4_850_000));

    // A payout below 50 units pays no fee; the log has the increment only.
    let signature = voucher(&rig.consumer, CHANNEL_V2, id, 150_049, 7);
    let claim = rig.v2.claim(id, units(150_049), units(7), signature).from(provider);
    let receipt = rig.mined(claim.send().await).await;
    assert_eq!(emitted(&receipt), vec![paid(provider, 49), claimed(49)]);

    let signature = closing(&rig.provider, CHANNEL_V2, id, 1_150_048);
    let close = rig.v2.cooperativeClose(id, units(1_150_048), signature).from(consumer);
    let receipt = rig.mined(close.send().await).await;
    let wanted = vec![
        paid(FEE_RECIPIENT, 19_999),
        fee(19_999),
        paid(provider, 980_000),
        claimed(999_999),
        paid(consumer, 3_849_952),
        closed(3_849_952),
    ];
    assert_eq!(emitted(&receipt), wanted);
    assert_eq!(rig.v2.totalLocked().call().await.unwrap(), locked_before);
    assert_eq!(rig.usdc_of(FEE_RECIPIENT).await - fees_before, 22_999);
    assert_eq!(rig.usdc_of(consumer).await, USDC_FUNDS - 1_150_048);
    // Deleted: zeros, not a revert.
    let gone = rig.v2.channels(id).call().await.unwrap();
    assert_eq!((gone.consumer, gone.deposit), (Address::ZERO, U256::ZERO));
}

#[tokio::test]
async fn cooperative_close_edges() {
    let rig = Rig::anywhere().await;
    let consumer = rig.consumer.address();
    // (amount agreed on, number of logs with the token's included)
    for (amount, logs) in [(0, 2), (5_000_000, 5)] {
        let id = rig.open(&rig.v2, 5_000_000, 0).await;
        let signature = closing(&rig.provider, CHANNEL_V2, id, amount);
        let close = rig.v2.cooperativeClose(id, units(amount), signature).from(consumer);
        let receipt = rig.mined(close.send().await).await;
        assert_eq!(receipt.logs().len(), logs);
        let closed = receipt.decoded_log::<Drain::ChannelClosed>().unwrap();
        assert_eq!(closed.refund, units(5_000_000 - amount));
    }
    // Equal to what is claimed already: nothing more to pay.
    let id = rig.open(&rig.v2, 1000, 0).await;
    let signature = voucher(&rig.consumer, CHANNEL_V2, id, 300, 0);
    let claim = rig.v2.claim(id, units(300), units(0), signature);
    rig.mined(claim.from(rig.provider.address()).send().await).await;
    let signature = closing(&rig.provider, CHANNEL_V2, id, 300);
    let close = rig.v2.cooperativeClose(id, units(300), signature).from(consumer);
    let receipt = rig.mined(close.send().await).await;
    assert!(receipt.decoded_log::<Drain::ChannelClaimed>().is_none());
    assert_eq!(receipt.logs().len(), 2);
}

#[tokio::test]
async fn v1_closes_at_expiry_and_takes_no_fee() {
    let rig = Rig::anywhere().await;
    let (consumer, provider) = (rig.consumer.address(), rig.provider.address());
    let id = rig.open(&rig.v1, 1_000_000, 3600).await;
    let expiry: u64 = rig.v1.getChannel(id).call().await.unwrap().expiry.to();
    let signature = voucher(&rig.consumer, CHANNEL_V1, id, 400_000, 1);
    let claim = rig.v1.claim(id, units(400_000), units(1), signature).from(provider);
    let receipt = rig.mined(claim.send().await).await;
    assert_eq!(receipt.logs().len(), 2);
    assert_eq!(rig.usdc_of(provider).await, 400_000);

    reverts!(rig.v1.close(id), rig.consumer, NotExpired);
    reverts!(rig.v1.close(id), rig.provider, NotConsumer);
    rig.next_time(expiry - 1).await;
    let early = rig.v1.close(id).gas(200_000).from(consumer);
    assert!(!rig.mined(early.send().await).await.status());
    rig.next_time(expiry).await;
    let close = rig.v1.close(id).gas(200_000).from(consumer);
    let receipt = rig.mined(close.send().await).await;
    assert!(receipt.status());
    let closed = receipt.decoded_log::<Drain::ChannelClosed>().unwrap();
    assert_eq!(closed.refund, units(600_000));
    assert_eq!(rig.usdc_of(consumer).await, USDC_FUNDS - 400_000);
    reverts!(rig.v1.close(id), rig.consumer, ChannelNotFound);
    // The first generation has no closing by agreement at all.
    let call = rig.v1.cooperativeClose(id, units(0), Bytes::new()).call().await;
    assert!(call.err().unwrap().as_revert_data().unwrap_or_default().is_empty());
}

#[tokio::test]
async fn claims_after_expiry_and_closing_with_nothing_left() {
    let rig = Rig::anywhere().await;
    let id = rig.open(&rig.v2, 1000, 10).await;
    let time = rig.chain_time().await;
    rig.mine_at(time + 60).await;
    let signature = voucher(&rig.consumer, CHANNEL_V2, id, 1000, 1);
    let claim = rig.v2.claim(id, units(1000), units(1), signature);
    rig.mined(claim.from(rig.provider.address()).send().await).await;
    let close = rig.v2.close(id).from(rig.consumer.address());
    let receipt = rig.mined(close.send().await).await;
    assert_eq!(receipt.logs().len(), 1);
    assert!(receipt.decoded_log::<Drain::ChannelClosed>().unwrap().refund.is_zero());
}

#[tokio::test]
async fn errors_come_in_the_documented_order() {
    let rig = Rig::anywhere().await;
    let (consumer, provider, other) = (&rig.consumer, &rig.provider, &rig.owner);
    let nobody = Address::ZERO;
    let junk = Bytes::from(vec![1; 65]);
    for channel in [&rig.v1, &rig.v2] {
        reverts!(channel.open(nobody, units(0), units(1)), consumer, InvalidAmount);
        reverts!(channel.open(nobody, units(1), units(1)), consumer, ZeroAddress);
        let endless = channel.open(provider.address(), units(1), U256::MAX);
        let error = endless.from(consumer.address()).call().await.err().unwrap();
        let panic = [&[0x4e, 0x48, 0x7b, 0x71], B256::with_last_byte(0x11).as_slice()].concat();
        assert_eq!(error.as_revert_data().unwrap(), panic);

        let id = rig.open(channel, 1000, 1000).await;
        let claim = |id, amount| channel.claim(id, units(amount), units(1), junk.clone());
        reverts!(claim(B256::ZERO, 5000), other, ChannelNotFound);
        reverts!(claim(id, 5000), other, NotProvider);
        reverts!(claim(id, 1001), provider, InvalidAmount);
        reverts!(claim(id, 0), provider, InvalidAmount);
        reverts!(claim(id, 1000), provider, InvalidSignature);
        reverts!(channel.close(B256::ZERO), other, ChannelNotFound);
        reverts!(channel.close(id), other, NotConsumer);
        reverts!(channel.close(id), consumer, NotExpired);
    }

    let id = rig.open(&rig.v2, 1000, 1000).await;
    let signature = voucher(consumer, CHANNEL_V2, id, 500, 1);
    let claim = rig.v2.claim(id, units(500), units(1), signature);
    rig.mined(claim.from(provider.address()).send().await).await;
    let close = |id, amount| rig.v2.cooperativeClose(id, units(amount), junk.clone());
    reverts!(close(B256::ZERO, 5000), other, ChannelNotFound);
    reverts!(close(id, 5000), other, NotConsumer);
    reverts!(close(id, 1001), consumer, InvalidAmount);
    reverts!(close(id, 499), consumer, InvalidAmount);
    reverts!(close(id, 500), consumer, InvalidSignature);
}

#[tokio::test]
async fn the_tokens_errors_come_through() {
    let rig = Rig::anywhere().await;
    let provider = rig.provider.address();
    let reason = |error: alloy::contract::Error| Revert::abi_decode(&error.as_revert_data().unwrap()).unwrap().reason;
    let much = units(USDC_FUNDS + 1);
    let open = rig.v2.open(provider, much, units(1)).from(rig.consumer.address());
    let text = reason(open.call().await.err().unwrap());
    assert_eq!(text, "ERC20: transfer amount exceeds balance");
    let open = rig.v2.open(provider, units(1), units(1)).from(rig.owner.address());
    let text = reason(open.call().await.err().unwrap());
    assert_eq!(text, "ERC20: transfer amount exceeds allowance");

    let id = rig.open(&rig.v2, 1000, 0).await;
    let refuse = |on| contracts::usdc_refusal_write(on).unwrap();
    contracts::send(&rig.node, refuse(true)).await.unwrap();
    let open = rig.v2.open(provider, units(1), units(1));
    reverts!(open, rig.consumer, TransferFailed);
    reverts!(rig.v2.close(id), rig.consumer, TransferFailed);
    let signature = voucher(&rig.consumer, CHANNEL_V2, id, 500, 1);
    let claim = rig.v2.claim(id, units(500), units(1), signature);
    reverts!(claim, rig.provider, TransferFailed);
    contracts::send(&rig.node, refuse(false)).await.unwrap();

    // The same consumer, provider, time and nonce twice: only a storage write
    // that sets the nonce back can bring that about.
    let time = rig.chain_time().await + 100;
    rig.next_time(time).await;
    rig.open(&rig.v2, 1000, 0).await;
    let slot = keccak256([rig.consumer.address().into_word(), B256::with_last_byte(3)].concat());
    let nonce = B256::with_last_byte(1);
    rig.control("anvil_setStorageAt", json!([CHANNEL_V2, slot, nonce])).await;
    if rig.chain.is_some() {
        rig.next_time(time).await;
        let open = rig.v2.open(provider, units(1000), units(0));
        reverts!(open, rig.consumer, ChannelExists);
    }
}
