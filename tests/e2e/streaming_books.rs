//! What a stream costs in the books: its bound, what is believed of it, and who leaves or breaks off in the middle.

use std::sync::Arc;

use drain_mcp::actors::Runtime;
use drain_mcp::error::Code;
use drain_protocol::{ChannelId, Usdc};
use drain_sandbox::provider::{Times, Usage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{World, call, figures, in_system, llm, reserved, until, usdc, view, vouchers};
use crate::process_harness::served::{STATELESS, fleet_of_one};
use crate::process_harness::{Agent, Env, chat, world};
use crate::relay::LINES;
use crate::streaming::{Listened, asked_for_a_stream, billed, held, settled, theirs};

/// Providers count the tokens of a stream by four characters: those of an honest model are often longer.
#[test]
fn a_long_honest_stream_leaves_no_arrears() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| faults.fixed_usage = Some(Usage { prompt: 10, completion: 450 }));
        let mut cut = call(channel, "sim-small", "write 400 words");
        cut.max_tokens = Some(300);
        for _ in 0..2 {
            let (paid, _) = Listened::of(&runtime, cut.clone()).paid().await;
            assert_eq!((paid.disputed, paid.finish_reason.as_deref()), (Usdc::ZERO, Some("length")));
            settled(&runtime, channel, &world).await;
        }
        assert_eq!(asked_for_a_stream(&world), [true, true]);
    });
}

/// A stream's bound is higher: what it would pass is answered at once, with as many tokens as were asked for.
#[test]
fn for_a_stream_nothing_is_refused_shortened_or_asked() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        let mut tight = call(channel, "sim-small", "Hello");
        (tight.max_tokens, tight.max_cost) = (Some(1_000), Some(usdc("0.001")));
        let (paid, _) = Listened::of(&runtime, tight.clone()).paid().await;
        assert_eq!((paid.max_tokens_sent, asked_for_a_stream(&world)), (Some(1_000), vec![false]));
        tight.max_cost = Some(usdc("0.003"));
        Listened::of(&runtime, tight.clone()).paid().await;
        assert_eq!(asked_for_a_stream(&world), [false, true]);
        drop(runtime);

        // A budget that leaves enough for the answer at once, and a person who would be asked for more only.
        let signed = Usdc::from_units(figures(&world.sandbox.llm).last().unwrap().0).unwrap();
        let (mut budget, mut person) = (world.config(), world.config());
        Arc::make_mut(&mut budget.limits).per_hour = signed.saturating_add(usdc("0.004"));
        Arc::make_mut(&mut person.limits).approve.request = Some(usdc("0.001"));
        for (config, tokens) in [(budget, 4_000), (person, 1_000)] {
            let runtime = world.runtime_with(config).await;
            let mut call = call(channel, "sim-small", "Hello");
            call.max_tokens = Some(tokens);
            let (paid, _) = Listened::of(&runtime, call).paid().await;
            assert_eq!(paid.max_tokens_sent, Some(tokens));
            assert_eq!(asked_for_a_stream(&world).last(), Some(&false));
        }
    });
}

/// Usage is no cost: providers of streams charge by their own estimate.
#[test]
fn usage_without_a_cost_settles_nothing() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| (faults.no_trailer, faults.stream_usage) = (Times::next(1), true));
        let (paid, _) = Listened::of(&runtime, call(channel, "sim-small", "write 60 words")).paid().await;
        let seen = view(&runtime, channel).await;
        assert_eq!((seen.in_flight, seen.charged), (paid.cost, Usdc::ZERO));
        world.sandbox.llm.reset_faults();
        Listened::of(&runtime, call(channel, "sim-small", "write 9 words")).paid().await;
        settled(&runtime, channel, &world).await;
    });
}

#[test]
fn a_total_that_counts_a_cost_twice_settles_no_broken_stream() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        world.sandbox.llm.set(|faults| (faults.cut_stream, faults.double_count_totals) = (Times::next(1), true));
        let (broken, _) = Listened::of(&runtime, call(channel, "sim-small", "write 60 words")).end().await;
        let at_most = reserved(broken, Code::AnswerLost);
        let (paid, _) = Listened::of(&runtime, call(channel, "sim-small", "write 20 words")).paid().await;
        assert_eq!((paid.channel.in_flight, paid.channel.charged), (at_most, paid.cost));
        world.sandbox.llm.reset_faults();
        Listened::of(&runtime, call(channel, "sim-small", "write 4 words")).paid().await;
        settled(&runtime, channel, &world).await;
    });
}

/// Sends each of these parts by itself, whatever is asked; one that does not end goes on for ever.
async fn says(parts: &'static [&'static [u8]], ends: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            for part in parts {
                let _ = stream.write_all(part).await;
                tokio::task::yield_now().await;
            }
            while !ends
                && stream.write_all(b"data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n").await.is_ok()
            {
            }
        }
    });
    url
}

