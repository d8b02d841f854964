//! What answers cost and how it is said.

use drain_sandbox::provider::{Answers, ForgedHeaders, Usage};
use drain_sandbox::{Provider, Times};
use serde_json::json;

use crate::world::{World, hello};

#[tokio::test]
async fn the_sandbox_model_is_reproducible_and_honest() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 1_000_000, 86_400).await;
    let ask = async |nonce: u64, tokens: u64| {
        let body = json!({"model": "sim-large", "max_tokens": tokens,
            "messages": [{"role": "user", "content": "Summarise channels, please: channels hold deposits."}]});
        world.post(llm, Some(&world.voucher(llm, channel, 50_000, nonce)), &body).await.unwrap()
    };
    let (first, second) = (ask(1, 500).await, ask(2, 500).await);
    assert_eq!(first.content(), second.content());
    assert!(first.content().contains("not an AI"));
    let usage = &first.json()["usage"];
    let (prompt, output) = (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
    assert_eq!(output, first.content().chars().count().div_ceil(4) as u64);
    let cost = (prompt * 3750 + output * 15_000) / 1000;
    assert_eq!(first.header("x-drain-cost"), Some(cost.to_string().as_str()));
    assert_eq!(second.header("x-drain-total"), Some((2 * cost).to_string().as_str()));
    let short = ask(3, 3).await;
    assert_eq!(short.json()["usage"]["completion_tokens"], 3);
    assert_eq!(short.json()["choices"][0]["finish_reason"], "length");
    assert_eq!(short.content().len(), 12);
}

#[tokio::test]
async fn old_templates_count_the_last_cost_twice() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    llm.set(|faults| {
        faults.double_count_totals = true;
        faults.fixed_usage = Some(Usage { prompt: 8, completion: 20 });
    });
    assert_eq!(world.chat(llm, channel, 934, 1).await.figures(), [Some("330"), Some("660"), Some("4999340")]);
    assert_eq!(llm.books(channel).unwrap().total_charged, 330);
}

#[tokio::test]
async fn roundings_overcharges_and_drips() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    // 1*3750 + 1*15000 = 18.75 -> 18; separately 3 + 15.
    let mut total = 0;
    for (nonce, change) in [
        (1, (|_| {}) as fn(&mut drain_sandbox::Faults)),
        (2, |f| f.floor_each = true),
        (3, |f| f.overcharge = 500),
        (4, |f| f.inflated_usage = 3),
        (5, |f| f.overcharge_total = 7),
        (6, |f| f.drip = 11),
        (7, |f| f.price_factor = Some((2, 1))),
    ] {
        llm.reset_faults();
        llm.set(|faults| faults.fixed_usage = Some(Usage { prompt: 3, completion: 5 }));
        llm.set(change);
        let cost = [0, 86, 86, 586, 258, 86, 86, 172][nonce as usize];
        total += cost;
        let told = if nonce == 5 { total + 7 } else { total };
        let reply = world.chat(llm, channel, 5000, nonce).await;
        let [cost, told] = [cost, told].map(|units: u64| units.to_string());
        assert_eq!(reply.figures()[..2], [Some(cost.as_str()), Some(told.as_str())], "{nonce}");
        if nonce == 6 {
            total += 11;
            assert_eq!(llm.books(channel).unwrap().total_charged, total, "the drip is in the books only");
        }
    }
    llm.reset_faults();
    llm.set(|faults| faults.forged_headers = ForgedHeaders { cost: Some("-5".into()), ..Default::default() });
    assert_eq!(world.chat(llm, channel, 9000, 8).await.figures()[0], Some("-5"));
    llm.set(|faults| faults.forged_headers.omit = true);
    assert_eq!(world.chat(llm, channel, 9000, 9).await.figures(), [None; 3]);
}

