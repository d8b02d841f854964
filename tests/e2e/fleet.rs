//! Agents of a fleet on one wallet: each sees and uses its own channels only, within its own limits.

use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{Opened, Progress, ProviderQuery, Question};
use drain_mcp::config::{Config, Password};
use drain_mcp::error::{Code, Failure};
use drain_mcp::policy::approvals::{Verdict, Via};
use drain_mcp::policy::{FleetAgent, Limits};
use drain_protocol::ChannelId;
use tokio::sync::mpsc;

use crate::harness::{World, ask, failed, figures, in_system, open, unspent, usdc, view, wish};

/// An agent of the fleet on this wallet, with limits of its own.
pub fn agent_with(runtime: &Runtime, name: &str, share: bool, tighten: impl FnOnce(&mut Limits)) -> Runtime {
    let mut limits = (*runtime.config().limits).clone();
    tighten(&mut limits);
    let limits = Arc::new(runtime.config().limits.tightened(&limits));
    runtime.for_agent(FleetAgent { name: name.into(), limits, share })
}

pub fn agent(runtime: &Runtime, name: &str) -> Runtime {
    agent_with(runtime, name, false, |_| {})
}

/// What a call about this channel is answered, with the id taken out.
fn without(id: ChannelId, failure: Failure) -> (Code, String, String, String) {
    let bare = |text: &str| text.replace(&id.to_string(), "ID");
    (failure.code, bare(&failure.message), bare(&failure.next), failure.money.sentence())
}

/// All that can be asked about a channel.
async fn all_about(runtime: &Runtime, id: ChannelId) -> Vec<(Code, String, String, String)> {
    let none = Progress::none;
    let failures = [
        runtime.channel(id).await.err(),
        ask(runtime, id, "sim-small", "Hello").await.err(),
        runtime.close(id, none()).await.err(),
        runtime.cooperative_close(id, none()).await.err(),
    ];
    failures.map(|failure| without(id, failure.expect("it is not theirs"))).to_vec()
}

#[test]
fn an_agent_learns_nothing_of_anothers_channel() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (agent(&wallet, "a"), agent(&wallet, "b"));
        let of_a = open(&a, "sim-llm", "1", "24h").await.unwrap();
        ask(&a, of_a, "sim-small", "Hello").await.unwrap();
        let of_operator = open(&wallet, "sim-weather", "1", "24h").await.unwrap();
        let signed = figures(&world.sandbox.llm);

        // In the very words of a channel that does not exist.
        let unknown = all_about(&b, ChannelId([7; 32].into())).await;
        assert!(unknown.iter().all(|told| told.0 == Code::UnknownChannel), "{unknown:?}");
        assert_eq!(all_about(&b, of_a).await, unknown);
        assert_eq!(all_about(&b, of_operator).await, unknown);
        assert_eq!(all_about(&a, of_operator).await, unknown);
        assert_eq!(figures(&world.sandbox.llm), signed, "no voucher of A's channel is B's to sign");

        // No list, no sum, no count tells of it.
        assert!(b.channels(true).await.unwrap().is_empty());
        let details = b.provider("sim-llm").await.unwrap();
        assert!(details.channels.is_empty() && details.listing.standing.is_none(), "{details:?}");
        let page = b.providers(ProviderQuery::default()).await.unwrap();
        assert!(page.providers.iter().all(|provider| provider.standing.is_none()));
        let held = b.balance().await.unwrap();
        assert!(held.locked.is_zero() && held.spent_today.is_zero(), "{held:?}");

        // A sees its own, and the operator all.
        let seen = a.channels(false).await.unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].channel_id, Some(of_a.to_string()));
        let held = a.balance().await.unwrap();
        assert_eq!((held.locked, held.spent_today), (usdc("1"), seen[0].charged));
        assert_eq!(a.provider("sim-llm").await.unwrap().channels.len(), 1);
        assert_eq!(wallet.channels(false).await.unwrap().len(), 2);
        let held = wallet.balance().await.unwrap();
        assert_eq!((held.locked, held.spent_today), (usdc("2"), seen[0].charged));
        assert!(wallet.provider("sim-llm").await.unwrap().listing.standing.is_some());
    });
}

