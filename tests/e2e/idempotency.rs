//! A request that its caller has a name for is paid once, however often it is asked for (M15). Each time the provider's own
//! books tell what was paid.

use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChatCall, ChatReply, Paid, PayFrom, Progress, ProviderWish};
use drain_mcp::error::{Code, Failure, Money};
use drain_mcp::points::Point;
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::Times;
use serde_json::{Value, json};

use crate::harness::{
    World, ask, call, credit, failed, in_system, llm, open, pay, reserved, unspent, until, usdc, view, vouchers,
};
use crate::kills::unlimited;
use crate::process_harness::served::{Client, Served};
use crate::process_harness::{self, Agent, Answer, Env, Greeting, chat, world};
use crate::survivor::Life;

const LINES: Greeting = Greeting::Lines("2025-11-25");

fn named(channel: ChannelId, text: &str, id: &str) -> ChatCall {
    ChatCall { request_id: Some(id.parse().unwrap()), ..call(channel, "sim-small", text) }
}

/// What the provider has billed on the channel, and how many vouchers it was sent.
fn billed(world: &World, channel: ChannelId) -> (u64, usize) {
    let books = world.sandbox.llm.books(channel.0);
    (books.map_or(0, |books| books.total_charged), vouchers(&world.sandbox.llm).len())
}

/// The first answer once more, and nothing paid for it.
fn same(first: &Paid, again: &Paid) {
    assert_eq!(
        (&again.content, &again.raw, &again.receipt, again.cost, again.max_tokens_sent),
        (&first.content, &first.raw, &first.receipt, first.cost, first.max_tokens_sent)
    );
    assert!(again.notes.iter().any(|note| note.contains("nothing was paid again")), "{:?}", again.notes);
}

fn spawn(runtime: &Runtime, call: ChatCall) -> tokio::task::JoinHandle<Result<Box<Paid>, Failure>> {
    let runtime = runtime.clone();
    actix::spawn(async move { pay(&runtime, call).await })
}

#[test]
fn m15_a_repeat_gets_the_first_answer_and_pays_nothing_even_after_a_restart() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let first = pay(&runtime, named(channel, "Hello", "one")).await.unwrap();
        let once = billed(&world, channel);
        assert_eq!(once, (first.cost.units(), 1));
        same(&first, &pay(&runtime, named(channel, "Hello", "one")).await.unwrap());
        drop(runtime);
        let runtime = world.impatient().await;
        same(&first, &pay(&runtime, named(channel, "Hello", " one ")).await.unwrap());
        assert_eq!(billed(&world, channel), once);
        // Without a name each is a request of its own, and another name is another request.
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        pay(&runtime, named(channel, "Hello", "two")).await.unwrap();
        assert_eq!(billed(&world, channel), (once.0 * 3, 3));
        assert_eq!(view(&runtime, channel).await.charged.units(), once.0 * 3);
    });
}

#[test]
fn another_request_under_the_same_name_is_refused_and_another_agents_is_its_own() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        pay(&runtime, named(channel, "Hello", "one")).await.unwrap();
        let once = billed(&world, channel);
        let changes: [fn(&mut ChatCall); 4] = [
            |call| call.messages[0].content.push('!'),
            |call| call.max_tokens = Some(7),
            |call| call.max_cost = Some(usdc("0.01")),
            |call| call.temperature = Some(1.into()),
        ];
        for change in changes {
            let mut other = named(channel, "Hello", "one");
            change(&mut other);
            unspent(pay(&runtime, other).await, Code::IdempotencyConflict);
        }
        assert_eq!(billed(&world, channel), once);
        drop(runtime);
        let mut config = world.config();
        config.agent = "somebody else".into();
        let runtime = world.runtime_with(config).await;
        pay(&runtime, named(channel, "Hello!", "one")).await.unwrap();
        assert_eq!(billed(&world, channel).1, 2);
    });
}

#[test]
fn a_request_that_runs_is_joined_also_when_its_first_caller_has_gone() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
        let first = spawn(&runtime, named(channel, "Hello", "one"));
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
        let second = spawn(&runtime, named(channel, "Hello", "one"));
        unspent(pay(&runtime, named(channel, "Bye", "one")).await, Code::IdempotencyConflict);
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        assert_eq!((&first.content, &first.receipt), (&second.content, &second.receipt));
        assert!(second.notes.iter().any(|note| note.contains("joined")), "{:?}", second.notes);
        assert_eq!(billed(&world, channel), (first.cost.units(), 1));

        let gone = spawn(&runtime, named(channel, "Hello", "two"));
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 2).await;
        gone.abort();
        let _ = gone.await;
        let joined = pay(&runtime, named(channel, "Hello", "two")).await.unwrap();
        assert!(joined.notes.iter().any(|note| note.contains("joined")), "{:?}", joined.notes);
        assert_eq!(billed(&world, channel), (first.cost.units() * 2, 2));
    });
}

