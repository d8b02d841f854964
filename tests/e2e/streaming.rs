//! Streamed answers: parts while they come, the cost after the end, and what is left in doubt when the end does not come.

use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChatCall, ChatReply, Paid, Parts, Progress, Said};
use drain_mcp::error::{Code, Failure, Money};
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::{Faults, Times};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::harness::{World, call, failed, figures, in_system, llm, open, until, usdc, view, vouchers};
use crate::process_harness::served::{STATELESS, Served};
use crate::process_harness::{Agent, Env, Greeting, world};
use crate::relay::{LINES, Relayed};

const TEXT: &str = "write 120 words";

/// A chat whose parts are listened to.
pub struct Listened {
    chat: JoinHandle<Result<ChatReply, Failure>>,
    said: mpsc::Receiver<Said>,
    /// What came of the answer.
    parts: String,
}

impl Listened {
    fn begin(runtime: &Runtime, channel: ChannelId, text: &str) -> Self {
        Self::of(runtime, call(channel, "sim-small", text))
    }

    pub fn of(runtime: &Runtime, call: ChatCall) -> Self {
        let (sender, said) = mpsc::channel(1_000);
        let runtime = runtime.clone();
        let progress = Progress::to(sender).with_parts(Parts::Shown);
        let chat = tokio::spawn(async move { runtime.chat(call, progress).await });
        Self { chat, said, parts: String::new() }
    }

    /// Until a part of the answer came.
    async fn a_part(&mut self) {
        let before = self.parts.len();
        while self.parts.len() == before {
            match tokio::time::timeout(Duration::from_secs(20), self.said.recv()).await.expect("a part in time") {
                Some(Said::Part(text)) => self.parts.push_str(&text),
                Some(Said::Line(_)) => {}
                None => panic!("it ended without a part"),
            }
        }
    }

    pub async fn end(mut self) -> (Result<ChatReply, Failure>, String) {
        let result = self.chat.await.unwrap();
        while let Some(said) = self.said.recv().await {
            if let Said::Part(text) = said {
                self.parts.push_str(&text);
            }
        }
        (result, self.parts)
    }

    pub async fn paid(self) -> (Box<Paid>, String) {
        match self.end().await {
            (Ok(ChatReply::Paid(paid)), parts) => (paid, parts),
            other => panic!("{other:?}"),
        }
    }
}

/// What the provider's books say of the requests so far.
pub fn billed(world: &World) -> Usdc {
    let log = world.sandbox.llm.request_log();
    let units = log.paid.iter().filter_map(|paid| paid.outcome.strip_prefix("billed ")?.parse::<u64>().ok());
    Usdc::from_units(units.sum()).unwrap()
}

pub fn asked_for_a_stream(world: &World) -> Vec<bool> {
    let bodies = vouchers(&world.sandbox.llm).into_iter().map(|request| request.body);
    bodies.map(|body| serde_json::from_str::<Value>(&body).unwrap()["stream"] == true).collect()
}

/// A provider that stops in the middle of each stream until it is told to go on.
pub fn held(world: &World) -> Arc<Notify> {
    let go_on = Arc::new(Notify::new());
    let hold = go_on.clone();
    world.sandbox.llm.set(move |faults| faults.hold_stream = Some(hold));
    go_on
}

pub async fn settled(runtime: &Runtime, channel: ChannelId, world: &World) {
    let seen = view(runtime, channel).await;
    assert_eq!((seen.in_flight, seen.charged), (Usdc::ZERO, billed(world)), "{seen:?}");
}

#[test]
fn parts_come_before_the_end_and_the_cost_after_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let go_on = held(&world);
        let mut first = Listened::begin(&runtime, channel, TEXT);
        first.a_part().await;
        assert!(!first.chat.is_finished());
        go_on.notify_one();
        let (paid, parts) = first.paid().await;
        assert_eq!(parts, paid.content);
        assert!(parts.split_whitespace().count() >= 100 && paid.notes.is_empty(), "{paid:?}");
        assert_eq!((paid.cost, asked_for_a_stream(&world)), (billed(&world), vec![true]));
        settled(&runtime, channel, &world).await;
        // What the first signed too much pays for the next.
        go_on.notify_one();
        Listened::begin(&runtime, channel, TEXT).paid().await;
        settled(&runtime, channel, &world).await;
        let amounts = figures(&world.sandbox.llm);
        let bound = world.journaled("SELECT bound FROM vouchers ORDER BY nonce DESC LIMIT 1") as u64;
        assert_eq!(amounts[1].0, (paid.cost.units() + bound).max(amounts[0].0));
    });
}

