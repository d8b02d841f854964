//! The end of a channel (M6): what a provider signs is checked, what was asked before is answered first.

use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::error::{Code, Money};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::{CloseAmount, CloseSignature, Times};

use crate::harness::{World, ask, failed, figures, in_system, open, unspent, until, usdc, view, vouchers};

/// A channel of one USDC on which something was paid.
async fn used(world: &World) -> (Runtime, ChannelId) {
    let runtime = world.impatient().await;
    let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
    (runtime, channel)
}

/// Closes at expiry; gives what came back.
async fn at_expiry(world: &World, runtime: &Runtime, channel: ChannelId) -> Usdc {
    world.sandbox.chain.as_ref().unwrap().advance(86_400);
    let closed = runtime.close(channel, Progress::none()).await.unwrap();
    assert_eq!(closed.channel.state, ChannelState::Closed);
    closed.refund
}

#[test]
fn m6_what_a_provider_may_not_sign_is_never_sent() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        let before = (world.transactions(), world.held().await);
        let lies = [
            (CloseAmount::Plus(1), CloseSignature::Genuine, Code::CloseRefused),
            (CloseAmount::Deposit, CloseSignature::Genuine, Code::CloseRefused),
            (CloseAmount::Exactly(u64::MAX), CloseSignature::Genuine, Code::ProviderUnreachable),
            (CloseAmount::Garbage("a lot".into()), CloseSignature::Genuine, Code::ProviderUnreachable),
            (CloseAmount::Garbage("-1".into()), CloseSignature::Genuine, Code::ProviderUnreachable),
            // An amount that was not signed.
            (CloseAmount::Garbage("5".into()), CloseSignature::Genuine, Code::CloseRefused),
            (CloseAmount::Honest, CloseSignature::WrongSigner, Code::CloseRefused),
            (CloseAmount::Honest, CloseSignature::VoucherSignature, Code::CloseRefused),
            (CloseAmount::Honest, CloseSignature::HighS, Code::CloseRefused),
            (CloseAmount::Honest, CloseSignature::Garbage, Code::ProviderUnreachable),
        ];
        for (amount, signature, code) in lies {
            let told = format!("{amount:?}, {signature:?}");
            world.sandbox.llm.set(|faults| (faults.close_amount, faults.close_signature) = (amount, signature));
            let refused = runtime.cooperative_close(channel, Progress::none()).await;
            assert!(refused.is_err(), "{told} was sent");
            let failure = unspent(refused, code);
            assert!(failure.code != Code::CloseRefused || failure.next.contains("expiry"), "{told}: {failure:?}");
            assert_eq!(view(&runtime, channel).await.state, ChannelState::Open, "{told}");
        }
        assert_eq!((world.transactions(), world.held().await), before);
        // It pays on, and the rest comes back at expiry.
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(at_expiry(&world, &runtime, channel).await, usdc("1"));
    });
}

#[test]
fn m6_a_provider_without_an_answer_leaves_the_channel_usable() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        let before = world.transactions();
        world.sandbox.llm.set(|faults| faults.close_500 = Times::next(1));
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::ProviderUnreachable);
        world.sandbox.llm.set(|faults| faults.close_hang = Times::next(1));
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::ProviderUnreachable);
        assert_eq!((world.transactions(), view(&runtime, channel).await.state), (before, ChannelState::Open));
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // A signature without 0x is a signature.
        world.sandbox.llm.set(|faults| faults.close_signature = CloseSignature::NoPrefix);
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.channel.state, ChannelState::Closed);
    });
}

#[test]
fn m6_zero_after_a_claim_is_refused_and_the_rest_comes_back_at_expiry() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        let signed = view(&runtime, channel).await.signed;
        let claim = world.sandbox.llm.claim(channel.0).await.unwrap();
        assert_eq!((claim.amount, claim.error.is_none()), (signed.units(), true));
        let refused = unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        assert!(refused.message.contains("claimed"), "{refused:?}");
        let after = view(&runtime, channel).await;
        assert_eq!((after.state, after.claimed), (ChannelState::Open, signed));
        let rest = usdc("1").checked_sub(signed).unwrap();
        assert_eq!(at_expiry(&world, &runtime, channel).await, rest);
        let ended = view(&runtime, channel).await;
        assert_eq!((ended.state, ended.claimed, ended.refunded), (ChannelState::Closed, signed, Some(rest)));
    });
}

#[test]
fn m6_a_provider_that_lost_its_books_signs_for_a_full_refund() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        world.sandbox.llm.lose_books();
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.paid, closed.refund), (usdc("0"), usdc("1")));
    });
}

