//! The operator's console over HTTP: who may look, what is shown, what is done, and by whom. What a browser makes of it is in
//! `clients::browser`.

use drain_mcp::operator;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::World;
use crate::process_harness::served::{Served, client, message_of};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};

pub const TOKEN: &str = "the-operators-own-token";
pub const PASSPHRASE: &str = "only the operator knows";

/// Of a server with a console, over a wallet of which a person is asked for dear requests.
pub fn env(world: &World) -> Env {
    operator::set(world.home.path(), PASSPHRASE).unwrap();
    Env::of(world)
        .with("DRAIN_CONSOLE_TOKEN", TOKEN)
        .with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.0005")
        .with("DRAIN_APPROVAL_WAIT", "0s")
}

async fn served(world: &World) -> Served {
    Served::start(&env(world)).await
}

/// Somebody who signed in.
struct Operator {
    url: String,
    cookie: String,
}

impl Operator {
    async fn sign_in(url: &str, token: &str) -> Result<Self, Response> {
        let answer = ours(client().post(format!("{url}/console/api/session"))).json(&json!({ "token": token }));
        let answer = answer.send().await.unwrap();
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(answer);
        }
        let cookie = answer.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        Ok(Self { url: url.into(), cookie: cookie.split(';').next().unwrap().into() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}/console/api/{path}", self.url)).header("cookie", &self.cookie)
    }

