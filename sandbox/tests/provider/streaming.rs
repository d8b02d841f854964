//! Streamed answers and their trailers.

use std::time::Duration;

use drain_sandbox::Times;
use serde_json::{Value, json};

use crate::world::World;

fn body(text: &str) -> Value {
    json!({"model": "sim-large", "stream": true, "messages": [{"role": "user", "content": text}]})
}

fn text_of(stream: &str) -> String {
    let chunks = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let texts = chunks.map(|data| serde_json::from_str::<Value>(data).unwrap());
    texts.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn chunks_then_done_then_the_trailer() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    let request = body("write 40 words");
    let reply = world.post(llm, Some(&world.voucher(llm, channel, 20_000, 1)), &request).await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    assert_eq!(reply.figures(), [None; 3]);
    assert_eq!(reply.header("x-drain-channel"), Some(format!("{channel:#x}").as_str()));
    let (chunks, trailer) = reply.text.split_once("data: [DONE]\n\n").unwrap();
    let text = text_of(chunks);
    assert_eq!(text.split(' ').count(), 40);
    assert!(!chunks.contains("usage"));
    let prompt = request["messages"].to_string().len().div_ceil(4);
    let cost = (prompt * 3750 + text.len().div_ceil(4) * 15_000) / 1000;
    let remaining = 5_000_000 - cost;
    assert_eq!(trailer, format!(": X-DRAIN-Cost: {cost}\n: X-DRAIN-Total: {cost}\n: X-DRAIN-Remaining: {remaining}\n"));
    assert_eq!(llm.books(channel).unwrap().total_charged, cost as u64);
}

#[tokio::test]
async fn a_stream_may_cost_more_than_its_voucher() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    let header = world.voucher(llm, channel, 900, 1);
    assert_eq!(world.post(llm, Some(&header), &body("write 300 words")).await.unwrap().status, 200);
    let charged = llm.books(channel).unwrap().total_charged;
    assert!(charged > 900);
    let refused = world.chat(llm, channel, 1700, 2).await;
    assert_eq!(refused.header("x-drain-provided"), Some((1700 - charged as i64).to_string().as_str()), "arrears");
}

#[tokio::test]
async fn streams_break_in_their_ways() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    let send = async |nonce: u64| {
        let header = world.voucher(llm, channel, 100_000, nonce);
        world.post(llm, Some(&header), &body("write 100 words")).await
    };
    llm.set(|faults| faults.cut_stream = Times::next(1));
    assert!(send(1).await.is_err());
    llm.set(|faults| faults.stream_error = Times::next(1));
    let broken = send(1).await.unwrap().text;
    assert!(broken.ends_with("data: {\"error\": \"upstream failed\"}\n\n") && !broken.contains("[DONE]"));
    assert_eq!(llm.books(channel).unwrap().vouchers, 0, "nothing billed");
    llm.set(|faults| faults.no_trailer = Times::next(1));
    assert!(send(1).await.unwrap().text.ends_with("data: [DONE]\n\n"));
    assert_eq!(llm.books(channel).unwrap().vouchers, 1);
    llm.set(|faults| faults.stall_stream = Times::next(1));
    assert!(tokio::time::timeout(Duration::from_millis(300), send(2)).await.is_err());
    llm.set(|faults| faults.stream_usage = true);
    assert!(send(2).await.unwrap().text.contains("\"usage\""));
}

#[tokio::test]
async fn a_consumer_that_leaves_is_billed() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    llm.set(|faults| faults.chunk_delay = Some(Duration::from_millis(10)));
    let header = world.voucher(llm, channel, 100_000, 1);
    let request = body("write 20 words");
    let sent = world.post(llm, Some(&header), &request);
    assert!(tokio::time::timeout(Duration::from_millis(50), sent).await.is_err());
    for _ in 0..100 {
        if llm.books(channel).is_some_and(|books| books.total_charged > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the abandoned stream was not billed");
}
