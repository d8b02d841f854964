//! A wallet whose key is in a Ledger: a press for each signature, and what happens when none comes.

use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::error::Code;
use drain_protocol::ChannelId;
use drain_sandbox::ledger::{Finger, Keys, LedgerFault, LedgerPeer, LedgerPeerConfig};
use drain_sandbox::marketplace::AGENT_KEY;
use drain_signers::ledger::{Connect, HdPath, LedgerBackend};
use serde_json::json;

use crate::harness::{World, ask, figures, in_system, open, unspent, until, usdc, view, wish};
#[cfg(all(feature = "mpp", feature = "tempo"))]
use crate::payments::{buy, get};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, world as process_world};

const PATIENCE: Duration = Duration::from_secs(60);

/// A software Ledger that holds the agent's key.
async fn device() -> Arc<LedgerPeer> {
    let config = LedgerPeerConfig { keys: Keys::One(AGENT_KEY), ..LedgerPeerConfig::default() };
    Arc::new(LedgerPeer::start(config).await.unwrap())
}

async fn runtime(world: &World, device: &LedgerPeer, patience: Duration) -> Runtime {
    let connect = Connect::Tcp(device.address().to_string());
    let backend = LedgerBackend::new(connect, HdPath::default(), world.agent(), patience);
    world.runtime_of(world.config(), backend).await
}

/// A channel whose next voucher costs one press.
async fn opened(world: &World, device: &LedgerPeer, patience: Duration) -> (Runtime, ChannelId) {
    let runtime = runtime(world, device, patience).await;
    let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    (runtime, channel)
}

#[test]
fn every_signature_is_a_press() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let (runtime, channel) = opened(&world, &device, PATIENCE).await;
        // An allowance and the opening.
        let shown = device.screens();
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].iter().any(|screen| screen.contains("approve ERC20 token")), "{shown:?}");
        for pressed in 3..6 {
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            assert_eq!(device.screens().len(), pressed);
        }
        assert_eq!(view(&runtime, channel).await.requests, 3);
        runtime.cooperative_close(channel, drain_mcp::api::Progress::none()).await.unwrap();
        assert_eq!(device.screens().len(), 6);
    });
}

/// A payment without a channel is a press too, and the screen shows whom and how much. What the device's app does not know is
/// refused before anybody is asked to press.
#[cfg(all(feature = "mpp", feature = "tempo"))]
#[test]
fn m5_a_single_payment_is_a_press() {
    in_system(async {
        let shows = LedgerPeerConfig { keys: Keys::One(AGENT_KEY), raw_messages: true, ..LedgerPeerConfig::default() };
        let (world, device) = (World::start().await, LedgerPeer::start(shows).await.unwrap());
        let mut config = world.config();
        let elsewhere = drain_mcp::config::ChainConfig { chain_id: 4_217, ..config.chain.clone() };
        config.tempo = Some(elsewhere);
        let connect = Connect::Tcp(device.address().to_string());
        let backend = LedgerBackend::new(connect, HdPath::default(), world.agent(), PATIENCE);
        let runtime = world.runtime_of(config, backend).await;
        let server = &world.sandbox.paid;
        let reply = buy(&runtime, get(server, "/mpp/x")).await.unwrap();
        assert_eq!(reply.payment.unwrap().state, "paid");
        let shown = device.screens();
        assert_eq!(shown.len(), 1, "{shown:?}");
        let payee = server.payee().to_string();
        assert!(shown[0].iter().any(|screen| screen.contains(&payee)), "{shown:?}");
        assert!(shown[0].iter().any(|screen| screen.contains("10000")), "{shown:?}");

        server.set(|faults| faults.method = Some("tempo".into()));
        let refused = unspent(buy(&runtime, get(server, "/mpp/x")).await, Code::NotPayable);
        assert!(refused.message.contains("signer does not know"), "{refused:?}");
        assert_eq!(device.screens().len(), 1);
    });
}

/// Does something to the device.
type Break = fn(&LedgerPeer);

/// What is refused, locked or hung, by the code that a caller gets.
const FAULTS: [(Code, Break); 10] = [
    (Code::LedgerLocked, |device| device.fault(Some(LedgerFault::Locked))),
    (Code::LedgerBusy, |device| device.fault(Some(LedgerFault::Busy))),
    (Code::LedgerWrongApp, |device| device.configure(|config| config.app = "Bitcoin".into())),
    (Code::LedgerAppTooOld, |device| device.configure(|config| config.version = "1.6.0".into())),
    (Code::LedgerBlindSigningOff, |device| device.configure(|config| config.blind_signing = false)),
    (Code::LedgerRejected, |device| device.finger(Finger::Reject)),
    (Code::LedgerNoAnswer, |device| device.finger(Finger::Wait)),
    (Code::LedgerGarbled, |device| device.fault(Some(LedgerFault::Garbage))),
    (Code::LedgerGarbled, |device| device.fault(Some(LedgerFault::Truncated))),
    (Code::SignerFailed, |device| device.fault(Some(LedgerFault::OtherSignature))),
];

