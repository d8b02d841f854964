//! A channel's life on chain, and what reads say of it.

use drain_signers::request::SESSION_FEE;

use super::*;
use crate::error::{Code, Failure};

#[tokio::test]
async fn reads_say_what_is() {
    let rig = Rig::new().await;
    let (chain, account) = (rig.chain(), rig.address());
    assert_eq!(chain.native_balance(account).await.unwrap(), U256::from(10).pow(U256::from(20)));
    assert_eq!(chain.usdc_balance(rig.v2.usdc, account).await.unwrap(), Usdc::new(FUNDS));
    assert_eq!(chain.owner(&rig.v2).await.unwrap(), Settings::default().owner);
    assert_eq!(chain.owner(&rig.v1).await.unwrap(), Address::ZERO);
    let fee = chain.fee(&rig.v2).await.unwrap();
    assert_eq!((fee.bps, fee.recipient), (200, Settings::default().fee_recipient));
    assert_eq!(fee.on(Usdc::new(1_264)), Usdc::new(25));
    assert_eq!(chain.fee(&rig.v1).await.unwrap(), Fee::default());
    assert_eq!(chain.opened_count(&rig.v2, account).await.unwrap(), 0);
    assert_eq!(chain.channel(&rig.v2, ChannelId(Default::default())).await.unwrap(), None);
    assert_eq!(chain.transaction(Default::default()).await.unwrap(), None);

    rig.done(&chain, rig.v2, Call::ApproveUnlimited).await;
    assert_eq!(chain.allowance(rig.v2.usdc, account, rig.v2.contract()).await.unwrap(), U256::MAX);
    // More USDC than exists is an error, not a number.
    rig.dev.fund(account, U256::MAX, U256::MAX).unwrap();
    assert!(matches!(chain.usdc_balance(rig.v2.usdc, account).await, Err(ChainError::Malformed { .. })));
    // So is a balance of no contract.
    let error = chain.usdc_balance(account, account).await.unwrap_err();
    assert!(error.to_string().contains("no contract is there"), "{error}");
}

#[tokio::test]
async fn finality_is_the_tag_or_else_a_depth() {
    let rig = Rig::with(DevConfig { finality_depth: 5, ..DevConfig::default() }).await;
    rig.dev.mine(20);
    let head = rig.chain().head().await.unwrap();
    assert_eq!(rig.chain().finalized_number().await.unwrap(), head.number - 5);
    assert!(head.base_fee.is_some() && head.timestamp > 1_700_000_000);
    assert_eq!(rig.chain().block(head.number).await.unwrap(), Some(head));
}

#[tokio::test]
async fn a_depth_is_final_only_where_nodes_never_knew_better() {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    let rig = Rig::with(DevConfig { finality_depth: 5, ..DevConfig::default() }).await;
    rig.dev.mine(20);
    let head = rig.chain().head().await.unwrap().number;
    let says = Arc::new(Mutex::new(None::<Value>));
    let said = says.clone();
    let node = relay::relay(rig.dev.url(), move |_, params, answer| {
        if params[0] == "finalized"
            && let Some(other) = &*said.lock().unwrap()
        {
            *answer = other.clone();
        }
    });
    let node = node.await;
    let say = |answer: Value| *says.lock().unwrap() = Some(answer);

    // A transport's or a node's failure says nothing of the tag.
    let chain = chain_on(&[&node]);
    for failure in [json!([]), relay::error(-32_000, "internal error"), relay::error(-32_005, "rate limit exceeded")] {
        say(failure);
        assert!(matches!(chain.finalized_number().await, Err(ChainError::Unavailable { .. })));
    }
    let unknown = [
        json!({ "jsonrpc": "2.0", "id": 1, "result": null }),
        relay::error(-32_602, "invalid argument 0: hex string without 0x prefix"),
        relay::error(-39_001, "finalized block not found"),
    ];
    for answer in &unknown {
        say(answer.clone());
        assert_eq!(chain.finalized_number().await, Ok(head - 3));
    }
    // Once it is known, nothing else will do.
    *says.lock().unwrap() = None;
    assert_eq!(chain.finalized_number().await, Ok(head - 5));
    for answer in unknown {
        say(answer);
        assert!(matches!(chain.finalized_number().await, Err(ChainError::Unavailable { .. })));
    }
    // Another endpoint that knows it is asked first.
    assert_eq!(chain_on(&[&node, rig.dev.url()]).finalized_number().await, Ok(head - 5));
}

