//! A request that names a provider: its open channel pays, a new one is opened only by a word for it, and a quote says before
//! what will happen.

use std::sync::Arc;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChatCall, ChatReply, PayFrom, Progress, ProviderWish, Quote, QuoteCall, QuoteInput};
use drain_mcp::config::Config;
use drain_mcp::error::{Code, Failure};
use drain_mcp::policy::Limits;
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::Times;

use crate::fleet::{agent, agent_with};
use crate::harness::{World, call, failed, figures, in_system, open, pay, unspent, usdc, view};

fn with(world: &World, change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = world.config();
    change(Arc::make_mut(&mut config.limits));
    config
}

/// A request to a provider, and what may be locked for it.
fn to(provider: &str, model: &str, text: &str, max_deposit: Option<&str>) -> ChatCall {
    let max_deposit = max_deposit.map(usdc);
    let wish = ProviderWish { provider: provider.into(), max_deposit, duration: None };
    ChatCall { from: PayFrom::Provider(wish), ..call(ChannelId([0; 32].into()), model, text) }
}

/// The same as a question.
fn asked(call: &ChatCall) -> QuoteCall {
    QuoteCall {
        from: call.from.clone(),
        model: call.model.clone(),
        input: QuoteInput::Messages(call.messages.clone()),
        max_tokens: call.max_tokens,
        max_cost: call.max_cost,
    }
}

async fn open_channels(runtime: &Runtime) -> Vec<(String, Usdc)> {
    let channels = runtime.channels(false).await.unwrap();
    channels.into_iter().map(|channel| (channel.channel_id.unwrap(), channel.deposit)).collect()
}

#[test]
fn a_channel_is_opened_by_maxdeposit_once_and_used_from_then_on() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let first = pay(&runtime, to("sim-llm", "sim-small", "Hello", Some("0.5"))).await.unwrap();
        let id = first.channel.channel_id.clone().unwrap();
        assert!(
            first.notes.iter().any(|note| note.contains(&id) && note.contains("0.50 USDC was opened")),
            "{first:?}"
        );
        let sent = world.sent().await;
        // With the word or without it, by id or by the wallet that one listing has.
        for wish in [Some("0.5"), None] {
            let again = pay(&runtime, to("sim-llm", "sim-small", "Hello", wish)).await.unwrap();
            assert_eq!(again.channel.channel_id.as_ref(), Some(&id));
            assert!(again.notes.iter().all(|note| !note.contains("opened")), "{again:?}");
        }
        assert_eq!(open_channels(&runtime).await, [(id.clone(), usdc("0.5"))]);
        assert_eq!(world.sent().await, sent, "an open channel costs no transaction");
        assert_eq!(figures(&world.sandbox.llm).len(), 3);
        let seen = view(&runtime, id.parse().unwrap()).await;
        let billed = |outcome: &str| outcome.strip_prefix("billed ").map(|units| units.parse::<u64>().unwrap());
        let log = world.sandbox.llm.request_log();
        assert_eq!(seen.charged.units(), log.paid.iter().filter_map(|paid| billed(&paid.outcome)).sum::<u64>());
    });
}

/// M5: without a word for it nothing is opened, pinned or sent; the answer says what would be.
#[test]
fn m5_nothing_is_opened_without_a_word_for_it() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let sent = world.sent().await;
        let wish = to("sim-llm", "sim-small", "Hello", None);
        let needed = unspent(runtime.chat(wish.clone(), Progress::none()).await, Code::ChannelNeeded);
        assert!(needed.message.contains("at most") && needed.message.contains("0.50 USDC"), "{needed:?}");
        assert!(needed.next.contains("maxDeposit"), "{needed:?}");
        let quote = runtime.quote(asked(&wish)).await.unwrap();
        let opens = quote.opens.as_ref().unwrap();
        assert_eq!((opens.allowed, opens.deposit, quote.refused.as_deref()), (false, usdc("0.5"), None), "{quote:?}");
        assert_eq!((world.sent().await, figures(&world.sandbox.llm)), (sent, vec![]));
        assert_eq!(world.journaled("SELECT COUNT(*) FROM channels"), 0);
        // M14: who only looks pins nothing.
        assert_eq!(world.journaled("SELECT COUNT(*) FROM provider_pins"), 0);
        pay(&runtime, to("sim-llm", "sim-small", "Hello", Some("0.5"))).await.unwrap();
        assert_eq!(world.journaled("SELECT COUNT(*) FROM provider_pins"), 1);
    });
}

