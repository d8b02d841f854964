//! One agent: lives of a real process, in bad weather, each of which may end by a kill.

use std::time::{Duration, Instant};

use drain_mcp::points::Point;
use drain_sandbox::SandboxConfig;
use drain_sandbox::chain::{ChainConfig, Endpoint, Faults};
use drain_sandbox::contracts::{CHANNEL_V1, CHANNEL_V2};
use serde_json::{Value, json};

use super::sums::{self, Sums};
use super::weather::{self, Kind, Nodes};
use super::{Dice, Tally};
use crate::harness::World;
use crate::kills::unlimited;
use crate::process_harness::{Env, chat, until};
use crate::survivor::{Died, Life, audit_vouchers};

/// Blocks until finality: reorgs go so deep.
pub const FINALITY: u64 = 3;
const PROVIDERS: [&str; 4] = ["sim-llm", "sim-weather", "sim-image", "sim-llm-v1"];
/// The longest that one kind of weather lasts.
const WEATHER: Duration = Duration::from_secs(8);
/// What a wallet begins with, in base units.
const FUNDS: u64 = 100_000_000;

/// Lives until `end`, then gets all money back.
pub async fn agent(mut dice: Dice, end: Instant) -> (Tally, Sums) {
    let chain =
        ChainConfig { finality_depth: FINALITY, block_time: Some(Duration::from_millis(40)), ..ChainConfig::default() };
    let world = World::on(None, SandboxConfig { chain, ..SandboxConfig::default() }).await;
    let second = world.chain().endpoint(Faults::default()).await.unwrap();
    let env = environment(&world, &second);
    let mut tally = Tally::default();
    while Instant::now() < end {
        life(&world, &second, &env, &mut dice, &mut tally).await;
        audit_vouchers(&world);
        // Every provider here is a liar by turns: a person trusts those that were set aside again, as --trust does.
        let trust =
            "UPDATE provider_records SET set_aside = NULL, set_aside_at = NULL, recent = '', forgiven = offences";
        world.journal().execute(trust, []).unwrap();
    }
    weather::clear(&world, &nodes(&world, &second));
    come_back(&world, &env).await;
    audit_vouchers(&world);
    let sums = sums::of(&world, FUNDS).await;
    (tally, sums)
}

fn nodes<'a>(world: &'a World, second: &'a Endpoint) -> Nodes<'a> {
    Nodes { endpoints: [world.chain().main(), second] }
}

fn environment(world: &World, second: &Endpoint) -> Env {
    let urls = format!("{} {}", world.sandbox.rpc_url(), second.url());
    // Caps are for another test: here money moves.
    unlimited(world)
        .with("DRAIN_RPC_URL", urls)
        .with("DRAIN_RPC_TIMEOUT", "1s")
        .with("DRAIN_REQUEST_TIMEOUT", "1s")
        .with("DRAIN_MARKETPLACE_TIMEOUT", "1s")
        .with("DRAIN_TRANSACTION_TIMEOUT", "6s")
        .with("DRAIN_MAX_OPEN_CHANNELS", "1000")
        .with("DRAIN_MAX_LOCKED", "90")
}

/// One process, from its start to its end.
async fn life(world: &World, second: &Endpoint, env: &Env, dice: &mut Dice, tally: &mut Tally) {
    let nodes = nodes(world, second);
    let point = dice.one_of(&Point::ALL);
    let deadly = dice.below(4) != 0;
    let env = if deadly {
        env.clone().with("DRAIN_TEST_POINT", format!("{}=kill@{}", point.name(), 1 + dice.below(12)))
    } else {
        env.clone()
    };
    tally.lives += 1;
    let Ok(mut life) = Life::start(&env).await else {
        *tally.kills.entry(point.name()).or_default() += 1;
        return;
    };
    let pid = rustix::process::Pid::from_raw(i32::try_from(life.pid()).unwrap()).unwrap();
    let mut sudden = false;
    for _ in 0..6 + dice.below(20) {
        weather::clear(world, &nodes);
        let mut kind = "";
        if dice.below(3) != 0 {
            kind = weather::turn(world, &nodes, dice, tally).await;
        }
        if dice.below(60) == 0 {
            // At any moment, not at a point.
            sudden = rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
        }
        let acted = act(&mut life, kind, dice, tally);
        tokio::pin!(acted);
        let acted = loop {
            tokio::select! {
                acted = &mut acted => break acted,
                // No weather lasts forever.
                () = tokio::time::sleep(WEATHER) => weather::clear(world, &nodes),
            }
        };
        if acted.is_err() {
            break;
        }
    }
    weather::clear(world, &nodes);
    if life.end().await.0 == Some(9) {
        *tally.kills.entry(if sudden { "at any moment" } else { point.name() }).or_default() += 1;
    }
}

