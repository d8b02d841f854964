//! `drain-mcp serve`: MCP over HTTP for agents with tokens. Who is let in, what each may see and how much it may take.

use drain_protocol::{U256, Usdc};
use drain_sandbox::contracts::CHANNEL_V2;
use drain_signers::{Backend, LocalBackend, Secret};
use reqwest::{Method, StatusCode};
use rmcp::ClientLifecycleMode;
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::served::{Client, Served, Session, WITH_SESSIONS, add_agent, call, initialize, message_of};
use crate::process_harness::{Env, SOON, chat, until, world};

/// A server with one agent.
async fn served(world: &World) -> (Served, String) {
    let served = Served::start(&Env::of(world)).await;
    let token = served.agent("ann", &[]).await;
    (served, token)
}

/// A session that nobody has.
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

pub fn balance() -> Value {
    call(1, "drain_balance", &json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_over_every_revision_and_a_channels_life_to_the_unit() {
    let world = world().await;
    let (served, token) = served(&world).await;
    for version in WITH_SESSIONS {
        let session = served.session(&token, version).await;
        let listed = session.post(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).send().await.unwrap();
        assert_eq!(
            message_of(listed).await["result"]["tools"].as_array().unwrap().len(),
            crate::stdio::TOOLS.len(),
            "{version}"
        );
        let held = session.ok("drain_balance", json!({})).await;
        assert_eq!(held.data["usdc"], "100.00", "{version}: {}", held.text);
        assert_eq!(session.bare(Method::DELETE).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let gone = session.post(&balance()).send().await.unwrap();
        assert_eq!(gone.status(), StatusCode::NOT_FOUND, "{version}");
    }
    // Without a session, and answered at once as JSON.
    let answer = served.stateless(&token, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().get("mcp-session-id").is_none());
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(message_of(answer).await["result"]["structuredContent"]["usdc"], "100.00");

    let observer = world.sandbox.observer();
    for mode in [ClientLifecycleMode::Initialize, Client::stateless()] {
        let before = observer.usdc_balance(world.agent()).await.unwrap();
        let client = served.client(&token, mode).await;
        assert_eq!(client.tools().await.len(), crate::stdio::TOOLS.len());
        let id = client.open("sim-llm", "1").await;
        let mut charged = Usdc::ZERO;
        for text in ["one", "two", "three"] {
            let paid = client.ok("drain_chat", chat(&id, text)).await;
            charged = charged.saturating_add(usdc(paid.data["payment"]["cost"].as_str().unwrap()));
        }
        let status = client.ok("drain_channel_status", json!({ "channelId": id })).await;
        assert_eq!(status.data["charged"], charged.to_string());
        let closed = client.ok("drain_cooperative_close", json!({ "channelId": id })).await;
        let paid = usdc(closed.data["paid"].as_str().unwrap());
        assert_eq!(before.checked_sub(observer.usdc_balance(world.agent()).await.unwrap()), Some(paid));
        client.leave().await;
    }
    assert!(!served.stderr().contains(&token));
    served.stop().await;
}

/// From nothing to an answer over HTTP: an agent whose requests may open a channel, and one whose may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_way_over_http() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_AUTO_OPEN", "0.5")).await;
    let ask =
        json!({ "provider": "sim-llm", "model": "sim-small", "messages": [{ "role": "user", "content": "Hello" }] });
    for (agent, mode) in [("ann", ClientLifecycleMode::Initialize), ("bob", Client::stateless())] {
        let client = served.client(&served.agent(agent, &["--auto-open", "0.2"]).await, mode.clone()).await;
        let quote = client.ok("drain_quote", ask.clone()).await;
        assert_eq!(quote.data["opens"]["deposit"], "0.20", "{}", quote.data);
        assert_eq!(quote.data["opens"]["allowed"], true, "{}", quote.data);
        let paid = client.ok("drain_chat", ask.clone()).await;
        let again = client.ok("drain_chat", ask.clone()).await;
        assert_eq!(paid.data["payment"]["channel_id"], again.data["payment"]["channel_id"]);
        let budget = client.ok("drain_budget", json!({})).await;
        assert_eq!((&budget.data["agent"], &budget.data["auto_open"]), (&json!(agent), &json!("0.20")));
        let limits = budget.data["limits"].as_array().unwrap();
        let told: Vec<&Value> = limits.iter().filter(|line| line.get("left").is_some()).collect();
        assert_eq!(told.iter().map(|line| &line["name"]).collect::<Vec<_>>(), [&json!("per_agent")], "{limits:?}");
        client.leave().await;
    }
    served.stop().await;
}

/// Whatever is logged: SDK and HTTP server see the request that shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_no_token_is_in_the_log_or_in_an_answer() {
    let world = world().await;
    let secret = "metrics-0123456789abcdef";
    let env =
        Env::of(&world).with("DRAIN_LOG", "trace").with("DRAIN_LOG_CONTENT", "on").with("DRAIN_METRICS_TOKEN", secret);
    let served = Served::start(&env).await;
    let token = served.agent("ann", &[]).await;
    let mut said = String::new();
    let session = served.session(&token, "2025-11-25").await;
    said.push_str(&session.ok("drain_balance", json!({})).await.text);
    for request in [
        served.stateless(&token, "drain_balance", &json!({})),
        served.stateless(&format!("{token}x"), "drain_balance", &json!({})),
        served.post(&token, &json!({ "what": "is this" })),
        served.request(Method::GET, "/metrics").bearer_auth(secret),
        served.request(Method::GET, "/metrics").bearer_auth(&token),
        served.request(Method::GET, "/readyz"),
    ] {
        said.push_str(&request.send().await.unwrap().text().await.unwrap());
    }
    until("it logs", async || served.stderr().len() > 1_000).await;
    said.push_str(&served.stderr());
    for secret in [token.as_str(), &token["drain_".len()..], secret, env.get("DRAIN_PRIVATE_KEY")] {
        assert!(!said.contains(secret), "{said}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_no_tool_and_no_word_on_what_was_wrong() {
    let world = world().await;
    let (served, token) = served(&world).await;
    let revoked = served.agent("bob", &[]).await;
    served.env.run(&["agents", "revoke", "bob"]).await;
    let other = format!("{}x", &token[..token.len() - 1]);
    let bare = || {
        served
            .request(Method::POST, "/mcp")
            .header("accept", "application/json, text/event-stream")
            .json(&initialize("2025-11-25"))
    };
    let mut answers = Vec::new();
    for request in [
        bare(),
        bare().header("authorization", token.as_str()),
        bare().header("authorization", format!("Basic {token}")),
        bare().header("authorization", "Bearer "),
        bare().bearer_auth(&other),
        bare().bearer_auth(&revoked),
        bare().bearer_auth(token.to_uppercase()),
        bare().bearer_auth(&token).bearer_auth(&token),
        served.request(Method::GET, "/mcp"),
        served.request(Method::DELETE, "/mcp"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        assert!(answer.headers().get("mcp-session-id").is_none());
        answers.push(answer.text().await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_too_often_is_told_to_wait_and_no_one_else() {
    let world = world().await;
    let (mut served, token) = served(&world).await;
    let mut statuses = Vec::new();
    for _ in 0..15 {
        statuses.push(served.post("drain_wrong", &initialize("2025-11-25")).send().await.unwrap().status());
    }
    let (first, rest) = statuses.split_at(10);
    assert!(first.iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{statuses:?}");
    assert!(rest.iter().all(|status| *status == StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    let refused = served.post("drain_wrong", &initialize("2025-11-25")).send().await.unwrap();
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    served.says("without a right token").await;
    // Behind a proxy all agents have one address.
    served.session(&token, "2025-11-25").await.ok("drain_balance", json!({})).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_come_and_go_while_it_runs() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let (ann, bob) = (served.agent("ann", &[]).await, served.agent("bob", &[]).await);
    let (session, others) = (served.session(&ann, "2025-11-25").await, served.session(&bob, "2025-11-25").await);
    let mut stream = session.bare(Method::GET).send().await.unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    session.ok("drain_balance", json!({})).await;

    let said = served.env.run(&["agents", "revoke", "ann"]).await;
    assert_eq!(said.code, Some(0));
    let next = session.post(&balance()).send().await.unwrap();
    assert_eq!(next.status(), StatusCode::UNAUTHORIZED, "the next request");
    // The session's stream ends too.
    let ends = async { while stream.chunk().await.is_ok_and(|part| part.is_some()) {} };
    tokio::time::timeout(SOON, ends).await.expect("the stream ends");
    others.ok("drain_balance", json!({})).await;

    // A new token for the name is another agent: the session before stays gone.
    let again = served.agent("ann", &[]).await;
    assert_ne!(again, ann);
    let resumed = served.post(&again, &balance()).header("mcp-session-id", &session.id).send().await.unwrap();
    assert_eq!(resumed.status(), StatusCode::NOT_FOUND);
    served.session(&again, "2025-11-25").await.ok("drain_balance", json!({})).await;

    // A session ends by itself where no request shows that its agent is gone.
    let mut stream = others.bare(Method::GET).send().await.unwrap();
    served.env.run(&["agents", "revoke", "bob"]).await;
    let ends = async { while stream.chunk().await.is_ok_and(|part| part.is_some()) {} };
    tokio::time::timeout(SOON, ends).await.expect("the stream ends");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_agents_session_is_none() {
    let world = world().await;
    let (served, ann) = served(&world).await;
    let bob = served.agent("bob", &[]).await;
    let session = served.session(&ann, "2025-11-25").await;
    let (foreign, made_up) = (session.as_shown_by(&bob, &session.id), session.as_shown_by(&bob, UNKNOWN));
    let ways =
        |session: &Session<'_>| [session.post(&balance()), session.bare(Method::GET), session.bare(Method::DELETE)];
    for (foreign, made_up) in ways(&foreign).into_iter().zip(ways(&made_up)) {
        let (foreign, made_up) = (foreign.send().await.unwrap(), made_up.send().await.unwrap());
        assert_eq!(foreign.status(), StatusCode::NOT_FOUND);
        assert_eq!(made_up.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            foreign.text().await.unwrap().trim(),
            made_up.text().await.unwrap().trim(),
            "as one that is not there"
        );
    }
    session.ok("drain_balance", json!({})).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wallets_each_pay_for_their_own_agents() {
    let world = world().await;
    let keys = [Env::of(&world).get("DRAIN_PRIVATE_KEY").to_owned(), format!("0x{}", "17".repeat(32))];
    let wallets = keys.clone().map(|key| LocalBackend::new(Secret::parse(&key).unwrap()).address());
    world.sandbox.observer().fund(wallets[1], usdc("50"), U256::from(10).pow(U256::from(18))).await.unwrap();
    let home = world.home.path();
    let mut tables = String::new();
    for (name, key) in ["one", "two"].iter().zip(&keys) {
        let path = home.join(format!("{name}.key"));
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        tables.push_str(&format!("[wallet.{name}]\nprivate_key_file = \"{}\"\n", path.display()));
    }
    std::fs::write(home.join("config.toml"), tables).unwrap();
    let env = Env::of(&world).without("DRAIN_PRIVATE_KEY");

    let unsaid = env.run(&["agents", "add", "ann", "--budget", "1"]).await;
    assert!(unsaid.code == Some(2) && unsaid.stderr.contains("one, two"), "{unsaid:?}");
    let unknown = env.run(&["agents", "add", "ann", "--wallet", "three", "--budget", "1"]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("one, two"), "{unknown:?}");

    let served = Served::start(&env).await;
    let tokens = [served.agent("ann", &["--wallet", "one"]).await, served.agent("bob", &["--wallet", "two"]).await];
    for (token, (wallet, held)) in tokens.iter().zip(wallets.iter().zip(["100.00", "50.00"])) {
        let client = served.client(token, Client::stateless()).await;
        let balance = client.ok("drain_balance", json!({})).await;
        assert_eq!(balance.data["usdc"], held);
        let id = client.open("sim-llm", "2").await;
        client.ok("drain_chat", chat(&id, "hello")).await;
        let opened = world.sandbox.observer().opened_by(CHANNEL_V2, *wallet).await.unwrap();
        assert_eq!(opened.iter().map(ToString::to_string).collect::<Vec<_>>(), [id]);
        client.leave().await;
    }
    let (status, ready) = served.ready().await;
    assert_eq!((status, ready["wallets"].as_array().unwrap().len()), (StatusCode::OK, 2), "{ready}");
    // Commands for one of them share it, as beside any process.
    let listed = env.run(&["channels", "--wallet", "two", "--json"]).await.ok_json();
    assert_eq!(listed["channels"].as_array().unwrap().len(), 1, "{listed}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_wallet_is_gone_is_told_so() {
    let world = world().await;
    let (served, token) = served(&world).await;
    let path = world.home.path().join("agents.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"default\"", "\"gone\"");
    std::fs::write(&path, text).unwrap();
    let answer = served.post(&token, &initialize("2025-11-25")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.unwrap().contains("wallet gone"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_pages_that_are_not_named_are_refused() {
    let world = world().await;
    let env = Env::of(&world)
        .with("DRAIN_ALLOWED_HOSTS", "mcp.example.com")
        .with("DRAIN_ALLOWED_ORIGINS", "https://app.example.com");
    let served = Served::start(&env).await;
    let token = served.agent("ann", &[]).await;
    let status = async |header: &str, value: &str| {
        let answer = served.post(&token, &initialize("2025-11-25")).header(header, value).send().await.unwrap();
        answer.status()
    };
    for (header, value, passes) in [
        ("host", "mcp.example.com", true),
        ("host", "mcp.example.com:443", true),
        ("host", "evil.example", false),
        ("host", "mcp.example.com.evil.example", false),
        ("origin", "https://app.example.com", true),
        ("origin", "https://evil.example", false),
        ("origin", "null", false),
    ] {
        let wanted = if passes { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(status(header, value).await, wanted, "{header}: {value}");
    }
    // A page that made its name point here reads no metrics either.
    let rebound = served.request(Method::GET, "/metrics").header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_this_machine_or_for_who_shows_their_token() {
    let world = world().await;
    let plain = Served::start(&Env::of(&world).with("DRAIN_ALLOWED_HOSTS", "mcp.example.com")).await;
    let token = plain.agent("ann", &[]).await;
    let session = plain.session(&token, "2025-11-25").await;
    // A proxy on this machine that says nothing of whom it works for, and keeps the name.
    let named = plain.request(Method::GET, "/metrics").header("host", "mcp.example.com").send().await.unwrap();
    assert_eq!(named.status(), StatusCode::FORBIDDEN);
    let (status, text) = plain.get("/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("drain_mcp_sessions{transport=\"http\"} 1"), "{text}");
    assert!(text.contains("drain_build_info") && text.contains("drain_mcp_sessions"), "{text}");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let passed_on = plain.request(Method::GET, "/metrics").header(header, "192.0.2.7").send().await.unwrap();
        assert_eq!(passed_on.status(), StatusCode::FORBIDDEN, "{header}");
    }
    assert_eq!(plain.get("/healthz").await.0, StatusCode::OK);
    assert_eq!(plain.get("/else").await.0, StatusCode::NOT_FOUND);
    assert!(session.bare(Method::DELETE).send().await.unwrap().status().is_success());
    plain.stop().await;

    let secret = "metrics-0123456789abcdef";
    let guarded = Served::start(&Env::of(&world).with("DRAIN_METRICS_TOKEN", secret)).await;
    let agents = add_agent(&guarded.env, "bob", &[]).await;
    assert_eq!(guarded.get("/metrics").await.0, StatusCode::UNAUTHORIZED);
    for wrong in ["metrics-0123456789abcdeX", &agents] {
        let answer = guarded.request(Method::GET, "/metrics").bearer_auth(wrong).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let scraped = guarded
        .request(Method::GET, "/metrics")
        .bearer_auth(secret)
        .header("host", "10.1.2.3:5858")
        .header("x-forwarded-for", "192.0.2.7")
        .send()
        .await
        .unwrap();
    assert_eq!(scraped.status(), StatusCode::OK);
    // It opens nothing else.
    let called = guarded.post(secret, &initialize("2025-11-25")).send().await.unwrap();
    assert_eq!(called.status(), StatusCode::UNAUTHORIZED);
    assert!(!guarded.stderr().contains(secret));
    guarded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_an_agent_or_its_file_is_said_and_nothing_is_lost() {
    let world = world().await;
    let env = Env::of(&world);
    let run = async |args: &[&str]| env.run(args).await;
    assert!(run(&["agents", "list"]).await.stdout.contains("There are no agents"));
    let made = run(&["agents", "add", "ann", "--budget", "5"]).await;
    let token = made.stdout.split_whitespace().find(|word| word.starts_with("drain_")).unwrap().to_owned();
    for part in
        ["mcpServers", "Authorization", "Bearer drain_", "/mcp", "\"command\":\"drain-mcp\"", "DRAIN_AGENT_TOKEN"]
    {
        assert!(made.stdout.contains(part), "{part}: {}", made.stdout);
    }
    let path = world.home.path().join("agents.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    for (args, part) in [
        (vec!["agents", "add", "ann", "--budget", "5"], "already"),
        (vec!["agents", "add", "a b", "--budget", "5"], "letters"),
        (vec!["agents", "add", "bob"], "--budget"),
        (vec!["agents", "add", "bob", "--budget", "much"], "budget"),
        (vec!["agents", "add", "bob", "--budget", "5", "--wallet", "other"], "no wallet"),
        (vec!["agents", "add", "bob", "--budget", "5", "--allow-providers", ","], "--allow-providers"),
        (vec!["agents", "revoke", "bob"], "no such agent"),
    ] {
        let ended = run(&args).await;
        assert!(ended.code == Some(2) && ended.stderr.contains(part), "{args:?}: {ended:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before, "{args:?}");
    }
    let list = run(&["agents", "list", "--json"]).await;
    assert_eq!(list.ok_json()["agents"][0]["agent"], "ann");
    assert!(!list.stdout.contains("sha256") && !before.contains(&token));

    let served = Served::start(&env).await;
    let damaged = format!("{before}what is this\n");
    std::fs::write(&path, &damaged).unwrap();
    for args in [vec!["agents", "list"], vec!["agents", "add", "bob", "--budget", "5"], vec!["agents", "revoke", "ann"]]
    {
        let ended = run(&args).await;
        assert!(ended.code == Some(2) && ended.stderr.contains("agents.toml"), "{args:?}: {ended:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }
    // Nobody is served by a file that cannot be read, and that is said.
    let refused = served.stateless(&token, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (status, ready) = served.ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready["agents"]["reason"].as_str().unwrap().contains("agents.toml"), "{ready}");
    std::fs::write(&path, &before).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(served.ready().await.0, StatusCode::SERVICE_UNAVAILABLE, "others can read it");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let taken = served.stateless(&token, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(taken.status(), StatusCode::OK);
    assert_eq!(message_of(taken).await["result"]["structuredContent"]["usdc"], "100.00");
    assert_eq!(served.get("/readyz").await.0, StatusCode::OK);
    served.stop().await;
}