#[test]
fn a_request_that_all_callers_leave_before_its_turn_is_not_paid_and_can_be_asked_again() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
        let before = spawn(&runtime, call(channel, "sim-small", "before"));
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
        let (one, two) =
            (spawn(&runtime, named(channel, "left", "one")), spawn(&runtime, named(channel, "left", "one")));
        tokio::task::yield_now().await;
        one.abort();
        two.abort();
        before.await.unwrap().unwrap();
        world.sandbox.llm.reset_faults();
        ask(&runtime, channel, "sim-small", "behind it").await.unwrap();
        assert!(vouchers(&world.sandbox.llm).iter().all(|sent| !sent.body.contains("left")));
        let paid = pay(&runtime, named(channel, "left", "one")).await.unwrap();
        assert!(paid.notes.is_empty(), "{:?}", paid.notes);
        assert_eq!(billed(&world, channel).1, 3);
    });
}

#[test]
fn what_was_not_charged_runs_anew_under_its_name_and_a_second_try_is_the_same_request() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.rate_limited = Times::next(1));
        credit(pay(&runtime, named(channel, "Hello", "one")).await, Code::ProviderRefused);
        let paid = pay(&runtime, named(channel, "Hello", "one")).await.unwrap();
        same(&paid, &pay(&runtime, named(channel, "Hello", "one")).await.unwrap());
        assert_eq!(billed(&world, channel).0, paid.cost.units());
        // Refused by our own rules nothing is recorded: the name is free.
        let dear = ChatCall { max_cost: Some(Usdc::new(1)), ..named(channel, "Hello", "free") };
        unspent(pay(&runtime, dear).await, Code::LimitReached);
        pay(&runtime, named(channel, "Hello", "free")).await.unwrap();

        // One call, two vouchers: the answer is the second one's.
        let before = billed(&world, channel);
        world.sandbox.llm.set(|faults| faults.invalid_nonce = Times::next(1));
        let paid = pay(&runtime, named(channel, "Again", "two")).await.unwrap();
        assert_eq!(billed(&world, channel), (before.0 + paid.cost.units(), before.1 + 2));
        same(&paid, &pay(&runtime, named(channel, "Again", "two")).await.unwrap());
        assert_eq!(world.journaled("SELECT COUNT(*) FROM vouchers WHERE request_key = 'two'"), 2);
    });
}

#[test]
fn m15_what_may_have_been_paid_is_never_sent_again() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| {
            faults.hang = Times::next(1);
            faults.keep_voucher_on_failure = true;
        });
        let at_most = reserved(pay(&runtime, named(channel, "Hello", "one")).await, Code::AnswerLost);
        world.sandbox.llm.reset_faults();
        for _ in 0..2 {
            assert_eq!(reserved(pay(&runtime, named(channel, "Hello", "one")).await, Code::RequestUnknown), at_most);
        }
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
        // The next answer tells what it cost; an answer to it there is none, and it is not sent again.
        ask(&runtime, channel, "sim-small", "next").await.unwrap();
        let failure = failed(pay(&runtime, named(channel, "Hello", "one")).await, Code::AnswerLost);
        assert!(matches!(&failure.money, Money::Spent { .. }), "{failure:?}");
        assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    });
}

#[test]
fn a_name_counts_for_its_time_and_an_answer_that_is_not_kept_is_not_paid_again() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.requests.keep.time = Duration::ZERO;
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let first = pay(&runtime, named(channel, "Hello", "one")).await.unwrap();
        let told = failed(pay(&runtime, named(channel, "Hello", "one")).await, Code::AnswerNotKept);
        assert_eq!(told.money, Money::Spent { receipt: first.receipt.clone(), amount: first.cost });
        assert!(!world.home.path().join(format!("137-{:#x}", world.agent())).join("answers.db").exists());
        assert_eq!(billed(&world, channel), (first.cost.units(), 1));
        // A day and a minute later.
        world.journal().execute("UPDATE vouchers SET created_at = created_at - 86460", []).unwrap();
        pay(&runtime, named(channel, "Bye", "one")).await.unwrap();
        assert_eq!(billed(&world, channel).1, 2);
    });
}

