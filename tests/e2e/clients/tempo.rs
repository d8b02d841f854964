//! mppx's server over Tempo, on anvil's kind of that chain, which takes one payment of an account and hangs at the next: each
//! payment has a chain of its own.

use std::time::Duration;

use drain_protocol::{Address, Usdc, tempo};
use drain_sandbox::rpc::RpcClient;
use serde_json::{Value, json};

use super::Clients;
use super::courier::{Courier, Way};
use super::pay402::{LINES, PAYEE, Peer, SETTLER_ADDRESS, env, pay, until_the_chain_told};
use crate::anvil::Node;
use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, until, world};
use crate::survivor::Life;

/// A world, and beside it Tempo's test chain with a server that is paid there.
struct Tempo {
    node: Node,
    rpc: RpcClient,
    peer: Peer,
    world: World,
}

impl Tempo {
    async fn start() -> Self {
        Self::with("tempo").await
    }

    /// The wallet has a dollar there, and the server one for gas.
    async fn with(server: &str) -> Self {
        let (node, world) = (Node::tempo(tempo::TESTNET), world().await);
        let rpc = RpcClient::new(&node.url).unwrap();
        let rich = rpc.call("eth_accounts", json!([])).await.unwrap()[0].clone();
        for account in [SETTLER_ADDRESS.parse().unwrap(), world.agent()] {
            let data = format!("0xa9059cbb{:0>64}{:0>64x}", format!("{account:x}"), 1_000_000);
            let sent = json!([{ "from": rich, "to": token(), "data": data }]);
            rpc.call("eth_sendTransaction", sent).await.unwrap();
        }
        let tempo = Self { peer: Peer::on(&Clients::find(), &node.url, server, "").await, node, rpc, world };
        until("the wallet has money there", async || tempo.balance(tempo.world.agent()).await == usdc("1")).await;
        tempo
    }

    fn env(&self) -> Env {
        env(&self.world, &self.peer.url)
            .with("DRAIN_TEMPO_RPC_URL", self.node.url.clone())
            .with("DRAIN_TEMPO_CHAIN_ID", "42431")
    }

    async fn balance(&self, account: Address) -> Usdc {
        let data = format!("0x70a08231{:0>64}", format!("{account:x}"));
        let call = json!([{ "to": token(), "data": data }, "latest"]);
        let answer = self.rpc.call("eth_call", call).await.unwrap();
        let units = u64::from_str_radix(&answer.as_str().unwrap()[2..], 16).unwrap();
        Usdc::from_units(units).unwrap()
    }

    /// What the wallet has paid there by now, gas included.
    async fn gone(&self) -> Usdc {
        usdc("1").saturating_sub(self.balance(self.world.agent()).await)
    }

    async fn until_the_chain_told(&self) {
        until_the_chain_told(&self.world).await;
    }
}

fn token() -> Address {
    tempo::tokens(tempo::TESTNET)[0]
}

