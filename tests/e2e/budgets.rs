//! Budgets and lists, as an agent meets them (M3, M4, M5).

use std::sync::Arc;

use drain_mcp::config::Config;
use drain_mcp::error::{Code, Failure};
use drain_mcp::policy::Limits;
use drain_sandbox::provider::Times;

use crate::harness::{World, ask, figures, in_system, llm, open, pay, reserved, unspent, usdc, view, vouchers, wish};

fn with(world: &World, change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = world.config();
    change(Arc::make_mut(&mut config.limits));
    config
}

/// The failure names the variable that a person would change.
fn names(failure: &Failure, variable: &str) {
    assert!(failure.message.contains(variable) && failure.next.contains(variable), "{failure:?}");
    assert!(failure.next.contains("only a person"), "{failure:?}");
}

#[test]
fn m4_an_hours_budget_ends_a_run_and_a_restart_does_not_renew_it() {
    in_system(async {
        let world = World::start().await;
        let config = || with(&world, |limits| limits.per_hour = usdc("0.003"));
        let runtime = world.runtime_with(config()).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let mut paid = 0;
        let refused = loop {
            match ask(&runtime, channel, "sim-small", "write 200 words").await {
                Ok(_) => paid += 1,
                Err(failure) => break failure,
            }
            assert!(paid < 100, "the budget never ends");
        };
        assert_eq!(refused.code, Code::LimitReached);
        names(&refused, "DRAIN_MAX_PER_HOUR");
        assert!(refused.message.contains("is left") && refused.message.contains("free again in"), "{refused:?}");
        // What the provider could take at most is what the budget allowed.
        let largest = figures(&world.sandbox.llm).last().unwrap().0;
        assert!(paid > 0 && largest <= 3_000, "{paid} paid, {largest} signed");
        drop(runtime);
        let runtime = world.runtime_with(config()).await;
        unspent(ask(&runtime, channel, "sim-small", "write 200 words").await, Code::LimitReached);
        // A second channel to another provider does not help.
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        unspent(ask(&runtime, other, "sim/forecast", "Lisbon").await, Code::LimitReached);
    });
}

#[test]
fn m3_a_request_is_shortened_to_what_one_request_may_cost() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.per_request = usdc("0.0002"))).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let mut call = crate::harness::call(channel, "sim-small", "Hello");
        call.max_tokens = Some(4_000);
        let paid = pay(&runtime, call).await.unwrap();
        assert!(paid.max_tokens_sent.unwrap() < 4_000 && paid.notes.iter().any(|note| note.contains("one request")));
        assert!(figures(&world.sandbox.llm)[0].0 <= 200);
        // A flat price cannot be shortened.
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let refused = unspent(ask(&runtime, other, "sim/forecast", "Lisbon").await, Code::LimitReached);
        names(&refused, "DRAIN_MAX_PER_REQUEST");
    });
}

#[test]
fn m4_a_lost_answer_stays_charged_until_the_channel_ends() {
    in_system(async {
        let world = World::start().await;
        let mut config = with(&world, |limits| limits.per_day = usdc("0.0015"));
        config.requests.timeout = std::time::Duration::from_millis(1_500);
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let other = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.hang = Times::next(1));
        let mut call = crate::harness::call(channel, "sim-small", "Hello");
        call.max_tokens = Some(1_400);
        reserved(pay(&runtime, call).await, Code::AnswerLost);
        let refused = unspent(ask(&runtime, other, "sim/forecast", "Lisbon").await, Code::LimitReached);
        names(&refused, "DRAIN_MAX_PER_DAY");
        // The provider signs for less than was signed: what it cannot take any more is free again.
        runtime.cooperative_close(channel, drain_mcp::api::Progress::none()).await.unwrap();
        let taken = world.journaled("SELECT claimed FROM channels WHERE intent = 1");
        let used = world.journaled("SELECT SUM(amount) FROM usage WHERE scope = 'all' AND window = 'day'");
        assert_eq!(used, taken);
    });
}

