//! Opening: which provider, contract, duration and amount; what is refused before money moves; the session fee of V1.

use std::sync::Arc;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Opened, Progress};
use drain_mcp::config::ListedProvider;
use drain_mcp::error::{Code, Failure, Money};
use drain_protocol::{Address, Generation, U256, Usdc};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::{FEE_WALLET, SandboxConfig};
use futures::future::join_all;

use crate::harness::{World, ask, in_system, open, unspent, until, usdc, wish};

const OTHER: Address = Address::repeat_byte(0x66);

async fn opened(runtime: &Runtime, provider: &str, amount: &str) -> Opened {
    runtime.open(wish(provider, amount), Progress::none()).await.unwrap()
}

async fn refused(runtime: &Runtime, provider: &str, amount: &str) -> Failure {
    runtime.open(wish(provider, amount), Progress::none()).await.unwrap_err()
}

/// A refusal that cost nothing: no transaction, no token, no pending record.
async fn assert_untouched(world: &World, runtime: &Runtime, failure: &Failure) {
    assert_eq!(failure.money, Money::NotSpent, "{failure:?}");
    assert_eq!((world.sent().await, world.held().await), (0, usdc("100")), "{failure:?}");
    assert!(runtime.channels(false).await.unwrap().is_empty(), "{failure:?}");
}

async fn fees_received(world: &World, wallet: Address) -> Usdc {
    world.sandbox.observer().usdc_balance(wallet).await.unwrap()
}

#[test]
fn the_contract_follows_operator_provider_directory_default_and_the_reason_is_told() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let chosen = async |id: &str| {
            let choice = runtime.provider(id).await.unwrap().contract.unwrap();
            (choice.generation, choice.reason)
        };
        assert_eq!(chosen("sim-llm").await, (Generation::V2, "the provider asks for it".into()));
        assert_eq!(chosen("sim-llm-v1").await, (Generation::V1, "the provider asks for it".into()));

        // A contract that nobody knows is set aside, wherever it is named; the rest of the order holds.
        world.sandbox.llm.set(|faults| faults.discovery_contract = Some(OTHER));
        let (generation, reason) = chosen("sim-llm").await;
        assert_eq!(generation, Generation::V2);
        assert!(reason.starts_with("the directory names it (set aside: the provider names 0x6666"), "{reason}");
        world.sandbox.directory.set(|faults| faults.meta_contract = Some(CHANNEL_V1));
        assert_eq!(chosen("sim-llm").await.0, Generation::V1);
        world.sandbox.directory.set(|faults| faults.meta_contract = Some(OTHER));
        let (generation, reason) = chosen("sim-llm").await;
        assert_eq!(generation, Generation::V2);
        assert!(reason.starts_with("the default (set aside: "), "{reason}");

        // What is told is what is opened.
        let made = opened(&runtime, "sim-llm", "1").await;
        assert_eq!((made.contract.contract, made.contract.reason), (CHANNEL_V2, reason));
        assert_eq!(world.sandbox.observer().opened_by(CHANNEL_V2, world.agent()).await.unwrap().len(), 1);
    });
}

#[test]
fn the_operators_contract_setting_wins_over_the_provider() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.generation = Some(Generation::V1);
        let runtime = world.runtime_with(config).await;
        let made = opened(&runtime, "sim-llm", "1").await;
        assert_eq!(made.contract.reason, "the operator's setting");
        assert_eq!((made.contract.contract, made.channel.generation), (CHANNEL_V1, Generation::V1));
        assert_eq!(world.sandbox.observer().opened_by(CHANNEL_V1, world.agent()).await.unwrap().len(), 1);
    });
}

#[test]
fn a_v1_open_pays_exactly_one_cent_once() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let made = opened(&runtime, "sim-llm-v1", "1").await;
        assert_eq!((made.session_fee, made.transactions.len()), (Usdc::new(10_000), 3));
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(10_000));
        assert_eq!(world.held().await, usdc("98.99"));
        // Once per open, not once per provider.
        open(&runtime, "sim-llm-v1", "1", "3h").await.unwrap();
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(20_000));
    });
}

#[test]
fn a_session_fee_above_the_operators_limit_is_not_paid() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).session_fee = Usdc::new(9_999);
        let runtime = world.runtime_with(config).await;
        let failure = refused(&runtime, "sim-llm-v1", "1").await;
        assert_eq!(failure.code.as_str(), "limit_reached");
        assert_untouched(&world, &runtime, &failure).await;
    });
}