    async fn state(&self) -> Value {
        let answer = self.request(Method::GET, "state").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    async fn wallet(&self) -> Value {
        self.state().await["wallets"][0].clone()
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = ours(self.request(Method::POST, path)).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }
}

/// As the page itself asks.
fn ours(request: RequestBuilder) -> RequestBuilder {
    request.header("drain-console", "1")
}

/// What an agent gets for a dear request: that a person is asked.
async fn dear(served: &Served, token: &str, channel: &str) -> Answer {
    let mut asked = chat(channel, "a dear request");
    asked["maxTokens"] = json!(2_000);
    let answer = served.stateless(token, "drain_chat", &asked).send().await.unwrap();
    Answer::of(message_of(answer).await["result"].clone())
}

/// A request that costs too little for a question.
fn cheap(channel: &str, text: &str) -> Value {
    let mut asked = chat(channel, text);
    asked["maxTokens"] = json!(20);
    asked
}

async fn channel(served: &Served, token: &str) -> String {
    let wanted = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let opened = served.stateless(token, "drain_open_channel", &wanted).send().await.unwrap();
    let opened = Answer::of(message_of(opened).await["result"].clone());
    opened.data["channel"]["channel_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_only_the_operator_looks_and_only_from_its_own_page() {
    let world = world().await;
    let served = served(&world).await;
    let agents = served.agent("ann", &[]).await;
    // The page itself holds nothing.
    let page = client().get(format!("{}/console", served.url)).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text().await.unwrap();
    let parts: Vec<&str> = text.split('"').filter(|part| part.starts_with("/console/")).collect();
    assert!(parts.len() >= 3, "{text}");
    for part in parts {
        let answer = client().get(format!("{}{part}", served.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{part}");
        assert!(answer.headers().contains_key("content-security-policy"), "{part}");
    }
    for path in ["state", "events"] {
        let answer = client().get(format!("{}/console/api/{path}", served.url)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for wrong in ["", "the-operators-own-toke", &agents] {
        assert_eq!(Operator::sign_in(&served.url, wrong).await.err().unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    let operator = Operator::sign_in(&served.url, TOKEN).await.ok().unwrap();
    let state = operator.state().await;
    assert_eq!((&state["play_money"], state["wallets"].as_array().unwrap().len()), (&json!(true), 1));
    // An agent's token is none here, and the operator's is no agent's.
    let as_agent = client().get(format!("{}/console/api/state", served.url)).bearer_auth(&agents).send().await.unwrap();
    assert_eq!(as_agent.status(), StatusCode::UNAUTHORIZED);
    let as_operator = served.stateless(TOKEN, "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(as_operator.status(), StatusCode::UNAUTHORIZED);
    // Another page, another name, and what no page of ours sends.
    let freeze = || operator.request(Method::POST, "freeze").json(&json!({ "wallet": "default" }));
    assert_eq!(freeze().send().await.unwrap().status(), StatusCode::FORBIDDEN);
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")] {
        let answer = ours(freeze()).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert!(operator.wallet().await["frozen"].is_null());
    // Signed out, the cookie is worth nothing.
    let out = ours(operator.request(Method::DELETE, "session")).send().await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert_eq!(operator.request(Method::GET, "state").send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    served.stop().await;
    // Without a token of the operator's there is no console.
    let without = Served::start(&Env::of(&world)).await;
    assert_eq!(without.get("/console").await.0, StatusCode::NOT_FOUND);
    without.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cent_is_where_the_books_say() {
    let world = world().await;
    let served = served(&world).await;
    let token = served.agent("ann", &[]).await;
    let channel = channel(&served, &token).await;
    for turn in 0..3 {
        let answer = served.stateless(&token, "drain_chat", &cheap(&channel, &format!("hello {turn}"))).send().await;
        let answer = Answer::of(message_of(answer.unwrap()).await["result"].clone());
        assert!(!answer.is_error, "{}", answer.text);
    }
    let operator = Operator::sign_in(&served.url, TOKEN).await.ok().unwrap();
    // Sums are read anew from time to time: those of the last answer may be a moment behind its channel.
    until("all is booked and summed up", async || {
        let wallet = operator.wallet().await;
        let channel = &wallet["channels"][0];
        channel["in_flight"] == "0.00"
            && channel["charged"] == wallet["money"]["charged"]
            && channel["charged"] == wallet["money"]["spent_today"]
            && wallet["receipts"].as_array().is_some_and(|all| all.iter().all(|one| one["outcome"] == "answered"))
    })
    .await;
    let wallet = operator.wallet().await;
    let shown = served.env.run(&["channels", "--json"]).await.ok_json();
    let (seen, known) = (&wallet["channels"][0], &shown["channels"][0]);
    for field in ["channel_id", "deposit", "signed", "charged", "available", "state", "provider_id"] {
        assert_eq!(seen[field], known[field], "{field}");
    }
    assert_eq!((&seen["agents"], &wallet["money"]["charged"]), (&json!(["ann"]), &known["charged"]));
    assert_eq!((&wallet["money"]["deposited"], &wallet["money"]["signed"]), (&known["deposit"], &known["signed"]));
    let hours = wallet["spend"]["hours"].as_array().unwrap();
    let days = wallet["spend"]["days"].as_array().unwrap();
    assert_eq!((hours.len(), days.len()), (24, 30));
    assert_eq!((&days[29]["charged"], &wallet["money"]["spent_today"]), (&known["charged"], &known["charged"]));
    assert_eq!(wallet["receipts"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&wallet["receipts"][0]["outcome"], &wallet["receipts"][0]["agent"]),
        (&json!("answered"), &json!("ann"))
    );
    assert_eq!(
        (&wallet["signer"]["backend"], &wallet["chain"]["endpoints"][0]["healthy"]),
        (&json!("local"), &json!(true))
    );
    let caps = wallet["caps"].as_array().unwrap();
    for scope in ["hour", "day", "locked", "newcomers", "provider", "agent"] {
        assert!(caps.iter().any(|cap| cap["scope"] == scope), "{scope} in {caps:?}");
    }
    let provider = &wallet["providers"][0];
    assert_eq!(
        (&provider["id"], &provider["standing"]["answered"], &provider["standing"]["failed"]),
        (&json!("sim-llm"), &json!(3), &json!(0))
    );
    until("what the wallet holds is known", async || operator.wallet().await["usdc"] == "99.00").await;
    served.stop().await;
}

/// M5: who sees the page may freeze and close; a yes, and the end of a freeze, need the passphrase too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_a_yes_needs_the_passphrase_and_counts_once() {
    let world = world().await;
    let served = served(&world).await;
    let token = served.agent("ann", &[]).await;
    let channel = channel(&served, &token).await;
    let asked = dear(&served, &token, &channel).await;
    assert!(asked.is_error && asked.data["code"] == "approval_needed", "{}", asked.text);
    let operator = Operator::sign_in(&served.url, TOKEN).await.ok().unwrap();
    let wallet = operator.wallet().await;
    let question = wallet["approvals"][0].clone();
    assert_eq!((&question["agent"], &question["state"]), (&json!("ann"), &json!("waiting")), "{wallet}");
    let yes = |passphrase: &str| json!({ "wallet": "default", "id": question["id"], "decision": "approve", "passphrase": passphrase });
    for wrong in ["", "guess guess", TOKEN] {
        let (status, told) = operator.post("approvals", yes(wrong)).await;
        assert!(status.is_client_error(), "{status} {told}");
        assert!(told["text"].as_str().is_some_and(|text| text.contains("Nothing was spent")), "{told}");
    }
    assert!(dear(&served, &token, &channel).await.is_error);
    let (status, told) = operator.post("approvals", yes(PASSPHRASE)).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    let paid = dear(&served, &token, &channel).await;
    assert!(!paid.is_error, "{}", paid.text);
    assert!(dear(&served, &token, &channel).await.is_error, "used once");
    assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    // Frozen by a press, and paid again by the passphrase alone.
    assert_eq!(operator.post("freeze", json!({ "wallet": "default", "reason": "odd bills" })).await.0, StatusCode::OK);
    assert_eq!(operator.wallet().await["frozen"]["reason"], "odd bills");
    let refused = served.stateless(&token, "drain_chat", &cheap(&channel, "hello")).send().await.unwrap();
    assert_eq!(Answer::of(message_of(refused).await["result"].clone()).data["code"], "wallet_frozen");
    let unfreeze = |passphrase: &str| json!({ "wallet": "default", "passphrase": passphrase });
    assert!(operator.post("unfreeze", unfreeze("guess guess")).await.0.is_client_error());
    assert!(!operator.wallet().await["frozen"].is_null());
    assert_eq!(operator.post("unfreeze", unfreeze(PASSPHRASE)).await.0, StatusCode::OK);
    assert!(operator.wallet().await["frozen"].is_null());
    let intent = operator.wallet().await["channels"][0]["intent"].clone();
    let (status, told) = operator.post("close", json!({ "wallet": "default", "intent": intent })).await;
    assert!(status == StatusCode::OK && told["text"].as_str().unwrap().contains("came back"), "{told}");
    assert_eq!(operator.wallet().await["channels"][0]["state"], "closed");
    for (path, bad) in [
        ("close", json!({ "wallet": "default", "intent": "c99" })),
        ("close", json!({ "wallet": "nobody", "intent": "c1" })),
        ("freeze", json!({ "wallet": "default", "more": 1 })),
        ("freeze", json!([])),
        ("approvals", json!({ "wallet": "default", "id": "a1", "decision": "maybe", "passphrase": PASSPHRASE })),
        ("approvals", json!({ "wallet": "default", "id": "<b>", "decision": "approve", "passphrase": PASSPHRASE })),
    ] {
        assert!(operator.post(path, bad.clone()).await.0.is_client_error(), "{path} {bad}");
    }
    let audit = served.env.run(&["audit", "--json"]).await.stdout;
    assert!(audit.contains("console"), "what was done names where: {audit}");
    served.stop().await;
}

/// One person's wallet: the page runs beside the MCP client's process, over its socket, and its address opens one session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_persons_console_runs_beside_an_mcp_client() {
    let world = world().await;
    operator::set(world.home.path(), PASSPHRASE).unwrap();
    let env = Env::of(&world).with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.0005").with("DRAIN_APPROVAL_WAIT", "0s");
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    let channel = agent.open("sim-llm", "1", "4h").await;
    let mut dear = chat(&channel, "a dear request");
    dear["maxTokens"] = json!(2_000);
    assert!(agent.call("drain_chat", dear.clone()).await.is_error);
    let mut page = env.command(&["console", "--no-browser", "--json"]).spawn().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(page.stdout.take().unwrap()));
    let line =
        tokio::time::timeout(crate::process_harness::PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let (url, token) = told["url"].as_str().unwrap().split_once("/console#token=").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let operator = Operator::sign_in(url, token).await.ok().unwrap();
    assert!(Operator::sign_in(url, token).await.is_err(), "it opens one session");
    let question = operator.wallet().await["approvals"][0].clone();
    let yes = json!({ "wallet": "default", "id": question["id"], "decision": "approve", "passphrase": PASSPHRASE });
    assert_eq!(operator.post("approvals", yes).await.0, StatusCode::OK);
    let paid = agent.call("drain_chat", dear).await;
    assert!(!paid.is_error, "{}", paid.text);
    let pid = rustix::process::Pid::from_raw(i32::try_from(page.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest = lines.next_line().await.unwrap();
    assert_eq!(rest, None, "it says nothing at its end");
    let ended = page.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "Ctrl-C is its usual end: {ended:?}");
    agent.leave().await;
}