#[test]
fn m5_openings_have_an_end() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.open_channels = 1)).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let refused = runtime.open(wish("sim-weather", "1"), drain_mcp::api::Progress::none()).await;
        names(&unspent(refused, Code::LimitReached), "DRAIN_MAX_OPEN_CHANNELS");
        drop(runtime);
        let runtime = world.runtime_with(with(&world, |limits| limits.opens_per_hour = 1)).await;
        let sent = world.sent().await;
        names(
            &unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::LimitReached),
            "DRAIN_MAX_OPENS_PER_HOUR",
        );
        assert_eq!(world.sent().await, sent);
    });
}

#[test]
fn m5_gas_has_a_budget_that_never_keeps_money_from_coming_back() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(world.journaled("SELECT MIN(gas_used) FROM transactions WHERE state = 'final'") > 0);
        drop(runtime);
        let sent = world.sent().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.gas_per_day = "0".parse().unwrap())).await;
        names(&unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::LimitReached), "DRAIN_MAX_GAS_PER_DAY");
        assert_eq!(world.sent().await, sent);
        runtime.cooperative_close(channel, drain_mcp::api::Progress::none()).await.unwrap();
        drop(runtime);
        let dear = with(&world, |limits| limits.gas_per_transaction = "0.000001".parse().unwrap());
        let runtime = world.runtime_with(dear).await;
        let refused = unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::LimitReached);
        names(&refused, "DRAIN_MAX_GAS_PER_TRANSACTION");
        assert_eq!(world.sent().await, sent + 1);
    });
}

#[test]
fn m5_a_list_keeps_providers_from_being_contacted_opened_and_paid_but_not_from_closing() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        drop(runtime);
        let asked = || (vouchers(&world.sandbox.llm).len(), world.sandbox.llm.request_log().paid.len());
        let before = asked();
        for change in [
            (|limits: &mut Limits| limits.parties.deny_providers = vec!["sim-llm".into()]) as fn(&mut Limits),
            |limits| limits.parties.deny_providers = vec!["127.0.0.1".into()],
            |limits| limits.parties.allow_providers = Some(vec!["sim-weather".into()]),
            |limits| limits.parties.deny_categories = vec!["llm".into()],
            |limits| limits.parties.allow_categories = Some(vec!["image".into()]),
        ] {
            let runtime = world.runtime_with(with(&world, change)).await;
            unspent(open(&runtime, "sim-llm", "1", "24h").await, Code::NotAllowed);
            unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::NotAllowed);
        }
        assert_eq!(asked(), before);
        let denied = with(&world, |limits| limits.parties.deny_categories = vec!["llm".into()]);
        let runtime = world.runtime_with(denied).await;
        assert_eq!(view(&runtime, channel).await.in_flight, usdc("0"));
        runtime.cooperative_close(channel, drain_mcp::api::Progress::none()).await.unwrap();
    });
}

#[test]
fn m5_a_freeze_stops_paying_and_opening_at_once_and_closing_goes_on() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        let before = (world.sent().await, vouchers(&world.sandbox.llm).len());
        let frozen = async |runtime: &drain_mcp::actors::Runtime| {
            let refused = unspent(ask(runtime, channel, "sim-small", "Hello").await, Code::WalletFrozen);
            unspent(open(runtime, "sim-weather", "1", "24h").await, Code::WalletFrozen);
            unspent(runtime.approve(None, drain_mcp::api::Progress::none()).await, Code::WalletFrozen);
            refused
        };
        assert!(runtime.freeze("odd bills").await.unwrap() && !runtime.freeze("again").await.unwrap());
        assert!(frozen(&runtime).await.message.contains("odd bills"));
        drop(runtime);
        // Over a restart, until a person lifts it; then by the configuration.
        let runtime = world.runtime().await;
        frozen(&runtime).await;
        assert!(runtime.unfreeze().await.unwrap());
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        drop(runtime);
        let runtime = world.runtime_with(with(&world, |limits| limits.frozen = true)).await;
        assert!(frozen(&runtime).await.next.contains("DRAIN_FREEZE"));
        assert_eq!((world.sent().await, vouchers(&world.sandbox.llm).len()), (before.0, before.1 + 1));
        runtime.cooperative_close(channel, drain_mcp::api::Progress::none()).await.unwrap();
    });
}
