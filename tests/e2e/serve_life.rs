//! `drain-mcp serve` over its life: when it is ready, how it ends, and which journals it takes.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::disk::folder;
use crate::harness::World;
use crate::process_harness::served::{Client, Served, call, initialize, message_of};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};

/// A channel of an agent by a client of the stateless revision.
async fn channel(served: &Served, token: &str) -> String {
    let client = served.client(token, Client::stateless()).await;
    let id = client.open("sim-llm", "1").await;
    client.leave().await;
    id
}

fn wallet(ready: &Value) -> &Value {
    &ready["wallets"][0]
}

/// The next server finds the one request booked, and nothing of it open.
async fn one_is_paid_and_recorded(world: &World, token: &str, id: &str) {
    let served = Served::start(&Env::of(world)).await;
    let client = served.client(token, Client::stateless()).await;
    let status = client.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_eq!((&status.data["requests"], &status.data["in_flight"]), (&json!(1), &json!("0.00")));
    client.leave().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_told_to_end_as_soon_as_it_serves_ends_in_order() {
    let world = world().await;
    for _ in 0..3 {
        Served::start(&Env::of(&world)).await.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_begins_nothing_new_and_lets_calls_end() {
    for sessions in [true, false] {
        let world = world().await;
        let mut served = Served::start(&Env::of(&world)).await;
        let token = served.agent("ann", &[]).await;
        let id = channel(&served, &token).await;
        assert_eq!(served.ready().await.0, StatusCode::OK);
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(4)));
        let session = served.session(&token, "2025-11-25").await;
        let asked = chat(&id, "hello");
        let paying = match sessions {
            true => session.post(&call(1, "drain_chat", &asked)),
            false => served.stateless(&token, "drain_chat", &asked),
        };
        let (answer, ()) = futures::join!(paying.send(), async {
            until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
            served.terminate();
            until("it is not ready", async || served.get("/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE).await;
            assert_eq!(served.ready().await.1["draining"], true);
            assert_eq!(served.get("/healthz").await.0, StatusCode::OK);
            let balance = json!({});
            for refused in [
                session.post(&call(2, "drain_balance", &balance)),
                served.stateless(&token, "drain_balance", &balance),
                served.post(&token, &initialize("2025-11-25")),
                session.bare(Method::GET),
            ] {
                let refused = refused.send().await.unwrap();
                assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert!(refused.headers().contains_key("retry-after"));
            }
            // What belongs to a call that runs comes through.
            let cancel = json!({ "requestId": 77, "reason": "of another one" });
            let told = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel });
            assert_eq!(session.post(&told).send().await.unwrap().status(), StatusCode::ACCEPTED);
        });
        let answer = Answer::of(message_of(answer.unwrap()).await["result"].clone());
        assert!(!answer.is_error && answer.last_line().starts_with("Paid "), "{}", answer.text);
        assert_eq!(served.ended().await.code(), Some(0));
        assert!(!served.stderr().contains("still ran"), "{}", served.stderr());
        // All of it is recorded.
        one_is_paid_and_recorded(&world, &token, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_is_not_waited_for_longer_than_said() {
    let world = world().await;
    let mut served = Served::start(&Env::of(&world).with("DRAIN_DRAIN_TIME", "300ms")).await;
    let token = served.agent("ann", &[]).await;
    let id = channel(&served, &token).await;
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(5)));
    let (cut, ()) = futures::join!(served.stateless(&token, "drain_chat", &chat(&id, "hello")).send(), async {
        until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
        served.terminate();
    });
    // Cut, or told that it is not waited for: in no case a payment that is called unspent.
    if let Ok(answer) = cut
        && answer.status() == StatusCode::OK
    {
        let answer = Answer::of(message_of(answer).await["result"].clone());
        assert!(answer.is_error && answer.data["money"]["state"] == "unknown", "{}", answer.text);
    }
    assert_eq!(served.ended().await.code(), Some(0));
    assert!(served.stderr().contains("still ran"), "{}", served.stderr());
    // What the channel had begun was let end, and is recorded.
    one_is_paid_and_recorded(&world, &token, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_wish_to_end_ends_at_once_and_keeps_the_reservation() {
    let world = world().await;
    let mut served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let id = channel(&served, &token).await;
    world.sandbox.llm.set(|faults| faults.hang = drain_sandbox::provider::Times::next(1));
    let paying = served.stateless(&token, "drain_chat", &chat(&id, "hello")).send();
    let paying = tokio::spawn(paying);
    until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
    served.terminate();
    until("it is not ready", async || served.get("/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE).await;
    served.terminate();
    assert_eq!(served.ended().await.code(), Some(130));
    assert!(paying.await.unwrap().is_err());
    let served = Served::start(&Env::of(&world)).await;
    let client = served.client(&token, Client::stateless()).await;
    let status = client.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_ne!(status.data["in_flight"], "0.00", "{}", status.text);
    client.leave().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_when_an_endpoint_answers_and_not_before() {
    let world = world().await;
    world.chain().main().update_faults(|faults| faults.fail_rate = 1.0);
    let served = Served::start(&Env::of(&world)).await;
    let (status, ready) = served.ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((&ready["ready"], &wallet(&ready)["rpc"]["ok"]), (&json!(false), &json!(false)), "{ready}");
    assert_eq!((&wallet(&ready)["lock"]["ok"], &wallet(&ready)["journal"]["ok"]), (&json!(true), &json!(true)));
    assert!(!ready.to_string().contains("http"), "no endpoint is shown: {ready}");
    assert_eq!(served.get("/healthz").await.0, StatusCode::OK, "it lives");
    world.chain().main().update_faults(|faults| faults.fail_rate = 0.0);
    until("it is ready", async || served.ready().await.0 == StatusCode::OK).await;
    served.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_ready_while_the_journal_cannot_be_written() {
    let world = world().await;
    let layer = crate::layer::Layer::under(&world);
    let served = Served::start(&layer.env(&Env::of(&world))).await;
    assert_eq!(served.ready().await.0, StatusCode::OK);
    for fault in ["full", "sync"] {
        layer.fail(fault);
        until("it is not ready", async || served.ready().await.0 == StatusCode::SERVICE_UNAVAILABLE).await;
        let (_, ready) = served.ready().await;
        assert_eq!(wallet(&ready)["journal"]["ok"], false, "{fault}: {ready}");
        assert!(wallet(&ready)["journal"]["reason"].as_str().unwrap().contains("journal"), "{ready}");
        layer.heal();
        until("it is ready again", async || served.ready().await.0 == StatusCode::OK).await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_another_process_has_is_not_served_until_that_ends() {
    let world = world().await;
    let env = Env::of(&world);
    let mut other = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    other.ok("drain_balance", json!({})).await;
    let mut served = Served::start(&env).await;
    let pid = other.pid();
    served.says(&format!("process {pid} has the wallet default")).await;
    let token = served.agent("ann", &[]).await;
    let (status, ready) = served.ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(wallet(&ready)["lock"]["reason"], format!("process {pid} has it"), "{ready}");
    let refused = served.stateless(&token, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().await.unwrap().contains("another process"));
    other.ok("drain_balance", json!({})).await;
    other.leave().await;
    until("it is ready", async || served.ready().await.0 == StatusCode::OK).await;
    served.says("its agents are served").await;
    channel(&served, &token).await;
    served.stop().await;
}

fn schema(world: &World) -> i64 {
    world.journal().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// The journal as the version before this one left it.
fn older(world: &World) -> i64 {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/migrations");
    let mut steps: Vec<_> = std::fs::read_dir(migrations).unwrap().map(|step| step.unwrap().path()).collect();
    steps.sort();
    steps.pop();
    std::fs::create_dir_all(folder(world)).unwrap();
    let db = world.journal();
    for step in &steps {
        db.execute_batch(&std::fs::read_to_string(step).unwrap()).unwrap();
    }
    // "drain", as it stands in each of our journals.
    db.execute_batch(&format!("PRAGMA application_id = 1685217641; PRAGMA user_version = {}", steps.len())).unwrap();
    i64::try_from(steps.len()).unwrap()
}

/// An older drain-mcp must not work on records that it does not understand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_journal_is_brought_up_to_date_at_the_start_and_a_newer_one_refused() {
    let world = world().await;
    let env = Env::of(&world);
    let before = older(&world);
    let served = Served::start(&env).await;
    assert_eq!(served.ready().await.0, StatusCode::OK);
    let token = served.agent("ann", &[]).await;
    channel(&served, &token).await;
    served.stop().await;
    assert_eq!(schema(&world), before + 1);

    world.journal().execute_batch(&format!("PRAGMA user_version = {}", before + 2)).unwrap();
    let left = std::fs::read(folder(&world).join("journal.db")).unwrap();
    let refused = env.run(&["serve"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("newer drain-mcp") && refused.stderr.contains("wallet default"), "{refused:?}");
    assert_eq!(std::fs::read(folder(&world).join("journal.db")).unwrap(), left, "it is left as it is");
}
