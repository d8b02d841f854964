//! Servers of the reference packages that want to be paid by 402, on our own chain: mppx, x402 in both versions, and both at
//! once. `tests/clients/pay402/peer.mjs` runs them.

use drain_mcp::error::Code;
use drain_protocol::{Address, Usdc};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::courier::{Courier, Way};
use super::{Clients, scripts};
use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Answer, Env, Greeting, PATIENCE, until, world};
use crate::survivor::Life;

pub(super) const LINES: Greeting = Greeting::Lines("2025-11-25");
/// A public test key: it only pays the gas of settlements.
const SETTLER: &str = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
pub(super) const SETTLER_ADDRESS: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
pub(super) const PAYEE: Address = Address::repeat_byte(0x53);
const PRICE: &str = "0.01";

/// A reference server. It ends with its stdin.
pub(super) struct Peer {
    _child: Child,
    _stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    pub url: String,
}

impl Peer {
    async fn start(clients: &Clients, world: &World, kind: &str, redirect: &str) -> Self {
        let rpc = world.sandbox.observer().rpc();
        rpc.call("anvil_setBalance", json!([SETTLER_ADDRESS, "0x56bc75e2d63100000"])).await.unwrap();
        Self::on(clients, world.sandbox.rpc_url(), kind, redirect).await
    }

    /// On a chain of any kind.
    pub async fn on(clients: &Clients, rpc_url: &str, kind: &str, redirect: &str) -> Self {
        let env = Env::default()
            .with("TOOLS", clients.0.join("pay402").display().to_string())
            .with("RPC_URL", rpc_url)
            .with("PAYEE", PAYEE.to_string())
            .with("SETTLER_KEY", SETTLER)
            .with("REDIRECT_TO", redirect);
        let mut node = clients.node(&env, scripts().join("pay402/peer.mjs"));
        node.arg(kind).stderr(std::process::Stdio::inherit());
        let mut child = node.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, stdout.next_line()).await.unwrap().unwrap().unwrap();
        let url = serde_json::from_str::<Value>(&first).unwrap()["url"].as_str().unwrap().to_owned();
        Self { _child: child, _stdin: stdin, stdout, url }
    }

    /// How many payments it was sent, up to the next request of `/free`.
    pub async fn payments(&mut self) -> usize {
        reqwest::get(format!("{}/free", self.url)).await.unwrap();
        let mut count = 0;
        loop {
            let line = tokio::time::timeout(PATIENCE, self.stdout.next_line()).await.unwrap().unwrap().unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["path"] == "/free" {
                return count;
            }
            count += usize::from(!line["credential"].is_null());
        }
    }
}

/// The process, and the peer's address as one that a person named.
pub(super) fn env(world: &World, url: &str) -> Env {
    Env::of(world)
        .with("DRAIN_PAY_HOSTS", url.trim_start_matches("http://"))
        .with("DRAIN_MAX_NEWCOMERS", "20")
        .with("DRAIN_REQUEST_TIMEOUT", "20s")
}

async fn received(world: &World) -> Usdc {
    world.sandbox.observer().usdc_balance(PAYEE).await.unwrap()
}

pub(super) async fn pay(agent: &mut Agent, url: &str, path: &str) -> Answer {
    agent.call("pay_request", json!({ "url": format!("{url}{path}") })).await
}

/// Waits until the chain has said what became of every payment.
pub(super) async fn until_the_chain_told(world: &World) {
    until("the chain tells", async || world.journaled("SELECT COUNT(*) FROM payments WHERE confirmed = 0") == 0).await;
}

/// Every server and every way it takes: unpaid, paid, too dear, a handler that fails, a free page, a redirect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients"]
async fn reference_servers_are_paid_once_and_exactly() {
    let clients = Clients::find();
    // Whether money is gone when the handler fails: MPP takes it before.
    for (kind, protocol, gone) in
        [("mppx", "mpp", true), ("x402v2", "x402v2", false), ("x402v1", "x402v1", false), ("dual", "mpp", true)]
    {
        let world = world().await;
        let mut peer = Peer::start(&clients, &world, kind, "http://127.0.0.1:9/elsewhere").await;
        let mut agent = Agent::start(&env(&world, &peer.url), LINES).await;
        let quote = agent.ok("drain_quote", json!({ "request": { "url": format!("{}/cheap", peer.url) } })).await;
        let request = &quote.data["request"];
        assert_eq!((&request["protocol"], &request["price"]), (&json!(protocol), &json!(PRICE)), "{kind}");
        assert_eq!(peer.payments().await, 0, "{kind}");

        let paid = pay(&mut agent, &peer.url, "/cheap").await;
        assert_eq!(paid.data["payment"]["protocol"], protocol, "{kind}: {}", paid.text);
        assert_eq!(paid.data["payment"]["state"], "paid", "{kind}: {}", paid.text);
        assert!(paid.data["payment"]["transaction"].is_string(), "{kind}: {}", paid.text);
        let post = json!({ "url": format!("{}/post", peer.url), "body": { "q": "é" } });
        let posted = agent.ok("pay_request", post).await;
        assert!(posted.data["answer"].as_str().unwrap().contains("{\\\"q\\\":\\\"é\\\"}"), "{kind}: {}", posted.text);
        assert_eq!((peer.payments().await, received(&world).await), (2, usdc("0.02")), "{kind}");

        // Another chain, and another payee than before (M14).
        let refusals = [
            ("/dear", "limit_reached"),
            ("/redirect", "url_refused"),
            ("/elsewhere", "not_payable"),
            ("/stranger", "provider_changed"),
        ];
        for (path, code) in refusals {
            let refused = pay(&mut agent, &peer.url, path).await;
            assert_eq!(refused.data["code"], code, "{kind}: {}", refused.text);
        }
        assert_eq!(peer.payments().await, 0, "{kind}: refused before anything is signed");
        assert!(pay(&mut agent, &peer.url, "/free").await.data["payment"].is_null());

        let failed = pay(&mut agent, &peer.url, "/fails").await;
        assert_eq!(failed.data["code"], Code::AnswerLost.as_str(), "{kind}: {}", failed.text);
        let state = if gone { "spent" } else { "reserved" };
        assert_eq!(failed.data["money"]["state"], state, "{kind}: {}", failed.text);
        if !gone {
            world.advance(601).await;
        }
        until_the_chain_told(&world).await;
        let all = if gone { "0.03" } else { "0.02" };
        assert_eq!(received(&world).await, usdc(all), "{kind}");
        let budget = agent.ok("drain_budget", json!({})).await;
        assert_eq!(budget.data["spent_today"], all, "{kind}: the books say what the chain says");
        agent.leave().await;
    }
}

