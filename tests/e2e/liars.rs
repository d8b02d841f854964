//! Providers that overcharge, lie about their books, or refuse.

use drain_mcp::api::Progress;
use drain_mcp::error::{Code, Money};
use drain_protocol::Usdc;
use drain_sandbox::provider::{Correction, Dialect, Faults, ForgedHeaders, Times};

use crate::harness::{
    World, ask, call, credit, failed, figures, in_system, llm, open, pay, reserved, unspent, usdc, view, vouchers,
};

#[test]
fn what_price_and_usage_do_not_explain_is_disputed_and_never_paid() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let honest = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().cost;
        // Above the usage; and far above the bound, which the provider can only say, not hold against its own check.
        world.sandbox.llm.set(|faults| faults.overcharge = 7);
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!((paid.cost, paid.disputed), (honest, Usdc::new(7)));
        assert!(paid.notes.iter().any(|note| note.contains("not accepted")), "{:?}", paid.notes);
        world.sandbox.llm.reset_faults();
        world.sandbox.llm.set(|faults| faults.forged_headers.cost = Some("900000".into()));
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!((paid.cost, paid.disputed.units()), (honest, 900_000 - honest.units()));
        world.sandbox.llm.reset_faults();
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(paid.channel.charged.units(), 4 * honest.units());
        assert!(paid.channel.signed < usdc("0.002"), "the claims were signed for: {}", paid.channel.signed);
    });
}

#[test]
fn absurd_claims_damage_no_record_and_no_other_channel() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.forged_headers.cost = Some(Usdc::MAX.units().to_string()));
        for _ in 0..3 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        }
        let listed = runtime.channels(true).await.unwrap();
        assert_eq!((listed.len(), listed[0].requests), (1, 3));
        assert!(listed[0].disputed <= usdc("10"), "{}", listed[0].disputed);
        world.sandbox.llm.reset_faults();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}

#[test]
fn a_provider_that_insists_on_the_disputed_is_not_used_further() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        // Nearly all of the voucher's 931 units for an answer that costs 22.
        world.sandbox.llm.set(|faults| faults.overcharge = 900);
        let first = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(first.disputed, Usdc::new(900));
        world.sandbox.llm.reset_faults();
        // What it bills from now on is right, but its books hold what we do not owe, and no voucher is made to cover that.
        let mut short = call(channel, "sim-small", "Hello");
        short.max_tokens = Some(50);
        let refused = credit(pay(&runtime, short).await, Code::ProviderOffence);
        assert!(refused.message.contains("0.0009"), "{refused:?}");
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderOffence);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
        let books = view(&runtime, channel).await;
        assert_eq!((books.signed, books.charged), (first.channel.signed, first.cost));
        assert!(books.next.contains("close it"), "{}", books.next);
    });
}

#[test]
fn inflated_usage_is_paid_up_to_the_bound_at_most() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.inflated_usage = 1_000);
        let mut short = call(channel, "sim-small", "Hello");
        short.max_tokens = Some(50);
        // The provider's own second check fails first: its bill is above the voucher.
        reserved(pay(&runtime, short.clone()).await, Code::ProviderFailed);
        world.sandbox.llm.set(|faults| faults.inflated_usage = 2);
        let paid = pay(&runtime, short).await.unwrap();
        assert!(paid.cost <= paid.channel.signed && paid.channel.charged <= paid.channel.signed);
    });
}

#[test]
fn garbage_in_the_cost_headers_is_said_and_not_believed() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let honest = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().cost;
        for garbage in ["-5", "1e99", "NaN", "99999999999999999999999999", "0x10", "many"] {
            world.sandbox.llm.set(|faults| {
                let text = || Some(garbage.to_owned());
                faults.forged_headers = ForgedHeaders { cost: text(), total: text(), remaining: text(), omit: false };
            });
            let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            // Price and usage tell what the header does not.
            assert_eq!((paid.cost, paid.disputed), (honest, Usdc::ZERO), "{garbage}");
            assert!(paid.notes.iter().any(|note| note.contains("made no sense")), "{garbage}: {:?}", paid.notes);
        }
    });
}