#[test]
fn m14_a_changed_fee_wallet_waits_for_a_person() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        opened(&runtime, "sim-llm-v1", "1").await;
        let before = world.held().await;
        world.sandbox.directory.set_fee_wallet(Some(OTHER));
        let failure = refused(&runtime, "sim-llm-v1", "1").await;
        assert_eq!((failure.code.as_str(), &failure.money), ("provider_changed", &Money::NotSpent));
        assert!(failure.next.contains("--trust-fee-wallet"), "{}", failure.next);
        assert_eq!((world.held().await, fees_received(&world, OTHER).await), (before, usdc("0")));
        assert!(runtime.trust_fee_wallet().await.unwrap());
        opened(&runtime, "sim-llm-v1", "1").await;
        assert_eq!(fees_received(&world, OTHER).await, Usdc::new(10_000));
    });
}

#[test]
fn a_fee_paid_for_an_open_that_failed_is_told_and_used_for_the_next() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let chain = world.chain();
        chain.hold(true);
        let first = tokio::spawn({
            let runtime = runtime.clone();
            async move { refused(&runtime, "sim-llm-v1", "1").await }
        });
        until("the open is in the pool", async || chain.pending() == 1).await;
        // The fee lands; what comes after it reverts.
        chain.hold(false);
        chain.revert_next(1);
        let failure = first.await.unwrap();
        assert_eq!(failure.code.as_str(), "transaction_reverted");
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(10_000));
        // M15: a cent is gone, so "only gas was used" would be a lie.
        assert!(matches!(failure.money, Money::Spent { amount, .. } if amount == Usdc::new(10_000)), "{failure:?}");
        assert!(failure.message.contains("session fee"), "{}", failure.message);

        let made = opened(&runtime, "sim-llm-v1", "1").await;
        assert_eq!((made.session_fee, made.transactions.len()), (Usdc::new(10_000), 2));
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(10_000));
        // It is used up now.
        opened(&runtime, "sim-llm-v1", "1").await;
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(20_000));
    });
}

#[test]
fn on_v2_no_fee_is_paid_or_asked_for_whatever_the_marketplace_says() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let made = opened(&runtime, "sim-llm", "1").await;
        assert_eq!((made.session_fee, made.transactions.len()), (usdc("0"), 2));
        assert_eq!((world.held().await, fees_received(&world, FEE_WALLET).await), (usdc("99"), usdc("0")));
        assert!(!world.sandbox.directory.requests().iter().any(|request| request.contains("/api/directory/config")));
    });
}

#[test]
fn a_duration_outside_of_the_providers_limits_is_refused_with_both_numbers() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        for duration in ["299s", "2592001s"] {
            let failure = open(&runtime, "sim-llm", "1", duration).await.unwrap_err();
            assert_eq!(failure.code.as_str(), "duration_refused");
            assert!(failure.message.contains("(300 s)") && failure.message.contains("(2592000 s)"), "{failure}");
            assert_untouched(&world, &runtime, &failure).await;
        }
        for duration in ["300s", "2592000s"] {
            open(&runtime, "sim-llm", "1", duration).await.unwrap();
        }
    });
}

#[test]
fn the_default_duration_is_a_day_within_the_providers_limits_and_a_short_one_warns() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let length = async |min: Option<u64>, max: Option<u64>| {
            world
                .sandbox
                .directory
                .change("sim-llm", |listing| (listing.min_duration, listing.max_duration) = (min, max));
            let made = opened(&runtime, "sim-llm", "0.01").await;
            let left = u64::try_from(made.channel.expires_in).unwrap();
            ((left + 1_800) / 3_600 * 3_600, made.warnings.iter().any(|warning| warning.contains("under 2 h")))
        };
        assert_eq!(length(None, None).await, (86_400, false));
        assert_eq!(length(Some(172_800), None).await, (172_800, false));
        assert_eq!(length(None, Some(7_200)).await, (7_200, false));
        assert_eq!(length(Some(60), Some(3_600)).await, (3_600, true));
        // Limits that no duration meets are the provider's mistake, and nobody's money.
        world.sandbox.directory.change("sim-llm", |l| (l.min_duration, l.max_duration) = (Some(7_200), Some(3_600)));
        assert_eq!(refused(&runtime, "sim-llm", "0.01").await.code.as_str(), "duration_refused");
    });
}