/// The runtime after a restart in which the channel's provider is reached at `url`.
async fn moved(world: &World, runtime: Runtime, url: &str) -> Runtime {
    drop(runtime);
    world.journal().execute("UPDATE channels SET api_url = ?1", [url]).unwrap();
    world.runtime().await
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: Text/Event-Stream; charset=utf-8\r\nconnection: close\r\n\r\n";

#[test]
fn a_stream_is_read_wherever_it_is_cut_and_no_further_than_its_limit() {
    in_system(async {
        let world = World::start().await;
        let (runtime, channel) = llm(&world).await;
        // CRLF, letters and a crab in two parts each, a comment that is chatter, a cost in two parts.
        let parts: &[&[u8]] = &[
            HEAD,
            b"\xef\xbb\xbf: hello\r\n\r\nevent: message\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"Gr\xc3",
            b"\xbc\xc3\x9fe \xf0\x9f",
            b"\xa6\x80\"}}]}\r",
            b"\n\r",
            b"\ndata: [DO",
            b"NE]\r\n\r\n: X-DRAIN-Cost: 1",
            b"2\r\n: x-drain-total: 12\r\n",
        ];
        let runtime = moved(&world, runtime, &says(parts, true).await).await;
        let (paid, heard) = Listened::of(&runtime, call(channel, "sim-small", "Hello")).paid().await;
        assert_eq!((paid.content.as_str(), paid.cost, paid.disputed), ("Grüße 🦀", Usdc::new(12), Usdc::ZERO));
        assert_eq!(heard, paid.content);

        let runtime = moved(&world, runtime, &says(&[HEAD], false).await).await;
        let (lost, heard) = Listened::of(&runtime, call(channel, "sim-small", "Hello")).end().await;
        let failure = lost.unwrap_err();
        assert!(failure.message.contains("1048576") && failure.message.contains("word word"), "{failure:?}");
        assert!(failure.message.len() < 2_000 && heard.len() <= 1 << 20);
        let at_most = reserved(Err::<(), _>(failure), Code::AnswerLost);
        assert_eq!(view(&runtime, channel).await.in_flight, at_most);
    });
}

fn calling(arguments: Value, stateless: bool) -> Value {
    let mut meta = json!({ "progressToken": "t" });
    if stateless {
        meta["io.modelcontextprotocol/protocolVersion"] = json!(STATELESS);
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    json!({ "name": "drain_chat", "arguments": arguments, "_meta": meta })
}

/// A process that shares the wallet hears through the one that has it; when it dies, the books still come right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_shares_the_wallet_may_die_in_the_middle() {
    let world = world().await;
    let mut holder = Agent::start(&Env::of(&world), LINES).await;
    let id = holder.open("sim-llm", "1", "4h").await;
    let mut thin = Agent::start(&Env::of(&world), LINES).await;
    let go_on = held(&world);
    thin.ask("tools/call", calling(chat(&id, "write 120 words"), false)).await;
    while theirs(&thin.next().await).is_none() {}
    thin.kill().await;
    assert_eq!(billed(&world), Usdc::ZERO, "it had ended");
    go_on.notify_one();
    world.sandbox.llm.reset_faults();
    // It waits its turn behind what was begun.
    holder.ok("drain_chat", chat(&id, "And now?")).await;
    let status = holder.ok("drain_channel_status", json!({ "channelId": id })).await;
    let charged = usdc(status.data["charged"].as_str().unwrap());
    assert_eq!((charged, status.data["in_flight"].as_str()), (billed(&world), Some("0.00")));
    assert_eq!(vouchers(&world.sandbox.llm).len(), 2);
    holder.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http_hears_parts_and_may_leave_in_the_middle() {
    let (world, served, token) = fleet_of_one().await;
    let session = served.session(&token, "2025-11-25").await;
    let wish = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let opened = session.ok("drain_open_channel", wish).await;
    let id = opened.data["channel"]["channel_id"].as_str().unwrap().to_owned();
    assert!(id.parse::<ChannelId>().is_ok());
    let go_on = held(&world);
    for stateless in [false, true] {
        let before = billed(&world);
        let params = calling(chat(&id, "write 120 words"), stateless);
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
        let request = if stateless {
            let request = served.post(&token, &message).header("mcp-protocol-version", STATELESS);
            request.header("mcp-method", "tools/call").header("mcp-name", "drain_chat")
        } else {
            session.post(&message)
        };
        let mut answer = request.send().await.unwrap();
        let mut text = String::new();
        while !text.contains("provider: ") {
            let more = answer.chunk().await.unwrap().unwrap_or_else(|| panic!("it ended: {text}"));
            text.push_str(&String::from_utf8_lossy(&more));
        }
        assert_eq!(billed(&world), before, "it had ended");
        drop(answer);
        go_on.notify_one();
        let status = async || session.ok("drain_channel_status", json!({ "channelId": id })).await.data;
        until("the cost is booked", async || billed(&world) > before && status().await["in_flight"] == "0.00").await;
        assert_eq!(usdc(status().await["charged"].as_str().unwrap()), billed(&world));
    }
    served.stop().await;
}
