//! The end of a channel (M6): what a provider signs is checked, what was asked before is answered first.

use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::error::{Code, Money};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::chain::FailKind;
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
    world.advance(86_400).await;
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
        let chain = world.chain();
        chain.hold(true);
        let closing = actix::spawn({
            let runtime = runtime.clone();
            async move { runtime.cooperative_close(channel, Progress::none()).await }
        });
        until("the close is in the pool", async || chain.pending() == 1).await;
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Closing);
        // Answered while the chain still waits, not behind it.
        unspent(ask(&runtime, channel, "sim-small", "After").await, Code::ChannelNotOpen);
        assert_eq!(chain.pending(), 1);
        chain.hold(false);
        closing.await.unwrap().unwrap();
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
        world.chain().revert_next(1);
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

#[test]
fn m6_a_close_whose_caller_has_gone_before_its_turn_is_not_carried_out() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.transaction_timeout = Duration::from_millis(150);
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        runtime.shutdown().await;
        drop(runtime);
        let runtime = world.runtime_with(config).await;
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_millis(400)));
        let slow = |text: &'static str| {
            let runtime = runtime.clone();
            actix::spawn(async move { ask(&runtime, channel, "sim-small", text).await })
        };
        let reached = async |count| {
            until("the provider has it", async || vouchers(&world.sandbox.llm).len() == count).await;
        };
        let first = slow("First");
        reached(1).await;
        let gone = runtime.cooperative_close(channel, Progress::none());
        assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
        first.await.unwrap().unwrap();
        ask(&runtime, channel, "sim-small", "Second").await.unwrap();
        assert_eq!(world.sandbox.llm.request_log().count("/v1/close-channel"), 0);

        // One that is only not waited for any longer is: that is what its answer says.
        let third = slow("Third");
        reached(3).await;
        failed(runtime.cooperative_close(channel, Progress::none()).await, Code::TransactionPending);
        third.await.unwrap().unwrap();
        until("it is closed", async || world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'closed'") == 1)
            .await;
    });
}

/// Makes the journal refuse a change, as a full disk would, until the trigger is dropped.
fn refuse(world: &World, change: &str) {
    let trigger = format!("CREATE TRIGGER refused {change} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END");
    world.journal().execute(&trigger, []).unwrap();
}

fn heal(world: &World) {
    world.journal().execute("DROP TRIGGER refused", []).unwrap();
}

#[test]
fn m15_a_close_whose_end_cannot_be_recorded_is_pending_and_the_next_call_ends_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        refuse(&world, "BEFORE UPDATE ON channels WHEN NEW.state = 'closed'");
        for _ in 0..2 {
            let failure = failed(runtime.cooperative_close(channel, Progress::none()).await, Code::JournalFailed);
            assert!(matches!(failure.money, Money::Pending { .. }), "{failure:?}");
            assert_eq!(view(&runtime, channel).await.state, ChannelState::Closing);
        }
        let before = world.transactions();
        heal(&world);
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!((closed.channel.state, world.transactions()), (ChannelState::Closed, before));
    });
}

#[test]
fn m7_a_close_that_every_node_refuses_is_followed_again_and_then_issued_anew_in_its_slot() {
    in_system(async {
        // Refused once: what is stored is sent again. Twice: a new one takes the same slot. Three times: either lands.
        for (refusals, issued) in [(1, 1), (2, 2), (3, 2)] {
            let world = World::start().await;
            let (runtime, channel) = used(&world).await;
            let before = world.transactions();
            world.chain().main().update_faults(|faults| {
                faults.fail_next = refusals;
                faults.fail_kind = FailKind::RpcError;
                faults.methods = vec!["eth_sendRawTransaction".into()];
            });
            let calls = if refusals == 3 { 2 } else { 1 };
            for _ in 0..calls {
                let failure = runtime.cooperative_close(channel, Progress::none()).await.unwrap_err();
                assert!(matches!(failure.money, Money::Pending { .. }), "{failure:?}");
                assert_eq!(view(&runtime, channel).await.state, ChannelState::Closing);
                unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ChannelNotOpen);
            }
            let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
            assert_eq!((closed.channel.state, world.transactions()), (ChannelState::Closed, before + 1), "{refusals}");
            let recorded = "SELECT COUNT(*) FROM transactions WHERE kind = 'cooperative_close'";
            assert_eq!(world.journaled(recorded), issued, "{refusals}");
            let slots = "SELECT COUNT(DISTINCT account_nonce) FROM transactions WHERE kind = 'cooperative_close'";
            assert_eq!(world.journaled(slots), 1);
            let open = "SELECT COUNT(*) FROM transactions WHERE state IN ('planned', 'signed', 'broadcast')";
            assert_eq!(world.journaled(open), 0, "{refusals}");
        }
    });
}

#[test]
fn m6_a_refusal_that_cannot_be_recorded_is_told_and_the_next_close_goes_on() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = used(&world).await;
        refuse(&world, "BEFORE UPDATE ON channels WHEN OLD.state = 'closing' AND NEW.state = 'open'");
        world.sandbox.llm.set(|faults| faults.close_signature = CloseSignature::WrongSigner);
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        heal(&world);
        world.sandbox.llm.set(|faults| faults.close_signature = CloseSignature::Genuine);
        assert_eq!(view(&runtime, channel).await.state, ChannelState::Closing);
        let closed = runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(closed.channel.state, ChannelState::Closed);
    });
}

#[test]
fn m6_a_start_puts_back_only_what_it_found() {
    in_system(async {
        let world = std::sync::Arc::new(World::start().await);
        let first = async |runtime: Runtime, world: std::sync::Arc<World>| {
            let one = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
            world.chain().hold(true);
            let closing = actix::spawn(async move { runtime.cooperative_close(one, Progress::none()).await });
            until("the close is in the pool", async || world.chain().pending() == 1).await;
            closing.abort();
            other
        };
        let other = world.life(world.config(), first).await;
        let journal = world.journal();
        journal.execute_batch("CREATE TABLE log (change TEXT); CREATE TRIGGER log AFTER UPDATE OF state ON channels BEGIN INSERT INTO log VALUES (OLD.intent || OLD.state || NEW.state); END").unwrap();
        // The wallet waits for the first close; the second one waits for the wallet.
        let runtime = world.runtime().await;
        let closing = actix::spawn({
            let runtime = runtime.clone();
            async move { runtime.cooperative_close(other, Progress::none()).await }
        });
        until("it is closing", async || view(&runtime, other).await.state == ChannelState::Closing).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.chain().hold(false);
        closing.await.unwrap().unwrap();
        assert_eq!(world.journaled("SELECT COUNT(*) FROM log WHERE change LIKE '%closingopen'"), 0);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM channels WHERE state = 'closed'"), 2);
    });
}