#[tokio::test]
async fn a_channels_life_leaves_the_expected_events() {
    let rig = Rig::new().await;
    let (chain, account) = (rig.chain(), rig.address());
    for on in [rig.v2, rig.v1] {
        let approval = rig.done(&chain, on, Call::Approve { amount: Usdc::new(5_000_000) }).await;
        let value = U256::from(5_000_000);
        expect_approval(&approval, on.usdc, account, on.contract(), value).unwrap();
        assert!(expect_approval(&approval, on.usdc, account, on.contract(), value + U256::from(1)).is_err());

        let receipt = rig.done(&chain, on, rig.open_call(5_000_000)).await;
        let opened = expect_opened(&receipt, &on, account, rig.provider, Usdc::new(5_000_000)).unwrap();
        let other = if on == rig.v1 { rig.v2 } else { rig.v1 };
        assert!(expect_opened(&receipt, &other, account, rig.provider, Usdc::new(5_000_000)).is_err());
        assert!(receipt.gas_cost_wei() > U256::ZERO);

        let channel = chain.channel(&on, opened.channel_id).await.unwrap().unwrap();
        assert_eq!((channel.consumer, channel.provider), (account, rig.provider));
        assert_eq!((channel.deposit, channel.claimed, channel.expiry), (opened.deposit, Usdc::ZERO, opened.expiry));
        assert_eq!(chain.opened_count(&on, account).await.unwrap(), 1);

        let close = close_data(opened.channel_id);
        let early = chain.simulate(account, on.contract(), close.clone(), U256::ZERO).await.unwrap_err();
        assert_eq!(early, ChainError::Reverted { reason: "NotExpired".into() });
        rig.dev.advance(3_600);
        chain.simulate(account, on.contract(), close.clone(), U256::ZERO).await.unwrap();
        assert!(chain.estimate_gas(account, on.contract(), close.clone(), U256::ZERO).await.unwrap() > 21_000);
        let receipt = rig.done(&chain, on, Call::Close { channel_id: opened.channel_id }).await;
        let closed = expect_closed(&receipt, &on, opened.channel_id, account).unwrap();
        let none = ClosedEvent { refund: Usdc::new(5_000_000), claimed_increment: None, fee: Usdc::ZERO };
        assert_eq!(closed, none);
        assert!(expect_closed(&receipt, &on, opened.channel_id, rig.provider).is_err());
        assert!(expect_closed(&receipt, &on, ChannelId(Default::default()), account).is_err());
        assert_eq!(chain.channel(&on, opened.channel_id).await.unwrap(), None);
    }
    let paid = rig.done(&chain, rig.v1, Call::SessionFee { to: rig.provider }).await;
    expect_transfer(&paid, rig.v1.usdc, account, rig.provider, SESSION_FEE).unwrap();
    assert!(expect_transfer(&paid, rig.v1.usdc, account, account, SESSION_FEE).is_err());
}

#[tokio::test]
async fn a_revert_is_told_in_the_contracts_words_with_what_to_do() {
    let rig = Rig::new().await;
    let chain = rig.chain();
    let request = TransactionRequest {
        deployment: rig.v2,
        call: rig.open_call(1),
        account_nonce: 0,
        gas_limit: 0,
        max_fee_per_gas: 0,
        max_priority_fee_per_gas: 0,
    };
    let data = request.calldata();
    let error = chain.simulate(rig.address(), request.to(), data.clone(), U256::ZERO).await.unwrap_err();
    assert!(matches!(&error, ChainError::Reverted { reason } if reason.contains("allowance")), "{error}");
    let failure = Failure::from(error);
    assert_eq!(failure.code, Code::TransactionReverted);
    assert!(failure.next.contains("drain_approve") && failure.message.starts_with("The contract"));
    // The estimate says the same, and no endpoint is blamed.
    let error = chain.estimate_gas(rig.address(), request.to(), data.clone(), U256::ZERO).await.unwrap_err();
    assert!(matches!(&error, ChainError::Reverted { reason } if reason.contains("allowance")), "{error}");
    assert!(chain.endpoints()[0].healthy);
}

#[tokio::test]
async fn fees_follow_the_head_and_the_floor() {
    let rig = Rig::with(DevConfig { suggested_priority_fee: 1, ..DevConfig::default() }).await;
    let fees = rig.chain().fees().await.unwrap();
    assert_eq!(fees.max_priority_fee_per_gas, 30_000_000_000);
    assert_eq!(fees.max_fee_per_gas, 80_000_000_000);
}