#[test]
fn a_repeat_that_names_a_provider_opens_no_second_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let wish = |most: Option<&str>| ChatCall {
            from: PayFrom::Provider(ProviderWish {
                provider: "sim-llm".into(),
                max_deposit: most.map(usdc),
                duration: None,
            }),
            ..named(ChannelId([0; 32].into()), "Hello", "one")
        };
        let first = pay(&runtime, wish(Some("0.5"))).await.unwrap();
        let channel: ChannelId = first.channel.channel_id.clone().unwrap().parse().unwrap();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        let sent = world.sent().await;
        same(&first, &pay(&runtime, wish(Some("0.5"))).await.unwrap());
        // What may be locked is no part of the request.
        same(&first, &pay(&runtime, wish(None)).await.unwrap());
        assert_eq!((world.sent().await, vouchers(&world.sandbox.llm).len()), (sent, 1));
    });
}

/// Instructions that must be read first are no answer.
#[test]
fn a_request_that_paid_nothing_leaves_its_name_free() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let ask = || ChatCall {
            request_id: Some("one".parse().unwrap()),
            ..call(channel, "sim/forecast", r#"{"city":"Oslo"}"#)
        };
        world.journal().execute("DELETE FROM docs_read", []).unwrap();
        let read = runtime.chat(ask(), Progress::none()).await.unwrap();
        assert!(matches!(read, ChatReply::ReadFirst { .. }), "{read:?}");
        let paid = pay(&runtime, ask()).await.unwrap();
        same(&paid, &pay(&runtime, ask()).await.unwrap());
    });
}

// === over MCP, in processes ===

fn with_name(channel: &str, text: &str, id: &str) -> Value {
    let mut arguments = chat(channel, text);
    arguments["requestId"] = id.into();
    arguments
}

fn receipt(answer: &Answer) -> &str {
    answer.data["payment"]["receipt"].as_str().unwrap()
}

