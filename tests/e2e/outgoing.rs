//! What goes out, to whom: the table of docs/security.md holds every request that a full run makes, and nobody else is
//! connected to.

use std::collections::BTreeSet;
use std::path::Path;

use alloy::hex;
use serde_json::{Value, json};

use crate::process_harness::{Ended, Env, chat};
use crate::secrets::{KEY, Stage, the_whole_way};

/// The doors of the stage, as the table names them.
const PLACES: [(&str, &str); 4] =
    [("rpc", "RPC node"), ("directory", "marketplace"), ("provider", "provider"), ("webhook", "your webhook")];

/// Asked only where a transaction was not in a block at the first looks, which is the machine's speed.
const NOT_ALWAYS: &str = "eth_getTransactionByHash";

/// `POST /v1/docs` of each request that passed, without its query.
fn requests(text: &str) -> BTreeSet<String> {
    let heads = text.split(" HTTP/1.1\r\n").filter_map(|before| {
        let line = before.rsplit(['\n', '}', ']']).next()?;
        let (method, path) = line.rsplit_once(' ').filter(|(_, path)| path.starts_with('/'))?;
        let method = ["GET", "POST", "PUT", "DELETE", "HEAD"].into_iter().find(|known| method.ends_with(known))?;
        Some(format!("{method} {}", path.split('?').next()?))
    });
    heads.collect()
}

/// The methods that a node was asked for.
fn methods(text: &str) -> BTreeSet<String> {
    let named = text.split("\"method\":\"").skip(1);
    named.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// Code spans of the rows of the table that begin with this name.
fn table(name: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        (cells.first() == Some(&name)).then(|| cells.get(1).copied().unwrap_or_default().to_owned())
    });
    rows.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Beyond what the way for secrets does: a close that the provider consents to, an expired channel, gas that is asked for.
async fn the_rest(stage: &Stage, env: &Env) {
    let mut agent = stage.start(env).await;
    let channel = agent.open("sim-weather", "0.5", "2h").await;
    stage.world.advance(7_300).await;
    agent.ok("drain_channel_status", json!({ "channelId": channel })).await;
    let channel = agent.open("sim-llm", "0.5", "4h").await;
    agent.ok("drain_chat", chat(&channel, "Say hello")).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    agent.ok("drain_quote", json!({ "provider": "sim-llm", "model": "sim-small" })).await;
    stage.ended(agent.leave().await);
    stage.run(env, &["wallet", "gas"], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_full_run_is_in_the_table() {
    let stage = Stage::set().await;
    let env = stage.env.clone().with("DRAIN_PRIVATE_KEY", format!("0x{}", hex::encode(KEY)));
    the_whole_way(&stage, &env).await;
    the_rest(&stage, &env).await;
    for (place, name) in PLACES {
        let text = stage.tap.text(place);
        let mut seen = if place == "rpc" { methods(&text) } else { requests(&text) };
        if place == "rpc" {
            seen.insert(NOT_ALWAYS.into());
        }
        assert_eq!(seen, table(name), "what goes to the {name}, and what docs/security.md says");
    }
}

/// Where a process connects to over the network, as the system saw it.
fn connections(trace: &str) -> BTreeSet<String> {
    let lines = trace.lines().filter(|line| line.contains("connect(") || line.contains("sendto("));
    let internet = lines.filter(|line| line.contains("AF_INET"));
    internet
        .map(|line| {
            let of = |name: &str| line.split_once(name).and_then(|(_, rest)| rest.split([')', '"']).next());
            let port = of("htons(").unwrap_or("?");
            let address = of("inet_addr(\"").or_else(|| of("inet_pton(AF_INET6, \"")).unwrap_or("?");
            format!("{address}:{port}")
        })
        .collect()
}

/// Host and port of each URL that the process was given, and of the providers in the directory.
fn known(stage: &Stage) -> BTreeSet<String> {
    let listings = stage.world.sandbox.directory.listings();
    let urls = ["DRAIN_RPC_URL", "DRAIN_DIRECTORY_URL", "DRAIN_NOTIFY_WEBHOOK"];
    let given = urls.into_iter().map(|name| stage.env.get(name).to_owned());
    let urls = given.chain(listings.iter().map(|listing| listing.api_url.clone()));
    let parsed = urls.map(|url| url.parse::<reqwest::Url>().unwrap());
    parsed.map(|url| format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())).collect()
}

/// The system itself tells to whom a process connects: to nobody whom the operator or the directory did not name, no name is
/// looked up, and nothing is sent home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace"]
async fn nobody_else_is_connected_to() {
    let stage = Stage::set().await;
    let env = stage.env.clone().with("DRAIN_PRIVATE_KEY", format!("0x{}", hex::encode(KEY)));
    let trace = tempfile::tempdir().unwrap();
    let mut seen = BTreeSet::new();
    let mut channel = String::new();
    for (n, args) in [
        vec!["doctor"],
        vec!["providers", "sim-llm"],
        vec!["open", "sim-llm", "0.5", "--json"],
        vec!["chat", "CHANNEL", "--model", "sim-small", "hello"],
        vec!["close", "CHANNEL", "--json"],
        vec!["refund", "--json"],
    ]
    .into_iter()
    .enumerate()
    {
        let file = trace.path().join(n.to_string());
        let args: Vec<&str> =
            args.into_iter().map(|arg| if arg == "CHANNEL" { channel.as_str() } else { arg }).collect();
        let ended: Ended = env
            .run_under(&["strace", "-f", "-qq", "-e", "trace=connect,sendto", "-o", file.to_str().unwrap()], &args)
            .await;
        if let Ok(opened) = serde_json::from_str::<Value>(&ended.stdout)
            && let Some(id) = opened["channel"]["channel_id"].as_str()
        {
            channel = id.to_owned();
        }
        seen.extend(connections(&std::fs::read_to_string(&file).unwrap()));
    }
    assert!(stage.tap.saw("provider", "POST /v1/chat/completions"), "it paid");
    assert!(!seen.is_empty() && seen.is_subset(&known(&stage)), "{seen:?} beyond {:?}", known(&stage));
}

#[test]
fn connections_are_read_as_the_system_writes_them() {
    let trace = r#"
12 connect(9, {sa_family=AF_INET, sin_port=htons(8545), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS
12 connect(9, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = 0
12 connect(9, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0
12 sendto(9, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.1")}, 16) = 1"#;
    let seen: Vec<String> = connections(trace).into_iter().collect();
    assert_eq!(seen, ["10.0.0.1:53", "127.0.0.1:8545", "2001:db8::1:443"]);
    let text = "x{\"a\":1}POST /v1/close-channel HTTP/1.1\r\nhost: x\r\n\r\nGET /v1/docs?x=1 HTTP/1.1\r\n";
    assert_eq!(requests(text).into_iter().collect::<Vec<_>>(), ["GET /v1/docs", "POST /v1/close-channel"]);
}