#[tokio::test]
async fn a_voucher_too_small_for_the_work_loses_the_answer() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    let body = json!({"model": "sim-large", "messages": [{"role": "user", "content": "write 200 words"}]});
    let header = world.voucher(llm, channel, 900, 1);
    let reply = world.post(llm, Some(&header), &body).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("x-drain-error")), (402, Some("insufficient_funds_post")));
    let real: u64 = reply.header("x-drain-required").unwrap().parse().unwrap();
    assert!(real > 900);
    assert_eq!(llm.books(channel).unwrap().vouchers, 0);
    let reply = world.post(llm, Some(&world.voucher(llm, channel, real, 1)), &body).await.unwrap();
    assert_eq!(reply.figures()[0], Some(real.to_string().as_str()));

    // The greedy one keeps the voucher of a request that it did not serve, and can claim it.
    llm.set(|faults| {
        faults.post_check_failure = Times::next(1);
        faults.fail_500 = Times::next(0);
        faults.keep_voucher_on_failure = true;
    });
    let reply = world.chat(llm, channel, 400_000, 2).await;
    assert_eq!(reply.header("x-drain-error"), Some("insufficient_funds_post"));
    let claim = llm.claim(channel).await.unwrap();
    assert_eq!((claim.amount, claim.error), (400_000, None));
    let record = world.sandbox.observer().channel(llm.config().contract, channel).await.unwrap();
    assert_eq!(record.claimed.to::<u64>(), 400_000);
}

#[tokio::test]
async fn failures_bill_nothing() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    llm.set(|faults| faults.fail_500 = Times::next(2));
    assert_eq!(world.chat(llm, channel, 2000, 1).await.status, 500);
    assert_eq!(world.chat(llm, channel, 2000, 1).await.status, 500);
    assert_eq!(world.chat(llm, channel, 2000, 1).await.status, 200);
    assert_eq!(llm.books(channel).unwrap().vouchers, 1);
    let log = llm.request_log();
    assert_eq!(log.count("/v1/chat/completions"), 3);
    assert_eq!(log.paid.iter().filter(|request| request.outcome == "upstream_error").count(), 2);
}

#[tokio::test]
async fn pythons_longer_json_asks_for_more() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    llm.set(|faults| faults.python_preauth = true);
    // 38 characters are 10 tokens: 10*3750 + 50*15000.
    let refused = world.chat(llm, channel, 786, 1).await;
    assert_eq!(refused.header("x-drain-required"), Some("787"));
    let limit = json!({"model": "sim-large", "messages": [{"role": "user", "content": "x".repeat(110_000)}]});
    let large = world.post(llm, Some(&world.voucher(llm, channel, 5_000_000, 1)), &limit).await.unwrap();
    assert_eq!(large.status, 413);
    assert_eq!(world.post(llm, Some("{}"), &hello("sim-large")).await.unwrap().status, 402);
}

#[tokio::test]
async fn the_stub_for_benchmarks_asks_the_chain_once() {
    let world = World::new().await;
    let mut config = world.sandbox.llm.config().clone();
    config.answers = Answers::Fixed { text: "stub".into(), usage: Usage { prompt: 200, completion: 60 } };
    config.validate_on_chain = false;
    config.record = false;
    let stub = Provider::start(config).await.unwrap();
    let channel = world.open(&stub, 50_000_000, 86_400).await;
    let office = world.sandbox.office().unwrap();
    office.reset_request_count();
    // 200*3750 + 60*15000 = 1650 each; the signature is checked each time.
    let start = std::time::Instant::now();
    for nonce in 1..=200 {
        let reply = world.chat(&stub, channel, 1650 * nonce, nonce).await;
        assert_eq!(reply.figures()[1], Some((1650 * nonce).to_string().as_str()));
    }
    println!("200 requests in {:?}", start.elapsed());
    assert_eq!(office.request_count().values().sum::<u64>(), 1);
    let other = world.voucher(&world.sandbox.v1, channel, 900_000, 999);
    let refused = world.post(&stub, Some(&other), &hello("sim-large")).await.unwrap();
    assert_eq!(refused.header("x-drain-error"), Some("invalid_signature"));
    assert!(stub.request_log().paid.is_empty());
    assert_eq!(stub.request_log().count("/v1/chat/completions"), 201);
}
