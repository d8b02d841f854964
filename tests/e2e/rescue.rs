//! `drain-mcp rescue`: what other clients of a wallet left behind (M10).

use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use serde_json::Value;

use crate::process_harness::Env;
use crate::recover::open_elsewhere;

fn channel<'a>(answer: &'a Value, id: &str) -> &'a Value {
    answer["channels"].as_array().unwrap().iter().find(|channel| channel["channel_id"] == id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m10_without_key_every_channel_is_listed_and_with_it_closed() {
    let world = crate::harness::World::start().await;
    let v1 = open_elsewhere(&world, CHANNEL_V1, 500_000, 7_200).await;
    let v2 = open_elsewhere(&world, CHANNEL_V2, 250_000, 86_400).await;
    let gone = open_elsewhere(&world, CHANNEL_V2, 125_000, 60).await;
    world.advance(10_000).await;
    world.close_elsewhere(CHANNEL_V2, gone).await;
    let own = Env::of(&world);
    let nobody = own.clone().without("DRAIN_PRIVATE_KEY");
    let address = world.agent().to_string();
    let answer = nobody.run(&["rescue", &address, "--json"]).await.ok_json();
    assert_eq!(
        (&answer["complete"], &answer["reclaimable_now"], &answer["locked_until_expiry"]),
        (&true.into(), &"0.50".into(), &"0.25".into())
    );
    assert_eq!(channel(&answer, &v1.to_string())["state"], "expired");
    assert_eq!(channel(&answer, &v2.to_string())["state"], "open");
    assert_eq!(channel(&answer, &gone.to_string())["state"], "closed");
    let text = nobody.run(&["rescue", &address]).await;
    assert!(
        text.stdout.contains("0.50 USDC can be reclaimed now") && text.stdout.contains("only if the provider consents")
    );
    assert_eq!(nobody.run(&["rescue", &address, "--close"]).await.code, Some(2));
    let before = world.held().await;
    let closed = own.run(&["rescue", &address, "--close", "--json"]).await.ok_json();
    assert_eq!(closed["refunded"], "0.50");
    assert_eq!(world.held().await.saturating_sub(before).to_string(), "0.50");
    assert_eq!(nobody.run(&["rescue", &address, "--json"]).await.ok_json()["reclaimable_now"], "0.00");
}