#[test]
fn a_provider_is_addressed_by_id_or_by_a_wallet_that_one_listing_has() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let wallet = world.sandbox.data.address().to_string();
        let by_wallet = opened(&runtime, &format!(" {} ", wallet.to_lowercase()), "0.1").await;
        assert_eq!(by_wallet.channel.provider_id, "sim-weather");

        let mut twin = world.sandbox.directory.listings().iter().find(|l| l.id == "sim-weather").unwrap().clone();
        twin.id = "sim-weather-2".into();
        world.sandbox.directory.listings().push(twin);
        let sent = world.sent().await;
        let failure = refused(&runtime, &wallet, "0.1").await;
        assert_eq!(failure.code.as_str(), "ambiguous_provider");
        assert!(failure.next.contains("\"sim-weather\", \"sim-weather-2\""), "{}", failure.next);
        for unknown in ["sim-nobody", "SIM-WEATHER", &OTHER.to_string(), ""] {
            assert_eq!(refused(&runtime, unknown, "0.1").await.code.as_str(), "unknown_provider", "{unknown}");
        }
        assert_eq!(world.sent().await, sent);
        assert_eq!(opened(&runtime, "sim-weather-2", "0.1").await.channel.provider_id, "sim-weather-2");
    });
}

#[test]
fn m14_a_provider_outside_of_the_directory_is_used_only_by_a_persons_word() {
    in_system(async {
        let world = World::start().await;
        world.sandbox.directory.listings().clear();
        let mut config = world.config();
        config.providers.push(ListedProvider {
            id: "mine".into(),
            api_url: world.sandbox.llm.url().parse().unwrap(),
            wallet: world.sandbox.llm.address(),
            category: "llm".into(),
        });
        let runtime = world.runtime_with(config).await;
        assert_eq!(refused(&runtime, "sim-llm", "1").await.code.as_str(), "unknown_provider");
        let channel = open(&runtime, "mine", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // A person's word needs no directory.
        world.sandbox.directory.set_down(true);
        open(&runtime, "mine", "1", "24h").await.unwrap();
    });
}

#[test]
fn zero_own_and_mpp_providers_and_a_deposit_of_zero_are_refused_before_money_moves() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let check = async |provider: &str, amount: &str, code: &str| {
            let failure = refused(&runtime, provider, amount).await;
            assert_eq!(failure.code.as_str(), code, "{failure:?}");
            assert_untouched(&world, &runtime, &failure).await;
        };
        check("sim-llm", "0", "invalid_argument").await;
        check("sim-mpp", "1", "not_payable").await;
        // A listing without a wallet is none.
        world.sandbox.directory.change("sim-llm", |listing| listing.wallet = Address::ZERO.to_string());
        check("sim-llm", "1", "unknown_provider").await;
        world.sandbox.directory.change("sim-llm", |listing| listing.wallet = world.agent().to_string());
        check("sim-llm", "1", "provider_mismatch").await;
        world.sandbox.directory.change("sim-weather", |listing| listing.chain_id = 1);
        check("sim-weather", "1", "provider_mismatch").await;
    });
}

#[test]
fn a_provider_that_does_not_answer_or_is_not_who_it_should_be_gets_no_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let llm = &world.sandbox.llm;
        let check = async |code: &str| {
            let failure = refused(&runtime, "sim-llm", "1").await;
            assert_eq!(failure.code.as_str(), code, "{failure:?}");
            assert_untouched(&world, &runtime, &failure).await;
            llm.reset_faults();
        };
        llm.set(|faults| faults.pricing_wallet = Some(OTHER));
        check("provider_mismatch").await;
        llm.set(|faults| faults.pricing_chain = Some(1));
        check("provider_mismatch").await;
        llm.set(|faults| faults.pricing_empty = true);
        check("provider_mismatch").await;
        llm.set(|faults| faults.pricing_down = true);
        check("provider_unreachable").await;
        llm.set(|faults| faults.pricing_garbage = true);
        check("provider_unreachable").await;
        llm.set_down(true);
        check("provider_unreachable").await;
        llm.set_down(false);
        opened(&runtime, "sim-llm", "1").await;
    });
}

