//! Agents of one wallet that share a provider's channels (`share_channels`): one deposit for many, and to each its own.

use std::sync::Arc;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelView, OpenRequest, Opened, Progress};
use drain_mcp::error::{Code, Failure};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::marketplace::SandboxConfig;
use drain_sandbox::provider::Times;

use crate::fleet::{agent, agent_with};
use crate::harness::{World, ask, call, failed, figures, in_system, open, pay, unspent, usdc, view, vouchers, wish};

fn sharing(wallet: &Runtime, name: &str) -> Runtime {
    agent_with(wallet, name, true, |_| {})
}

async fn wanted(runtime: &Runtime, wish: OpenRequest) -> Result<Opened, Failure> {
    runtime.open(wish, Progress::none()).await
}

fn id(channel: &ChannelView) -> ChannelId {
    channel.channel_id.as_ref().unwrap().parse().unwrap()
}

#[test]
fn a_second_agent_shares_the_channel_and_locks_nothing() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (sharing(&wallet, "a"), sharing(&wallet, "b"));
        let of_a = wanted(&a, wish("sim-llm", "1")).await.unwrap();
        assert!(!of_a.shared && !of_a.transactions.is_empty());
        let channel = id(&of_a.channel);
        let first = ask(&a, channel, "sim-small", "write 200 words").await.unwrap();
        let sent = world.sent().await;

        let of_b = wanted(&b, wish("sim-llm", "1")).await.unwrap();
        assert!(of_b.shared && !of_b.resumed && of_b.transactions.is_empty(), "{of_b:?}");
        assert_eq!((id(&of_b.channel), world.sent().await), (channel, sent));
        assert!(of_b.docs.is_some());
        // What A has in it is not B's to see; what remains is.
        let seen = &of_b.channel;
        assert!(seen.signed.is_zero() && seen.charged.is_zero() && seen.requests == 0, "{seen:?}");
        assert_eq!(seen.available, usdc("1").saturating_sub(first.cost));
        assert!(seen.notes.iter().any(|note| note.contains("shared with other agents")), "{seen:?}");

        let second = ask(&b, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!((second.channel.charged, second.channel.requests), (second.cost, 1));
        assert_eq!(second.spent_today, second.cost);
        let of_both = first.cost.saturating_add(second.cost);
        let (seen_by_a, whole) = (view(&a, channel).await, view(&wallet, channel).await);
        assert_eq!((seen_by_a.charged, seen_by_a.requests), (first.cost, 1));
        assert_eq!((whole.charged, whole.requests), (of_both, 2));
        assert_eq!(seen_by_a.available, whole.available);
        assert_eq!(seen_by_a.signed.saturating_add(view(&b, channel).await.signed), whole.signed);
        assert_eq!(a.balance().await.unwrap().spent_today, first.cost);
        // The deposit is its opener's.
        assert_eq!(a.balance().await.unwrap().locked, usdc("1"));
        assert!(b.balance().await.unwrap().locked.is_zero());
        assert_eq!(wallet.balance().await.unwrap().locked, usdc("1"));
        // It is in B's list, and in no list of who does not share.
        assert_eq!(b.channels(false).await.unwrap()[0].charged, second.cost);
        let other = agent(&wallet, "c");
        assert!(other.channels(true).await.unwrap().is_empty());
        unspent(ask(&other, channel, "sim-small", "Hello").await, Code::UnknownChannel);

        // All of it after a restart too.
        wallet.shutdown().await;
        drop((wallet, a, b, other));
        let wallet = world.runtime().await;
        let b = sharing(&wallet, "b");
        assert_eq!(ask(&b, channel, "sim-small", "Hello").await.unwrap().channel.requests, 2);
        unspent(ask(&agent(&wallet, "c"), channel, "sim-small", "Hello").await, Code::UnknownChannel);
    });
}

#[test]
fn who_does_not_share_or_wants_more_gets_a_channel_of_its_own() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let of_a = open(&sharing(&wallet, "a"), "sim-llm", "1", "4h").await.unwrap();
        let private = open(&agent(&wallet, "p"), "sim-weather", "1", "4h").await.unwrap();
        let b = sharing(&wallet, "b");
        let own = async |wish: OpenRequest| {
            let opened = wanted(&b, wish).await.unwrap();
            assert!(!opened.shared, "{opened:?}");
            id(&opened.channel)
        };
        let four_hours =
            |amount: &str| OpenRequest { duration: Some("4h".parse().unwrap()), ..wish("sim-llm", amount) };
        // Less than half of the room, less than half of the time, a cap of its own.
        let roomy = own(four_hours("2.1")).await;
        let long = own(OpenRequest { duration: Some("9h".parse().unwrap()), ..wish("sim-llm", "0.5") }).await;
        let capped = own(OpenRequest { cap: Some(usdc("0.2")), ..four_hours("0.5") }).await;
        let elsewhere = own(OpenRequest { duration: Some("4h".parse().unwrap()), ..wish("sim-weather", "1") }).await;
        let unshared = open(&agent(&wallet, "c"), "sim-llm", "1", "4h").await.unwrap();
        // By an own limit that the others have passed.
        let small = agent_with(&wallet, "small", true, |limits| limits.per_channel = usdc("0.4"));
        assert!(wanted(&small, four_hours("0.4")).await.unwrap().shared);
        let all = [of_a, private, roomy, long, capped, elsewhere, unshared];
        assert!(all.iter().enumerate().all(|(place, one)| !all[..place].contains(one)), "{all:?}");
        // Nobody joins one that was wished for with a cap.
        let d = wanted(&sharing(&wallet, "d"), four_hours("0.2")).await.unwrap();
        assert!(d.shared && id(&d.channel) != capped);
    });
}

