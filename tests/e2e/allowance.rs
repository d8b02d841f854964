//! The allowance and the limit on what may be locked (M9).

use std::sync::Arc;

use alloy::primitives::{B256, U256, keccak256};
use alloy::sol_types::SolValue;
use drain_mcp::api::{ChannelState, Progress};
use drain_protocol::Usdc;
use drain_protocol::contract::Erc20;
use drain_protocol::deployment::POLYGON_USDC_E;
use drain_sandbox::contracts::{CHANNEL_V2, USDC};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{World, in_system, open, usdc, wish};

/// What the V2 contract was ever allowed to take from the agent, in order.
async fn approvals(world: &World) -> Vec<Usdc> {
    use alloy::sol_types::SolEvent;
    let topics = json!([Erc20::Approval::SIGNATURE_HASH, world.agent().into_word(), CHANNEL_V2.into_word()]);
    let filter = json!([{"address": USDC, "fromBlock": "0x0", "toBlock": "latest", "topics": topics}]);
    let logs: Vec<Value> = world.sandbox.observer().rpc().get("eth_getLogs", filter).await.unwrap();
    let values = logs.iter().map(|log| log["data"].as_str().unwrap().parse::<drain_protocol::U256>().unwrap());
    values.map(|value| Usdc::try_from(value).unwrap()).collect()
}

#[test]
fn m9_open_allows_exactly_the_deposit_and_uses_it_up() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let made = runtime.open(wish("sim-llm", "1.234567"), Progress::none()).await.unwrap();
        assert_eq!((made.transactions.len(), world.sent().await), (2, 2));
        assert_eq!((approvals(&world).await, world.allowance().await), (vec![usdc("1.234567")], usdc("0")));
        // What was allowed before is used, without a transaction for it.
        runtime.approve(Some(usdc("3")), Progress::none()).await.unwrap();
        let made = runtime.open(wish("sim-weather", "2"), Progress::none()).await.unwrap();
        assert_eq!((made.transactions.len(), world.allowance().await), (1, usdc("1")));
        // A rest that is too small is replaced, never added to.
        runtime.open(wish("sim-image", "1.5"), Progress::none()).await.unwrap();
        assert_eq!(approvals(&world).await[2..], [usdc("1.5")]);
        assert_eq!(world.allowance().await, usdc("0"));
    });
}

#[test]
fn m9_approve_without_an_amount_is_the_limit_and_more_is_refused() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let failure = runtime.approve(Some(usdc("20.000001")), Progress::none()).await.unwrap_err();
        assert_eq!((failure.code.as_str(), world.sent().await), ("limit_reached", 0));
        let approved = runtime.approve(None, Progress::none()).await.unwrap();
        assert_eq!((approved.allowance, world.allowance().await), (usdc("20"), usdc("20")));
        assert_eq!(approved.spender, CHANNEL_V2);
        // As it is already: no transaction.
        assert_eq!(runtime.approve(None, Progress::none()).await.unwrap().transaction, None);
        runtime.approve(Some(usdc("0")), Progress::none()).await.unwrap();
        assert_eq!((world.allowance().await, world.sent().await), (usdc("0"), 2));
    });
}

#[test]
fn m9_an_allowance_is_never_above_the_limit_less_what_is_locked() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let channel = open(&runtime, "sim-llm", "2", "24h").await.unwrap();
        // Two are locked: twenty more would make twenty-two.
        let failure = runtime.approve(Some(usdc("18.000001")), Progress::none()).await.unwrap_err();
        assert_eq!((failure.code.as_str(), world.sent().await), ("limit_reached", 2));
        assert!(failure.message.contains("2.00 of which is locked"), "{}", failure.message);
        assert_eq!(runtime.approve(None, Progress::none()).await.unwrap().allowance, usdc("18"));
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        assert_eq!(runtime.approve(None, Progress::none()).await.unwrap().allowance, usdc("20"));
    });
}