/// Quoted, refused, paid once, and booked to the unit with its gas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn a_server_is_paid_over_tempo_and_its_gas_is_booked_as_it_was() {
    let mut tempo = Tempo::start().await;
    let doctor = tempo.env().run(&["doctor"]).await;
    assert!(doctor.stdout.contains("the wallet holds on Tempo's chain 42431: 1.00 of 0x20C0"), "{doctor:?}");
    let mut agent = Agent::start(&tempo.env(), LINES).await;
    let request = json!({ "request": { "url": format!("{}/cheap", tempo.peer.url) } });
    let quote = agent.ok("drain_quote", request).await;
    let told = &quote.data["request"];
    assert_eq!((&told["protocol"], &told["chain_id"]), (&json!("mpp_tempo"), &json!(42431)));
    // With what its gas may cost.
    let price = usdc(told["price"].as_str().unwrap());
    assert!(price > usdc("0.01") && price < usdc("0.02"), "{price}");
    assert!(told["worst_case"].as_str().unwrap().contains("gas"), "{}", quote.text);
    assert_eq!(pay(&mut agent, &tempo.peer.url, "/dear").await.data["code"], "limit_reached");
    let capped = json!({ "url": format!("{}/cheap", tempo.peer.url), "maxCost": "0.01" });
    // The price alone would be within it.
    assert_eq!(agent.call("pay_request", capped).await.data["code"], "limit_reached");
    assert_eq!((tempo.peer.payments().await, tempo.gone().await), (0, Usdc::ZERO));

    let wish = json!({ "url": format!("{}/cheap", tempo.peer.url), "requestId": "one" });
    let paid = agent.ok("pay_request", wish.clone()).await;
    let payment = &paid.data["payment"];
    assert_eq!((&payment["protocol"], &payment["state"]), (&json!("mpp_tempo"), &json!("paid")), "{}", paid.text);
    let receipt = tempo.rpc.call("eth_getTransactionReceipt", json!([payment["transaction"]])).await.unwrap();
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(agent.ok("pay_request", wish).await.data["answer"], paid.data["answer"]);
    for (path, code) in [("/elsewhere", "not_payable"), ("/stranger", "provider_changed")] {
        let refused = pay(&mut agent, &tempo.peer.url, path).await;
        assert_eq!(refused.data["code"], code, "{}", refused.text);
    }
    assert_eq!((tempo.peer.payments().await, tempo.balance(PAYEE).await), (1, usdc("0.01")));
    tempo.until_the_chain_told().await;
    let budget = agent.ok("drain_budget", json!({})).await;
    let gone = tempo.gone().await;
    assert!(gone > usdc("0.01") && gone < usdc("0.02"), "{gone}");
    assert_eq!(budget.data["spent_today"], gone.to_string(), "{}", budget.text);
    agent.leave().await;
}

/// The server takes the money and fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn what_a_server_takes_over_tempo_and_fails_is_spent() {
    let tempo = Tempo::start().await;
    let mut agent = Agent::start(&tempo.env(), LINES).await;
    let failed = pay(&mut agent, &tempo.peer.url, "/fails").await;
    assert_eq!(
        (&failed.data["code"], &failed.data["money"]["state"]),
        (&json!("answer_lost"), &json!("spent")),
        "{}",
        failed.text
    );
    tempo.until_the_chain_told().await;
    let budget = agent.ok("drain_budget", json!({})).await;
    assert_eq!(budget.data["spent_today"], tempo.gone().await.to_string());
    agent.leave().await;
}

/// A server that pays the gas completes the transaction: nobody knows its hash before, and it costs the price alone. Killed
/// after it was sent, the chain still tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn m15_a_server_that_pays_the_gas_is_paid_exactly() {
    for deadly in [false, true] {
        let mut tempo = Tempo::with("sponsored").await;
        let wish = json!({ "url": format!("{}/cheap", tempo.peer.url), "requestId": "one", "maxCost": "0.01" });
        if deadly {
            let env = tempo.env().with("DRAIN_TEST_POINT", "payment-sent=kill@1");
            let mut life = Life::start(&env).await.unwrap();
            assert!(life.call("pay_request", wish.clone()).await.is_err());
            assert_eq!(life.end().await.0, Some(9));
        }
        let mut agent = Agent::start(&tempo.env(), LINES).await;
        let answered = agent.call("pay_request", wish).await;
        if deadly {
            assert_eq!(answered.data["code"], "request_unknown", "{}", answered.text);
        } else {
            let payment = &answered.data["payment"];
            assert_eq!((&payment["state"], &payment["amount"]), (&json!("paid"), &json!("0.01")), "{}", answered.text);
        }
        tempo.rpc.call("evm_increaseTime", json!([60])).await.unwrap();
        tempo.until_the_chain_told().await;
        let moved = (tempo.peer.payments().await, tempo.gone().await, tempo.balance(PAYEE).await);
        assert_eq!(moved, (1, usdc("0.01"), usdc("0.01")));
        let budget = agent.ok("drain_budget", json!({})).await;
        assert_eq!(budget.data["spent_today"], "0.01", "{deadly}: {}", budget.text);
        agent.leave().await;
    }
}

