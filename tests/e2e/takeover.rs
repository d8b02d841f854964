//! The process that has the wallet ends, in order or killed; another one goes on from the journal (design section 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};
use crate::sharing::{locked, m2_rising, sockets, status};

/// JSON-RPC lines: their requests can be left open.
const LINES: Greeting = Greeting::Lines("2025-11-25");

/// The process that has the wallet, as the system tells it.
async fn holder(world: &World) -> u32 {
    let found = std::cell::Cell::new(None);
    until("somebody has the wallet", async || {
        let Some(path) = sockets(world).pop() else { return false };
        let Ok(stream) = UnixStream::connect(path).await else { return false };
        found.set(stream.peer_cred().unwrap().pid());
        true
    })
    .await;
    u32::try_from(found.get().unwrap()).unwrap()
}

/// Begins a call without waiting for its answer.
async fn begin(agent: &mut Agent, tool: &str, arguments: Value) -> u64 {
    agent.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await
}

async fn end(agent: &mut Agent, id: u64) -> Answer {
    Answer::of(agent.answer(id).await.unwrap())
}

/// Whoever has the wallet is killed, again and again, with nothing under way: the next call of everybody who is left is
/// answered, whatever MCP it speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_killed_idle_the_others_go_on() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agents = Vec::new();
    for greeting in [LINES, Greeting::Discover, Greeting::Initialize, Greeting::Lines("2024-11-05"), Greeting::Discover]
    {
        agents.push(Agent::start(&env, greeting).await);
    }
    let id = agents[0].open("sim-llm", "1", "4h").await;
    let mut requests = 0;
    while agents.len() > 1 {
        let holder = holder(&world).await;
        let place = agents.iter().position(|agent| agent.pid() == holder).expect("one of ours");
        agents.remove(place).kill().await;
        for agent in &mut agents {
            agent.ok("drain_chat", chat(&id, "hello")).await;
            requests += 1;
        }
        let books = status(&mut agents[0], &id).await;
        assert_eq!((&books["requests"], &books["in_flight"]), (&json!(requests), &json!("0.00")), "{books}");
    }
    // A thin one that is killed disturbs nobody.
    let mut last = agents.pop().unwrap();
    let mut thin = Agent::start(&env, Greeting::Initialize).await;
    thin.ok("drain_chat", chat(&id, "hello")).await;
    thin.kill().await;
    last.ok("drain_chat", chat(&id, "hello")).await;
    last.kill().await;
    // What a killed process leaves behind is no obstacle.
    assert_eq!(sockets(&world).len(), 1);
    let mut agent = Agent::start(&env, LINES).await;
    agent.ok("drain_chat", chat(&id, "hello")).await;
    agent.leave().await;
    assert!(sockets(&world).is_empty());
    assert_eq!(vouchers(&world.sandbox.llm).len(), requests + 3);
    m2_rising(&world.sandbox.llm);
}

/// M15, M1, M2: a paid request that the holder had is never sent again; its outcome is said to be unknown, and reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_killed_in_the_middle_of_a_request_it_is_not_sent_again() {
    let world = world().await;
    let env = Env::of(&world);
    let mut first = Agent::start(&env, LINES).await;
    let id = first.open("sim-llm", "1", "4h").await;
    let mut agents = vec![first];
    for _ in 0..3 {
        agents.push(Agent::start(&env, LINES).await);
    }
    for round in 0..3 {
        let holder = holder(&world).await;
        let place = agents.iter().position(|agent| agent.pid() == holder).expect("one of ours");
        let killed = agents.remove(place);
        let thin = agents.len() - 1;
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(60)));
        let (sent, text) = (vouchers(&world.sandbox.llm).len(), format!("lost {round}"));
        let params =
            json!({ "name": "drain_chat", "arguments": chat(&id, &text), "_meta": { "progressToken": "before" } });
        let asked = agents[thin].ask("tools/call", params).await;
        until("the voucher has left", async || vouchers(&world.sandbox.llm).len() == sent + 1).await;
        // It was told by which receipt to ask, before the one who told it dies.
        while !agents[thin].next().await["params"]["message"].as_str().is_some_and(|said| said.contains("receipt")) {}
        let left = vouchers(&world.sandbox.llm).pop().unwrap();
        assert_eq!(killed.kill().await.code, None);
        let lost = end(&mut agents[thin], asked).await;
        assert_eq!((&lost.data["code"], &lost.data["retry"]), (&json!("owner_lost"), &json!("no")), "{}", lost.text);
        assert_eq!(lost.data["money"]["state"], "unknown");
        // What to ask by, as the holder had told it.
        let receipt = format!("receipt c1-{}", left.nonce.unwrap());
        for part in [receipt.as_str(), "drain_channel_status", "nothing was sent again"] {
            assert!(lost.text.contains(part), "{part} in {}", lost.text);
        }
        world.sandbox.llm.reset_faults();
        let books = status(&mut agents[0], &id).await;
        assert_eq!(usdc(books["signed"].as_str().unwrap()).units(), left.amount.unwrap(), "{books}");
        assert_ne!(books["in_flight"], "0.00", "{books}");
        for agent in &mut agents {
            agent.ok("drain_chat", chat(&id, "hello")).await;
        }
        let sent = vouchers(&world.sandbox.llm);
        assert_eq!(sent.iter().filter(|request| request.body.contains(&text)).count(), 1);
    }
    m2_rising(&world.sandbox.llm);
    for agent in agents {
        agent.leave().await;
    }
}

