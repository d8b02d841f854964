//! Providers that are not language models.

use drain_sandbox::Provider;
use drain_sandbox::provider::{Kind, Model};
use serde_json::{Value, json};

use crate::world::{Reply, World};

async fn ask(world: &World, provider: &Provider, header: &str, text: &str) -> Reply {
    let model = &provider.config().models[0].id;
    let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
    world.post(provider, Some(header), &body).await.unwrap()
}

#[tokio::test]
async fn a_forecast_for_a_flat_price() {
    let world = World::new().await;
    let data = &world.sandbox.data;
    let channel = world.open(data, 1_000_000, 86_400).await;
    let pricing = world.get(&format!("{}/v1/pricing", data.url())).await.json();
    let priced = &pricing["models"]["sim/forecast"];
    assert_eq!((&priced["inputPer1kTokens"], &priced["outputPer1kTokens"]), (&json!("0.005"), &json!("0")));

    let low = ask(&world, data, &world.voucher(data, channel, 4999, 1), "Lisbon").await;
    assert_eq!((low.status.as_u16(), low.header("x-drain-required")), (402, Some("5000")));
    let header = world.voucher(data, channel, 5000, 1);
    assert_eq!(ask(&world, data, &header, "{\"city\":\"Lisbon\",\"days\":9}").await.status, 400, "before payment");
    let first = ask(&world, data, &header, "{\"city\":\"Lisbon\",\"days\":2}").await;
    assert_eq!(first.figures(), [Some("5000"), Some("5000"), Some("995000")]);
    assert_eq!(first.json()["usage"], json!({"prompt_tokens": 0, "completion_tokens": 1, "total_tokens": 1}));
    let forecast: Value = serde_json::from_str(&first.content()).unwrap();
    assert_eq!(forecast["days"].as_array().unwrap().len(), 2);
    let again = ask(&world, data, &world.voucher(data, channel, 10_000, 2), "{\"city\":\"lisbon\",\"days\":2}").await;
    assert_eq!(serde_json::from_str::<Value>(&again.content()).unwrap()["days"], forecast["days"]);
}

#[tokio::test]
async fn a_picture_that_is_a_picture() {
    let world = World::new().await;
    let image = &world.sandbox.image;
    let channel = world.open(image, 1_000_000, 86_400).await;
    let small = ask(&world, image, &world.voucher(image, channel, 20_000, 1), "a lighthouse").await;
    let content: Value = serde_json::from_str(&small.content()).unwrap();
    assert!(content["images"][0].as_str().unwrap().starts_with("data:image/png;base64,iVBORw0KGgo"));
    let large = ask(&world, image, &world.voucher(image, channel, 40_000, 2), "{\"prompt\":\"a\",\"size\":512}").await;
    assert!(large.text.len() > 1_000_000);
    assert_eq!(large.figures()[1], Some("40000"));
}

#[tokio::test]
async fn a_price_per_item() {
    let world = World::new().await;
    let config = world.sandbox.data.config().clone().with_kind(Kind::PerItem, vec![Model::new("sim/count", 700, 0)]);
    let counter = Provider::start(config).await.unwrap();
    let channel = world.open(&counter, 1_000_000, 86_400).await;
    let three = "{\"items\":[\"one two\",\"\",\"three\"]}";
    let low = ask(&world, &counter, &world.voucher(&counter, channel, 2099, 1), three).await;
    assert_eq!(low.header("x-drain-required"), Some("2100"));
    let reply = ask(&world, &counter, &world.voucher(&counter, channel, 2100, 1), three).await;
    assert_eq!(reply.figures()[0], Some("2100"));
    let results: Value = serde_json::from_str(&reply.content()).unwrap();
    assert_eq!(results["results"][0], json!({"words": 2, "characters": 7}));
}
