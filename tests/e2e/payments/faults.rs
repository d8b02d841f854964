//! Servers that ask for what is not paid, take the money and fail, or lie. Each time: how many signatures left, what is told
//! of the money, and what it is in the end.

use std::time::Duration;

use drain_mcp::api::PaymentCall;
use drain_mcp::error::{Code, Money};
use drain_protocol::{Address, Usdc};
use drain_sandbox::PaidFaults;
use drain_sandbox::provider::Times;

use super::{PRICE, against, buy, credentials, get, limited, paid, received, resolved};
use crate::harness::{World, failed, in_system, unspent, until, usdc};

/// M8: other networks, tokens, names of tokens, schemes and forms are refused, and nothing is signed for them.
#[test]
fn m8_what_is_not_paid_is_not_signed() {
    in_system(async {
        type Change = fn(&mut PaidFaults);
        let cases: [(&str, Change, &str); 21] = [
            ("mpp", |faults| faults.network = Some("eip155:8453".into()), "chain 8453"),
            ("x402v2", |faults| faults.network = Some("eip155:8453".into()), "chain 8453"),
            ("x402v2", |faults| faults.network = Some("solana:mainnet".into()), "network"),
            ("x402v1", |faults| faults.network = Some("base".into()), "chain 8453"),
            ("x402v1", |faults| faults.network = Some("my-chain".into()), "network"),
            ("mpp", |faults| faults.asset = Some(Address::repeat_byte(0x33)), "token"),
            ("x402v2", |faults| faults.asset = Some(Address::repeat_byte(0x33)), "token"),
            ("x402v1", |faults| faults.asset = Some(Address::repeat_byte(0x33)), "token"),
            ("x402v2", |faults| faults.domain = Some(("USDC".into(), "2".into())), "USDC"),
            ("x402v1", |faults| faults.domain = Some(("USD Coin".into(), "1".into())), "version"),
            ("x402v2", |faults| faults.permit2 = true, "permit2"),
            ("mpp", |faults| faults.splits = true, "splits"),
            ("mpp", |faults| faults.intent = Some("session".into()), "session"),
            ("mpp", |faults| faults.method = Some("tempo".into()), "DRAIN_TEMPO_RPC_URL"),
            ("mpp", |faults| faults.method = Some("stripe".into()), "stripe"),
            ("mpp", |faults| faults.credential_types = Some(vec!["permit2".into()]), "authorization"),
            ("mpp", |faults| faults.expires_in = Some(-5), "0 s are left"),
            ("mpp", |faults| faults.expires_in = Some(3), "left"),
            ("mpp", |faults| faults.expires_in = Some(3_600), "600 s"),
            ("x402v2", |faults| faults.expires_in = Some(2), "2 s are left"),
            ("x402v2", |faults| faults.garbage = true, ""),
        ];
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        for (way, change, part) in cases {
            server.set(change);
            let refused = unspent(buy(&runtime, get(server, &format!("/{way}/x"))).await, Code::NotPayable);
            assert!(refused.message.contains(part), "{way}: {refused:?}");
            server.reset_faults();
        }
        for price in ["0", "-1", "1e4", "10000.5", "9223372036854775808", "many"] {
            for way in ["mpp", "x402v2", "x402v1"] {
                server.set(|faults| faults.price = Some(price.into()));
                unspent(buy(&runtime, get(server, &format!("/{way}/x"))).await, Code::NotPayable);
            }
        }
        server.reset_faults();
        for payee in [Address::ZERO, world.agent(), drain_sandbox::contracts::USDC] {
            server.set(|faults| faults.payee = Some(payee));
            unspent(buy(&runtime, get(server, "/mpp/x")).await, Code::NotPayable);
        }
        assert_eq!(credentials(server).len(), 0);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM payments"), 0);
    });
}

/// The signer has the last word, whatever the layers above think of a payee.
#[test]
fn m8_a_channel_contract_is_never_the_payee() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.payee = Some(drain_sandbox::contracts::CHANNEL_V2));
        unspent(buy(&runtime, get(server, "/mpp/x")).await, Code::SignerFailed);
        assert_eq!(credentials(server).len(), 0);
        until("it is free again", async || {
            world.journaled("SELECT COUNT(*) FROM payments WHERE state = 'not_charged' AND growth = 0") == 1
        })
        .await;
    });
}