/// What only reads is asked for anew, by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_reads_the_answer_comes_from_the_next() {
    let world = world().await;
    let env = Env::of(&world);
    let holder = Agent::start(&env, LINES).await;
    let mut thin = Agent::start(&env, LINES).await;
    thin.ok("drain_balance", json!({})).await;
    world.chain().main().update_faults(|faults| faults.hang = true);
    let asked = || world.chain().request_count().get("eth_getBalance").copied();
    let before = asked();
    let reading = begin(&mut thin, "drain_balance", json!({})).await;
    until("the chain is asked", async || asked() != before).await;
    holder.kill().await;
    world.chain().main().update_faults(|faults| faults.hang = false);
    let answer = end(&mut thin, reading).await;
    assert!(!answer.is_error, "{}", answer.text);
    thin.leave().await;
}

/// M7, M9: an opening that the holder had goes on in the next one, and the same call joins it: one deposit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m7_killed_in_an_opening_the_same_call_joins_it() {
    let world = world().await;
    let env = Env::of(&world);
    let holder = Agent::start(&env, LINES).await;
    let mut thin = Agent::start(&env, LINES).await;
    world.chain().hold(true);
    let wish = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let opening = begin(&mut thin, "drain_open_channel", wish.clone()).await;
    until("a transaction is sent", async || world.chain().pending() > 0).await;
    holder.kill().await;
    let lost = end(&mut thin, opening).await;
    assert_eq!(
        (&lost.data["code"], &lost.data["retry"]),
        (&json!("transaction_pending"), &json!("safe")),
        "{}",
        lost.text
    );
    assert_eq!(lost.data["money"]["state"], "unknown");
    world.chain().hold(false);
    world.chain().mine(1);
    let opened = thin.ok("drain_open_channel", wish).await;
    let id = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    thin.ok("drain_chat", chat(&id, "hello")).await;
    assert_eq!(world.sandbox.observer().total_locked().await.unwrap(), usdc("1"));
    thin.leave().await;
}

/// A holder whose client leaves ends what it has begun, for others too, before it goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_leaves_drains_first() {
    let world = world().await;
    let env = Env::of(&world);
    let mut first = Agent::start(&env, LINES).await;
    let id = first.open("sim-llm", "1", "4h").await;
    let mut second = Agent::start(&env, LINES).await;
    let mut third = Agent::start(&env, Greeting::Discover).await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
    let asked = begin(&mut second, "drain_chat", chat(&id, "under way")).await;
    until("the voucher has left", async || vouchers(&world.sandbox.llm).len() == 1).await;
    let (ended, paid, waited) = tokio::join!(
        first.leave(),
        end(&mut second, asked),
        // Comes in while the holder is leaving: it waits for the next one.
        third.call("drain_chat", chat(&id, "in between")),
    );
    assert_eq!(ended.code, Some(0));
    assert!(!paid.is_error && !waited.is_error, "{} {}", paid.text, waited.text);
    assert_eq!(status(&mut second, &id).await["requests"], 2);
    m2_rising(&world.sandbox.llm);
    // Asked to end by the system it is the same.
    assert_eq!(second.terminate().await.code, Some(0));
    third.ok("drain_chat", chat(&id, "hello")).await;
    third.leave().await;
    assert!(sockets(&world).is_empty());
}

/// Two agents pay while whoever has the wallet is killed: no number is used twice, nothing is signed below what was sent,
/// and no request is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_killed_under_load() {
    const KILLS: usize = 8;
    let world = world().await;
    let env = Env::of(&world);
    let mut victim = Agent::start(&env, LINES).await;
    let id = victim.open("sim-llm", "2", "4h").await;
    let stop = Arc::new(AtomicBool::new(false));
    // Who pays cannot hold the wallet: so it is never the one to be killed.
    let locked = locked(&world, &env);
    let pay = |who: usize, greeting| {
        let (env, id, stop) = (locked.clone(), id.clone(), stop.clone());
        tokio::spawn(async move {
            let mut agent = Agent::start(&env, greeting).await;
            let (mut paid, mut lost) = (0, 0);
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let answer = agent.call("drain_chat", chat(&id, &format!("payer {who} number {number}."))).await;
                match answer.data["code"].as_str() {
                    None => paid += 1,
                    Some("owner_lost") => lost += 1,
                    Some(other) => panic!("{other}: {}", answer.text),
                }
            }
            agent.leave().await;
            (paid, lost)
        })
    };
    let payers = [pay(0, LINES), pay(1, Greeting::Discover)];
    let kills = async {
        for _ in 0..KILLS {
            let next = Agent::start(&env, LINES).await;
            let sent = vouchers(&world.sandbox.llm).len();
            until("they pay", async || vouchers(&world.sandbox.llm).len() > sent + 5).await;
            victim.kill().await;
            victim = next;
        }
        let sent = vouchers(&world.sandbox.llm).len();
        until("they pay on", async || vouchers(&world.sandbox.llm).len() > sent + 5).await;
        stop.store(true, Ordering::SeqCst);
        victim
    };
    let mut victim = kills.await;
    let (mut paid, mut lost) = (0, 0);
    for payer in payers {
        let counts = payer.await.unwrap();
        (paid, lost) = (paid + counts.0, lost + counts.1);
    }
    let sent = vouchers(&world.sandbox.llm);
    println!("{KILLS} kills, {} vouchers, {paid} answered, {lost} lost", sent.len());
    assert!(paid <= sent.len() && sent.len() <= paid + lost, "one voucher a request, at most");
    let mut bodies: Vec<&str> = sent.iter().map(|request| request.body.as_str()).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), sent.len(), "no request is sent twice");
    m2_rising(&world.sandbox.llm);
    let books = status(&mut victim, &id).await;
    assert!(usdc(books["signed"].as_str().unwrap()).units() >= sent.last().unwrap().amount.unwrap());
    victim.leave().await;
}
