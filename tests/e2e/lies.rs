//! Liars of every kind, each with the most that it can take STATED before it acts, and measured afterwards by what it
//! claims on chain.

use std::time::Duration;

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::SolCall;
use drain_mcp::actors::Runtime;
use drain_mcp::api::Progress;
use drain_mcp::error::{Code, Money};
use drain_protocol::contract::DrainChannel;
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::contracts::CHANNEL_V2;
use drain_sandbox::provider::{Correction, Provider, Times};
use serde_json::Value;

use crate::harness::{World, ask, call, credit, failed, in_system, llm, open, pay, unspent, view, vouchers};

/// The most that one request of a few words can cost: 1,024 tokens of output at 900 a thousand, and the input.
const BOUND: u64 = 1_024 * 900 / 1_000 + 20;
/// The most that a provider may ask for before the work: 4,096 tokens of output.
const PESSIMISTIC: u64 = 4_096 * 900 / 1_000 + 50;

/// What the provider really gets when it claims all that it was given.
async fn taken(world: &World, provider: &Provider, channel: ChannelId) -> u64 {
    provider.claim(channel.0).await;
    world.sandbox.observer().paid_out(CHANNEL_V2, channel.0).await.unwrap().units()
}

async fn offences(runtime: &Runtime) -> u64 {
    runtime.provider("sim-llm").await.unwrap().listing.standing.unwrap().offences
}

#[test]
fn required_used_as_an_invoice_gets_the_pessimistic_bound_once_and_no_more() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let correction = Correction { provided: "garbage".into(), required: "3600".into() };
        world.sandbox.llm.set(|faults| {
            (faults.forged_correction, faults.keep_voucher_on_failure) = (Some(correction), true);
        });
        for _ in 0..10 {
            credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderRefused);
        }
        let signed = view(&runtime, channel).await.signed.units();
        assert!(signed <= PESSIMISTIC, "{signed}");
        assert!(taken(&world, &world.sandbox.llm, channel).await <= PESSIMISTIC);
    });
}

#[test]
fn prices_raised_after_opening_are_paid_at_the_pinned_price_until_it_insists() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let honest = ask(&runtime, channel, "sim-small", "Hello").await.unwrap().cost.units();
        world.sandbox.llm.set(|faults| faults.price_factor = Some((3, 1)));
        // Seen in its list, and said before anything else is opened.
        let refused = unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::ProviderChanged);
        assert!(refused.next.contains("--trust sim-llm"), "{refused:?}");
        let mut answered = 1;
        let failure = loop {
            match ask(&runtime, channel, "sim-small", "Hello").await {
                Ok(paid) => {
                    answered += 1;
                    // Rounded down three times, by the provider and by us.
                    assert!(paid.cost.units() <= honest && !paid.disputed.is_zero(), "{paid:?}");
                }
                Err(failure) => break failure,
            }
            assert!(answered < 200, "it is paid for ever");
        };
        assert_eq!(failure.code, Code::ProviderOffence, "{failure:?}");
        assert_eq!(offences(&runtime).await, 1);
        let most = answered * honest + PESSIMISTIC;
        assert!(taken(&world, &world.sandbox.llm, channel).await <= most, "{answered} answers");
    });
}

#[test]
fn an_old_answer_sold_again_costs_what_it_says_and_is_told() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let first = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        for _ in 0..3 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        }
        world.sandbox.llm.set(|faults| faults.replay = Times::ALWAYS);
        for replays in 1..=4u64 {
            let paid = ask(&runtime, channel, "sim-small", "Tell me something new").await.unwrap();
            assert!(paid.cost <= first.cost, "{paid:?}");
            let told = paid.notes.iter().any(|note| note.contains("repeats an old answer"));
            assert_eq!(told, replays > 1, "{replays}: {:?}", paid.notes);
        }
        let charged = view(&runtime, channel).await.charged.units();
        assert!(charged <= 8 * first.cost.units());
        assert!(taken(&world, &world.sandbox.llm, channel).await <= charged + BOUND);
    });
}

#[test]
fn m6_an_old_close_authorization_is_taken_only_where_it_is_right_for_this_channel_now() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // The first authorization, drawn by anybody: nothing protects it (protocol.md section 8).
        let url = format!("{}/v1/close-channel", world.sandbox.llm.url());
        let body = serde_json::json!({ "channelId": channel.to_string() });
        let early: Value = reqwest::Client::new().post(&url).json(&body).send().await.unwrap().json().await.unwrap();
        assert!(early["finalAmount"].is_string(), "{early}");
        world.sandbox.llm.set(|faults| faults.close_replay = true);

        // On another channel it is nobody's consent.
        let other = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let refused = unspent(runtime.cooperative_close(other, Progress::none()).await, Code::CloseRefused);
        assert!(!refused.message.is_empty() && offences(&runtime).await == 1);
        // After a claim of more it is below what was claimed.
        let mut long = call(channel, "sim-small", "Hello");
        long.max_tokens = Some(3_000);
        pay(&runtime, long).await.unwrap();
        let most = view(&runtime, channel).await.signed.units();
        let claimed = taken(&world, &world.sandbox.llm, channel).await;
        assert!(claimed <= most && early["finalAmount"].as_str().unwrap().parse::<u64>().unwrap() < claimed);
        unspent(runtime.cooperative_close(channel, Progress::none()).await, Code::CloseRefused);
        assert_eq!(offences(&runtime).await, 1, "zero or less after a claim is no offence");
        world.advance(90_000).await;
        runtime.close(channel, Progress::none()).await.unwrap();
        runtime.close(other, Progress::none()).await.unwrap();
        assert_eq!(100_000_000 - world.held().await.units(), claimed);
    });
}