/// Channels that are not over: id, provider, state.
async fn channels(life: &mut Life) -> Result<Vec<(String, String, String)>, Died> {
    let listed = life.call("drain_channels", json!({})).await?;
    let all = listed.data["channels"].as_array().cloned().unwrap_or_default();
    let text = |channel: &Value, key: &str| channel[key].as_str().unwrap_or_default().to_owned();
    Ok(all
        .iter()
        .filter(|channel| channel["channel_id"].is_string())
        .map(|channel| (text(channel, "channel_id"), text(channel, "provider_id"), text(channel, "state")))
        .collect())
}

/// One thing that an agent does, often one that this kind of weather concerns.
async fn act(life: &mut Life, kind: Kind, dice: &mut Dice, tally: &mut Tally) -> Result<(), Died> {
    let known = channels(life).await?;
    let open: Vec<_> = known.iter().filter(|(_, _, state)| state == "open").cloned().collect();
    let pick = |dice: &mut Dice| open[usize::try_from(dice.below(open.len() as u64)).unwrap()].clone();
    let closing = kind.starts_with("provider: close") || kind == "provider: claims";
    let sending = kind.starts_with("node: ") || kind == "chain: reorg";
    let what = match dice.below(2) {
        0 if closing => 1,
        0 if sending => dice.below(2),
        _ => dice.below(10),
    };
    match what {
        _ if open.len() < 2 => {
            let provider = dice.one_of(&PROVIDERS);
            let amount = format!("0.{}", 1 + dice.below(5));
            call(
                life,
                "drain_open_channel",
                json!({ "provider": provider, "amount": amount, "duration": "4h" }),
                tally,
            )
            .await?;
        }
        0 => {
            let provider = dice.one_of(&PROVIDERS);
            let wish = json!({ "provider": provider, "amount": "0.2", "duration": "6h" });
            call(life, "drain_open_channel", wish, tally).await?;
        }
        1 => {
            let (id, ..) = pick(dice);
            call(life, "drain_cooperative_close", json!({ "channelId": id }), tally).await?;
        }
        2 => {
            if let Some((id, ..)) = known.iter().find(|(_, _, state)| state == "expired") {
                call(life, "drain_close_channel", json!({ "channelId": id }), tally).await?;
            }
        }
        3 => {
            // Several at once, on several channels.
            let mut waiting = 0;
            for _ in 0..4 {
                let (id, provider, _) = pick(dice);
                let params = json!({ "name": "drain_chat", "arguments": request(&id, &provider, dice) });
                life.ask("tools/call", params).await?;
                waiting += 1;
            }
            while waiting > 0 {
                let message = life.next().await?;
                if message.get("id").is_some() {
                    note("drain_chat", &message["result"]["structuredContent"], tally);
                    waiting -= 1;
                }
            }
        }
        _ => {
            let (id, provider, _) = pick(dice);
            let arguments = request(&id, &provider, dice);
            call(life, "drain_chat", arguments, tally).await?;
        }
    }
    Ok(())
}

fn request(id: &str, provider: &str, dice: &mut Dice) -> Value {
    let (model, text) = match provider {
        "sim-weather" => ("sim/forecast", "Lisbon".to_owned()),
        "sim-image" => ("sim/image", "a lighthouse".to_owned()),
        _ => (dice.one_of(&["sim-small", "sim-large"]), "words ".repeat(1 + usize::try_from(dice.below(60)).unwrap())),
    };
    let mut arguments = chat(id, &text);
    arguments["model"] = model.into();
    if dice.below(2) == 0 {
        arguments["maxTokens"] = (20 + dice.below(400)).into();
    }
    arguments
}

async fn call(life: &mut Life, tool: &'static str, arguments: Value, tally: &mut Tally) -> Result<(), Died> {
    let answer = life.call(tool, arguments).await?;
    note(tool, &answer.data, tally);
    Ok(())
}

fn note(tool: &str, data: &Value, tally: &mut Tally) {
    let outcome = data["code"].as_str().unwrap_or("ok");
    assert_ne!(outcome, "internal", "{tool}: {data}");
    *tally.outcomes.entry(format!("{} {outcome}", tool.trim_start_matches("drain_"))).or_default() += 1;
}

/// Good weather, and all channels expire: everything that is left comes back.
async fn come_back(world: &World, env: &Env) {
    world.advance(30 * 86_400).await;
    let mut life = Life::start(env).await.expect("it starts on what is left");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let left = channels(&mut life).await.expect("it lives");
        let ours = "SELECT COUNT(*) FROM channels WHERE state IN ('opening', 'open', 'closing')";
        if left.is_empty() && world.journaled(ours) == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "these do not come back: {left:?}");
        for (id, ..) in left {
            // Its failure is told by the next look.
            let _ = life.call("drain_close_channel", json!({ "channelId": id })).await.expect("it lives");
        }
    }
    assert_eq!(life.end().await.0, None);
    until("every channel is closed", async || {
        let mut open = 0;
        for contract in [CHANNEL_V1, CHANNEL_V2] {
            for id in world.sandbox.observer().opened_by(contract, world.agent()).await.unwrap() {
                open += u64::from(world.sandbox.observer().channel(contract, id).await.unwrap().exists());
            }
        }
        open == 0
    })
    .await;
}