/// The fault is over.
fn mend(device: &LedgerPeer) {
    device.fault(None);
    device.finger(Finger::Approve);
    device.configure(|config| {
        (config.app, config.version) = ("Ethereum".into(), "1.22.0".into());
        config.blind_signing = true;
    });
}

#[test]
fn m2_m6_a_fault_at_the_device_gives_the_money_back_and_keeps_the_number() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let (runtime, channel) = opened(&world, &device, Duration::from_millis(700)).await;
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        for (code, breaks) in FAULTS {
            let before = view(&runtime, channel).await;
            let (_, number) = *figures(&world.sandbox.llm).last().unwrap();
            breaks(&device);
            let failure = unspent(ask(&runtime, channel, "sim-small", "Hello").await, code);
            assert!(failure.message.contains("Ledger") || code == Code::SignerFailed, "{failure:?}");
            let after = view(&runtime, channel).await;
            assert_eq!((after.charged, after.in_flight), (before.charged, before.in_flight), "{code:?}");
            assert_eq!((after.available, after.requests), (before.available, before.requests), "{code:?}");
            mend(&device);
            ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
            // The number of the voucher that was not signed is not used again.
            assert_eq!(figures(&world.sandbox.llm).last().unwrap().1, number + 2, "{code:?}");
        }
    });
}

#[test]
fn m7_a_fault_at_the_device_sends_no_transaction_and_binds_no_deposit() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let runtime = runtime(&world, &device, Duration::from_millis(700)).await;
        runtime.approve(Some(usdc("20")), drain_mcp::api::Progress::none()).await.unwrap();
        let (sent, held) = (world.transactions(), world.held().await);
        for (code, breaks) in FAULTS {
            breaks(&device);
            unspent(runtime.open(wish("sim-llm", "1"), drain_mcp::api::Progress::none()).await, code);
            mend(&device);
            assert_eq!((world.transactions(), world.held().await), (sent, held), "{code:?}");
            assert_eq!(runtime.balance().await.unwrap().locked, usdc("0"), "{code:?}");
            assert_eq!(world.journaled("SELECT count(*) FROM transactions WHERE state = 'planned'"), 0, "{code:?}");
        }
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
    });
}

#[test]
fn unplugged_in_the_middle_and_replugged_without_a_restart() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let (runtime, channel) = opened(&world, &device, PATIENCE).await;
        device.finger(Finger::Wait);
        let asked = actix::spawn({
            let runtime = runtime.clone();
            async move { ask(&runtime, channel, "sim-small", "Hello").await }
        });
        until("a prompt", async || device.asking()).await;
        device.unplug().await;
        unspent(asked.await.unwrap(), Code::LedgerUnplugged);
        unspent(ask(&runtime, channel, "sim-small", "Hello").await, Code::LedgerAbsent);
        assert!(figures(&world.sandbox.llm).is_empty());
        device.plug().await.unwrap();
        device.finger(Finger::Approve);
        ask(&runtime, channel, "sim-small", "Hello").await.unwrap();
        // Two numbers are gone, no money is.
        assert_eq!(figures(&world.sandbox.llm)[0].1, 3);
        assert!(view(&runtime, channel).await.in_flight.is_zero());
    });
}

#[test]
fn two_requests_wait_for_one_device() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let (runtime, first) = opened(&world, &device, PATIENCE).await;
        let second = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        assert_ne!(first, second);
        let before = device.screens().len();
        device.finger(Finger::Wait);
        let mut asked = Vec::new();
        for channel in [first, second] {
            let runtime = runtime.clone();
            asked.push(actix::spawn(async move { ask(&runtime, channel, "sim-small", "Hello").await }));
        }
        until("both are authorized", async || {
            world.journaled("SELECT count(*) FROM vouchers WHERE state = 'in_flight' OR state = 'authorized'") == 2
        })
        .await;
        until("a prompt", async || device.asking()).await;
        assert_eq!(device.screens().len(), before + 1, "one prompt at a time");
        device.finger(Finger::Approve);
        for paid in asked {
            paid.await.unwrap().unwrap();
        }
        assert_eq!(device.screens().len(), before + 2);
    });
}

/// The environment of a process whose wallet is on the device.
fn env(world: &World, device: &LedgerPeer) -> Env {
    Env::of(world)
        .without("DRAIN_PRIVATE_KEY")
        .with("DRAIN_SIGNER", "ledger")
        .with("DRAIN_LEDGER_ADDRESS", world.agent().to_string())
        .with("DRAIN_LEDGER_EMULATOR", device.address().to_string())
}

