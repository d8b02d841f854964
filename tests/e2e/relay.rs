//! `drain-mcp` as a client of `drain-mcp serve`: an agent that starts a program pays from the fleet's wallet.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::usdc;
use crate::process_harness::served::{STATELESS, Served, add_agent, fleet_of_one};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};

pub const LINES: Greeting = Greeting::Lines("2025-11-25");

/// A relay's environment, and the home in which it is to leave nothing.
pub struct Relayed {
    pub env: Env,
    pub home: TempDir,
}

impl Relayed {
    pub fn to(url: &str, token: &str) -> Self {
        let home = TempDir::new().unwrap();
        let env = Env::default()
            .with("HOME", home.path().display().to_string())
            .with("DRAIN_SERVER_URL", url)
            .with("DRAIN_AGENT_TOKEN", token);
        Self { env, home }
    }

    pub async fn start(&self, greeting: Greeting) -> Agent {
        Agent::start(&self.env, greeting).await
    }

    pub fn left_nothing(&self) {
        assert_eq!(self.home.path().read_dir().unwrap().count(), 0);
    }
}

/// The parameters of a tool call; of a client of the stateless revision where `stateless`.
pub fn calling(tool: &str, arguments: Value, stateless: bool) -> Value {
    let mut params = json!({ "name": tool, "arguments": arguments, "_meta": {} });
    if stateless {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
    }
    params
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channels_life_in_each_generation_without_a_key() {
    let (world, served, token) = fleet_of_one().await;
    let observer = world.sandbox.observer();
    for greeting in [Greeting::Lines("2024-11-05"), LINES, Greeting::Initialize, Greeting::Discover] {
        let before = observer.usdc_balance(world.agent()).await.unwrap();
        let relayed = Relayed::to(&served.url, &token);
        let mut agent = relayed.start(greeting).await;
        let mut direct = Agent::start(&Env::of(&world), greeting).await;
        assert_eq!(agent.tools().await, direct.tools().await, "{greeting:?}");
        direct.leave().await;
        let page = agent.ok("drain_providers", json!({ "model": "sim-small" })).await;
        assert!(page.data["rows"].as_array().unwrap().iter().any(|row| row[0] == "sim-llm"));
        let id = agent.open("sim-llm", "1", "4h").await;
        let paid = agent.ok("drain_chat", chat(&id, "Say hello, ä \u{2028} 👋")).await;
        assert!(paid.last_line().starts_with("Paid "), "{}", paid.text);
        assert!(vouchers(&world.sandbox.llm).last().unwrap().body.contains('👋'));
        let closed = agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
        let paid = usdc(closed.data["paid"].as_str().unwrap());
        assert_eq!(before.checked_sub(observer.usdc_balance(world.agent()).await.unwrap()), Some(paid));
        agent.fails("drain_channel_status", json!({ "channelId": "0x1" }), "invalid_argument").await;
        assert!(agent.read("drain://providers").await.contains("sim-llm"));
        let ended = agent.leave().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        relayed.left_nothing();
        // Nothing of it is left at the server.
        until("the session is ended", async || {
            served.get("/metrics").await.1.contains("drain_mcp_sessions{transport=\"http\"} 0")
        })
        .await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_to_who_asked_for_it_and_before_the_answer() {
    let (_world, served, token) = fleet_of_one().await;
    let mut agent = Relayed::to(&served.url, &token).start(LINES).await;
    for stateless in [false, true] {
        let mut params =
            calling("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" }), stateless);
        params["_meta"]["progressToken"] = json!("p-7");
        let opened = agent.request("tools/call", params).await.unwrap();
        assert!(!Answer::of(opened).is_error);
        agent.progress_said("p-7");
    }
    agent.leave().await;
    served.stop().await;
}

/// A call that waits its turn is not paid any more when it is cancelled, or when its client leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_ends_at_the_server() {
    let (world, served, token) = fleet_of_one().await;
    let relayed = Relayed::to(&served.url, &token);
    let mut other = relayed.start(LINES).await;
    let id = other.open("sim-llm", "1", "4h").await;
    for (stateless, leaves) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut agent = relayed.start(LINES).await;
        let paid = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(2)));
        let first = other.ask("tools/call", calling("drain_chat", chat(&id, "First"), false)).await;
        until("the first is there", async || vouchers(&world.sandbox.llm).len() == paid + 1).await;
        let second = agent.ask("tools/call", calling("drain_chat", chat(&id, "Second"), stateless)).await;
        // It is there when a call after it was answered.
        agent.ok("drain_balance", json!({})).await;
        if leaves {
            let ended = agent.leave().await;
            assert_eq!(ended.code, Some(0));
        } else {
            let params = json!({ "requestId": second, "reason": "changed my mind" });
            agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
            agent.ok("drain_balance", json!({})).await;
            let ended = agent.leave().await;
            let answers =
                ended.stdout.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["id"] == second);
            assert_eq!(answers.count(), 0);
        }
        other.answer(first).await.unwrap();
        world.sandbox.llm.reset_faults();
        other.ok("drain_chat", chat(&id, "Third")).await;
        let bodies: Vec<_> = vouchers(&world.sandbox.llm).split_off(paid).into_iter().map(|sent| sent.body).collect();
        assert!(bodies.len() == 2 && !bodies.iter().any(|body| body.contains("Second")), "{bodies:?}");
    }
    other.leave().await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_are_two_agents_and_see_their_own_channels() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let mut agents = Vec::new();
    for (name, greeting) in [("ann", LINES), ("bob", Greeting::Discover)] {
        let token = served.agent(name, &[]).await;
        let mut agent = Relayed::to(&served.url, &token).start(greeting).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        agents.push((agent, id));
    }
    let ids: Vec<String> = agents.iter().map(|(_, id)| id.clone()).collect();
    for ((agent, own), foreign) in agents.iter_mut().zip(ids.iter().rev()) {
        let listed = agent.ok("drain_channels", json!({})).await;
        let listed = listed.data["channels"].as_array().unwrap().clone();
        assert!(listed.len() == 1 && listed[0]["channel_id"] == **own, "{listed:?}");
        agent.fails("drain_channel_status", json!({ "channelId": foreign }), "unknown_channel").await;
    }
    for (agent, _) in agents {
        // As a service manager ends it.
        assert_eq!(agent.terminate().await.code, Some(0));
    }
    served.stop().await;
}

