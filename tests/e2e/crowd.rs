//! Directories that are poisoned, and crowds of listings: what a hundred liars can take together is stated in advance.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use drain_mcp::api::{Progress, ProviderQuery};
use drain_mcp::config::ListedProvider;
use drain_mcp::error::Code;
use drain_protocol::Usdc;
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::directory::Listing;
use drain_sandbox::provider::{Provider, ProviderConfig, Times};
use serde_json::json;

use crate::harness::{World, ask, call, credit, failed, in_system, open, pay, unspent, usdc, view};

/// Another provider like Sim-LLM, with a key of its own.
async fn another(world: &World, number: u8) -> Provider {
    let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap();
    let like = world.sandbox.llm.config();
    let config = ProviderConfig::new(format!("Sim-{number}"), key, 137, CHANNEL_V2, like.rpc_url.clone());
    Provider::start(config).await.unwrap()
}

#[test]
fn m3_a_hundred_listings_that_take_the_voucher_and_fail_get_the_newcomers_budget_together() {
    in_system(async {
        const LIARS: u8 = 100;
        let world = World::start().await;
        let mut config = world.config();
        let mut limits = (*config.limits).clone();
        (limits.open_channels, limits.opens_per_hour) = (200, 200);
        limits.newcomers = usdc("0.05");
        config.limits = Arc::new(limits);
        config.chain.poll_interval = Duration::from_millis(10);
        config.marketplace.max_age = Duration::from_secs(3_600);
        // The most that all of them can take, whoever they say they are.
        let most = config.limits.newcomers.units();
        let mut liars = Vec::new();
        for number in 1..=LIARS {
            let liar = another(&world, number).await;
            liar.set(|faults| (faults.fail_500, faults.keep_voucher_on_failure) = (Times::ALWAYS, true));
            world.sandbox.directory.listings().push(Listing::of(format!("liar-{number}"), &liar));
            liars.push(liar);
        }
        let runtime = world.runtime_with(config).await;
        let (mut failures, mut refused, mut channels) = (0, 0, Vec::new());
        for (number, liar) in (1..=LIARS).zip(&liars) {
            let channel = open(&runtime, &format!("liar-{number}"), "0.02", "24h").await.unwrap();
            for _ in 0..2 {
                let mut request = call(channel, "sim-small", "Hello");
                request.max_tokens = Some(1_000);
                match pay(&runtime, request).await.unwrap_err() {
                    failure if failure.code == Code::ProviderFailed => failures += 1,
                    failure => {
                        let failure = unspent::<()>(Err(failure), Code::LimitReached);
                        assert!(
                            failure.message.contains("DRAIN_MAX_NEWCOMERS")
                                || failure.next.contains("DRAIN_MAX_NEWCOMERS")
                        );
                        refused += 1;
                    }
                }
            }
            channels.push((channel, liar));
        }
        assert!(failures >= 20 && refused >= 100, "{failures} failed, {refused} refused");
        let mut could_take = 0;
        for (channel, liar) in channels {
            could_take += liar.books(channel.0).map_or(0, |books| books.highest_voucher);
        }
        assert!(could_take > most / 2 && could_take <= most, "{could_take} of {most}");
    });
}

#[test]
fn a_hundred_listings_of_one_wallet_and_host_share_one_record() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        let liar = another(&world, 9).await;
        liar.set(|faults| (faults.fail_500, faults.keep_voucher_on_failure) = (Times::ALWAYS, true));
        for number in 0..100 {
            world.sandbox.directory.listings().push(Listing::of(format!("same-{number}"), &liar));
        }
        // Five vouchers, each a bound of at most 1,024 tokens of output.
        let most = 5 * (1_024 * 900 / 1_000 + 20);
        let mut could_take = 0;
        for number in 0..5 {
            let channel = open(&runtime, &format!("same-{number}"), "0.1", "24h").await.unwrap();
            failed(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderFailed);
            could_take += liar.books(channel.0).unwrap().highest_voucher;
        }
        for number in 5..100 {
            unspent(open(&runtime, &format!("same-{number}"), "0.1", "24h").await, Code::ProviderSetAside);
        }
        assert!(could_take <= most, "{could_take}");
        // A wallet that many listings have names none of them.
        unspent(open(&runtime, &liar.address().to_string(), "0.1", "24h").await, Code::AmbiguousProvider);
        let page = runtime.providers(ProviderQuery { limit: Some(300), ..ProviderQuery::default() }).await.unwrap();
        assert_eq!(
            page.providers.iter().filter(|p| p.standing.as_ref().is_some_and(|s| s.set_aside.is_some())).count(),
            100
        );
    });
}