/// An API key of the caller's own stays where it is; MPP pays beside it where the server lets it.
#[test]
fn an_api_key_and_a_payment_do_not_replace_each_other() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        let call = || {
            let mut call = get(server, "/mpp/x");
            call.headers.insert("Authorization".into(), "Bearer of-the-caller".into());
            call
        };
        let refused = unspent(buy(&runtime, call()).await, Code::NotPayable);
        assert!(refused.message.contains("authorization"), "{refused:?}");
        server.set(|faults| faults.separate_header = true);
        buy(&runtime, call()).await.unwrap();
        let last = server.log().pop().unwrap();
        assert_eq!(last.header("authorization"), Some("Bearer of-the-caller"));
        assert!(last.header("payment-authorization").unwrap().starts_with("Payment "));
    });
}

/// M14: no redirect is followed, before or after paying: a payment goes to the host that was judged.
#[test]
fn m14_no_redirect_is_followed() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let (server, thief) = (&world.sandbox.paid, super::stranger(&world).await);
        let to = format!("{}/x402v2/x", thief.url());
        server.set(|faults| faults.redirect = Some(to.clone()));
        unspent(buy(&runtime, get(server, "/x402v2/x")).await, Code::UrlRefused);
        server.reset_faults();
        server.set(|faults| faults.redirect_paid = Some(to.clone()));
        let lost = failed(buy(&runtime, get(server, "/x402v2/x")).await, Code::AnswerLost);
        assert!(matches!(lost.money, Money::Reserved { .. }), "{lost:?}");
        assert_eq!((thief.log().len(), credentials(server).len()), (0, 1));
    });
}

/// What a fault leaves behind.
struct Case {
    way: &'static str,
    fault: fn(&mut PaidFaults),
    /// What is told of the money at once.
    spent: bool,
    /// Whether it is gone in the end.
    gone: bool,
}

const fn case(way: &'static str, fault: fn(&mut PaidFaults), spent: bool, gone: bool) -> Case {
    Case { way, fault, spent, gone }
}

/// M15: whatever a server does with a payment, there is one signature, what is told is not less than what is gone, and in the
/// end the books say what the chain says.
#[test]
fn m15_a_server_that_fails_is_paid_once_and_the_chain_has_the_last_word() {
    in_system(async {
        let cases = [
            // Taken, and an error: MPP settles before it works.
            case("mpp", |faults| faults.fail_500 = Times::next(1), true, true),
            case("mpp", |faults| faults.cut_after_settle = Times::next(1), false, true),
            case("mpp", |faults| faults.greedy = Times::next(1), false, true),
            case("mpp", |faults| faults.hang = Some(Duration::from_secs(8)), false, true),
            case("mpp", |faults| faults.oversized = true, true, true),
            // Not taken: x402 settles after the work was done.
            case("x402v2", |faults| faults.fail_500 = Times::next(1), false, false),
            case("x402v1", |faults| faults.fail_500 = Times::next(1), false, false),
            case("x402v2", |faults| faults.cut_after_settle = Times::next(1), false, true),
            case("x402v1", |faults| faults.greedy = Times::next(1), false, true),
        ];
        for Case { way, fault, spent, gone } in cases {
            let world = World::start().await;
            let mut config = world.config();
            config.requests.timeout = Duration::from_secs(4);
            let runtime = world.runtime_with(config).await;
            let server = &world.sandbox.paid;
            server.set(fault);
            let failure = failed(buy(&runtime, get(server, &format!("/{way}/x"))).await, Code::AnswerLost);
            match &failure.money {
                Money::Spent { amount, .. } if spent => assert_eq!(*amount, usdc(PRICE)),
                Money::Reserved { at_most, .. } if !spent => assert_eq!(*at_most, usdc(PRICE)),
                other => panic!("{way}: {other:?}"),
            }
            assert_eq!(credentials(server).len(), 1, "{way}: one signature, and no second one for another 402");
            if !gone {
                world.advance(601).await;
            }
            resolved(&world).await;
            let taken = if gone { usdc(PRICE) } else { Usdc::ZERO };
            assert_eq!(received(&world, server.payee()).await, taken, "{way}");
            assert_eq!(runtime.budget().await.unwrap().spent_today, taken, "{way}");
            let counted = world.journaled("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND \"window\" = 'hour'");
            assert_eq!(counted.unsigned_abs(), taken.units(), "{way}");
            // Taken without an answer counts against the host.
            let failures = world.journaled("SELECT COALESCE(SUM(failed), 0) FROM provider_records");
            assert_eq!(failures, i64::from(gone), "{way}");
        }
    });
}