#[test]
fn without_cost_and_usage_the_whole_bound_is_booked() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| {
            faults.forged_headers.omit = true;
            faults.no_choices = Times::next(1);
        });
        let mut short = call(channel, "sim-small", "Hello");
        short.max_tokens = Some(100);
        let paid = pay(&runtime, short.clone()).await.unwrap();
        assert_eq!((paid.cost, paid.channel.in_flight), (paid.channel.signed, Usdc::ZERO));
        // With usage, usage tells.
        let told = pay(&runtime, short).await.unwrap();
        assert!(told.cost < paid.cost && told.disputed.is_zero());
    });
}

#[test]
fn arrears_that_nothing_explains_set_the_channel_aside_and_no_other() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let other = open(&runtime, "sim-llm-v1", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.set(|faults| faults.insist_arrears = 500_000);
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderOffence);
        assert!(view(&runtime, channel).await.signed < usdc("0.01"));
        // Over a restart too.
        drop(runtime);
        let runtime = world.runtime().await;
        let sent = vouchers(&world.sandbox.llm).len();
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderOffence);
        assert_eq!(vouchers(&world.sandbox.llm).len(), sent);
        ask(&runtime, other, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.reset_faults();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}

#[test]
fn forged_corrections_never_raise_what_is_signed_beyond_the_pessimistic_bound() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        // At most 4,096 tokens of output at 900 per thousand, and the input.
        let pessimistic = 4_096 * 900 / 1_000 + 50;
        for (provided, required, code, tries) in [
            ("-900000", "50", Code::ProviderOffence, 1),
            ("0", "50", Code::ProviderOffence, 1),
            ("0", "900000", Code::ProviderOffence, 1),
            ("99999999999999999999", "900000", Code::ProviderRefused, 1),
            ("garbage", "900000", Code::ProviderRefused, 1),
            ("garbage", "garbage", Code::ProviderRefused, 1),
            // Within the pessimistic bound: granted, once.
            ("garbage", "3000", Code::ProviderRefused, 2),
        ] {
            let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
            world.sandbox.llm.clear_log();
            let (provided, required) = (provided.to_owned(), required.to_owned());
            let told = format!("{provided}/{required}");
            world.sandbox.llm.set(|faults| faults.forged_correction = Some(Correction { provided, required }));
            credit(ask(&runtime, channel, "sim-small", "Hello").await, code);
            let sent = figures(&world.sandbox.llm);
            assert_eq!(sent.len(), tries, "{told}");
            assert!(sent.iter().all(|(amount, _)| *amount <= pessimistic), "{told}: {sent:?}");
            let books = view(&runtime, channel).await;
            assert!(
                books.signed.units() <= pessimistic && books.charged.is_zero() && books.in_flight.is_zero(),
                "{told}"
            );
            world.sandbox.llm.reset_faults();
            // Three such lies set a provider aside, which is another test's matter.
            runtime.trust_provider("sim-llm").await.unwrap();
        }
    });
}

#[test]
fn more_cover_before_the_work_is_granted_once_up_to_the_pessimistic_bound() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        // The provider asks and bills twice the pinned price.
        world.sandbox.llm.set(|faults| faults.price_factor = Some((2, 1)));
        let mut short = call(channel, "sim-small", "Hello");
        short.max_tokens = Some(50);
        let paid = pay(&runtime, short.clone()).await.unwrap();
        let sent = figures(&world.sandbox.llm);
        assert_eq!(sent.len(), 2);
        assert!(sent[0].0 < sent[1].0 && paid.channel.signed.units() == sent[1].0, "{sent:?}");
        // The price of the opening explains half of the bill.
        assert!(!paid.disputed.is_zero() && paid.disputed.units().abs_diff(paid.cost.units()) <= 1, "{paid:?}");
        // A hundred times the price is beyond it.
        world.sandbox.llm.set(|faults| faults.price_factor = Some((200, 1)));
        let signed = paid.channel.signed;
        failed(pay(&runtime, short).await, Code::ProviderRefused);
        assert!(view(&runtime, channel).await.signed.units() < signed.units() * 3);
    });
}

#[test]
fn m15_a_second_try_that_cannot_be_recorded_says_that_the_first_voucher_left() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        // The record fails for numbers from the clock only: those of the second try.
        let full = "CREATE TRIGGER full BEFORE INSERT ON vouchers WHEN NEW.nonce > 1000000
                    BEGIN SELECT RAISE(ABORT, 'disk full'); END";
        world.journal().execute_batch(full).unwrap();
        world.sandbox.llm.set(|faults| faults.invalid_nonce = Times::next(1));
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::JournalFailed);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