#[test]
fn m14_an_id_listed_twice_at_different_places_is_nobodys() {
    in_system(async {
        let world = World::start().await;
        let thief = another(&world, 7).await;
        let mut twin = Listing::of("sim-llm", &thief);
        twin.name = "Sim-LLM".into();
        for first in [true, false] {
            let at = if first { 0 } else { world.sandbox.directory.listings().len() };
            world.sandbox.directory.listings().insert(at, twin.clone());
            let runtime = world.runtime().await;
            let refused = unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::AmbiguousProvider);
            assert!(refused.message.contains("several providers"), "{refused:?}");
            unspent(runtime.provider("sim-llm").await, Code::AmbiguousProvider);
            let page = runtime.providers(ProviderQuery::default()).await.unwrap();
            assert!(page.providers.iter().all(|provider| provider.id != "sim-llm"));
            world.sandbox.directory.listings().remove(at);
            drop(runtime);
        }
        world.sandbox.directory.listings().push(twin);
        // A person's own listing is the word that counts.
        let mut config = world.config();
        config.providers.push(ListedProvider {
            id: "sim-llm".into(),
            api_url: world.sandbox.llm.url().parse().unwrap(),
            wallet: world.sandbox.llm.address(),
            category: "llm".into(),
        });
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(thief.request_log().by_path.is_empty());
    });
}

#[test]
fn m14_a_listing_with_anothers_wallet_our_own_or_another_chain_gets_nothing() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        let liar = another(&world, 8).await;
        world.sandbox.directory.listings().push(Listing::of("liar", &liar));
        let listed = |change: &dyn Fn(&mut Listing)| {
            world.sandbox.directory.change("liar", |listing| {
                *listing = Listing::of("liar", &liar);
                change(listing);
            });
        };
        let sent = world.sent().await;
        listed(&|listing| listing.wallet = world.agent().to_string());
        unspent(open(&runtime, "liar", "1", "24h").await, Code::ProviderMismatch);
        listed(&|listing| listing.chain_id = 1);
        unspent(open(&runtime, "liar", "1", "24h").await, Code::ProviderMismatch);
        listed(&|listing| listing.wallet = world.sandbox.llm.address().to_string());
        unspent(open(&runtime, "liar", "1", "24h").await, Code::ProviderMismatch);
        assert_eq!(world.sent().await, sent);
        // It says itself that it is Sim-LLM: what it is given only Sim-LLM could claim. What it can take: nothing.
        runtime.trust_provider("liar").await.unwrap();
        liar.set(|faults| faults.pricing_wallet = Some(world.sandbox.llm.address()));
        let channel = open(&runtime, "liar", "1", "24h").await.unwrap();
        credit(ask(&runtime, channel, "sim-small", "Hello").await, Code::ProviderRefused);
        assert!(liar.claim(channel.0).await.is_none_or(|claim| claim.error.is_some() || claim.transaction.is_none()));
        world.advance(90_000).await;
        runtime.close(channel, Progress::none()).await.unwrap();
        assert_eq!(world.held().await, usdc("100"));
    });
}

#[test]
fn another_contract_than_before_waits_for_a_person() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let sent = world.sent().await;
        // The older contract takes a fee and has no way out before expiry.
        world.sandbox.llm.set(|faults| faults.discovery_contract = Some(CHANNEL_V1));
        let refused = unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::ProviderChanged);
        assert!(refused.next.contains("--trust sim-llm"), "{refused:?}");
        assert_eq!(world.sent().await, sent);
        runtime.trust_provider("sim-llm").await.unwrap();
        // The id holds the block's second, not the contract: two openings within one would look the same.
        world.advance(10).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert_eq!(view(&runtime, channel).await.generation, drain_protocol::Generation::V1);
    });
}

#[test]
fn thousands_of_listings_are_cut_counted_and_searched() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let like = Listing::of("x", &world.sandbox.llm);
        let many =
            (0..11_000).map(|number| Listing { id: format!("many-{number}"), models: Vec::new(), ..like.clone() });
        world.sandbox.directory.listings().extend(many);
        let page = runtime.providers(ProviderQuery { limit: Some(100_000), ..ProviderQuery::default() }).await.unwrap();
        // The first ten thousand, less the MPP one; of which a page shows some hundred.
        assert_eq!((page.matched, page.providers.len()), (9_999, 300));
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert_eq!(open(&runtime, "many-10999", "1", "24h").await.unwrap_err().code, Code::UnknownProvider);
    });
}

#[test]
fn a_listing_that_differs_from_the_providers_own_word_is_told_before_opening() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let dear =
            json!([{"id": "sim-small", "pricing": {"inputPer1kTokens": "0.000001", "outputPer1kTokens": "0.000001"}}]);
        world.sandbox.directory.change("sim-llm", |listing| {
            listing.extra.insert("models".into(), dear);
        });
        let details = runtime.provider("sim-llm").await.unwrap();
        assert!(
            details.warnings.join(" ").contains("\"sim-small\" differs from its listing"),
            "{:?}",
            details.warnings
        );
        assert!(details.listing.models.iter().all(|model| !model.price.contains("0.000001")));
        assert_eq!(details.listing.standing, None);
        assert!(Usdc::ZERO < runtime.balance().await.unwrap().usdc);
    });
}