#[tokio::test]
async fn a_client_hears_what_to_press() {
    let (world, device) = (process_world().await, device().await);
    let env = env(&world, &device);
    let mut agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    let channel = agent.open("sim-llm", "1", "24h").await;

    device.finger(Finger::Wait);
    let params =
        json!({ "name": "drain_chat", "arguments": chat(&channel, "Hello"), "_meta": { "progressToken": "p" } });
    let asked = agent.ask("tools/call", params).await;
    until("a prompt", async || device.asking()).await;
    // The prompt is told before it is answered.
    let mut told = String::new();
    while !told.contains("confirm on your Ledger: pay, ") {
        let message = agent.next().await;
        assert_eq!(message["method"], "notifications/progress", "{message}");
        told.push_str(message["params"]["message"].as_str().unwrap());
    }
    assert!(told.contains(&channel), "{told}");
    device.finger(Finger::Approve);
    let answered = agent.answer(asked).await.unwrap();
    assert_ne!(answered["isError"], true, "{answered}");

    // Its faults come with their own codes, and their remedies; nothing has to be restarted.
    device.fault(Some(LedgerFault::Locked));
    let locked = agent.fails("drain_chat", chat(&channel, "Hello"), "ledger_locked").await;
    assert!(locked.text.contains("PIN") && locked.data["money"]["state"] == "not_spent", "{}", locked.text);
    device.fault(None);
    device.unplug().await;
    agent.fails("drain_chat", chat(&channel, "Hello"), "ledger_absent").await;
    device.plug().await.unwrap();
    agent.ok("drain_chat", chat(&channel, "Hello")).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    agent.leave().await;
}

/// The prompt stays on the screen, and nobody waits for it any more: neither does the process, and a late press pays nothing.
#[tokio::test]
async fn who_leaves_while_the_device_asks_pays_nothing() {
    let (world, device) = (process_world().await, device().await);
    let env = env(&world, &device);
    let mut agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    let channel = agent.open("sim-llm", "1", "24h").await;
    device.finger(Finger::Wait);
    agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&channel, "Hello") })).await;
    until("a prompt", async || device.asking()).await;
    agent.leave().await;
    device.finger(Finger::Approve);
    assert!(figures(&world.sandbox.llm).is_empty());
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    agent.ok("drain_chat", chat(&channel, "Hello")).await;
    assert_eq!(figures(&world.sandbox.llm).len(), 1);
    agent.leave().await;
}

#[tokio::test]
async fn it_starts_without_the_device_and_the_commands_say_what_to_do() {
    let (world, device) = (process_world().await, device().await);
    let env = env(&world, &device);
    let listed = env.run(&["wallet", "ledger", "list", "--count", "2", "--json"]).await.ok_json();
    assert_eq!(listed["accounts"].as_array().unwrap().len(), 4);
    assert_eq!(listed["accounts"][3]["path"], "m/44'/60'/0'/1");
    let picked = env.run(&["wallet", "ledger", "list", "--pick", "2"]).await;
    assert!(picked.stdout.contains("DRAIN_LEDGER_PATH=\"m/44'/60'/1'/0/0\""), "{picked:?}");
    let doctor = env.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("the device is connected") && doctor.code == Some(0), "{doctor:?}");
    assert!(device.screens().is_empty(), "nothing was asked of a person");

    device.unplug().await;
    let absent = env.run(&["wallet", "ledger", "list", "--json"]).await;
    assert_eq!(absent.json()["error"]["code"], "ledger_absent");
    let doctor = env.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("no Ledger is connected") && doctor.code == Some(0), "{doctor:?}");
    let mut agent = Agent::start(&env, Greeting::Initialize).await;
    agent.ok("drain_balance", json!({})).await;
    let opening = json!({ "provider": "sim-llm", "amount": "1", "duration": "24h" });
    agent.fails("drain_open_channel", opening, "ledger_absent").await;
    agent.leave().await;
    // Without an account the error names the command that shows them, and that command works.
    let nameless = env.without("DRAIN_LEDGER_ADDRESS");
    let balance = nameless.run(&["balance"]).await;
    assert!(balance.stderr.contains("drain-mcp wallet ledger list"), "{balance:?}");
    device.plug().await.unwrap();
    assert_eq!(nameless.run(&["wallet", "ledger", "list"]).await.code, Some(0));
}