/// What `agents add` prints is what a client needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_configuration_works_as_it_is() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let env = served.env.clone().with("DRAIN_LISTEN", served.url.trim_start_matches("http://"));
    let made = env.run(&["agents", "add", "ann", "--budget", "5", "--json"]).await.ok_json();
    let stdio = &made["client"]["stdio"]["mcpServers"]["drain"];
    assert_eq!(stdio["command"], "drain-mcp");
    let mut client = Env::default();
    for (name, value) in stdio["env"].as_object().unwrap() {
        client = client.with(name, value.as_str().unwrap());
    }
    let mut agent = Agent::start(&client, LINES).await;
    agent.ok("drain_balance", json!({})).await;
    assert_eq!(agent.leave().await.code, Some(0));
    // The address of MCP itself does too, and a file in place of the token.
    let token = add_agent(&env, "bob", &[]).await;
    let file = world.home.path().join("token");
    std::fs::write(&file, &token).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let client = Env::default()
        .with("DRAIN_SERVER_URL", made["client"]["http"]["mcpServers"]["drain"]["url"].as_str().unwrap())
        .with("DRAIN_AGENT_TOKEN_FILE", file.display().to_string());
    let mut agent = Agent::start(&client, LINES).await;
    agent.ok("drain_balance", json!({})).await;
    agent.leave().await;
    served.stop().await;
    // Where agents cannot reach it by what is printed, that is said.
    let open = env.with("DRAIN_LISTEN", "0.0.0.0:5858").with("DRAIN_LISTEN_PUBLIC", "on");
    let unnamed = open.run(&["agents", "add", "cay", "--budget", "5"]).await;
    assert!(unnamed.stderr.contains("in place of http://0.0.0.0:5858"), "{unnamed:?}");
    let named = open.with("DRAIN_ALLOWED_HOSTS", "mcp.example").run(&["agents", "add", "dan", "--budget", "5"]).await;
    assert!(named.stdout.contains("https://mcp.example/mcp") && !named.stderr.contains("in place of"), "{named:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_its_settings_is_said_at_start() {
    let token = format!("drain_{}", "a".repeat(43));
    let url = "https://mcp.example.com";
    let with = |pairs: &[(&str, &str)]| {
        pairs.iter().fold(Env::default().with("HOME", "/nonexistent"), |env, (name, value)| env.with(name, *value))
    };
    for (pairs, named) in [
        (vec![("DRAIN_SERVER_URL", url)], "DRAIN_AGENT_TOKEN: it is not set"),
        (vec![("DRAIN_AGENT_TOKEN", token.as_str())], "DRAIN_SERVER_URL: it is not set"),
        (
            vec![("DRAIN_SERVER_URL", "http://mcp.example.com"), ("DRAIN_AGENT_TOKEN", &token)],
            "DRAIN_SERVER_URL: it is not encrypted",
        ),
        (vec![("DRAIN_SERVER_URL", "::"), ("DRAIN_AGENT_TOKEN", &token)], "DRAIN_SERVER_URL: "),
        (
            vec![("DRAIN_SERVER_URL", url), ("DRAIN_AGENT_TOKEN", "drain_SECRETSECRET")],
            "DRAIN_AGENT_TOKEN: it is no token",
        ),
    ] {
        let ended = with(&pairs).run(&[]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stdout.is_empty() && ended.stderr.contains(named), "{ended:?}");
        assert!(!ended.stderr.contains("SECRETSECRET") && !ended.stderr.contains(&token), "{ended:?}");
    }
    // Other commands work with what is configured here, and say so.
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_SERVER_URL", url).with("DRAIN_AGENT_TOKEN", &token);
    let balance = env.run(&["balance", "--json"]).await;
    assert_eq!(balance.ok_json()["usdc"], "100.00");
    assert!(balance.stderr.contains("DRAIN_SERVER_URL counts for drain-mcp without a command only"), "{balance:?}");
}