/// M5: an operator's word opens without the agent's, and neither passes the other limits.
#[test]
fn m5_what_a_person_allowed_is_opened_within_the_limits() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.auto_open = Some(usdc("0.3")))).await;
        pay(&runtime, to("sim-llm", "sim-small", "Hello", None)).await.unwrap();
        assert_eq!(
            open_channels(&runtime).await.iter().map(|(_, deposit)| *deposit).collect::<Vec<_>>(),
            [usdc("0.3")]
        );
        drop(runtime);

        let tight = |limits: &mut Limits| {
            limits.per_channel = usdc("0.4");
            limits.locked = usdc("0.5");
        };
        let runtime = world.runtime_with(with(&world, tight)).await;
        // The caller's word for more is cut to the limit of a channel; that of what is locked holds as ever.
        let over = unspent(
            runtime.chat(to("sim-llm-v1", "sim-small", "Hello", Some("100")), Progress::none()).await,
            Code::LimitReached,
        );
        assert!(over.message.contains("DRAIN_MAX_LOCKED") && over.message.contains("0.40 USDC"), "{over:?}");
        assert_eq!(open_channels(&runtime).await.len(), 1);
    });
}

/// Two requests at once need one channel, and pay one after another.
#[test]
fn requests_at_once_open_one_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let ask = |n: u32| pay(&runtime, to("sim-llm", "sim-small", &format!("Hello {n}"), Some("0.5")));
        let paid = futures::future::join_all((0..8).map(ask)).await;
        let ids: Vec<_> = paid.into_iter().map(|paid| paid.unwrap().channel.channel_id.unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(open_channels(&runtime).await.len(), 1);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM channels"), 1);
        assert_eq!(figures(&world.sandbox.llm).len(), 8);
    });
}

/// What is left of a channel pays for a shorter answer, unless another channel may be opened.
#[test]
fn a_channel_that_is_nearly_used_up_pays_less_or_makes_room_for_another() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let small = open(&runtime, "sim-llm", "0.0004", "24h").await.unwrap();
        let mut wish = to("sim-llm", "sim-small", "write 50 words", None);
        wish.max_tokens = Some(1_000);
        let short = runtime.quote(asked(&wish)).await.unwrap();
        assert!(short.refused.as_deref().is_some_and(|why| why.contains("0.0004")), "{short:?}");
        let paid = pay(&runtime, wish.clone()).await.unwrap();
        assert_eq!(paid.channel.channel_id, Some(small.to_string()));
        assert!(paid.max_tokens_sent.unwrap() < 1_000, "{paid:?}");
        let PayFrom::Provider(provider) = &mut wish.from else { panic!() };
        provider.max_deposit = Some(usdc("0.5"));
        let paid = pay(&runtime, wish).await.unwrap();
        assert_ne!(paid.channel.channel_id, Some(small.to_string()));
        assert_eq!((paid.max_tokens_sent, open_channels(&runtime).await.len()), (Some(1_000), 2));
    });
}

/// The instructions of a service of another kind are read before anything is locked for it.
#[test]
fn instructions_come_before_the_deposit() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let wish = to("sim-weather", "sim/forecast", r#"{"city":"Oslo"}"#, Some("0.5"));
        let reply = runtime.chat(wish.clone(), Progress::none()).await.unwrap();
        assert!(matches!(&reply, ChatReply::ReadFirst { docs } if !docs.is_empty()), "{reply:?}");
        assert_eq!(world.journaled("SELECT COUNT(*) FROM channels"), 0);
        let paid = pay(&runtime, wish).await.unwrap();
        assert!(paid.content.contains("Oslo"), "{paid:?}");
    });
}