/// No USB on the machines that test: the child process says so, and the runtime lives.
#[tokio::test]
async fn without_usb_a_request_fails_and_nothing_else_does() {
    let world = process_world().await;
    let usb = Env::of(&world).without("DRAIN_PRIVATE_KEY").with("DRAIN_LEDGER_ADDRESS", world.agent().to_string());
    let listed = usb.run(&["wallet", "ledger", "list", "--json"]).await;
    // On a developer's machine there may be USB, and a device: what is known is that it ends.
    let code = listed.json()["error"]["code"].as_str().unwrap_or("listed").to_owned();
    assert!(code == "listed" || code.starts_with("ledger_"), "{code}");
    if code == "ledger_no_usb" || code == "ledger_absent" {
        let mut agent = Agent::start(&usb, Greeting::Initialize).await;
        let opening = json!({ "provider": "sim-llm", "amount": "1", "duration": "24h" });
        agent.fails("drain_open_channel", opening, &code).await;
        agent.ok("drain_providers", json!({})).await;
        agent.leave().await;
    }
}

#[test]
fn m10_nothing_prompts_by_itself_and_the_operator_is_told_what_waits_for_a_press() {
    in_system(async {
        let (world, device) = (World::start().await, device().await);
        let log = world.home.path().join("told");
        let mut config = world.config();
        config.refunds.automatic = true;
        config.chain.poll_interval = Duration::from_millis(20);
        config.notify.command = Some(format!("cat >> {}", log.display()));
        let connect = Connect::Tcp(device.address().to_string());
        let backend = LedgerBackend::new(connect, HdPath::default(), world.agent(), PATIENCE);
        let runtime = world.runtime_of(config, backend).await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let pressed = device.screens().len();
        world.advance(7 * 3_600).await;
        until("the operator is told", async || {
            std::fs::read_to_string(&log).unwrap_or_default().contains("press_needed")
        })
        .await;
        assert_eq!(device.screens().len(), pressed);
        // Beside the device.
        let reports = runtime.refund(Some(3_600), drain_mcp::api::Progress::none()).await.unwrap();
        assert!(reports[0].closed.is_some(), "{reports:?}");
        assert_eq!(device.screens().len(), pressed + 1);
    });
}

/// What becomes of a call that did not wait for it: the same call, as often as it is told to make it again.
async fn collected(agent: &mut Agent, channel: &str, text: &str) -> Answer {
    let calls = async {
        loop {
            let answer = agent.call("drain_chat", chat(channel, text)).await;
            if answer.data["code"] != "waiting_for_device" {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, calls).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_outlasts_the_client_is_collected_by_the_same_call_and_asked_for_once() {
    let (world, device) = (process_world().await, device().await);
    let env = env(&world, &device);
    let mut opener = Agent::start(&env, Greeting::Discover).await;
    let channel = opener.open("sim-llm", "1", "24h").await;
    opener.leave().await;
    let env = env.with("DRAIN_DEVICE_WAIT", "300ms");
    for greeting in [Greeting::Initialize, Greeting::Discover] {
        let mut agent = Agent::start(&env, greeting).await;
        let (pressed, paid) = (device.screens().len(), figures(&world.sandbox.llm).len());
        device.finger(Finger::Wait);
        agent.fails("drain_chat", chat(&channel, "Hello"), "waiting_for_device").await;
        until("the device asks", async || device.asking()).await;
        for _ in 0..3 {
            let waiting = agent.fails("drain_chat", chat(&channel, "Hello"), "waiting_for_device").await;
            assert!(waiting.text.contains("(w1): confirm on your Ledger: pay, "), "{}", waiting.text);
            assert_eq!(waiting.data["money"]["state"], "pending");
        }
        assert_eq!(figures(&world.sandbox.llm).len(), paid);
        // The press comes while no call waits.
        device.finger(Finger::Approve);
        until("the provider is paid", async || figures(&world.sandbox.llm).len() == paid + 1).await;
        let answered = collected(&mut agent, &channel, "Hello").await;
        assert!(!answered.is_error, "{}", answered.text);
        assert_eq!((device.screens().len(), figures(&world.sandbox.llm).len()), (pressed + 1, paid + 1));
        // Rejected while no call waits: the next one is told, and the one after that asks anew.
        device.finger(Finger::Wait);
        agent.fails("drain_chat", chat(&channel, "Again"), "waiting_for_device").await;
        until("the device asks", async || device.asking()).await;
        device.finger(Finger::Reject);
        until("the prompt is gone", async || !device.asking()).await;
        let rejected = collected(&mut agent, &channel, "Again").await;
        assert_eq!(rejected.data["code"], "ledger_rejected", "{}", rejected.text);
        assert_eq!(rejected.data["money"]["state"], "not_spent");
        assert_eq!(device.screens().len(), pressed + 2, "asked once");
        device.finger(Finger::Approve);
        let anew = collected(&mut agent, &channel, "Again").await;
        assert!(!anew.is_error, "{}", anew.text);
        assert_eq!(device.screens().len(), pressed + 3);
        agent.leave().await;
    }
}
