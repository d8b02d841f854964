//! The life of a channel: open, pay, close.

use drain_mcp::api::{ChannelState, Progress};

use crate::harness::{World, ask, in_system, open, usdc};

#[test]
fn a_v2_channel_is_opened_paid_and_closed_to_the_unit() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let before = world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap();
        let channel = open(&runtime, "sim-llm", "2", "24h").await.unwrap();
        let mut charged = usdc("0");
        for i in 0..5 {
            let paid = ask(&runtime, channel, "sim-small", &format!("Summarise: number {i} of five")).await.unwrap();
            assert!(paid.disputed.is_zero() && paid.notes.is_empty(), "{:?}", paid.notes);
            charged = charged.saturating_add(paid.cost);
        }
        let view = runtime.channel(channel).await.unwrap();
        assert_eq!((view.state, view.charged, view.requests), (ChannelState::Open, charged, 5));
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.channel.state, ChannelState::Closed);
        assert_eq!(closed.paid, view.signed);
        let after = world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap();
        assert_eq!(before.checked_sub(after).unwrap(), view.signed);
        assert_eq!(world.sandbox.observer().total_locked().await.unwrap(), usdc("0"));
    });
}

#[test]
fn a_v1_channel_pays_one_fee_and_comes_back_at_expiry() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let before = world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap();
        let channel = open(&runtime, "sim-llm-v1", "1", "2h").await.unwrap();
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(!paid.cost.is_zero());
        let early = runtime.close(channel, Progress::none()).await.unwrap_err();
        assert_eq!(early.code.as_str(), "not_expired");
        world.advance(7_200).await;
        let closed = runtime.close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.refund, usdc("1"));
        let after = world.sandbox.observer().usdc_balance(world.sandbox.agent().address()).await.unwrap();
        assert_eq!(before.checked_sub(after).unwrap(), usdc("0.01"));
    });
}
