//! The sums at the end, from chain balances, events and the providers' logs.

use std::collections::BTreeMap;

use alloy::sol_types::SolEvent;
use drain_protocol::chat::Message;
use drain_protocol::contract::DrainChannel;
use drain_protocol::pricing::{Price, request_bound};
use drain_protocol::{Address, U256, Usdc};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use drain_sandbox::marketplace::FEE_WALLET;
use drain_sandbox::provider::PaidRequest;
use serde_json::{Value, json};

use crate::harness::{World, vouchers};

/// Tokens that a provider may assume when it asks for cover before the work: the second try's bound.
const PESSIMISTIC: u32 = 4_096;

/// Base units of USDC, and counts.
#[derive(Debug, Default)]
pub struct Sums {
    pub channels: u64,
    pub requests: u64,
    pub billed_requests: u64,
    pub deposited: u64,
    pub signed: u64,
    /// Bills, each at most its bound.
    pub explained: u64,
    pub taken: u64,
    pub fees: u64,
    pub refunded: u64,
    /// What the wallet should hold and does not.
    pub missing: u64,
    /// What providers took beyond bills, requests of unknown outcome and one request's bound a channel.
    pub beyond_bounds: u64,
}

impl Sums {
    pub fn add(&mut self, other: &Self) {
        for (into, from) in [
            (&mut self.channels, other.channels),
            (&mut self.requests, other.requests),
            (&mut self.billed_requests, other.billed_requests),
            (&mut self.deposited, other.deposited),
            (&mut self.signed, other.signed),
            (&mut self.explained, other.explained),
            (&mut self.taken, other.taken),
            (&mut self.fees, other.fees),
            (&mut self.refunded, other.refunded),
            (&mut self.missing, other.missing),
            (&mut self.beyond_bounds, other.beyond_bounds),
        ] {
            *into += from;
        }
    }
}

/// What the providers' logs say of one channel.
#[derive(Debug, Default)]
struct Sent {
    highest: u64,
    explained: u64,
    unknown: u64,
    largest: u64,
    requests: u64,
    billed: u64,
}

/// After every channel of the agent is closed; `before` is what the wallet began with.
pub async fn of(world: &World, before: u64) -> Sums {
    let observer = world.sandbox.observer();
    let sandbox = &world.sandbox;
    let mut sent: BTreeMap<String, Sent> = BTreeMap::new();
    for provider in [&sandbox.llm, &sandbox.data, &sandbox.image, &sandbox.v1] {
        for request in vouchers(provider) {
            count(sent.entry(request.channel.to_lowercase()).or_default(), &request);
        }
    }
    let mut sums = Sums::default();
    for contract in [CHANNEL_V1, CHANNEL_V2] {
        let topics = json!([DrainChannel::ChannelOpened::SIGNATURE_HASH, null, world.agent().into_word()]);
        let filter = json!([{ "address": contract, "fromBlock": "0x0", "toBlock": "latest", "topics": topics }]);
        for log in observer.rpc().get::<Vec<Value>>("eth_getLogs", filter).await.unwrap() {
            let id: drain_protocol::B256 = log["topics"][1].as_str().unwrap().parse().unwrap();
            // The first word of the event's data.
            let deposit: U256 = log["data"].as_str().unwrap()[..66].parse().unwrap();
            let deposit = deposit.to::<u64>();
            assert!(!observer.channel(contract, id).await.unwrap().exists(), "{id} is still open");
            let taken = observer.paid_out(contract, id).await.unwrap().units();
            let sent = sent.remove(&format!("{id:#x}")).unwrap_or_default();
            sums.channels += 1;
            sums.deposited += deposit;
            sums.taken += taken;
            sums.refunded += deposit - taken;
            sums.signed += sent.highest;
            sums.explained += sent.explained;
            sums.requests += sent.requests;
            sums.billed_requests += sent.billed;
            assert!(taken <= sent.highest, "{id}: {taken} was taken, {} was sent", sent.highest);
            sums.beyond_bounds += taken.saturating_sub(sent.explained + sent.unknown + sent.largest);
        }
    }
    sums.fees = balance(world, FEE_WALLET).await;
    let expected = before - sums.taken - sums.fees;
    let held = balance(world, world.agent()).await;
    assert!(held <= expected, "money came from nowhere");
    sums.missing = expected - held;
    sums
}

fn count(sent: &mut Sent, request: &PaidRequest) {
    let amount = request.amount.unwrap();
    if amount == 0 {
        // A question about the books: it authorises nothing.
        return;
    }
    let (bound, most) = bounds(&request.body);
    sent.requests += 1;
    sent.highest = sent.highest.max(amount);
    sent.largest = sent.largest.max(most);
    match request.outcome.strip_prefix("billed ").map(|cost| cost.parse::<u64>().unwrap()) {
        Some(bill) => {
            sent.billed += 1;
            sent.explained += bill.min(bound);
        }
        None => sent.unknown += bound,
    }
}

/// What a request may cost by its price, and what it may at most be covered with.
fn bounds(body: &str) -> (u64, u64) {
    let body: Value = serde_json::from_str(body).unwrap();
    let price = match body["model"].as_str().unwrap() {
        "sim-small" => Price::PerToken { input_per_1k: Usdc::new(225), output_per_1k: Usdc::new(900) },
        "sim-large" => Price::PerToken { input_per_1k: Usdc::new(3_750), output_per_1k: Usdc::new(15_000) },
        "sim/forecast" => Price::Flat(Usdc::new(5_000)),
        "sim/image" => Price::Flat(Usdc::new(20_000)),
        other => panic!("{other}"),
    };
    let messages: Vec<Message> = serde_json::from_value(body["messages"].clone()).unwrap();
    let tokens = u32::try_from(body["max_tokens"].as_u64().unwrap_or_default()).unwrap();
    let of = |tokens| request_bound(&price, &messages, tokens).units();
    (of(tokens), of(tokens.max(PESSIMISTIC)))
}

async fn balance(world: &World, account: Address) -> u64 {
    world.sandbox.observer().usdc_balance(account).await.unwrap().units()
}
