//! Which contract and which chain: only the table's or the operator's, by the word of two endpoints (M8).

use std::time::Duration;

use alloy::primitives::Bytes;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChannelState, Progress};
use drain_mcp::config::Config;
use drain_mcp::error::Money;
use drain_protocol::contract::DrainChannel;
use drain_protocol::{Address, Deployment, Generation, Usdc};
use drain_sandbox::chain::{ChainConfig, Endpoint, FailKind, Faults};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2, Settings, USDC, USDC_BRIDGED};
use drain_sandbox::marketplace::SandboxConfig;
use serde_json::json;

use crate::harness::{World, ask, in_system, open, usdc};

/// Opening sim-llm is refused with this code, and nothing was sent.
async fn assert_no_open(world: &World, runtime: &Runtime, code: &str) {
    let sent = world.sent().await;
    let failure = open(runtime, "sim-llm", "1", "24h").await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.money), (code, Money::NotSpent), "{}", failure.message);
    assert_eq!(world.sent().await, sent);
}

/// An endpoint that says of every channel contract that it holds this token.
fn says_token(token: Address) -> Faults {
    let selector = DrainChannel::usdcCall::SELECTOR.into();
    Faults { call_overrides: [(selector, Bytes::from(token.abi_encode()))].into(), ..Faults::default() }
}

/// The world's endpoint and another one.
async fn two_endpoints(world: &World, second: Faults) -> (Endpoint, Config) {
    let endpoint = world.chain().endpoint(second).await.unwrap();
    let mut config = world.config();
    config.chain.rpc_urls.push(endpoint.url().parse().unwrap());
    (endpoint, config)
}

#[test]
fn m8_a_changed_token_freezes_opens_and_closes_until_it_is_back() {
    in_system(async {
        let owner = PrivateKeySigner::random();
        let contracts = Settings { owner: owner.address(), ..Settings::default() };
        let world = World::with(SandboxConfig { contracts, ..SandboxConfig::default() }).await;
        let pol = world.sandbox.observer().native_balance(world.agent()).await.unwrap();
        world.sandbox.observer().fund(owner.address(), usdc("0"), pol).await.unwrap();
        let token_is = async |token| {
            let data = DrainChannel::setUSDCCall { newUsdc: token }.abi_encode();
            world.sandbox.observer().rpc().execute(&owner, CHANNEL_V2, data).await.unwrap();
        };
        let runtime = world.runtime().await;
        let early = open(&runtime, "sim-weather", "1", "300s").await.unwrap();
        let late = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, late, "sim-small", "Hello").await.unwrap();
        world.advance(300).await;

        token_is(USDC_BRIDGED).await;
        let sent = world.sent().await;
        assert_no_open(&world, &runtime, "contract_frozen").await;
        let frozen =
            [runtime.close(early, Progress::none()).await, runtime.cooperative_close(late, Progress::none()).await];
        for failure in frozen.map(Result::unwrap_err) {
            assert_eq!((failure.code.as_str(), &failure.money), ("contract_frozen", &Money::NotSpent));
        }
        assert_eq!(runtime.approve(None, Progress::none()).await.unwrap_err().code.as_str(), "contract_frozen");
        assert_eq!((world.sent().await, world.held().await), (sent, usdc("98")));
        // Vouchers move nothing on chain: the channel still pays, and can be closed when the token is back.
        ask(&runtime, late, "sim-small", "Still open?").await.unwrap();
        token_is(USDC).await;
        runtime.close(early, Progress::none()).await.unwrap();
        let closed = runtime.cooperative_close(late, Progress::none()).await.unwrap();
        assert_eq!(closed.channel.state, ChannelState::Closed);
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    });
}

#[test]
fn m8_one_honest_endpoint_of_two_is_enough_to_freeze() {
    in_system(async {
        for liar in [says_token(USDC_BRIDGED), says_token(Address::ZERO)] {
            let world = World::start().await;
            let (second, config) = two_endpoints(&world, liar).await;
            let runtime = world.runtime_with(config).await;
            assert_no_open(&world, &runtime, "contract_frozen").await;
            second.set_faults(Faults::default());
            open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        }
        // The first one lies, the second one tells.
        let world = World::start().await;
        let (_second, config) = two_endpoints(&world, Faults::default()).await;
        world.chain().main().set_faults(says_token(USDC_BRIDGED));
        let runtime = world.runtime_with(config).await;
        assert_no_open(&world, &runtime, "contract_frozen").await;
    });
}

#[test]
fn m8_without_a_second_opinion_nothing_is_opened_where_two_are_configured() {
    in_system(async {
        let world = World::start().await;
        let (second, config) = two_endpoints(&world, Faults { fail_rate: 1.0, ..Faults::default() }).await;
        let runtime = world.runtime_with(config).await;
        assert_no_open(&world, &runtime, "chain_unavailable").await;
        second.set_faults(Faults { wrong_chain_id: Some(1), ..Faults::default() });
        assert_no_open(&world, &runtime, "wrong_chain").await;
    });
}

#[test]
fn m8_an_address_without_code_is_no_contract() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        world.chain().call("anvil_setCode", json!([CHANNEL_V2, "0x"])).unwrap();
        assert_no_open(&world, &runtime, "contract_frozen").await;
    });
}

