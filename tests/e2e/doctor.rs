//! `drain-mcp doctor`: all is well where it is, and each trouble has its remedy.

use std::os::unix::fs::PermissionsExt;

use drain_protocol::U256;
use drain_sandbox::chain::{Endpoint, Faults};
use drain_sandbox::contracts::CHANNEL_V2;
use serde_json::Value;

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, world};

/// A world as the instructions wish it: two endpoints, a wallet with little on it.
async fn healthy() -> (World, Endpoint, Env) {
    let world = world().await;
    let second = world.chain().endpoint(Faults::default()).await.unwrap();
    let wallet = world.sandbox.agent().address();
    world.sandbox.observer().fund(wallet, usdc("5"), U256::from(10).pow(U256::from(17))).await.unwrap();
    let both = format!("{} {}", world.sandbox.rpc_url(), second.url());
    let env = Env::of(&world).with("DRAIN_RPC_URL", both).with("DRAIN_RPC_TIMEOUT", "1500ms");
    // A folder that is not there yet: drain-mcp makes it, for itself alone.
    let home = world.home.path().join("own").display().to_string();
    (world, second, env.with("DRAIN_MARKETPLACE_TIMEOUT", "1500ms").with("DRAIN_HOME", home))
}

/// The lines that are not ok.
fn troubles(report: &Value) -> Vec<Value> {
    report["checks"].as_array().unwrap().iter().filter(|line| line["status"] != "ok").cloned().collect()
}

/// A failing line of this check names the remedy.
async fn names(env: &Env, check: &str, status: &str, remedy: &str) {
    let ended = env.run(&["doctor", "--json"]).await;
    let report = ended.json();
    let well = status != "fail";
    assert_eq!((ended.code, report["ok"].as_bool()), (Some(i32::from(!well)), Some(well)), "{report}");
    let found = troubles(&report);
    let line = found.iter().find(|line| line["check"] == check && line["status"] == status);
    let line = line.unwrap_or_else(|| panic!("no {status} of {check} in {found:?}"));
    assert!(line["fix"].as_str().unwrap().contains(remedy), "{remedy} in {line}");
    let text = env.run(&["doctor"]).await;
    assert_eq!(text.code, ended.code);
    assert!(text.stdout.contains("-> ") && text.stdout.contains(remedy), "{}", text.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_set_up_is_all_ok() {
    let (_world, _second, env) = healthy().await;
    for _ in 0..2 {
        let report = env.run(&["doctor", "--json"]).await.ok_json();
        assert_eq!(troubles(&report), Vec::<Value>::new());
        let checks: Vec<&str> =
            report["checks"].as_array().unwrap().iter().map(|line| line["check"].as_str().unwrap()).collect();
        for check in ["config", "key", "rpc", "contract", "owner", "usdc", "gas", "allowance", "directory", "journal"] {
            assert!(checks.contains(&check), "{check} in {checks:?}");
        }
        // Once more with a journal.
        env.run(&["channels", "--json"]).await.ok_json();
    }
    let text = env.run(&["doctor"]).await;
    assert!(text.stdout.ends_with("Everything is as it should be.\n"), "{}", text.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_has_its_remedy() {
    let (world, second, env) = healthy().await;
    let wallet = world.sandbox.agent().address();
    let observer = world.sandbox.observer();
    let main = world.chain().main();
    let pol = U256::from(10).pow(U256::from(17));

    env.run(&["channels", "--json"]).await.ok_json();
    names(&env.clone().without("DRAIN_PRIVATE_KEY"), "key", "warn", "drain-mcp wallet new").await;
    names(&env.clone().with("DRAIN_RPC_URL", "http://127.0.0.1:9"), "rpc", "fail", "DRAIN_RPC_URL").await;
    names(&env.clone().with("DRAIN_RPC_URL", main.url()), "rpc", "warn", "second one").await;

    main.update_faults(|faults| faults.wrong_chain_id = Some(1));
    second.update_faults(|faults| faults.wrong_chain_id = Some(1));
    names(&env, "rpc", "fail", "DRAIN_CHAIN_ID").await;
    main.set_faults(Faults::default());
    second.set_faults(Faults::default());

    main.update_faults(|faults| faults.hang = true);
    names(&env, "rpc", "fail", "").await;
    main.set_faults(Faults::default());

    // The contract's token is another one: `usdc()` answers an address that is not the table's.
    let selector = alloy::primitives::fixed_bytes!("3e413bee");
    let other = alloy::primitives::Bytes::from(alloy::primitives::B256::repeat_byte(7).to_vec());
    for endpoint in [main, &second] {
        endpoint.update_faults(|faults| drop(faults.call_overrides.insert(selector, other.clone())));
    }
    names(&env, "contract", "fail", "").await;
    main.set_faults(Faults::default());
    second.set_faults(Faults::default());

    world.sandbox.directory.set(|faults| faults.down = true);
    names(&env, "directory", "fail", "").await;
    world.sandbox.directory.set(|faults| faults.down = false);

    observer.fund(wallet, usdc("5"), U256::ZERO).await.unwrap();
    names(&env, "gas", "fail", "drain-mcp wallet gas").await;
    observer.fund(wallet, usdc("4"), U256::ZERO).await.unwrap();
    names(&env, "gas", "fail", "0.10 POL").await;
    observer.fund(wallet, usdc("0"), pol).await.unwrap();
    names(&env, "usdc", "fail", "native USDC").await;
    observer.fund(wallet, usdc("60"), pol).await.unwrap();
    names(&env, "usdc", "warn", "less than $50").await;
    observer.fund(wallet, usdc("5"), pol).await.unwrap();

    names(&env.clone().with("DRAIN_MAX_LOKED", "3"), "config", "warn", "docs/configuration.md").await;
    std::fs::set_permissions(env.get("DRAIN_HOME"), std::fs::Permissions::from_mode(0o755)).unwrap();
    names(&env, "home", "warn", "chmod 700").await;

    // Another process has the wallet: no trouble, and neither is disturbed.
    let mut agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    agent.open("sim-llm", "1", "4h").await;
    let report = env.run(&["doctor", "--json"]).await.json();
    let shared = |line: &Value| line["check"] == "lock" && line["found"].as_str().unwrap().contains("share it");
    assert!(report["checks"].as_array().unwrap().iter().any(shared), "{report}");
    agent.ok("drain_balance", serde_json::json!({})).await;
    agent.leave().await;
    assert!(
        observer.channel(CHANNEL_V2, observer.opened_by(CHANNEL_V2, wallet).await.unwrap()[0]).await.unwrap().exists()
    );
}