#[test]
fn what_cannot_pay_for_the_request_is_not_locked() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let mut wish = to("sim-llm", "sim-small", "Hello", Some("0.0001"));
        wish.max_tokens = Some(1_000);
        let short = unspent(runtime.chat(wish.clone(), Progress::none()).await, Code::ChannelExhausted);
        assert!(short.next.contains("maxDeposit"), "{short:?}");
        let quote = runtime.quote(asked(&wish)).await.unwrap();
        assert!(quote.refused.as_deref().is_some_and(|why| why.contains("does not cover")), "{quote:?}");
        let unknown = to("sim-llm", "no-such-model", "Hello", Some("1"));
        let unknown = unspent(runtime.chat(unknown, Progress::none()).await, Code::UnknownModel);
        assert!(unknown.next.contains("sim-small"), "{unknown:?}");
        unspent(runtime.chat(to("nobody", "m", "Hello", Some("1")), Progress::none()).await, Code::UnknownProvider);
        assert_eq!((world.sent().await, world.journaled("SELECT COUNT(*) FROM channels")), (0, 0));
    });
}

/// M15: a request that fails after its channel was opened says that money is locked there.
#[test]
fn m15_a_failure_after_the_opening_tells_of_the_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.impatient().await;
        world.sandbox.llm.set(|faults| faults.hang = Times::ALWAYS);
        let lost = failed(
            runtime.chat(to("sim-llm", "sim-small", "Hello", Some("0.5")), Progress::none()).await,
            Code::AnswerLost,
        );
        let [(id, deposit)] = open_channels(&runtime).await.try_into().unwrap();
        assert!(lost.message.contains(&id) && lost.message.contains(&deposit.to_string()), "{lost:?}");
    });
}

async fn quote(runtime: &Runtime, call: &ChatCall) -> Quote {
    runtime.quote(asked(call)).await.unwrap()
}

/// A quote is what the request then does: the same channel, the same bound, the same refusal.
#[test]
fn a_quote_says_what_the_request_will_do() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.per_hour = usdc("0.003"))).await;
        let wish = to("sim-llm", "sim-small", "write 200 words", Some("0.5"));
        let before = quote(&runtime, &wish).await;
        assert!(before.opens.as_ref().is_some_and(|opens| opens.allowed && opens.session_fee.is_zero()), "{before:?}");
        assert_eq!((before.caps_leave, before.asks_person), (Some(usdc("0.003")), false));
        let mut signed = 0;
        loop {
            let before = quote(&runtime, &wish).await;
            let held = world.journaled("SELECT COALESCE(MAX(signed), 0) FROM channels");
            match runtime.chat(wish.clone(), Progress::none()).await {
                Ok(_) => {
                    assert_eq!(before.refused, None);
                    let bound = world.journaled("SELECT bound FROM vouchers ORDER BY nonce DESC LIMIT 1");
                    assert_eq!(before.at_most.units(), bound as u64);
                    signed += 1;
                }
                Err(refused) => {
                    assert_eq!(refused.code, Code::LimitReached);
                    assert!(before.refused.is_some_and(|why| why.contains("DRAIN_MAX_PER_HOUR")));
                    assert_eq!(
                        before.caps_leave.unwrap(),
                        usdc("0.003").saturating_sub(Usdc::from_units(held as u64).unwrap())
                    );
                    break;
                }
            }
            assert!(signed < 100, "the budget never ends");
        }
        assert!(signed > 0);
        // And on V1 what that costs.
        let on_v1 = quote(&runtime, &to("sim-llm-v1", "sim-small", "Hello", Some("0.5"))).await;
        let opens = on_v1.opens.unwrap();
        assert_eq!((opens.generation.to_string().as_str(), opens.session_fee), ("v1", usdc("0.01")));
    });
}

/// A provider without history has a budget that it shares with all others of its kind.
#[test]
fn a_quote_knows_a_newcomer() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(with(&world, |limits| limits.newcomers = usdc("0.0001"))).await;
        let wish = to("sim-llm", "sim-small", "write 200 words", Some("0.5"));
        let told = quote(&runtime, &wish).await;
        assert!(told.refused.is_some_and(|why| why.contains("DRAIN_MAX_NEWCOMERS")));
        assert_eq!(told.caps_leave, Some(usdc("0.0001")));
        unspent(runtime.chat(wish, Progress::none()).await, Code::LimitReached);
    });
}

