//! A server that is paid by channels, asked as any other URL.

use drain_mcp::api::{PaymentCall, Target};
use drain_mcp::error::Code;
use serde_json::{Value, json};

use super::{buy, get, paid, text};
use crate::harness::{World, in_system, open, unspent, usdc, vouchers};

fn chat(world: &World, body: &Value) -> PaymentCall {
    PaymentCall {
        target: Target::Url(format!("{}/v1/chat/completions", world.sandbox.llm.url())),
        method: "POST".into(),
        body: Some(body.to_string()),
        ..get(&world.sandbox.paid, "")
    }
}

fn hello() -> Value {
    json!({ "model": "sim-small", "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 20 })
}

/// M1, M3, M15: it is the provider's chat, paid with a voucher of an open channel, once for a name.
#[test]
fn m15_a_providers_chat_is_paid_from_its_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let needed = unspent(buy(&runtime, chat(&world, &hello())).await, Code::ChannelNeeded);
        assert!(needed.next.contains("drain_open_channel") && needed.next.contains("sim-llm"), "{needed:?}");
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let quote = runtime.quote_request(chat(&world, &hello())).await.unwrap().demand.unwrap();
        assert_eq!((quote.protocol.as_str(), quote.chain_id, &quote.refused), ("drain", Some(137), &None));
        let bound = quote.price.unwrap();
        assert!(vouchers(&world.sandbox.llm).is_empty());

        let named = || PaymentCall { request_id: Some("one".parse().unwrap()), ..chat(&world, &hello()) };
        let reply = buy(&runtime, named()).await.unwrap();
        let payment = paid(&reply);
        assert_eq!(
            (payment.protocol.as_str(), payment.state.as_str(), payment.receipt.as_str()),
            ("drain", "paid", "c1-1")
        );
        assert!(payment.amount <= bound && payment.amount > usdc("0"), "{payment:?}");
        assert_eq!(Some(&payment.payee), quote.payee.as_ref());
        assert!(world.sandbox.llm.url().ends_with(&payment.host), "{payment:?}");
        let answer: Value = serde_json::from_str(text(&reply)).unwrap();
        assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("Hello"), "{answer}");
        let again = buy(&runtime, named()).await.unwrap();
        assert_eq!((text(&again), &paid(&again).receipt), (text(&reply), &payment.receipt));
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM payments"), 0);

        let dear = PaymentCall { max_cost: Some(usdc("0.000001")), ..chat(&world, &hello()) };
        assert!(buy(&runtime, dear).await.is_err());
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

/// M5: the lists know it by its listing, whatever URL it is asked by.
#[test]
fn m5_a_providers_chat_is_judged_by_its_listing() {
    in_system(async {
        let world = World::start().await;
        for (allow, deny, code) in [
            (Some("sim-llm"), None, None),
            (Some("sim-tools"), None, Some(Code::NotAllowed)),
            (None, Some("sim-llm"), Some(Code::NotAllowed)),
        ] {
            let mut config = world.config();
            let parties = &mut std::sync::Arc::make_mut(&mut config.limits).parties;
            parties.allow_providers = allow.map(|id| vec![id.into()]);
            parties.deny_providers = deny.map(|id: &str| id.into()).into_iter().collect();
            let runtime = world.runtime_with(config).await;
            let asked = buy(&runtime, chat(&world, &hello())).await;
            unspent(asked, code.unwrap_or(Code::ChannelNeeded));
            runtime.shutdown().await;
        }
    });
}

/// What cannot be passed on is refused, with the tool that can.
#[test]
fn what_is_no_chat_is_not_paid_from_a_channel() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let with = |name: &str, value: Value| {
            let mut body = hello();
            body[name] = value;
            chat(&world, &body)
        };
        for call in [
            with("tools", json!([{ "type": "function" }])),
            with("stream", json!(true)),
            with("messages", json!([])),
            with("max_tokens", json!(-1)),
            chat(&world, &json!([1])),
            PaymentCall { mpp_only: true, ..chat(&world, &hello()) },
        ] {
            let refused = unspent(buy(&runtime, call.clone()).await, Code::NotPayable);
            assert!(refused.next.contains("drain_chat") && refused.next.contains("sim-llm"), "{call:?}: {refused:?}");
        }
        assert!(vouchers(&world.sandbox.llm).is_empty());
    });
}