#[test]
fn whose_a_channel_is_outlives_the_process() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let channel = open(&agent(&wallet, "a"), "sim-llm", "1", "24h").await.unwrap();
        wallet.shutdown().await;
        drop(wallet);
        let wallet = world.runtime().await;
        unspent(ask(&agent(&wallet, "b"), channel, "sim-small", "Hello").await, Code::UnknownChannel);
        ask(&agent(&wallet, "a"), channel, "sim-small", "Hello").await.unwrap();
    });
}

/// M5: an agent's limits are tighter than the wallet's at most, and each agent's budget is its own.
#[test]
fn m5_budgets_are_counted_agent_by_agent() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let a = agent_with(&wallet, "a", false, |limits| limits.per_agent = usdc("0.002"));
        let b = agent(&wallet, "b");
        let (of_a, of_b) =
            (open(&a, "sim-llm", "1", "24h").await.unwrap(), open(&b, "sim-llm", "1", "24h").await.unwrap());
        let mut paid = 0;
        let refused = loop {
            match ask(&a, of_a, "sim-small", "write 200 words").await {
                Ok(_) => paid += 1,
                Err(failure) => break failure,
            }
            assert!(paid < 100, "the budget never ends");
        };
        assert_eq!(refused.code, Code::LimitReached);
        // Its own budget is told in full.
        assert!(refused.message.contains("DRAIN_MAX_PER_AGENT") && refused.message.contains("is left"), "{refused:?}");
        assert!(refused.message.contains("free again in"), "{refused:?}");
        assert!(view(&a, of_a).await.signed <= usdc("0.002"));
        for _ in 0..3 {
            ask(&b, of_b, "sim-small", "write 200 words").await.unwrap();
        }
        // Never looser than the wallet's.
        let limits = (*wallet.config().limits).clone();
        let c = agent_with(&wallet, "c", false, |of_c| of_c.per_channel = usdc("1000"));
        let more = format!("{}", limits.per_channel.saturating_add(usdc("1")));
        unspent(open(&c, "sim-llm", &more, "24h").await, Code::LimitReached);
    });
}

/// What is left of a limit that all use would tell an agent what the others did.
#[test]
fn a_limit_of_the_wallet_tells_an_agent_nothing_of_the_others() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).open_channels = 1;
        let wallet = world.runtime_with(config).await;
        let channel = open(&agent(&wallet, "a"), "sim-llm", "1", "24h").await.unwrap();
        let refused = unspent(open(&agent(&wallet, "b"), "sim-llm", "1", "24h").await, Code::LimitReached);
        assert!(refused.message.contains("DRAIN_MAX_OPEN_CHANNELS"), "{refused:?}");
        assert!(!refused.message.contains("left") && !refused.message.contains("free again"), "{refused:?}");
        // What the operator is told is all of it.
        let refused = unspent(open(&wallet, "sim-weather", "1", "24h").await, Code::LimitReached);
        assert!(refused.message.contains("0 is left"), "{refused:?}");
        // A freeze's reason may name a channel.
        wallet.freeze(&format!("look at {channel}")).await.unwrap();
        let refused = unspent(open(&agent(&wallet, "b"), "sim-llm", "1", "24h").await, Code::WalletFrozen);
        assert!(!refused.message.contains(&channel.to_string()), "{refused:?}");
    });
}

/// M5: what a person does for the wallet, an agent of the fleet does not.
#[test]
fn m5_what_is_the_operators_is_refused_to_an_agent() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let of_operator = open(&wallet, "sim-llm", "1", "24h").await.unwrap();
        let b = agent(&wallet, "b");
        let sent = world.sent().await;
        let none = Progress::none;
        unspent(b.approve(Some(usdc("1")), none()).await, Code::NotAllowed);
        unspent(b.refund(Some(0), none()).await, Code::NotAllowed);
        unspent(b.openings().await, Code::NotAllowed);
        unspent(b.recover(none()).await, Code::NotAllowed);
        unspent(b.adopt(of_operator, None).await, Code::NotAllowed);
        unspent(b.sweep(none()).await, Code::NotAllowed);
        unspent(b.request_gas().await, Code::NotAllowed);
        unspent(b.freeze("mine").await, Code::NotAllowed);
        unspent(b.unfreeze().await, Code::NotAllowed);
        unspent(b.frozen().await, Code::NotAllowed);
        unspent(b.decide("a1", Verdict::Approve, Password::new("x")).await, Code::NotAllowed);
        unspent(b.trust_provider("sim-llm").await, Code::NotAllowed);
        unspent(b.trust_fee_wallet().await, Code::NotAllowed);
        let all = drain_mcp::api::SendAmount::Usdc(None);
        unspent(b.send(world.agent(), all, false, none()).await, Code::NotAllowed);
        unspent(b.fund(world.agent(), usdc("1"), drain_mcp::policy::Pol::ZERO, none()).await, Code::NotAllowed);
        assert_eq!(world.sent().await, sent);
        assert_eq!(wallet.frozen().await.unwrap(), None);
    });
}