#[test]
fn a_quote_and_a_budget_tell_of_person_and_freeze() {
    in_system(async {
        let world = World::start().await;
        let config = with(&world, |limits| {
            limits.approve.request = Some(usdc("0"));
            limits.approve.deposit = Some(usdc("0.1"));
        });
        let runtime = world.runtime_with(config).await;
        let told = quote(&runtime, &to("sim-llm", "sim-small", "Hello", Some("0.5"))).await;
        assert!(told.asks_person && told.opens.is_some_and(|opens| opens.asks_person));
        let budget = runtime.budget().await.unwrap();
        assert_eq!((budget.person_above_request, budget.frozen), (Some(Usdc::ZERO), None));
        runtime.freeze("a test").await.unwrap();
        let told = quote(&runtime, &to("sim-llm", "sim-small", "Hello", Some("0.5"))).await;
        assert!(told.refused.is_some_and(|why| why.contains("a test")));
        assert!(runtime.budget().await.unwrap().frozen.is_some_and(|why| why.contains("a test")));
    });
}

/// One limit of a budget.
async fn line(runtime: &Runtime, name: &str) -> (Option<String>, Option<String>, bool) {
    let budget = runtime.budget().await.unwrap();
    let line = budget.limits.into_iter().find(|line| line.name == name).unwrap();
    (line.used, line.left, line.frees_in.is_some())
}

fn told(used: &str, left: &str, frees: bool) -> (Option<String>, Option<String>, bool) {
    (Some(used.into()), Some(left.into()), frees)
}

#[test]
fn a_budget_is_what_decisions_count() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        assert_eq!(line(&runtime, "per_hour").await, told("0.00 USDC", "5.00 USDC", false));
        let paid = pay(&runtime, to("sim-llm", "sim-small", "Hello", Some("0.5"))).await.unwrap();
        let signed = paid.channel.signed;
        for (name, limit) in [("per_hour", "5"), ("per_day", "20"), ("per_agent", "20"), ("newcomers", "1")] {
            let left = usdc(limit).saturating_sub(signed);
            assert_eq!(
                line(&runtime, name).await,
                told(&format!("{signed} USDC"), &format!("{left} USDC"), true),
                "{name}"
            );
        }
        assert_eq!(line(&runtime, "locked").await, told("0.50 USDC", "19.50 USDC", false));
        assert_eq!(line(&runtime, "open_channels").await, told("1", "19", false));
        assert_eq!(line(&runtime, "opens_per_hour").await, told("1", "19", false));
        let (used, ..) = line(&runtime, "gas_per_day").await;
        assert_ne!(used.as_deref(), Some("0 POL"));
        assert_eq!(runtime.budget().await.unwrap().spent_today, paid.cost);
    });
}

/// An agent of the fleet pays from its own channels only, and hears of no other's.
#[test]
fn an_agents_request_uses_and_tells_of_its_own_only() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (agent(&wallet, "a"), agent(&wallet, "b"));
        open(&wallet, "sim-llm", "1", "24h").await.unwrap();
        // It expires first: the one to use, were it theirs.
        let of_a = open(&a, "sim-llm", "1", "4h").await.unwrap();
        let wish = to("sim-llm", "sim-small", "Hello", None);
        unspent(b.chat(wish.clone(), Progress::none()).await, Code::ChannelNeeded);
        let told = quote(&b, &wish).await;
        assert_eq!((told.channel.is_none(), told.caps_leave), (true, None), "{told:?}");
        assert_eq!(line(&b, "per_agent").await, self::told("0.00 USDC", "20.00 USDC", false));
        for shared in ["per_hour", "per_day", "newcomers", "locked", "open_channels", "opens_per_hour", "gas_per_day"] {
            assert_eq!(line(&b, shared).await, (None, None, false), "{shared}");
        }
        // The operator's request is not paid from an agent's channel either.
        let of_operator = pay(&wallet, wish.clone()).await.unwrap();
        assert_ne!(of_operator.channel.channel_id, Some(of_a.to_string()));
        assert_eq!(pay(&a, wish.clone()).await.unwrap().channel.channel_id, Some(of_a.to_string()));
        // M5: what an agent may lock by itself is within what its wallet's operator allows.
        let greedy = agent_with(&wallet, "greedy", false, |limits| limits.auto_open = Some(usdc("1")));
        let refused: Failure = unspent(greedy.chat(wish, Progress::none()).await, Code::ChannelNeeded);
        assert!(refused.next.contains("maxDeposit"));
    });
}