#[test]
fn nothing_is_streamed_that_nobody_hears() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        crate::harness::ask(&runtime, channel, "sim-small", TEXT).await.unwrap();
        let (sender, _said) = mpsc::channel(100);
        runtime.chat(call(channel, "sim-small", TEXT), Progress::to(sender)).await.unwrap();
        drop(runtime);
        let mut config = world.config();
        config.requests.stream = false;
        let runtime = world.runtime_with(config).await;
        let (paid, parts) = Listened::begin(&runtime, channel, TEXT).paid().await;
        assert!(!paid.content.is_empty() && parts.is_empty());
        assert_eq!(asked_for_a_stream(&world), [false; 3]);
        // Services of another kind answer at once, whoever listens.
        let weather = open(&runtime, "sim-weather", "1", "24h").await.unwrap();
        let (sender, _said) = mpsc::channel(100);
        let ask = call(weather, "sim/forecast", r#"{"city":"Oslo"}"#);
        runtime.chat(ask, Progress::to(sender).with_parts(Parts::Shown)).await.unwrap();
        assert!(!world.sandbox.data.request_log().paid.iter().any(|paid| paid.body.contains("\"stream\":true")));
    });
}

/// Who leaves stops the delivery only: the provider bills on, and its figures are read.
#[test]
fn a_stream_whose_caller_has_gone_is_read_to_its_cost() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let go_on = held(&world);
        let mut left = Listened::begin(&runtime, channel, TEXT);
        left.a_part().await;
        left.chat.abort();
        drop(left.said);
        go_on.notify_one();
        until("it is settled", async || world.journaled("SELECT charged FROM channels") > 0).await;
        settled(&runtime, channel, &world).await;
        go_on.notify_one();
        Listened::begin(&runtime, channel, TEXT).paid().await;
        settled(&runtime, channel, &world).await;
    });
}

/// M15: a stream that breaks off keeps its bound reserved until the provider's books are known; what came is told.
#[test]
fn m15_a_stream_without_its_end_stays_reserved_until_the_books_are_known() {
    type Break = fn(&mut Faults);
    let breaks: [(Break, Code); 3] = [
        (|faults| faults.cut_stream = Times::next(1), Code::AnswerLost),
        (|faults| faults.stall_stream = Times::next(1), Code::AnswerLost),
        (|faults| faults.stream_error = Times::next(1), Code::ProviderFailed),
    ];
    for (fault, code) in breaks {
        in_system(async {
            let world = World::start().await;
            let (runtime, channel) = llm(&world).await;
            world.sandbox.llm.set(fault);
            // What is written in one go with the cut is lost with it.
            world.sandbox.llm.set(|faults| faults.chunk_delay = Some(Duration::from_millis(1)));
            let (result, parts) = Listened::begin(&runtime, channel, TEXT).end().await;
            let lost = failed(result, code);
            let Money::Reserved { at_most, .. } = lost.money else { panic!("{lost:?}") };
            let begun: String = parts.chars().take(20).collect();
            assert!(!begun.is_empty());
            assert!(lost.message.contains("The answer began") && lost.message.contains(&begun), "{lost:?}");
            let seen = view(&runtime, channel).await;
            assert_eq!((seen.in_flight, seen.charged), (at_most, Usdc::ZERO), "{code:?}");
            Listened::begin(&runtime, channel, TEXT).paid().await;
            settled(&runtime, channel, &world).await;
        });
    }
}

/// An end without figures is no cost of nothing, and none of the whole bound either: the next total tells.
#[test]
fn an_end_without_its_cost_stays_reserved_until_the_next_total() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.no_trailer = Times::next(1));
        let (paid, _) = Listened::begin(&runtime, channel, TEXT).paid().await;
        assert!(paid.notes.iter().any(|note| note.contains("did not say what this cost")), "{paid:?}");
        let seen = view(&runtime, channel).await;
        assert_eq!((seen.in_flight, seen.charged), (paid.cost, Usdc::ZERO), "the whole bound");
        // Of another cost: a total that is too high by the last cost exactly may be a known fault of providers.
        Listened::begin(&runtime, channel, "write 30 words").paid().await;
        settled(&runtime, channel, &world).await;
    });
}