#[test]
fn an_endpoint_of_another_chain_is_refused_by_name() {
    in_system(async {
        let world = World::start().await;
        world.chain().main().set_faults(Faults { wrong_chain_id: Some(80_002), ..Faults::default() });
        let runtime = world.runtime().await;
        assert_no_open(&world, &runtime, "wrong_chain").await;
        let failure = runtime.balance().await.unwrap_err();
        assert_eq!(failure.code.as_str(), "wrong_chain");
        assert!(failure.message.contains("80002") && failure.message.contains("137"), "{failure}");
    });
}

#[test]
fn m8_only_the_operators_table_counts_whatever_provider_and_directory_name() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        // The operator knows V1 alone; the provider and the directory ask for V2.
        config.chain.deployments.retain(|deployment| deployment.generation == Generation::V1);
        let runtime = world.runtime_with(config).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let observer = world.sandbox.observer();
        assert_eq!(observer.opened_by(CHANNEL_V1, world.agent()).await.unwrap().len(), 1);
        assert_eq!(observer.opened_by(CHANNEL_V2, world.agent()).await.unwrap().len(), 0);
    });
}

#[test]
fn m8_the_operators_token_is_compared_too() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.deployments = vec![Deployment::new(137, Generation::V2, CHANNEL_V2, USDC_BRIDGED)];
        let runtime = world.runtime_with(config).await;
        assert_no_open(&world, &runtime, "contract_frozen").await;
    });
}

#[test]
fn a_second_chain_works_with_an_operators_deployment_and_not_without() {
    in_system(async {
        let chain = ChainConfig { chain_id: 80_002, ..ChainConfig::default() };
        let world = World::with(SandboxConfig { chain, ..SandboxConfig::default() }).await;
        let mut config = world.config();
        (config.chain.chain_id, config.chain.deployments) = (80_002, Vec::new());
        let runtime = world.runtime_with(config).await;
        assert_no_open(&world, &runtime, "invalid_config").await;

        // Another home: the first runtime owns the wallet of this one.
        let home = tempfile::tempdir().unwrap();
        let mut config = world.config();
        config.home = home.path().to_owned();
        config.chain.chain_id = 80_002;
        config.chain.deployments = vec![Deployment::new(80_002, Generation::V2, CHANNEL_V2, USDC)];
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let paid = ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        assert!(!paid.cost.is_zero());
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}

#[test]
fn a_dead_slow_or_failing_endpoint_opens_nothing_and_open_channels_pay_on() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.chain.rpc_timeout = Duration::from_millis(600);
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        runtime.provider("sim-weather").await.unwrap();
        let bad = [
            Faults { fail_rate: 1.0, ..Faults::default() },
            Faults { fail_rate: 1.0, fail_kind: FailKind::Http429, ..Faults::default() },
            Faults { fail_rate: 1.0, fail_kind: FailKind::RpcError, ..Faults::default() },
            Faults { hang: true, ..Faults::default() },
            Faults { latency_ms: 1_200, ..Faults::default() },
        ];
        for faults in bad {
            world.chain().main().set_faults(faults.clone());
            assert_no_open(&world, &runtime, "chain_unavailable").await;
            assert_eq!(runtime.balance().await.unwrap_err().code.as_str(), "chain_unavailable", "{faults:?}");
            let paid = ask(&runtime, channel, "sim/forecast", "Lisbon").await.unwrap();
            assert_eq!(paid.cost, Usdc::new(5_000), "{faults:?}");
            let view = runtime.channel(channel).await.unwrap();
            assert!(view.notes.iter().any(|note| note.contains("the chain could not be read")), "{faults:?}");
        }
        world.chain().main().set_faults(Faults::default());
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    });
}

#[test]
fn an_endpoint_that_fails_now_and_then_is_helped_out_by_the_second() {
    in_system(async {
        let world = World::start().await;
        let (second, config) = two_endpoints(&world, Faults::default()).await;
        let runtime = world.runtime_with(config).await;
        // What M8 asks of both is answered; of everything else a part fails, broadcasts and receipts included.
        let methods = ["eth_getBalance", "eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionReceipt"];
        let methods = methods.map(str::to_owned).to_vec();
        for (fail_next, fail_rate) in [(1, 0.0), (0, 0.4), (0, 1.0)] {
            let faults = Faults { fail_next, fail_rate, methods: methods.clone(), ..Faults::default() };
            world.chain().main().set_faults(faults);
            let channel = open(&runtime, "sim-llm", "0.5", "24h").await.unwrap();
            runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        }
        assert!(second.request_count().values().sum::<u64>() > 0);
        assert_eq!(world.sandbox.observer().total_locked().await.unwrap(), usdc("0"));
        assert_eq!(world.held().await, usdc("100"));
    });
}

#[test]
fn an_endpoint_that_is_behind_does_not_make_an_open_channel_look_closed() {
    in_system(async {
        let world = World::start().await;
        let (second, config) = two_endpoints(&world, Faults::default()).await;
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // Both are so far behind that they never heard of the channel.
        for endpoint in [world.chain().main(), &second] {
            endpoint.update_faults(|faults| faults.lagging_reads = 2);
        }
        let failure = runtime.cooperative_close(channel, Progress::none()).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.money), ("channel_not_open", Money::NotSpent));
        for endpoint in [world.chain().main(), &second] {
            endpoint.set_faults(Faults::default());
        }
        // Nothing was concluded from it.
        ask(&runtime, channel, "sim-small", "Still open?").await.unwrap();
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
    });
}
