//! What the chain and its owner do to us: dear gas, a token that refuses, a changed fee, code that is gone.

use drain_mcp::api::Progress;
use drain_mcp::error::Code;
use drain_protocol::{U256, Usdc};

use crate::harness::{World, in_system, open, unspent, usdc};

/// Gives the agent so much POL, in thousandths, and leaves its USDC.
async fn pol(world: &World, thousandths: u64) {
    let wei = U256::from(thousandths) * U256::from(10u64.pow(15));
    let held = world.held().await;
    world.sandbox.observer().fund(world.agent(), held, wei).await.unwrap();
}

#[test]
fn m10_gas_for_every_close_is_foreseen_before_a_channel_is_opened() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        // At 55 gwei an approval, an open and a close are 0.0267 POL, and each further close 0.0088.
        pol(&world, 30).await;
        let first = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        pol(&world, 30).await;
        let before = world.sent().await;
        let failure = unspent(open(&runtime, "sim-weather", "1", "24h").await, Code::InsufficientGas);
        assert!(failure.message.contains("the closes of 1 open channels"), "{}", failure.message);
        assert_eq!((world.sent().await, world.allowance().await), (before, Usdc::ZERO));
        // Enough for both closes is enough; and what is closed needs none.
        pol(&world, 36).await;
        let second = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        runtime.cooperative_close(first, Progress::none()).await.unwrap();
        runtime.cooperative_close(second, Progress::none()).await.unwrap();
        pol(&world, 30).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert_eq!(world.held().await, usdc("99"));
    });
}