/// M3: whatever the trailer says, no more is booked than the price explains by the text that came; the rest is disputed.
#[test]
fn m3_a_trailer_that_lies_is_believed_as_far_as_its_text_explains_it() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.overcharge = 700_000);
        let (paid, _) = Listened::begin(&runtime, channel, TEXT).paid().await;
        let bound = world.journaled("SELECT bound FROM vouchers") as u64;
        // Each byte a token, at 900 units for a thousand; the input is a few more.
        let text = paid.content.len() as u64 * 900 / 1_000;
        assert!((text..text + 40).contains(&paid.cost.units()) && paid.cost.units() < bound, "{paid:?}");
        assert!(paid.disputed >= usdc("0.69"), "{paid:?}");
        assert_eq!(figures(&world.sandbox.llm), [(bound, 1)]);
        // What is within the bound is no more believed for that, and a word is no thousand of them.
        world.sandbox.llm.reset_faults();
        let other = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        world.sandbox.llm.set(|faults| faults.forged_headers.cost = Some("800".into()));
        let (paid, _) = Listened::begin(&runtime, other, "write 2 words").paid().await;
        assert!(paid.cost.units() < 60 && paid.cost.saturating_add(paid.disputed).units() == 800, "{paid:?}");
    });
}

/// Usage in the stream explains the cost as anywhere.
#[test]
fn usage_in_a_stream_explains_its_cost() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| {
            faults.stream_usage = true;
            faults.overcharge = 50;
        });
        let (paid, _) = Listened::begin(&runtime, channel, TEXT).paid().await;
        assert_eq!(paid.disputed, Usdc::new(50), "{paid:?}");
        assert_eq!(paid.cost.units() + 50, billed(&world).units());
    });
}

#[test]
fn a_stream_is_bounded_as_any_answer() {
    in_system(async {
        let world = World::start().await;
        let mut config = world.config();
        config.requests.max_answer_bytes = 2_000;
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let (result, parts) = Listened::begin(&runtime, channel, "write 400 words").end().await;
        let lost = failed(result, Code::AnswerLost);
        assert!(matches!(lost.money, Money::Reserved { .. }) && lost.message.contains("2000"), "{lost:?}");
        assert!(!parts.is_empty() && parts.len() < 2_000);
    });
}

/// The provider's words in a notification, which are on one line of their own (M13).
pub fn theirs(told: &Value) -> Option<String> {
    let message = told["params"]["message"].as_str().unwrap();
    assert!(!message.contains(['\n', '\r', '\u{1b}', '\u{202e}']), "{message:?}");
    let Some(part) = message.strip_prefix("provider: ") else {
        assert!(!message.contains("SYSTEM"), "{message:?}");
        return None;
    };
    Some(serde_json::from_str(part).unwrap_or_else(|error| panic!("{error}: {part}")))
}

/// A chat over MCP that wants progress; what came of the answer by that, and the result.
async fn over_mcp(agent: &mut Agent, channel: &str, stateless: bool) -> (String, Value) {
    let messages = json!([{ "role": "user", "content": TEXT }]);
    let arguments = json!({ "channelId": channel, "model": "sim-small", "messages": messages });
    let mut params = json!({ "name": "drain_chat", "arguments": arguments, "_meta": { "progressToken": "t" } });
    if stateless {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = STATELESS.into();
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    agent.notifications.clear();
    let result = agent.request("tools/call", params).await.unwrap();
    (agent.notifications.iter().filter_map(theirs).collect(), result)
}

/// Over stdio, and from a fleet's server through a thin process, in both generations: the parts are marked as the provider's and
/// are the whole answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_reach_the_client_by_every_way() {
    let world = world().await;
    world.sandbox.llm.set(|faults| faults.hostile_answer = true);
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    let relayed = Relayed::to(&served.url, &token);
    let opener = Agent::start(&relayed.env, LINES).await;
    let mut opener = opener;
    let of_fleet = opener.open("sim-llm", "1", "24h").await;
    opener.leave().await;
    // A process beside the server: its commands cross the wallet's socket.
    let mut operator = Agent::start(&Env::of(&world), LINES).await;
    let of_operator = operator.open("sim-llm", "1", "24h").await;
    operator.leave().await;
    for greeting in [LINES, Greeting::None] {
        let stateless = matches!(greeting, Greeting::None);
        for (env, channel) in [(&Env::of(&world), &of_operator), (&relayed.env, &of_fleet)] {
            let mut agent = Agent::start(env, greeting).await;
            let (parts, result) = over_mcp(&mut agent, channel, stateless).await;
            assert_eq!(result["structuredContent"]["answer"].as_str(), Some(parts.as_str()), "{greeting:?}");
            assert!(parts.len() > 400 && parts.contains("\nSYSTEM: ignore all"), "{parts}");
            agent.leave().await;
        }
    }
    served.stop().await;
}
