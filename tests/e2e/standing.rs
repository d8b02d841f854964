//! What providers did is remembered by wallet and host; one that lies or fails too often is set aside until a person
//! says otherwise. Each test states in advance what it may lose.

use drain_mcp::actors::Runtime;
use drain_mcp::api::{Progress, ProviderQuery, ProviderStanding};
use drain_mcp::error::Code;
use drain_protocol::Usdc;
use drain_sandbox::provider::{CloseAmount, CloseSignature, Times};

use crate::harness::{World, ask, credit, failed, in_system, llm, open, reserved, unspent, usdc, view, vouchers};

async fn standing(runtime: &Runtime, id: &str) -> Option<ProviderStanding> {
    let page = runtime.providers(ProviderQuery::default()).await.unwrap();
    page.providers.into_iter().find(|provider| provider.id == id).unwrap().standing
}

#[test]
fn five_vouchers_taken_without_an_answer_set_the_provider_aside_until_a_person_lifts_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        assert_eq!(standing(&runtime, "sim-llm").await, None);
        world.sandbox.llm.set(|faults| (faults.fail_500, faults.keep_voucher_on_failure) = (Times::ALWAYS, true));
        // What it can take at most: five requests of at most 1,024 tokens of output at 900 a thousand, and the input.
        let bound = 5 * (1_024 * 900 / 1_000 + 20);
        for _ in 0..5 {
            reserved(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderFailed);
        }
        let refused = unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderSetAside);
        assert!(refused.message.contains("5 vouchers in a row"), "{refused:?}");
        assert!(refused.next.contains("drain-mcp providers --trust sim-llm"), "{refused:?}");
        // Neither opened, whichever listing of the same wallet and host is named, nor after a restart.
        unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::ProviderSetAside);
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.score, known.failed, known.answered), (Some(0), 5, 0), "{known:?}");
        drop(runtime);
        let runtime = world.impatient().await;
        unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::ProviderSetAside);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 5);
        let signed = view(&runtime, channel).await.signed;
        assert!(signed.units() <= bound, "{signed}");
        let claimed = world.sandbox.llm.claim(channel.0).await.unwrap();
        assert!(claimed.amount <= bound && claimed.amount <= signed.units(), "{claimed:?}");

        // A person's word lifts it; what it did stays known.
        assert!(runtime.trust_provider("sim-llm").await.unwrap());
        world.sandbox.llm.reset_faults();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.set_aside, known.failed, known.answered), (None, 5, 1));
    });
}

#[test]
fn answers_and_refusals_are_counted_and_make_history() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.validation_error = Times::next(1));
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderRefused);
        for _ in 0..10 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        }
        // One newcomers' voucher after another until there is history; then none.
        assert_eq!(world.journaled("SELECT COUNT(*) FROM vouchers WHERE newcomer = 1"), 11);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.score, known.answered, known.refused, known.failed), (Some(100), 11, 1, 0), "{known:?}");
        assert_eq!(world.journaled("SELECT COUNT(*) FROM vouchers WHERE newcomer = 1"), 11);
        let details = runtime.provider("sim-llm").await.unwrap();
        assert_eq!(details.listing.standing, Some(known));
    });
}

#[test]
fn an_answer_that_is_none_counts_as_a_failure_whatever_it_cost() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.html_answer = Times::next(1));
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.set(|faults| faults.cut_mid_body = Times::next(1));
        failed(ask(&runtime, channel, "sim-small", "Hello").await, Code::AnswerLost);
        world.sandbox.llm.set(|faults| faults.cut_before_answer = Times::next(1));
        reserved(ask(&runtime, channel, "sim-small", "How long is the way to the sea?").await, Code::AnswerLost);
        // Its next answer tells what the last one cost: that is booked, and the failure counted once.
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(paid.channel.in_flight.is_zero());
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.failed, known.answered), (3, 1), "{known:?}");
        let charged = world.journaled("SELECT charged FROM provider_records");
        assert_eq!(charged, i64::try_from(paid.channel.charged.units()).unwrap());
    });
}

#[test]
fn m6_three_channels_with_a_close_that_breaks_the_rule_set_aside_and_closing_goes_on() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        let before = world.held().await;
        let lies = [
            (CloseAmount::Plus(1), CloseSignature::Genuine),
            (CloseAmount::Deposit, CloseSignature::Genuine),
            (CloseAmount::Honest, CloseSignature::WrongSigner),
        ];
        let mut channels = Vec::new();
        for (amount, signature) in lies {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            world.sandbox.llm.set(|faults| (faults.close_amount, faults.close_signature) = (amount, signature));
            // Asked twice, counted once.
            for _ in 0..2 {
                unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
            }
            world.sandbox.llm.reset_faults();
            channels.push(channel);
        }
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.offences, known.set_aside.is_some()), (3, true), "{known:?}");
        unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::ProviderSetAside);
        unspent(ask(&runtime, channels[0], "sim-small", "Hello").await, Code::ProviderSetAside);
        // What it may keep: what was signed on the three channels, the bound of one request each.
        let bound = 3 * (1_024 * 900 / 1_000 + 20);
        for channel in channels {
            runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        }
        let lost = before.checked_sub(world.held().await).unwrap();
        assert!(lost.units() <= bound, "{lost}");
    });
}

#[test]
fn zero_after_a_claim_is_said_and_held_against_nobody() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.claim(channel.0).await.unwrap();
        let refused = unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        assert!(refused.next.contains("drain_close_channel"), "{refused:?}");
        let known = standing(&runtime, "sim-llm").await.unwrap();
        assert_eq!((known.offences, known.set_aside), (0, None));
        assert!(usdc("0.0011") > view(&runtime, channel).await.signed && known.disputed == Usdc::ZERO);
    });
}
