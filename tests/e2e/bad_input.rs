//! Bad arguments and bad lines over stdio: a clear error for each, nothing spent, and the server goes on.

use alloy::primitives::U256;
use drain_protocol::Usdc;
use drain_sandbox::contracts::CHANNEL_V2;
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Env, Greeting, chat, vouchers, world};

/// Where all the money is, by the observer.
#[derive(Debug, PartialEq)]
struct Books {
    usdc: Usdc,
    gas: U256,
    locked: Usdc,
    vouchers: usize,
}

async fn books(world: &World) -> Books {
    let observer = world.sandbox.observer();
    let wallet = world.sandbox.agent().address();
    Books {
        usdc: observer.usdc_balance(wallet).await.unwrap(),
        gas: observer.native_balance(wallet).await.unwrap(),
        locked: observer.total_locked().await.unwrap(),
        vouchers: vouchers(&world.sandbox.llm).len(),
    }
}

/// A server with one open channel.
struct Bench {
    world: World,
    agent: Agent,
    channel: String,
    before: Books,
}

impl Bench {
    async fn start() -> Self {
        let world = world().await;
        // The limit on one channel stays out of the way of the others.
        let env = Env::of(&world).with("DRAIN_MAX_PER_CHANNEL", "20000000");
        let mut agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
        let channel = agent.open("sim-llm", "1", "4h").await;
        let before = books(&world).await;
        Self { world, agent, channel, before }
    }

    /// Refused before any money moved, with the code, and the message names `about`.
    async fn refuses(&mut self, tool: &str, arguments: Value, code: &str, about: &str) {
        let answer = self.agent.fails(tool, arguments.clone(), code).await;
        assert_eq!(answer.data["money"]["state"], "not_spent", "{arguments}: {}", answer.text);
        let message = answer.data["message"].as_str().unwrap();
        assert!(message.contains(about), "{about} is not named for {arguments}: {message}");
        assert!(answer.text.len() < 1_500, "bounded: {}", answer.text);
    }