/// M5: B's own lists count before it is given what A opened.
#[test]
fn m5_an_agents_own_lists_count_for_a_shared_channel() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        open(&sharing(&wallet, "a"), "sim-llm", "1", "24h").await.unwrap();
        let b = agent_with(&wallet, "b", true, |limits| limits.parties.deny_providers = vec!["sim-llm".into()]);
        unspent(wanted(&b, wish("sim-llm", "1")).await, Code::NotAllowed);
        assert!(b.channels(true).await.unwrap().is_empty());
        wallet.freeze("the operator looks").await.unwrap();
        unspent(wanted(&sharing(&wallet, "c"), wish("sim-llm", "1")).await, Code::WalletFrozen);
    });
}

/// M4: a budget is charged with what the agent's own requests made `signed` grow. What one request of another's was signed
/// too much may pay for the next: one request's bound at most.
#[test]
fn m4_budgets_stay_each_agents_own_on_a_shared_channel() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let budget = usdc("0.002");
        let a = agent_with(&wallet, "a", true, |limits| limits.per_agent = budget);
        let b = sharing(&wallet, "b");
        let channel = open(&a, "sim-llm", "1", "24h").await.unwrap();
        assert!(wanted(&b, wish("sim-llm", "1")).await.unwrap().shared);
        // B signs far more than A may.
        for _ in 0..8 {
            ask(&b, channel, "sim-small", "write 200 words").await.unwrap();
        }
        let of_b = view(&b, channel).await.signed;
        assert!(of_b > budget, "{of_b}");
        // A's budget is whole for A, and ends for A alone.
        let mut paid = Usdc::ZERO;
        let refused = loop {
            match ask(&a, channel, "sim-small", "write 200 words").await {
                Ok(answer) => paid = paid.saturating_add(answer.cost),
                Err(failure) => break failure,
            }
        };
        assert_eq!(refused.code, Code::LimitReached);
        assert!(refused.message.contains("DRAIN_MAX_PER_AGENT"), "{refused:?}");
        let seen = view(&a, channel).await;
        assert!(!paid.is_zero() && seen.signed <= budget && seen.charged == paid, "{seen:?}");
        // What A paid beyond its budget was signed for B before: at most one request's bound.
        let bound = world.journaled("SELECT MAX(bound) FROM vouchers WHERE agent = 'b'");
        assert!(paid.as_i64() <= budget.as_i64() + bound, "{paid}");
        ask(&b, channel, "sim-small", "Hello").await.unwrap();
        let by_agent =
            |name: &str| world.journaled(&format!("SELECT SUM(amount) FROM usage WHERE scope = 'agent {name}'"));
        let signed = figures(&world.sandbox.llm).last().unwrap().0;
        assert_eq!(by_agent("a") + by_agent("b"), i64::try_from(signed).unwrap());
    });
}

/// What nobody knows the price of is settled with the provider's next answer, whoever asked for that.
#[test]
fn a_lost_answer_stays_with_the_agent_that_lost_it() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.impatient().await;
        let (a, b) = (sharing(&wallet, "a"), sharing(&wallet, "b"));
        let channel = open(&a, "sim-llm", "1", "24h").await.unwrap();
        assert!(wanted(&b, wish("sim-llm", "1")).await.unwrap().shared);
        world.sandbox.llm.set(|faults| faults.hang = Times::next(1));
        failed(ask(&a, channel, "sim-small", "Hello").await, Code::AnswerLost);
        assert!(!view(&a, channel).await.in_flight.is_zero());
        assert!(view(&b, channel).await.in_flight.is_zero());
        let answer = ask(&b, channel, "sim-small", "Hello").await.unwrap();
        assert_eq!(answer.channel.charged, answer.cost);
        let (of_a, whole) = (view(&a, channel).await, view(&wallet, channel).await);
        assert!(of_a.in_flight.is_zero());
        assert_eq!(of_a.charged.saturating_add(answer.cost), whole.charged);
    });
}