/// Death at every point of a paid request, and at the first commits: the same request after it is answered as the first
/// one, or its end is unknown; it is never sent a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_killed_at_every_point_a_repeat_never_pays_twice() {
    const VOUCHER: [Point; 5] = [
        Point::VoucherAuthorized,
        Point::VoucherSigned,
        Point::VoucherSent,
        Point::VoucherAnswered,
        Point::VoucherSettled,
    ];
    let world = world().await;
    let plain = unlimited(&world);
    let mut agent = Agent::start(&plain, LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.leave().await;
    let commits = [Point::JournalWritten, Point::JournalCommitted]
        .into_iter()
        .flat_map(|point| (1..5).map(move |at| (point, at)));
    let mut seen = (0, 0);
    for (point, at) in VOUCHER.into_iter().map(|point| (point, 1)).chain(commits) {
        let text = format!("{} at {at}", point.name());
        let env = plain.clone().with("DRAIN_TEST_POINT", format!("{}=kill@{at}", point.name()));
        let call = with_name(&id, &text, &text);
        if let Ok(mut life) = Life::start(&env).await {
            let first = life.call("drain_chat", call.clone()).await.ok();
            println!("{text}: {:?}", first.map(|answer| answer.text));
            life.end().await;
        }
        let sent = || vouchers(&world.sandbox.llm).iter().filter(|sent| sent.body.contains(&text)).count();
        let (mut told, before) = (Vec::new(), sent());
        for _ in 0..2 {
            let mut agent = Agent::start(&plain, LINES).await;
            let again = agent.call("drain_chat", call.clone()).await;
            agent.leave().await;
            let code = again.data["code"].as_str().unwrap_or("answered").to_owned();
            told.push((code, again.data["payment"]["receipt"].clone()));
        }
        assert_eq!(told[0], told[1], "{text}");
        assert!(sent() <= 1, "{text}: sent {} times", sent());
        let code = told[0].0.as_str();
        match point {
            Point::VoucherSettled => assert_eq!((code, sent()), ("answered", before), "{text}"),
            Point::VoucherAuthorized | Point::VoucherSigned => {
                assert_eq!((code, sent()), ("request_unknown", 0), "{text}")
            }
            Point::VoucherSent | Point::VoucherAnswered => {
                assert_eq!((code, sent()), ("request_unknown", 1), "{text}");
            }
            _ => assert!(["answered", "request_unknown"].contains(&code), "{text}: {code}"),
        }
        if code == "answered" { seen.0 += 1 } else { seen.1 += 1 }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_answers_are_set_aside_and_nothing_is_paid_again() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    let first = agent.ok("drain_chat", with_name(&id, "Hello", "one")).await;
    agent.leave().await;
    let folder = world.home.path().join(format!("137-{:#x}", world.agent()));
    let mode = std::fs::metadata(folder.join("answers.db")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    // Its log would make it whole again.
    let _ = std::fs::remove_file(folder.join("answers.db-wal"));
    std::fs::write(folder.join("answers.db"), [0x53; 9_000]).unwrap();
    let mut agent = Agent::start(&env, LINES).await;
    let told = agent.fails("drain_chat", with_name(&id, "Hello", "one"), "answer_not_kept").await;
    assert_eq!(told.data["money"]["receipt"], receipt(&first));
    assert_eq!(told.data["money"]["amount"], first.data["payment"]["cost"]);
    agent.says("set aside").await;
    assert_eq!(std::fs::read(folder.join("answers.db.damaged")).unwrap(), [0x53; 9_000]);
    let second = agent.ok("drain_chat", with_name(&id, "Hello", "two")).await;
    let again = agent.ok("drain_chat", with_name(&id, "Hello", "two")).await;
    assert_eq!((receipt(&again), &again.data["answer"]), (receipt(&second), &second.data["answer"]));
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    agent.leave().await;
}

/// A client that was killed in the middle, and the same request from the next one: over the socket too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_join_one_request() {
    let world = world().await;
    let env = Env::of(&world);
    let mut holder = Agent::start(&env, LINES).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let mut thin = Agent::start(&env, LINES).await;
    thin.ok("drain_channels", json!({})).await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
    let one = json!({ "name": "drain_chat", "arguments": with_name(&id, "Hello", "one") });
    let first = thin.ask("tools/call", one.clone()).await;
    process_harness::until("it has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    let second = holder.ask("tools/call", one).await;
    let (first, second) = (thin.answer(first).await.unwrap(), holder.answer(second).await.unwrap());
    let (first, second) = (Answer::of(first), Answer::of(second));
    assert_eq!(receipt(&first), receipt(&second));

    let two = with_name(&id, "Hello", "two");
    thin.ask("tools/call", json!({ "name": "drain_chat", "arguments": two })).await;
    process_harness::until("it has left", async || vouchers(&world.sandbox.llm).len() == 2).await;
    thin.kill().await;
    let again = holder.ok("drain_chat", two.clone()).await;
    let from_command = ["chat", &id, "--model", "sim-small", "Hello", "--request-id", "two", "--json"];
    let printed = env.run(&from_command).await.ok_json();
    assert_eq!(printed["receipt"], receipt(&again));
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    holder.fails("drain_chat", with_name(&id, "Other", "two"), "idempotency_conflict").await;
    holder.fails("drain_chat", with_name(&id, "Other", &"x".repeat(101)), "invalid_argument").await;
    holder.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_each_agents_names_are_its_own_and_outlive_the_server() {
    let world = world().await;
    let env = Env::of(&world);
    let mut served = Served::start(&env).await;
    let tokens = [served.agent("ann", &[]).await, served.agent("bob", &[]).await];
    let mut receipts = Vec::new();
    for round in 0..2 {
        for (who, token) in tokens.iter().enumerate() {
            let client = served.client(token, Client::stateless()).await;
            let mut arguments = chat("", "Hello");
            arguments.as_object_mut().unwrap().remove("channelId");
            arguments["provider"] = "sim-llm".into();
            arguments["maxDeposit"] = "0.5".into();
            arguments["requestId"] = "one".into();
            let answer = client.ok("drain_chat", arguments).await;
            receipts.push(receipt(&answer).to_owned());
            let other = receipts.get(usize::from(who == 0)).cloned();
            if round == 1 {
                let other = other.unwrap();
                client.fails("drain_budget", json!({ "receipt": other }), "unknown_receipt").await;
                let own = client.ok("drain_budget", json!({ "receipt": receipts[who] })).await;
                assert!(own.text.contains("untrusted"), "{}", own.text);
                assert!(!client.ok("drain_budget", json!({})).await.text.contains(&other));
            }
            client.leave().await;
        }
        if round == 0 {
            served.stop().await;
            served = Served::start(&env).await;
        }
    }
    assert_eq!(receipts[..2], receipts[2..]);
    assert_ne!(receipts[0], receipts[1]);
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    served.stop().await;
}