#[test]
fn m9_an_allowance_that_another_program_left_is_brought_down_by_an_opening() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        for found in ["20.000001", "9223372036854"] {
            let call = Erc20::approveCall { spender: CHANNEL_V2, amount: usdc(found).to_u256() };
            let data = alloy::sol_types::SolCall::abi_encode(&call);
            world.sandbox.observer().rpc().execute(world.sandbox.agent(), USDC, data).await.unwrap();
            let made = runtime.open(wish("sim-llm", "1"), Progress::none()).await.unwrap();
            assert_eq!((made.transactions.len(), world.allowance().await), (2, usdc("0")), "{found}");
            let id = made.channel.channel_id.unwrap().parse().unwrap();
            runtime.cooperative_close(id, Progress::none()).await.unwrap();
        }
    });
}

#[test]
fn m9_the_limit_on_what_is_locked_holds_over_opens_and_closes() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).locked = usdc("3");
        let runtime = world.runtime_with(config).await;
        let first = open(&runtime, "sim-llm", "2", "24h").await.unwrap();
        let failure = open(&runtime, "sim-weather", "1.000001", "24h").await.unwrap_err();
        assert_eq!((failure.code.as_str(), world.sent().await), ("limit_reached", 2));
        open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        assert_eq!(runtime.balance().await.unwrap().locked, usdc("3"));
        // What came back is free again; what failed never counted.
        runtime.cooperative_close(first, Progress::none()).await.unwrap();
        world.chain().revert_next(1);
        open(&runtime, "sim-llm", "2", "24h").await.unwrap_err();
        open(&runtime, "sim-llm", "2", "24h").await.unwrap();
        assert_eq!(world.sandbox.observer().total_locked().await.unwrap(), usdc("3"));
    });
}

#[test]
fn m9_opens_at_once_keep_the_limit_and_their_allowances_apart() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).locked = usdc("3");
        let runtime = world.runtime_with(config).await;
        // A fourth on the same contract.
        let mut twin = world.sandbox.directory.listings().iter().find(|l| l.id == "sim-llm").unwrap().clone();
        twin.id = "sim-llm-2".into();
        world.sandbox.directory.listings().push(twin);
        let providers = ["sim-llm", "sim-weather", "sim-image", "sim-llm-2"];
        let results = join_all(providers.map(|provider| open(&runtime, provider, "1", "24h"))).await;
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.iter().map(|failure| failure.code.as_str()).collect::<Vec<_>>(), ["limit_reached"]);
        let channels = runtime.channels(false).await.unwrap();
        assert!(
            channels.iter().all(|c| c.state == ChannelState::Open && c.deposit == usdc("1")) && channels.len() == 3
        );
        assert_eq!((world.sent().await, world.allowance().await), (6, usdc("0")));
        assert_eq!(world.sandbox.observer().total_locked().await.unwrap(), usdc("3"));
        assert_eq!(approvals(&world).await, [usdc("1"); 3]);
    });
}

#[test]
fn m9_no_allowance_is_unlimited_unless_the_operator_says_so() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        Arc::make_mut(&mut config.limits).unlimited_allowance = true;
        // The signer has its own rule, and nobody lifted that one.
        let runtime = world.runtime_with(config).await;
        let failure = open(&runtime, "sim-llm", "1", "24h").await.unwrap_err();
        assert_eq!((failure.code.as_str(), world.sent().await), ("signer_failed", 0));
        assert_eq!(runtime.channels(false).await.unwrap().len(), 0);
    });
}

/// Bridged USDC.e looks like USDC in a wallet; it is named, and buys nothing.
#[test]
fn bridged_usdc_is_recognised_and_does_not_count() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        // The slot of an account in the stand-in's balances, the first mapping of the contract.
        let slot = keccak256((world.agent(), U256::ZERO).abi_encode());
        let seven = B256::from(usdc("7").to_u256());
        let rpc = world.sandbox.observer().rpc();
        rpc.call("anvil_setStorageAt", json!([POLYGON_USDC_E, slot, seven])).await.unwrap();
        let held = runtime.balance().await.unwrap();
        assert_eq!(held.usdc, usdc("100"));
        let advice = held.advice.iter().find(|advice| advice.contains("USDC.e")).expect("nothing is said of it");
        assert!(advice.contains("7.00") && advice.contains("does not count"), "{advice}");
        assert!(advice.contains(&POLYGON_USDC_E.to_string()), "{advice}");
    });
}