#[test]
fn an_agent_leaves_and_the_last_one_closes() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (sharing(&wallet, "a"), sharing(&wallet, "b"));
        let channel = open(&a, "sim-llm", "1", "24h").await.unwrap();
        assert!(wanted(&b, wish("sim-llm", "1")).await.unwrap().shared);
        ask(&a, channel, "sim-small", "Hello").await.unwrap();
        let sent = world.sent().await;

        // Its opener leaves: B's money stays where it is.
        let left = a.cooperative_close(channel, Progress::none()).await.unwrap();
        assert!(left.left && left.refund.is_zero() && left.transaction.is_empty(), "{left:?}");
        assert_eq!(world.sent().await, sent);
        assert_eq!(world.sandbox.llm.request_log().count("/v1/close-channel"), 0);
        unspent(ask(&a, channel, "sim-small", "Hello").await, Code::UnknownChannel);
        unspent(a.channel(channel).await, Code::UnknownChannel);
        assert!(a.channels(true).await.unwrap().is_empty());
        ask(&b, channel, "sim-small", "Hello").await.unwrap();
        // Who comes back has what it had.
        assert!(wanted(&a, wish("sim-llm", "1")).await.unwrap().shared);
        assert_eq!(view(&a, channel).await.requests, 1);
        assert!(a.close(channel, Progress::none()).await.unwrap().left, "before expiry, it leaves");

        let closed = b.cooperative_close(channel, Progress::none()).await.unwrap();
        assert!(!closed.left && !closed.refund.is_zero() && !closed.transaction.is_empty());
        assert_eq!(closed.channel.requests, 1, "its own");
        let held = wallet.balance().await.unwrap();
        assert!(held.locked.is_zero());
        // Nobody joins what is over.
        assert!(!wanted(&a, wish("sim-llm", "1")).await.unwrap().shared);
    });
}

/// A close of the last user that comes to nothing leaves the channel to it, and to nobody who would be in its way.
#[test]
fn nobody_joins_what_its_last_user_is_about_to_close() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (sharing(&wallet, "a"), sharing(&wallet, "b"));
        let channel = open(&a, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.close_500 = Times::next(1));
        a.cooperative_close(channel, Progress::none()).await.unwrap_err();
        let of_b = wanted(&b, wish("sim-llm", "1")).await.unwrap();
        assert!(!of_b.shared);
        ask(&a, channel, "sim-small", "Hello").await.unwrap();
    });
}

/// Expired, it pays nobody any more: whoever uses it may get the rest back.
#[test]
fn any_member_closes_an_expired_channel() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (sharing(&wallet, "a"), sharing(&wallet, "b"));
        let channel = open(&a, "sim-llm", "1", "4h").await.unwrap();
        let four = OpenRequest { duration: Some("4h".parse().unwrap()), ..wish("sim-llm", "1") };
        assert!(wanted(&b, four).await.unwrap().shared);
        world.advance(4 * 3_600 + 60).await;
        view(&b, channel).await;
        let closed = b.close(channel, Progress::none()).await;
        // The runtime's own refund may have been quicker.
        assert!(closed.as_ref().is_ok_and(|closed| !closed.left) || closed.is_err());
        crate::harness::until("the rest comes back", async || wallet.balance().await.unwrap().locked.is_zero()).await;
    });
}

/// Fifty agents that ask for one USDC at one provider, at once: what that locks with `share_channels` and without.
#[test]
fn capital_locked_for_fifty_agents_with_and_without_sharing() {
    in_system(async {
        let locked = async |share: bool| {
            let world = World::with(SandboxConfig { agent_usdc: usdc("100"), ..SandboxConfig::default() }).await;
            let mut config = world.config();
            let limits = Arc::make_mut(&mut config.limits);
            (limits.locked, limits.open_channels, limits.opens_per_hour) = (usdc("100"), 100, 100);
            let wallet = world.runtime_with(config).await;
            let agents: Vec<Runtime> =
                (0..50).map(|place| agent_with(&wallet, &format!("agent-{place}"), share, |_| {})).collect();
            let opened =
                futures::future::join_all(agents.iter().map(|agent| wanted(agent, wish("sim-llm", "1")))).await;
            let ids: Vec<ChannelId> = opened.iter().map(|opened| id(&opened.as_ref().unwrap().channel)).collect();
            // Each pays, and sees its own request alone.
            let paid = agents.iter().zip(&ids).map(|(agent, channel)| pay(agent, call(*channel, "sim-small", "Hello")));
            for paid in futures::future::join_all(paid).await {
                let paid = paid.unwrap();
                assert_eq!((paid.channel.requests, paid.spent_today), (1, paid.cost));
            }
            assert_eq!(vouchers(&world.sandbox.llm).len(), 50);
            let held = wallet.balance().await.unwrap();
            (held.locked, wallet.channels(false).await.unwrap().len(), world.sent().await)
        };
        let (alone, shared) = (locked(false).await, locked(true).await);
        println!("50 agents, each asks for a channel of 1 USDC to one provider:");
        for (how, (locked, channels, sent)) in [("each its own", alone), ("share_channels", shared)] {
            println!("  {how}: {locked} USDC locked in {channels} channels, {sent} transactions");
        }
        assert_eq!((alone.0, alone.1), (usdc("50"), 50));
        assert_eq!((shared.0, shared.1), (usdc("1"), 1));
    });
}
