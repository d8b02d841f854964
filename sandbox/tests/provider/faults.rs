//! Answers that do not arrive, or arrive as something else.

use std::time::Duration;

use drain_sandbox::Times;
use serde_json::json;

use crate::world::{World, hello};

#[tokio::test]
async fn broken_transport() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    let send = async |nonce: u64| {
        let header = world.voucher(llm, channel, 100_000, nonce);
        world.post(llm, Some(&header), &hello("sim-large")).await
    };
    let charged = || llm.books(channel).map_or(0, |books| books.total_charged);

    llm.set(|faults| faults.hang = Times::next(1));
    assert!(tokio::time::timeout(Duration::from_millis(300), send(1)).await.is_err());
    assert_eq!(charged(), 0, "a request that hangs is not billed");
    llm.set(|faults| faults.cut_before_answer = Times::next(1));
    assert!(send(1).await.is_err());
    let once = charged();
    assert!(once > 0, "billed, answer lost");
    llm.set(|faults| faults.cut_mid_body = Times::next(1));
    assert!(send(2).await.is_err());
    assert_eq!(charged(), 2 * once);
    llm.set(|faults| faults.html_answer = Times::next(1));
    assert!(send(3).await.unwrap().text.starts_with("<html>"));
    llm.set(|faults| faults.empty_answer = Times::next(1));
    let empty = send(4).await.unwrap();
    assert_eq!((empty.text.as_str(), empty.status.as_u16()), ("", 200));
    llm.set(|faults| faults.no_choices = Times::next(1));
    let bare = send(5).await.unwrap();
    assert_eq!((bare.json().get("choices"), bare.json().get("usage")), (None, None));
    assert!(bare.header("x-drain-cost").is_some());
    llm.set(|faults| faults.oversized_body = Some(3_000_000));
    assert!(send(6).await.unwrap().text.len() > 3_000_000);
    llm.reset_faults();
    llm.set(|faults| faults.redirect = Some((307, "http://169.254.169.254/".into())));
    let redirect = send(7).await.unwrap();
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (307, Some("http://169.254.169.254/")));
    llm.reset_faults();
    llm.set(|faults| faults.hostile_answer = true);
    assert!(send(8).await.unwrap().content().contains("\u{1b}[2J"));
    llm.reset_faults();
    llm.set(|faults| faults.endless_body = Times::next(1));
    assert!(tokio::time::timeout(Duration::from_millis(500), send(9)).await.is_err());
    llm.set(|faults| faults.slow = Some(Duration::from_millis(200)));
    let start = std::time::Instant::now();
    assert_eq!(send(10).await.unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_crash_resets_connections_and_keeps_books() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let channel = world.open(llm, 5_000_000, 86_400).await;
    assert_eq!(world.chat(llm, channel, 2000, 1).await.status, 200);
    llm.set_down(true);
    let header = world.voucher(llm, channel, 4000, 2);
    assert!(world.post(llm, Some(&header), &hello("sim-large")).await.is_err());
    llm.set_down(false);
    assert_eq!(world.post(llm, Some(&header), &hello("sim-large")).await.unwrap().status, 200);
    assert_eq!(llm.books(channel).unwrap().vouchers, 2);
}

#[tokio::test]
async fn prices_and_documents_lie() {
    let world = World::new().await;
    let llm = &world.sandbox.llm;
    let pricing = async || world.get(&format!("{}/v1/pricing", llm.url())).await;
    let honest = pricing().await.json();
    assert_eq!(honest["models"]["sim-small"], json!({"inputPer1kTokens": "0.000225", "outputPer1kTokens": "0.0009"}));
    assert_eq!((&honest["chainId"], &honest["decimals"]), (&json!(137), &json!(6)));
    llm.set(|faults| faults.price_factor = Some((3, 2)));
    assert_eq!(pricing().await.json()["models"]["sim-large"]["outputPer1kTokens"], "0.0225");
    llm.set(|faults| faults.pricing_wallet = Some(alloy::primitives::Address::repeat_byte(1)));
    llm.set(|faults| faults.pricing_chain = Some(80_002));
    let lies = pricing().await.json();
    assert_eq!(lies["provider"], "0x0101010101010101010101010101010101010101");
    assert_eq!(lies["chainId"], 80_002);
    llm.set(|faults| faults.pricing_empty = true);
    assert_eq!(pricing().await.json()["models"], json!({}));
    llm.set(|faults| faults.pricing_down = true);
    assert_eq!(pricing().await.status, 503);
    llm.reset_faults();
    llm.set(|faults| {
        faults.hostile_docs = true;
        faults.huge_docs = Some(200_000);
    });
    let docs = world.get(&format!("{}/v1/docs", llm.url())).await.text;
    assert!(docs.len() >= 200_000 && docs.contains('\u{7}'));
    let health = world.get(&format!("{}/health", llm.url())).await.json();
    assert_eq!((&health["status"], &health["providerName"]), (&json!("ok"), &json!("Sim-LLM")));
    let models = world.get(&format!("{}/v1/models", llm.url())).await.json();
    assert_eq!(models["data"][0]["created"], 1_772_323_200_000u64);
}