#[test]
fn a_deposit_above_the_balance_less_the_fee_is_refused_with_the_highest_possible() {
    in_system(async {
        let world = World::with(SandboxConfig { agent_usdc: usdc("1.5"), ..SandboxConfig::default() }).await;
        let runtime = world.runtime().await;
        for (provider, amount, most) in [("sim-llm", "1.500001", "1.50 USDC"), ("sim-llm-v1", "1.5", "1.49 USDC")] {
            let failure = refused(&runtime, provider, amount).await;
            assert_eq!((failure.code.as_str(), world.sent().await), ("insufficient_usdc", 0));
            assert!(failure.message.contains(&format!("highest possible deposit is {most}")), "{failure}");
        }
        opened(&runtime, "sim-llm-v1", "1.49").await;
        assert_eq!(world.held().await, usdc("0"));
    });
}

#[test]
fn without_gas_an_open_is_refused_before_anything_moves() {
    in_system(async {
        let world = World::with(SandboxConfig { agent_native: U256::ZERO, ..SandboxConfig::default() }).await;
        let runtime = world.runtime().await;
        for provider in ["sim-llm", "sim-llm-v1"] {
            let failure = refused(&runtime, provider, "1").await;
            assert_eq!(failure.code.as_str(), "insufficient_gas");
            assert_untouched(&world, &runtime, &failure).await;
        }
    });
}

#[test]
fn repeated_opens_at_once_are_one_channel_and_two_transactions() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let made = join_all((0..6).map(|_| opened(&runtime, "sim-llm", "1"))).await;
        assert!(made.iter().all(|one| one.channel.channel_id == made[0].channel.channel_id));
        assert_eq!(made.iter().filter(|one| !one.resumed).count(), 1, "one opened it, the others joined");
        assert_eq!((world.sent().await, world.held().await), (2, usdc("99")));
        let open = runtime.channels(true).await.unwrap();
        assert_eq!(open.iter().map(|channel| channel.state).collect::<Vec<_>>(), [ChannelState::Open]);
    });
}

#[test]
fn m5_no_channel_is_open_longer_than_a_person_allows() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).max_duration = "3h".parse().unwrap();
        let runtime = world.runtime_with(config).await;
        let sent = world.transactions();
        for duration in ["10801s", "24h"] {
            let failure = unspent(open(&runtime, "sim-llm", "1", duration).await, Code::LimitReached);
            assert!(failure.message.contains("DRAIN_MAX_DURATION"), "{failure:?}");
        }
        // The provider's least is not ours to allow either.
        world.sandbox.directory.change("sim-weather", |listing| listing.min_duration = Some(14_400));
        let failure = unspent(runtime.open(wish("sim-weather", "1"), Progress::none()).await, Code::LimitReached);
        assert!(failure.message.contains("DRAIN_MAX_DURATION"), "{failure:?}");
        assert_eq!(world.transactions(), sent);
        // When nobody says, it is as long as is allowed.
        let opened = runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap();
        assert!((10_000..=10_800).contains(&opened.channel.expires_in), "{}", opened.channel.expires_in);
        open(&runtime, "sim-llm", "1", "3h").await.unwrap();
    });
}

#[test]
fn m15_a_fee_whose_record_fails_is_pending_and_never_paid_a_second_time() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let refused_change = "CREATE TRIGGER refused BEFORE UPDATE ON transactions \
             WHEN NEW.kind = 'session_fee' AND NEW.state = 'final' BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
        world.journal().execute(refused_change, []).unwrap();
        for _ in 0..2 {
            let failure = refused(&runtime, "sim-llm-v1", "1").await;
            assert!(matches!(failure.money, Money::Pending { .. }), "{failure:?}");
            assert_eq!(runtime.channels(true).await.unwrap()[0].state, ChannelState::Opening);
        }
        world.journal().execute("DROP TRIGGER refused", []).unwrap();
        let cleared = refused(&runtime, "sim-llm-v1", "1").await;
        assert!(cleared.message.contains("cleared"), "{cleared:?}");
        let made = opened(&runtime, "sim-llm-v1", "1").await;
        assert_eq!(made.session_fee, Usdc::new(10_000));
        assert_eq!(fees_received(&world, FEE_WALLET).await, Usdc::new(10_000));
    });
}