/// M12: the key is not read, and the token is nowhere but in its header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_no_key_is_read_and_no_token_is_logged() {
    let (_world, served, token) = fleet_of_one().await;
    let relayed = Relayed::to(&served.url, &token);
    let home = relayed.home.path().join(".drain-mcp");
    let env = relayed
        .env
        .clone()
        .with("DRAIN_LOG", "trace")
        .with("DRAIN_LOG_CONTENT", "on")
        .with("DRAIN_PRIVATE_KEY", "this is no key");
    let mut agent = Agent::start(&env, LINES).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "Say hello")).await;
    served.env.run(&["agents", "revoke", "ann"]).await;
    agent.fails("drain_balance", json!({}), "token_refused").await;
    let ended = agent.leave().await;
    assert_eq!(ended.code, Some(0));
    let warned = ended.stderr.lines().filter(|line| line.starts_with("warning: "));
    assert_eq!(warned.collect::<Vec<_>>().len(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("warning: DRAIN_PRIVATE_KEY is not read"), "{}", ended.stderr);
    assert!(ended.stderr.lines().count() > 20, "there is a log to look into:\n{}", ended.stderr);
    for secret in [&token["drain_".len()..], "this is no key"] {
        assert!(!ended.everything().contains(secret), "{}", ended.stderr);
    }
    assert!(!home.exists());
    served.stop().await;
}