/// Refusals before the work: how often the provider is asked in all.
#[test]
fn m15_a_refused_voucher_is_sent_again_at_most_once_and_only_where_no_work_was_done() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        type Fault = fn(&mut Faults);
        let refusals: [(Fault, usize); 4] = [
            (|faults| faults.invalid_nonce = Times::ALWAYS, 2),
            (|faults| faults.validation_error = Times::ALWAYS, 1),
            (|faults| faults.rate_limited = Times::ALWAYS, 1),
            (|faults| faults.insist_arrears = 900_000, 1),
        ];
        for dialect in [Dialect::A, Dialect::B, Dialect::C] {
            for (number, (fault, tries)) in refusals.into_iter().enumerate() {
                let channel = open(&runtime, "sim-llm", "0.5", "24h").await.unwrap();
                world.sandbox.llm.clear_log();
                world.sandbox.llm.set(fault);
                world.sandbox.llm.set(|faults| faults.dialect = dialect);
                let Err(failure) = ask(&runtime, channel, "sim-small", "Hello").await else {
                    panic!("it was answered")
                };
                assert!(matches!(failure.money, Money::Credit { .. }) && !failure.next.is_empty(), "{failure:?}");
                assert_eq!(vouchers(&world.sandbox.llm).len(), tries, "{dialect:?}, refusal {number}: {failure:?}");
                let books = view(&runtime, channel).await;
                assert!(books.charged.is_zero() && books.in_flight.is_zero());
                // The voucher that left pays the next request.
                world.sandbox.llm.reset_faults();
                if !failure.code.as_str().contains("offence") {
                    let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
                    assert_eq!(paid.channel.signed, books.signed);
                }
                world.advance(90_000).await;
                runtime.close(channel, Progress::none()).await.unwrap();
            }
        }
    });
}

#[test]
fn an_invalid_nonce_makes_the_channel_recovered_and_nonces_go_on_from_the_clock() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.set(|faults| faults.invalid_nonce = Times::next(1));
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let nonces: Vec<u64> = figures(&world.sandbox.llm).into_iter().map(|(_, nonce)| nonce).collect();
        assert_eq!((nonces.len(), nonces[0], nonces[1]), (3, 1, 2));
        // Microseconds since 1970, in this century.
        assert!(nonces[2] > 1_700_000_000_000_000, "{nonces:?}");
        assert!(view(&runtime, channel).await.recovered);
    });
}

#[test]
fn a_channel_that_the_provider_does_not_see_yet_is_tried_once_more() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.channel_not_found = Times::next(1));
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(figures(&world.sandbox.llm).iter().map(|(_, nonce)| *nonce).collect::<Vec<_>>(), [1, 2]);
        // An old channel is not new to anybody.
        world.advance(600).await;
        view(&runtime, channel).await;
        world.sandbox.llm.set(|faults| faults.channel_not_found = Times::ALWAYS);
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderRefused);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 3);
    });
}

#[test]
fn a_provider_that_lost_its_books_is_paid_as_before() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let first = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        world.sandbox.llm.lose_books();
        let second = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(second.channel.charged, first.cost.saturating_add(second.cost));
        assert!(second.disputed.is_zero() && second.channel.in_flight.is_zero());
        let sent = figures(&world.sandbox.llm);
        assert!(sent[0].0 <= sent[1].0 && sent[0].1 < sent[1].1, "{sent:?}");
    });
}

#[test]
fn what_drips_into_the_books_untold_is_never_paid() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.drip = 400);
        let mut short = call(channel, "sim-small", "Hello");
        short.max_tokens = Some(50);
        let mut paid = Vec::new();
        let failure = loop {
            match pay(&runtime, short.clone()).await {
                Ok(answer) => paid.push(answer.cost.units()),
                Err(failure) => break failure,
            }
        };
        credit::<()>(Err(failure), Code::ProviderOffence);
        let books = view(&runtime, channel).await;
        assert_eq!(books.charged.units(), paid.iter().sum::<u64>());
        assert!(books.signed.units() < 1_000, "{}", books.signed);
    });
}