/// A repeated open joins the agent's own pending opening, and nobody else's.
#[test]
fn a_pending_opening_is_joined_by_its_own_agent_only() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (agent(&wallet, "a"), agent(&wallet, "b"));
        let open = |runtime: &Runtime| {
            let runtime = runtime.clone();
            async move { runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap() }
        };
        let (first, again, of_b, of_operator) = tokio::join!(open(&a), open(&a), open(&b), open(&wallet));
        let id = |opened: &Opened| opened.channel.channel_id.clone().unwrap();
        assert_eq!(id(&first), id(&again));
        assert!(first.resumed != again.resumed);
        assert!(!of_b.resumed && id(&of_b) != id(&first));
        assert!(!of_operator.resumed && id(&of_operator) != id(&first) && id(&of_operator) != id(&of_b));
        assert_eq!(wallet.channels(false).await.unwrap().len(), 3);
    });
}

/// One that a call which was cut off left behind is given to who asked for it.
#[test]
fn an_opening_that_was_left_behind_is_given_to_its_own_agent_only() {
    in_system(async {
        let world = World::start().await;
        let wallet = world.runtime().await;
        let (a, b) = (agent(&wallet, "a"), agent(&wallet, "b"));
        let channel = open(&a, "sim-llm", "1", "24h").await.unwrap();
        wallet.shutdown().await;
        // As if the process had ended before the answer.
        world.journal().execute("UPDATE channels SET told = 0", []).unwrap();
        let of_b = b.open(wish("sim-llm", "1"), Progress::none()).await.unwrap();
        assert!(!of_b.resumed);
        let of_a = a.open(wish("sim-llm", "1"), Progress::none()).await.unwrap();
        assert!(of_a.resumed);
        assert_eq!(of_a.channel.channel_id, Some(channel.to_string()));
    });
}

/// M5: who holds an agent's token is not the wallet's person, also where the operator lets a client's person count on stdio.
#[test]
fn m5_the_person_at_an_agents_client_does_not_count() {
    in_system(async {
        let world = World::start().await;
        let mut config: Config = world.config();
        Arc::make_mut(&mut config.limits).approve.request = Some(usdc("0.000001"));
        config.approvals.via = vec![Via::Elicitation];
        config.approvals.wait = Duration::from_millis(300);
        let wallet = world.runtime_with(config).await;
        // Says yes to everything.
        let (person, mut questions) = mpsc::channel::<Question>(8);
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let _ = question.reply.send(Verdict::Approve);
            }
        });
        let progress = || Progress::none().with_person(person.clone());
        let pay = async |runtime: &Runtime, channel| {
            runtime.chat(crate::harness::call(channel, "sim-small", "Hello"), progress()).await
        };
        let b = agent(&wallet, "b");
        let (own, of_b) =
            (open(&wallet, "sim-llm", "1", "24h").await.unwrap(), open(&b, "sim-llm", "1", "24h").await.unwrap());
        pay(&wallet, own).await.unwrap();
        failed(pay(&b, of_b).await, Code::ApprovalNeeded);
        // What waits is shown to its agent, and to no other.
        assert_eq!(b.approvals().await.unwrap().len(), 1);
        assert!(agent(&wallet, "c").approvals().await.unwrap().is_empty());
        assert!(wallet.approvals().await.unwrap().iter().any(|asked| asked.agent == "b"));
    });
}