#[test]
fn claims_of_old_vouchers_never_add_up_to_more_than_the_highest() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        for tokens in [100, 1_000, 3_000] {
            let mut request = call(channel, "sim-small", "Hello");
            request.max_tokens = Some(tokens);
            pay(&runtime, request).await.unwrap();
        }
        let most = view(&runtime, channel).await.signed.units();
        let key = world.sandbox.llm.config().key.clone();
        let claim = async |request: &drain_sandbox::provider::PaidRequest| {
            let header: Value = serde_json::from_str(request.header.as_deref().unwrap()).unwrap();
            let signature: Bytes = header["signature"].as_str().unwrap().parse().unwrap();
            let call = DrainChannel::claimCall {
                channelId: channel.0,
                amount: U256::from(request.amount.unwrap()),
                nonce: U256::from(request.nonce.unwrap()),
                signature,
            };
            world.sandbox.observer().rpc().execute(&key, CHANNEL_V2, call.abi_encode()).await
        };
        let sent = vouchers(&world.sandbox.llm);
        for voucher in &sent {
            claim(voucher).await.unwrap();
        }
        for voucher in &sent {
            assert!(claim(voucher).await.is_err(), "claimed twice");
        }
        assert_eq!(world.sandbox.observer().paid_out(CHANNEL_V2, channel.0).await.unwrap().units(), most);
    });
}

#[test]
fn a_drip_of_bytes_ends_at_the_limit_of_the_whole_answer() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        // Some hundred bytes of an answer, a byte in half a second: minutes, against a limit of 1.5 s.
        world.sandbox.llm.set(|faults| faults.trickle = Some(Duration::from_millis(500)));
        let failure = failed(ask(&runtime, channel, "sim-small", "Hello").await, Code::AnswerLost);
        // Its head stated a cost: that is booked, at most the bound.
        let Money::Spent { amount, .. } = failure.money else { panic!("{failure:?}") };
        assert!(amount.units() <= BOUND);
        world.sandbox.llm.reset_faults();
        assert!(taken(&world, &world.sandbox.llm, channel).await <= BOUND);
    });
}

#[test]
fn a_compressed_answer_is_never_unpacked() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        for encoding in ["gzip", "br", "deflate", "zstd"] {
            world.sandbox.llm.set(|faults| faults.encoded = Some(encoding.into()));
            let failure = failed(ask(&runtime, channel, "sim-small", "Hello").await, Code::AnswerLost);
            assert!(failure.message.contains(&format!("encoded as \"{encoding}\"")), "{failure:?}");
        }
        let known = runtime.provider("sim-llm").await.unwrap().listing.standing.unwrap();
        assert_eq!((known.failed, known.answered), (4, 0));
        // Each was billed with a stated cost; what it can take is one more bound than that.
        let charged = view(&runtime, channel).await.charged.units();
        assert!(charged <= 4 * BOUND && taken(&world, &world.sandbox.llm, channel).await <= charged + BOUND);
    });
}

#[test]
fn m14_no_redirect_of_any_endpoint_is_followed() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        let elsewhere = Provider::start(world.sandbox.llm.config().clone()).await.unwrap();
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        for status in [301, 302, 303, 307, 308] {
            let to = elsewhere.url();
            world.sandbox.llm.set(|faults| faults.redirect_all = Some((status, to)));
            // Prices, discovery, instructions.
            let details = runtime.provider("sim-llm").await.unwrap();
            assert_eq!(
                details.warnings.iter().filter(|warning| warning.contains("redirects")).count(),
                3,
                "{details:?}"
            );
            unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::UrlRefused);
            failed(ask(&runtime, channel, "sim-small", "Hello").await, Code::AnswerLost);
            runtime.trust_provider("sim-llm").await.unwrap();
            let refused = runtime.cooperative_close(channel, Progress::none()).await.unwrap_err();
            assert!(refused.message.contains("redirects"), "{refused:?}");
        }
        assert!(elsewhere.request_log().by_path.is_empty(), "{:?}", elsewhere.request_log().by_path);
        assert!(view(&runtime, channel).await.signed > Usdc::ZERO);
    });
}
