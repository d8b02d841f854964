//! On the wallet's socket: other versions, strangers, and holders that do not answer.

use std::path::{Path, PathBuf};

use drain_mcp::journal::{self, Hold, Location};
use drain_sandbox::contracts::CHANNEL_V2;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::harness::World;
use crate::process_harness::{Agent, Env, Greeting, PATIENCE, chat, world};
use crate::sharing::sockets;

/// The number of the socket's protocol.
const PROTOCOL: u32 = 4;
const LINES: Greeting = Greeting::Lines("2025-11-25");

fn frame(value: &Value) -> Vec<u8> {
    let bytes = value.to_string().into_bytes();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

async fn next(stream: &mut UnixStream) -> Value {
    let mut bytes = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
    stream.read_exact(&mut bytes).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The wallet's folder with its lock taken by this test, as by a process that is no drain-mcp of today.
fn taken(world: &World) -> (PathBuf, Hold) {
    let folder = world.home.path().join(format!("137-{:#x}", world.agent()));
    let hold = journal::take(&Location::new(folder.clone())).unwrap().expect("it is free");
    (folder, hold)
}

/// Greets everybody as a version of its own does.
fn another_version(folder: &Path, protocol: u32) -> tokio::task::JoinHandle<()> {
    let _ = std::fs::remove_file(folder.join("socket"));
    let listener = UnixListener::bind(folder.join("socket")).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(&frame(&json!({ "protocol": protocol, "version": "7.7.7", "news": [1] }))).await;
        }
    })
}

/// Calls until the answer is no error any more.
async fn until_ok(agent: &mut Agent, tool: &str) {
    let answered = async {
        while agent.call(tool, json!({})).await.is_error {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it recovers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_of_another_version() {
    let world = world().await;
    let (folder, lock) = taken(&world);
    let mut agent = Agent::start(&Env::of(&world), LINES).await;
    for (protocol, remedy) in [(99, "Update the drain-mcp of this process"), (0, "7.7.7 is older")] {
        let listening = another_version(&folder, protocol);
        let command = Env::of(&world).run(&["channels", "--json"]).await.json();
        assert_eq!(command["error"]["code"], "incompatible_version", "{command}");
        assert!(command["error"]["next"].as_str().unwrap().contains(remedy), "{command}");
        assert!(command["error"]["message"].as_str().unwrap().contains("7.7.7"), "{command}");
        listening.abort();
        let _ = listening.await;
    }
    let _listening = another_version(&folder, 99);
    let mut other = Agent::start(&Env::of(&world), Greeting::Discover).await;
    other.fails("drain_chat", chat(&format!("0x{}", "ab".repeat(32)), "hello"), "incompatible_version").await;
    other.ok("drain_providers", json!({})).await;
    // When it ends, whoever waits goes on.
    drop(lock);
    until_ok(&mut agent, "drain_channels").await;
    until_ok(&mut other, "drain_channels").await;
    agent.leave().await;
    other.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_version() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), LINES).await;
    agent.ok("drain_channels", json!({})).await;
    for (protocol, remedy) in [(0, "0.0.1 is older"), (99, "Update drain-mcp where process")] {
        let mut stream = UnixStream::connect(sockets(&world).pop().unwrap()).await.unwrap();
        stream.write_all(&frame(&json!({ "protocol": protocol, "version": "0.0.1", "news": {} }))).await.unwrap();
        let welcome = next(&mut stream).await;
        assert_eq!(welcome["protocol"], PROTOCOL);
        assert_eq!(welcome["refused"]["code"], "incompatible_version", "{welcome}");
        let told = welcome["refused"].to_string();
        assert!(told.contains(&format!("process {}", agent.pid())) && told.contains(remedy), "{told}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "and the connection ends");
    }
    agent.ok("drain_channels", json!({})).await;
    assert_eq!(agent.leave().await.code, Some(0));
}

/// What a stranger writes to the socket costs the holder nothing, and no frame moves money out (M5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_nothing_but_the_known_commands_crosses() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    let before = world.transactions();
    let limits = serde_json::to_value(&*world.config().limits).unwrap();
    let hello = json!({
        "protocol": PROTOCOL, "version": "1", "chain_id": 137, "wallet": world.agent(), "agent": "x", "limits": limits,
    });
    for command in [
        json!({ "send": { "to": world.agent(), "amount": "1" } }),
        json!({ "export": null }),
        json!({ "sign": "0x00" }),
        json!({ "approve": "100000" }),
    ] {
        let mut stream = UnixStream::connect(sockets(&world).pop().unwrap()).await.unwrap();
        stream.write_all(&frame(&hello)).await.unwrap();
        assert_eq!(next(&mut stream).await["refused"], Value::Null);
        let asked = json!({ "request": "00112233445566ff", "tool": "test" });
        let call = json!({ "id": 1, "command": command, "asked": asked, "person": false, "parts": false });
        stream.write_all(&frame(&json!({ "call": call }))).await.unwrap();
        let mut answer = Vec::new();
        if command.get("approve").is_some() {
            // Known, and above the limit.
            let done = next(&mut stream).await;
            assert_eq!(done["done"]["result"]["Err"]["code"], "limit_reached", "{done}");
        } else {
            assert_eq!(stream.read_to_end(&mut answer).await.unwrap_or(0), 0, "{command}");
        }
    }
    assert_eq!(world.transactions(), before);
    assert!(world.sandbox.observer().channel(CHANNEL_V2, id.parse().unwrap()).await.unwrap().exists());
    agent.ok("drain_chat", chat(&id, "hello")).await;
    agent.leave().await;
}

/// Somebody has the wallet and does not listen: a command waits for it, and then says so; discovery does not wait for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_does_not_answer() {
    let world = world().await;
    let (_, lock) = taken(&world);
    let mut agent = Agent::start(&Env::of(&world), LINES).await;
    assert_eq!(agent.tools().await.len(), crate::stdio::TOOLS.len(), "nothing of the greeting waits");
    let refused = agent.fails("drain_channels", json!({}), "wallet_in_use").await;
    assert_eq!(refused.data["money"]["state"], "not_spent");
    agent.ok("drain_providers", json!({})).await;
    drop(lock);
    until_ok(&mut agent, "drain_channels").await;
    agent.leave().await;
}