/// M1, M15: killed between signature and sending nothing is spent, killed after it the chain tells what was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn m15_a_death_on_the_way_over_tempo_costs_what_the_chain_says() {
    for (point, sent) in [("payment-signed", 0), ("payment-sent", 1)] {
        let mut tempo = Tempo::start().await;
        let wish = json!({ "url": format!("{}/cheap", tempo.peer.url), "requestId": point });
        let deadly = tempo.env().with("DRAIN_TEST_POINT", format!("{point}=kill@1"));
        let mut life = Life::start(&deadly).await.unwrap();
        assert!(life.call("pay_request", wish.clone()).await.is_err());
        assert_eq!(life.end().await.0, Some(9));
        let mut agent = Agent::start(&tempo.env(), LINES).await;
        let again = agent.call("pay_request", wish).await;
        assert_eq!(again.data["code"], "request_unknown", "{point}: {}", again.text);
        // Half a minute of the chain's own time.
        tempo.rpc.call("evm_increaseTime", json!([Duration::from_secs(60).as_secs()])).await.unwrap();
        tempo.until_the_chain_told().await;
        let budget = agent.ok("drain_budget", json!({})).await;
        let gone = tempo.gone().await;
        assert_eq!((tempo.peer.payments().await, gone.is_zero()), (sent, sent == 0), "{point}");
        assert_eq!(budget.data["spent_today"], if sent == 0 { Value::from("0.00") } else { gone.to_string().into() });
        agent.leave().await;
    }
}

/// Where no person named an endpoint of Tempo's nothing is signed for it, and it says what to set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn m8_without_an_endpoint_of_tempo_nothing_is_paid_there() {
    let mut tempo = Tempo::start().await;
    let other = tempo.env().with("DRAIN_TEMPO_CHAIN_ID", "4217");
    for (env, part) in [(env(&tempo.world, &tempo.peer.url), "DRAIN_TEMPO_RPC_URL"), (other, "chain 42431")] {
        let mut agent = Agent::start(&env, LINES).await;
        let refused = pay(&mut agent, &tempo.peer.url, "/cheap").await;
        assert_eq!(refused.data["code"], "not_payable", "{}", refused.text);
        assert!(refused.text.contains(part), "{}", refused.text);
        agent.leave().await;
    }
    assert_eq!((tempo.peer.payments().await, tempo.gone().await), (0, Usdc::ZERO));
}

/// What comes to the server twice, or when the chain takes it no more, is paid no second time, and costs what the chain says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs others' clients: .ci/clients, and anvil"]
async fn m15_what_is_replayed_or_expired_over_tempo_is_not_paid_again() {
    for way in [Way::Twice, Way::Late] {
        let tempo = Tempo::start().await;
        let courier = Courier::start(&tempo.peer.url, way).await;
        let env = tempo.env().with("DRAIN_PAY_HOSTS", courier.url.trim_start_matches("http://"));
        let mut agent = Agent::start(&env, LINES).await;
        let meanwhile = async {
            if way == Way::Late {
                tempo.rpc.call("evm_increaseTime", json!([60])).await.unwrap();
                tempo.rpc.call("evm_mine", json!([])).await.unwrap();
            }
        };
        let answer = courier.late(pay(&mut agent, &courier.url, "/cheap"), meanwhile).await;
        courier.one_was_refused(&format!("{way:?}"), &answer);
        tempo.rpc.call("evm_increaseTime", json!([60])).await.unwrap();
        tempo.until_the_chain_told().await;
        let price = if way == Way::Twice { usdc("0.01") } else { Usdc::ZERO };
        assert_eq!(tempo.balance(PAYEE).await, price, "{way:?}");
        let budget = agent.ok("drain_budget", json!({})).await;
        assert_eq!(budget.data["spent_today"], tempo.gone().await.to_string(), "{way:?}: {}", budget.text);
        agent.leave().await;
    }
}