#[test]
fn m6_a_close_takes_its_turn_and_nothing_is_signed_after_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(40)));
        let early = futures::future::join_all((0..3).map(|_| ask(&runtime, channel, "sim-small", "Before")));
        let close = runtime.cooperative_close(channel, Progress::none());
        let late = ask(&runtime, channel, "sim-small", "After");
        let (early, closed, late) = futures::join!(early, close, late);
        let closed = closed.unwrap();
        assert!(early.iter().all(Result::is_ok), "{early:?}");
        unspent(late, Code::ChannelNotOpen);
        let sent = vouchers(&world.sandbox.llm);
        assert!(sent.len() == 4 && !sent.iter().any(|request| request.body.contains("After")));
        assert_eq!(closed.paid.units(), sent[3].amount.unwrap());
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::ChannelNotOpen);
        unspent(runtime.close(channel, Progress::none()).await, Code::ChannelNotOpen);
    });
}

#[test]
fn m6_no_voucher_while_a_close_is_on_its_way() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        let chain = world.sandbox.chain.as_ref().unwrap();
        chain.hold(true);
        let closing = actix::spawn({
            let runtime = runtime.clone();
            async move { runtime.cooperative_close(channel, Progress::none()).await }
        });
        until("the close is in the pool", async || chain.pending() == 1).await;
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Closing);
        let late = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "After").await }
        });
        chain.hold(false);
        closing.await.unwrap().unwrap();
        unspent(late.await.unwrap(), Code::ChannelNotOpen);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

#[test]
fn m6_unknown_requests_are_asked_for_before_the_close() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        // One that was billed, one that was not.
        world.sandbox.llm.set(|faults| faults.cut_before_answer = Times::next(1));
        failed(ask(&runtime, channel, "sim-small", "write 80 words").await, Code::AnswerLost);
        world.sandbox.llm.set(|faults| faults.fail_500 = Times::next(1));
        failed(ask(&runtime, channel, "sim-small", "write 80 words").await, Code::ProviderFailed);
        assert!(!view(&runtime, channel).await.in_flight.is_zero());
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        let sent = vouchers(&world.sandbox.llm);
        let question = sent.last().unwrap();
        // It authorises nothing, and holds no user's words.
        assert_eq!((sent.len(), question.amount), (4, Some(0)));
        assert!(!question.body.contains("write") && question.nonce > sent[2].nonce, "{question:?}");
        let books = world.sandbox.llm.books(channel.0).unwrap();
        assert_eq!((closed.channel.in_flight, closed.channel.charged.units()), (usdc("0"), books.total_charged));
    });
}

#[test]
fn m6_what_a_provider_does_not_tell_is_booked_at_its_bound_before_the_close() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        let charged = view(&runtime, channel).await.charged;
        world.sandbox.llm.set(|faults| {
            faults.fail_500 = Times::next(1);
            faults.dialect = drain_sandbox::provider::Dialect::B;
        });
        failed(ask(&runtime, channel, "sim-small", "write 80 words").await, Code::ProviderFailed);
        let unknown = view(&runtime, channel).await.in_flight;
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.channel.charged, charged.saturating_add(unknown));
        assert_eq!(closed.channel.in_flight, usdc("0"));
    });
}

#[test]
fn m6_a_recovered_channel_is_closed_at_expiry_only() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        world.sandbox.llm.set(|faults| faults.invalid_nonce = Times::next(1));
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        assert_eq!(world.sandbox.llm.request_log().count("/v1/close-channel"), 0);
        unspent(runtime.close(channel, Progress::none()).await, Code::NotExpired);
        assert_eq!(at_expiry(&world, &runtime, channel).await, usdc("1"));
    });
}

#[test]
fn m6_m7_a_reverted_close_is_a_failure_and_the_channel_stays_open() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        world.sandbox.chain.as_ref().unwrap().revert_next(1);
        let before = world.transactions();
        let failure = failed(runtime.cooperative_close(channel, Progress::none()).await, Code::TransactionReverted);
        assert_eq!((failure.money, world.transactions()), (Money::GasOnly, before + 1));
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
        // It pays on, and a second close succeeds.
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let signed = view(&runtime, channel).await.signed;
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.paid, world.transactions()), (signed, before + 2));
        assert_eq!(figures(&world.sandbox.llm).last().unwrap().0, signed.units());
    });
}

#[test]
fn m6_a_close_that_a_restart_interrupts_is_taken_up_or_put_back() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        drop(runtime);
        // A crash after the state was written and before any transaction was.
        world.journal().execute("UPDATE channels SET state = 'closing'", []).unwrap();
        let runtime = world.runtime().await;
        runtime.approve(Some(usdc("1")), Progress::none()).await.unwrap();
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Open);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}