    /// Nothing was spent, and the server goes on.
    async fn ends_well(mut self) {
        assert_eq!(books(&self.world).await, self.before);
        self.agent.ok("drain_chat", chat(&self.channel, "Still there?")).await;
        let ended = self.agent.leave().await;
        assert_eq!(ended.code, Some(0));
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_ids() {
    let mut bench = Bench::start().await;
    let malformed = [
        json!(""),
        json!("abc"),
        json!("0x12"),
        json!(format!("0x{}", "g".repeat(64))),
        json!("a".repeat(63)),
        json!(format!("0x{}", "a".repeat(65))),
        json!("a".repeat(100_000)),
        json!(5),
        json!(["0x12"]),
        json!({ "id": 1 }),
        Value::Null,
    ];
    let unknown = [format!("0x{}", "0".repeat(64)), format!("0x{}", "ab".repeat(32))];
    for tool in ["drain_channel_status", "drain_close_channel", "drain_cooperative_close", "drain_chat"] {
        let with = |id: Value| {
            let mut arguments = chat("", "hello");
            arguments["channelId"] = id;
            if tool == "drain_chat" { arguments } else { json!({ "channelId": arguments["channelId"] }) }
        };
        for id in malformed.clone() {
            bench.refuses(tool, with(id), "invalid_argument", "channelId").await;
        }
        for id in &unknown {
            bench.refuses(tool, with(json!(id)), "unknown_channel", "").await;
        }
    }
    bench.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amounts() {
    let mut bench = Bench::start().await;
    for amount in [
        json!(""),
        json!(" "),
        json!("-1"),
        json!("abc"),
        json!("1e3"),
        json!("0.0000001"),
        json!("1,5"),
        json!("1.2.3"),
        json!("$1"),
        json!("0x10"),
        json!("NaN"),
        json!("Infinity"),
        json!("\u{661}"),
        json!(U256::MAX.to_string()),
        json!("115792089237316195423570985008687907853269984665640564039457584007913129639936"),
        json!("18446744073709551616"),
        json!("9".repeat(100_000)),
        json!(-1),
        json!(1e300),
        json!(0.1 + 0.2),
        json!(true),
        json!([1]),
        json!({ "usdc": 1 }),
    ] {
        let wish = json!({ "provider": "sim-llm", "amount": amount, "duration": "4h" });
        bench.refuses("drain_open_channel", wish, "invalid_argument", "amount").await;
        let wish = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h", "cap": amount });
        bench.refuses("drain_open_channel", wish, "invalid_argument", "cap").await;
        bench.refuses("drain_approve", json!({ "amount": amount }), "invalid_argument", "amount").await;
        let mut request = chat(&bench.channel, "hello");
        request["maxCost"] = amount;
        bench.refuses("drain_chat", request, "invalid_argument", "maxCost").await;
    }
    for zero in [json!("0"), json!("0.000000"), json!(0)] {
        let wish = json!({ "provider": "sim-llm", "amount": zero });
        bench.refuses("drain_open_channel", wish, "invalid_argument", "amount").await;
    }
    for (amount, code, about) in [
        ("19.01", "limit_reached", "20.00"),
        ("99.000001", "insufficient_usdc", "99.00"),
        ("9999999", "insufficient_usdc", "99.00"),
    ] {
        // With the highest amount that is possible.
        bench.refuses("drain_open_channel", json!({ "provider": "sim-llm", "amount": amount }), code, about).await;
    }
    bench.refuses("drain_approve", json!({ "amount": "20.01" }), "limit_reached", "20.00").await;
    bench.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durations() {
    let mut bench = Bench::start().await;
    for duration in [
        json!(""),
        json!("0"),
        json!("0h"),
        json!("-1h"),
        json!("h"),
        json!("1x"),
        json!("1e3"),
        json!("1.5"),
        json!("1.5.5h"),
        json!("0.0001s"),
        json!("1h-30m"),
        json!("tomorrow"),
        json!("4000d"),
        json!("99999999999999999999999h"),
        json!("9".repeat(100_000)),
        json!(0),
        json!(-5),
        json!(1.5),
        json!(1e30),
        json!(true),
        json!(["1h"]),
    ] {
        let wish = json!({ "provider": "sim-llm", "amount": "0.1", "duration": duration });
        bench.refuses("drain_open_channel", wish, "invalid_argument", "duration").await;
    }
    // Outside of what the provider accepts (300 s to 30 days): both numbers are said.
    for duration in [json!("299s"), json!(60), json!("31d"), json!("1y")] {
        let wish = json!({ "provider": "sim-llm", "amount": "0.1", "duration": duration });
        let code = if duration == "1y" { "invalid_argument" } else { "duration_refused" };
        bench.refuses("drain_open_channel", wish, code, "").await;
    }
    bench.ends_well().await;
}

/// "1.5h" is 5,400 seconds, never one: read from the contract.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durations_in_words_are_exact_on_chain() {
    let world = world().await;
    let mut agent = Agent::start(&Env::of(&world), Greeting::Lines("2025-11-25")).await;
    for (duration, seconds) in [
        (json!("1.5h"), 5_400),
        (json!("1h30m"), 5_400),
        (json!("90m"), 5_400),
        (json!("1w"), 604_800),
        (json!("2 hours"), 7_200),
        (json!("3600"), 3_600),
        (json!(3_600), 3_600),
        (json!("1d"), 86_400),
    ] {
        let wish = json!({ "provider": "sim-llm", "amount": "0.1", "duration": duration });
        let opened = agent.ok("drain_open_channel", wish).await;
        let id = opened.data["channel"]["channel_id"].as_str().unwrap().parse().unwrap();
        let record = world.sandbox.observer().channel(CHANNEL_V2, id).await.unwrap();
        let mined = opened_at(&world).await;
        assert_eq!(record.expiry, U256::from(mined + seconds), "{duration}");
    }
    agent.leave().await;
}

/// The time of the newest block: nothing was mined since the opening. The chain's clock runs on meanwhile.
async fn opened_at(world: &World) -> u64 {
    let block = world.chain().call("eth_getBlockByNumber", json!(["latest", false])).unwrap();
    let hex = block["timestamp"].as_str().unwrap().trim_start_matches("0x").to_owned();
    u64::from_str_radix(&hex, 16).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_settings_of_a_request() {
    let mut bench = Bench::start().await;
    let message = |role: Value, content: Value| json!([{ "role": role, "content": content }]);
    for messages in [
        json!("hello"),
        json!([]),
        json!([1]),
        json!([{}]),
        json!([["user", "hello"]]),
        json!({ "role": "user", "content": "hello" }),
        message(json!("robot"), json!("hello")),
        message(json!(1), json!("hello")),
        message(json!("user"), json!(1)),
        message(json!("user"), Value::Null),
        message(json!("user"), json!({ "text": "hello" })),
        json!([{ "role": "user", "content": "a" }, { "role": "user" }]),
        message(json!("user"), json!("x".repeat(9 << 20))),
        message(json!("user"), json!("x".repeat(5 << 20))),
    ] {
        let request = json!({ "channelId": bench.channel, "model": "sim-small", "messages": messages });
        bench.refuses("drain_chat", request, "invalid_argument", "messages").await;
    }
    let of = |bench: &Bench, name: &str, value: &Value| {
        let mut request = chat(&bench.channel, "hello");
        request[name] = value.clone();
        request
    };
    for (name, value, code) in [
        ("maxTokens", json!(-1), "invalid_argument"),
        ("maxTokens", json!(0), "invalid_argument"),
        ("maxTokens", json!(1.5), "invalid_argument"),
        ("maxTokens", json!(1e30), "invalid_argument"),
        ("maxTokens", json!("many"), "invalid_argument"),
        ("maxTokens", json!(true), "invalid_argument"),
        ("maxTokens", json!(4_294_967_297u64), "invalid_argument"),
        ("temperature", json!(-0.1), "invalid_argument"),
        ("temperature", json!(2.1), "invalid_argument"),
        ("temperature", json!("hot"), "invalid_argument"),
        ("maxCost", json!("0"), "invalid_argument"),
        ("model", json!(""), "invalid_argument"),
        ("model", json!(7), "invalid_argument"),
        ("model", json!("m".repeat(300)), "invalid_argument"),
        ("model", json!("a\u{0}b"), "invalid_argument"),
    ] {
        let request = of(&bench, name, &value);
        bench.refuses("drain_chat", request, code, name).await;
    }
    let request = of(&bench, "model", &json!("no-such-model"));
    bench.refuses("drain_chat", request, "unknown_model", "no-such-model").await;
    let request = of(&bench, "maxCost", &json!("0.000001"));
    bench.refuses("drain_chat", request, "limit_reached", "").await;
    bench.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers() {
    let mut bench = Bench::start().await;
    let wallet = bench.world.sandbox.agent().address().to_string();
    let zero = format!("0x{}", "0".repeat(40));
    for provider in ["nobody", "sim-ll", "0x1234", &zero, &wallet, "../../etc/passwd", "sim-llm\u{202e}"] {
        for (tool, arguments) in [
            ("drain_open_channel", json!({ "provider": provider, "amount": "1", "duration": "4h" })),
            ("drain_provider_info", json!({ "provider": provider })),
        ] {
            bench.refuses(tool, arguments, "unknown_provider", "").await;
        }
    }
    for provider in [json!(""), json!("p".repeat(257)), json!("a\nb"), json!(7), json!([]), Value::Null] {
        let wish = json!({ "provider": provider, "amount": "1" });
        bench.refuses("drain_open_channel", wish, "invalid_argument", "provider").await;
        bench.refuses("drain_provider_info", json!({ "provider": provider }), "invalid_argument", "provider").await;
    }
    // A listing whose wallet is nobody's, or our own: the contract would take the money all the same.
    for listed in [zero.as_str(), &wallet, "0x12", ""] {
        assert!(bench.world.sandbox.directory.change("sim-image", |listing| listing.wallet = listed.into()));
        let wish = json!({ "provider": "sim-image", "amount": "1", "duration": "4h" });
        let answer = bench.agent.call("drain_open_channel", wish).await;
        assert!(answer.is_error, "{listed}: {}", answer.text);
        assert_eq!(answer.data["money"]["state"], "not_spent", "{}", answer.text);
    }
    bench.refuses("drain_open_channel", json!({ "provider": "sim-mpp", "amount": "1" }), "not_payable", "").await;
    for (arguments, about) in [
        (json!({ "onlineOnly": "perhaps" }), "onlineOnly"),
        (json!({ "limit": -1 }), "limit"),
        (json!({ "limit": 0 }), "limit"),
        (json!({ "format": "xml" }), "format"),
        (json!({ "protocol": "bitcoin" }), "protocol"),
        (json!({ "model": 7 }), "model"),
        (json!({ "category": ["llm"] }), "category"),
    ] {
        bench.refuses("drain_providers", arguments, "invalid_argument", about).await;
    }
    for (arguments, about) in [
        (json!({ "providerId": "sim-llm" }), "outcome"),
        (json!({ "providerId": "sim-llm", "outcome": "superb" }), "outcome"),
        (json!({ "providerId": "sim-llm", "outcome": "failure", "reason": "bad mood" }), "reason"),
        (json!({ "outcome": "success" }), "providerId"),
    ] {
        bench.refuses("drain_feedback", arguments, "invalid_argument", about).await;
    }
    bench.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_are_missing_too_many_or_no_object() {
    let mut bench = Bench::start().await;
    for (tool, about) in [
        ("drain_open_channel", "provider"),
        ("drain_provider_info", "provider"),
        ("drain_chat", "channelId"),
        ("drain_channel_status", "channelId"),
        ("drain_close_channel", "channelId"),
        ("drain_cooperative_close", "channelId"),
        ("drain_feedback", "providerId"),
    ] {
        bench.refuses(tool, json!({}), "invalid_argument", about).await;
        bench.refuses(tool, json!({ "colour": "blue" }), "invalid_argument", about).await;
    }
    // Nearly the name of a limit: ignoring it would drop the limit.
    for (name, value) in [("maxCosts", json!("0.01")), ("max_cost_usdc", json!("0.01")), ("maxToken", json!(5))] {
        let mut request = chat(&bench.channel, "hello");
        request[name] = value;
        let answer = bench.agent.call("drain_chat", request).await;
        assert!(
            answer.is_error || answer.text.contains(name),
            "{name} is refused or said to be ignored: {}",
            answer.text
        );
        bench.before.vouchers = vouchers(&bench.world.sandbox.llm).len();
    }
    let extra = bench.agent.ok("drain_channels", json!({ "colour": "blue" })).await;
    assert!(extra.text.contains("colour"), "{}", extra.text);

    for params in [
        json!({ "name": "drain_channels", "arguments": "none" }),
        json!({ "name": "drain_channels", "arguments": [1] }),
        json!({ "name": 7 }),
        json!({ "arguments": {} }),
        json!({ "name": "drain_nothing", "arguments": {} }),
        json!({ "name": "mpp_chats", "arguments": {} }),
    ] {
        let error = bench.agent.request("tools/call", params.clone()).await.unwrap_err();
        assert!(matches!(error["code"].as_i64(), Some(-32_602..=-32_600)), "{params}: {error}");
    }
    for (method, params) in [
        ("tools/dance", json!({})),
        ("resources/read", json!({ "uri": "drain://nothing" })),
        ("resources/read", json!({ "uri": "file:///etc/passwd" })),
        ("resources/read", json!({})),
    ] {
        bench.agent.request(method, params).await.unwrap_err();
    }
    bench.ends_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_no_messages() {
    let mut bench = Bench::start().await;
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":77,\"method\":\"{}\"}}", "m".repeat(1 << 20));
    let deep = "[".repeat(100_000);
    for line in [
        "",
        "this is no JSON",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"1.0","id":7,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}"#,
        // As other MCP libraries do: not the shape of a request, so there is nothing to answer.
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":999,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12345}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/nonsense"}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\"}",
        &long,
        &deep,
    ] {
        bench.agent.send_text(&format!("{line}\n")).await;
        // Whatever is answered to it, the next request is served.
        let id = bench.agent.ask("tools/list", json!({})).await;
        let mut missing = vec![id];
        // A request of a sound shape is answered, too.
        missing.extend((line == long).then_some(77));
        while !missing.is_empty() {
            let message = bench.agent.next().await;
            assert_eq!(message["jsonrpc"], "2.0");
            if message["id"] == id {
                assert_eq!(message["result"]["tools"].as_array().map(Vec::len), Some(crate::stdio::TOOLS.len()));
            }
            missing.retain(|id| message["id"] != *id);
        }
    }
    assert_eq!(books(&bench.world).await.locked, usdc("1"));
    bench.ends_well().await;
}