/// An answer without a receipt is an answer; what it cost the chain tells.
#[test]
fn an_answer_without_a_receipt_is_given_and_its_money_reserved_until_the_chain_tells() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.no_receipt = Times::next(1));
        let reply = buy(&runtime, get(server, "/mpp/x")).await.unwrap();
        assert_eq!((reply.status, paid(&reply).state.as_str()), (200, "reserved"));
        resolved(&world).await;
        assert_eq!(runtime.budget().await.unwrap().spent_today, usdc(PRICE));
        assert_eq!(world.journaled("SELECT answered FROM provider_records"), 1);
    });
}

/// A receipt is a claim: what was never taken is not spent in the end.
#[test]
fn a_receipt_that_lies_is_found_out() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.lie = Times::next(1));
        let reply = buy(&runtime, get(server, "/x402v2/x")).await.unwrap();
        assert_eq!(paid(&reply).state, "paid");
        assert_eq!(runtime.budget().await.unwrap().spent_today, usdc(PRICE), "until the chain has shown otherwise");
        world.advance(601).await;
        resolved(&world).await;
        assert_eq!(received(&world, server.payee()).await, Usdc::ZERO);
        assert_eq!(runtime.budget().await.unwrap().spent_today, Usdc::ZERO);
        let receipt = runtime.receipt("p1").await.unwrap().receipt;
        assert_eq!((receipt.outcome.as_str(), receipt.charged), ("not_charged", Some(Usdc::ZERO)));
    });
}

/// What was not taken at once may be taken later, within its time: it stays reserved until then.
#[test]
fn m3_a_payment_that_is_taken_late_was_reserved_all_the_time() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(limited(&world, |limits| limits.per_hour = usdc("0.019"))).await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.fail_500 = Times::next(1));
        failed(buy(&runtime, get(server, "/x402v2/x")).await, Code::AnswerLost);
        unspent(buy(&runtime, get(server, "/x402v2/x")).await, Code::LimitReached);
        assert_eq!(server.settle_held().await, 1);
        resolved(&world).await;
        assert_eq!(received(&world, server.payee()).await, usdc(PRICE));
        assert_eq!(runtime.budget().await.unwrap().spent_today, usdc(PRICE));
    });
}

/// A server that takes the money first and works longer than the chain needs is an honest one.
#[test]
fn a_slow_answer_is_an_answer() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.requests.timeout = Duration::from_secs(30);
        let runtime = world.runtime_with(config).await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.hang = Some(Duration::from_secs(8)));
        let reply = buy(&runtime, get(server, "/mpp/x")).await.unwrap();
        assert_eq!((paid(&reply).state.as_str(), paid(&reply).spent_today), ("paid", usdc(PRICE)));
        resolved(&world).await;
        assert_eq!(world.journaled("SELECT answered * 10 + failed FROM provider_records"), 10);
        assert_eq!(runtime.budget().await.unwrap().spent_today, usdc(PRICE));
        assert_eq!(runtime.receipt("p1").await.unwrap().receipt.outcome, "answered");
    });
}

/// M15: what was answered is answered again, also where its money was never taken.
#[test]
fn m15_what_was_answered_and_never_taken_is_not_asked_for_again() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.lie = Times::next(1));
        let named = || PaymentCall { request_id: Some("one".parse().unwrap()), ..get(server, "/x402v2/x") };
        let first = buy(&runtime, named()).await.unwrap();
        world.advance(601).await;
        resolved(&world).await;
        let again = buy(&runtime, named()).await.unwrap();
        assert_eq!(again.body, first.body);
        assert_eq!(credentials(server).len(), 1);
    });
}

/// A server that takes money and gives nothing is set aside like any provider.
#[test]
fn a_server_that_only_takes_is_set_aside() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        server.set(|faults| faults.fail_500 = Times::ALWAYS);
        for _ in 0..5 {
            failed(buy(&runtime, get(server, "/mpp/x")).await, Code::AnswerLost);
        }
        resolved(&world).await;
        let quoted = against(&runtime, get(server, "/mpp/x")).await;
        let aside = failed(buy(&runtime, get(server, "/mpp/x")).await, Code::ProviderSetAside);
        assert_eq!((quoted, aside.money), (Some(aside.message), Money::NotSpent));
        assert_eq!(credentials(server).len(), 5);
    });
}

/// Nothing is paid through a chain that signs in another domain, or that does not answer.
#[test]
fn nothing_is_signed_without_the_chain() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        world.chain().main().update_faults(|faults| faults.fail_rate = 1.0);
        unspent(buy(&runtime, get(&world.sandbox.paid, "/mpp/x")).await, Code::ChainUnavailable);
        assert_eq!(credentials(&world.sandbox.paid).len(), 0);
    });
}