/// M15: the same name twice, also after a death between the signature and the answer, is one payment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients"]
async fn m15_reference_servers_get_one_payment_for_a_name() {
    let clients = Clients::find();
    for kind in ["mppx", "x402v2", "x402v1", "dual"] {
        let world = world().await;
        let mut peer = Peer::start(&clients, &world, kind, "").await;
        let env = env(&world, &peer.url);
        let wish = json!({ "url": format!("{}/cheap", peer.url), "requestId": "one" });
        for (point, sent) in [("payment-signed", 0), ("payment-sent", 1)] {
            let wish = json!({ "url": wish["url"], "requestId": point });
            let deadly = env.clone().with("DRAIN_TEST_POINT", format!("{point}=kill@1"));
            let mut life = Life::start(&deadly).await.unwrap();
            assert!(life.call("pay_request", wish.clone()).await.is_err());
            assert_eq!(life.end().await.0, Some(9));
            let mut agent = Agent::start(&env, LINES).await;
            let again = agent.call("pay_request", wish).await;
            let code = again.data["code"].as_str();
            assert!(matches!(code, None | Some("request_unknown")), "{kind} {point}: {}", again.text);
            assert_eq!(peer.payments().await, sent, "{kind} {point}");
            agent.leave().await;
        }
        let mut agent = Agent::start(&env, LINES).await;
        let first = agent.ok("pay_request", wish.clone()).await;
        let again = agent.ok("pay_request", wish).await;
        assert_eq!(first.data["answer"], again.data["answer"], "{kind}");
        assert_eq!((peer.payments().await, received(&world).await), (1, usdc("0.02")), "{kind}");
        agent.leave().await;
    }
}

/// What the server refuses since it came twice, or too late for the chain or for itself, is paid no second time, and costs what
/// the chain says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients"]
async fn m15_what_is_replayed_or_expired_is_not_paid_again() {
    let clients = Clients::find();
    let kinds = ["mppx", "x402v2", "x402v1", "dual"];
    futures::future::join_all(kinds.map(async |kind| {
        for case in [Case::Replayed, Case::ExpiredOnChain, Case::ExpiredAtServer] {
            let world = world().await;
            let peer = Peer::start(&clients, &world, kind, "").await;
            let way = if case == Case::Replayed { Way::Twice } else { Way::Late };
            let courier = Courier::start(&peer.url, way).await;
            let hosts = [&courier.url, &peer.url].map(|url| url.trim_start_matches("http://").to_owned()).join(",");
            let env = env(&world, &courier.url).with("DRAIN_PAY_HOSTS", hosts).with("DRAIN_REQUEST_TIMEOUT", "60s");
            let mut agent = Agent::start(&env, LINES).await;
            let path = if case == Case::ExpiredAtServer { "/short" } else { "/cheap" };
            if case == Case::ExpiredAtServer {
                // The chain's time is that of its last block. What is brought at once is taken.
                world.advance(1).await;
                let in_time = pay(&mut agent, &peer.url, path).await;
                assert_eq!(in_time.data["payment"]["state"], "paid", "{kind}: {}", in_time.text);
                world.advance(1).await;
            }
            let meanwhile = async {
                match case {
                    Case::Replayed => {}
                    Case::ExpiredOnChain => world.advance(601).await,
                    // Its offer is good for twelve seconds of the server's own time, which nobody can move.
                    Case::ExpiredAtServer => tokio::time::sleep(std::time::Duration::from_secs(13)).await,
                }
            };
            let answer = courier.late(pay(&mut agent, &courier.url, path), meanwhile).await;
            courier.one_was_refused(&format!("{kind} {case:?}"), &answer);
            world.advance(601).await;
            until_the_chain_told(&world).await;
            let gone = if case == Case::ExpiredOnChain { "0.00" } else { PRICE };
            assert_eq!(received(&world).await, usdc(gone), "{kind} {case:?}");
            let budget = agent.ok("drain_budget", json!({})).await;
            assert_eq!(budget.data["spent_today"], gone, "{kind} {case:?}: {}", budget.text);
            agent.leave().await;
        }
    }))
    .await;
}

/// Why a server refuses what it is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Replayed,
    ExpiredOnChain,
    ExpiredAtServer,
}
