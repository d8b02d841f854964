//! The OpenAI-compatible gateway: who is paid for a model, what a client is told of the cost, and what it must not repeat.

use std::time::Duration;

use drain_sandbox::provider::{Faults, Times};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::World;
use crate::process_harness::served::Served;
use crate::process_harness::{Env, until, vouchers, world};

const MODEL: &str = "sim-small";

/// A server and an agent that may open channels of a dollar to the sandbox's first provider.
async fn gateway(world: &World) -> (Served, String) {
    let served = Served::start(&Env::of(world).with("DRAIN_AUTO_OPEN", "1")).await;
    let token = served.agent("ann", &["--allow-providers", "sim-llm", "--auto-open", "1"]).await;
    (served, token)
}

fn body(text: &str) -> Value {
    json!({ "model": MODEL, "messages": [{ "role": "user", "content": text }] })
}

async fn ask(served: &Served, token: &str, body: &Value) -> Response {
    served.request(Method::POST, "/v1/chat/completions").bearer_auth(token).json(body).send().await.unwrap()
}

async fn named(served: &Served, token: &str, name: &str, body: &Value) -> Response {
    let request = served.request(Method::POST, "/v1/chat/completions").bearer_auth(token).json(body);
    request.header("idempotency-key", name).send().await.unwrap()
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).unwrap_or_else(|| panic!("{name} in {:?}", answer.headers())).to_str().unwrap()
}

/// Status, whether it may be repeated, and the error's code.
async fn refused(answer: Response) -> (StatusCode, String, String) {
    let (status, retry) = (answer.status(), header(&answer, "x-should-retry").to_owned());
    let body: Value = answer.json().await.unwrap();
    println!("{status} {body}");
    assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    (status, retry, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn told(status: StatusCode, retry: &str, code: &str) -> (StatusCode, String, String) {
    (status, retry.into(), code.into())
}

/// The events of a stream.
fn events(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_picks_its_provider_and_the_cost_comes_back() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    let answer = ask(&served, &token, &body("Say hello")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let (cost, receipt) = (header(&answer, "x-drain-cost").to_owned(), header(&answer, "x-drain-receipt").to_owned());
    assert_eq!((header(&answer, "x-drain-provider"), header(&answer, "x-drain-play-money")), ("sim-llm", "yes"));
    let text = answer.text().await.unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!(MODEL)), "{whole}");
    assert!(whole["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()), "{whole}");
    assert!(whole["usage"]["total_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{whole}");
    // The digits of the amount, and no float of it.
    assert!(text.contains(&format!("\"cost\":{cost}}}")), "{text}");
    assert_eq!((&whole["drain"]["cost"], &whole["drain"]["receipt"]), (&json!(cost), &json!(receipt)), "{whole}");
    let billed = vouchers(&world.sandbox.llm);
    assert_eq!(billed.len(), 1);
    // The next one is paid from the same channel, whichever way the model is named; what is left out is told.
    let again = json!({ "model": format!("sim-llm/{MODEL}"), "messages": [{ "role": "user", "content": "Again" }], "top_p": 0.5 });
    let again = ask(&served, &token, &again).await;
    assert_eq!((again.status(), header(&again, "x-drain-left-out")), (StatusCode::OK, "top_p"));
    let channels = served.env.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(channels["channels"].as_array().unwrap().len(), 1, "{channels}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_answer_comes_in_parts_and_ends_with_its_cost() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    let mut asked = body("write 120 words");
    asked["stream"] = json!(true);
    let answer = ask(&served, &token, &asked).await;
    assert_eq!((answer.status(), header(&answer, "content-type")), (StatusCode::OK, "text/event-stream"));
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let parts = events(&text);
    assert!(parts.len() > 3, "{text}");
    let said: String = parts.iter().filter_map(|part| part["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(said.split_whitespace().count() >= 100, "{said}");
    let last = parts.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop", "{last}");
    assert_ne!(last["drain"]["cost"], "0.00", "{last}");
    assert!(vouchers(&world.sandbox.llm)[0].body.contains("\"stream\":true"));
    // Usage alone, where a client asks for it so.
    asked["stream_options"] = json!({ "include_usage": true });
    let parts = events(&ask(&served, &token, &asked).await.text().await.unwrap());
    let last = parts.last().unwrap();
    assert!(last["choices"].as_array().unwrap().is_empty() && last["usage"]["cost"].is_number(), "{last}");
    // What the provider did not count is not made up.
    assert!(last["usage"]["total_tokens"].is_null(), "{last}");
    served.stop().await;
}

/// M5: who may be paid is a person's list, and a model's name is no way around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_only_providers_that_a_person_allowed_are_paid() {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let nobody = served.agent("nobody", &["--auto-open", "1"]).await;
    let other = served.agent("other", &["--allow-providers", "sim-weather", "--auto-open", "1"]).await;
    let looks = served.agent("looks", &["--allow-providers", "sim-llm", "--tools", "read"]).await;
    let closed = served.agent("closed", &["--allow-providers", "sim-llm", "--auto-open", "1"]).await;
    let named = json!({ "model": format!("sim-llm/{MODEL}"), "messages": [{ "role": "user", "content": "hi" }] });
    for asked in [&body("hi"), &named] {
        let answer = ask(&served, &nobody, asked).await;
        assert_eq!(refused(answer).await, told(StatusCode::FORBIDDEN, "false", "not_allowed"));
        let answer = ask(&served, &other, asked).await;
        assert_eq!(refused(answer).await, told(StatusCode::NOT_FOUND, "false", "unknown_model"));
        let answer = ask(&served, &looks, asked).await;
        assert_eq!(refused(answer).await, told(StatusCode::FORBIDDEN, "false", "not_allowed"));
        // The wallet's operator lets nobody open a channel by itself.
        let answer = ask(&served, &closed, asked).await;
        assert_eq!(refused(answer).await, told(StatusCode::PAYMENT_REQUIRED, "false", "channel_needed"));
    }
    for (token, expected) in [(&nobody, StatusCode::FORBIDDEN), (&other, StatusCode::OK), (&closed, StatusCode::OK)] {
        let answer = served.request(Method::GET, "/v1/models").bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), expected);
    }
    let answer = served.request(Method::GET, "/v1/models").bearer_auth(&closed).send().await.unwrap();
    let models: Value = answer.json().await.unwrap();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&MODEL) && ids.contains(&format!("sim-llm/{MODEL}").as_str()), "{ids:?}");
    assert!(ids.iter().all(|id| !id.contains("weather")), "{ids:?}");
    let answer = served.request(Method::GET, "/v1/models").send().await.unwrap();
    assert_eq!(refused(answer).await, told(StatusCode::UNAUTHORIZED, "false", "invalid_api_key"));
    assert!(vouchers(&world.sandbox.llm).is_empty());
    served.stop().await;
}

/// M15: a client repeats 5xx by itself. What happened after the voucher left is none, and no other provider is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_what_may_have_cost_money_is_not_to_be_repeated() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    assert_eq!(ask(&served, &token, &body("first")).await.status(), StatusCode::OK);
    type Switch = fn(&mut Faults);
    let faults: [(bool, Switch); 6] = [
        (false, |faults| faults.post_check_failure = Times::next(1)),
        (false, |faults| faults.cut_mid_body = Times::next(1)),
        (false, |faults| faults.cut_before_answer = Times::next(1)),
        (false, |faults| faults.fail_500 = Times::next(1)),
        (true, |faults| faults.fail_500 = Times::next(1)),
        (true, |faults| faults.cut_stream = Times::next(1)),
    ];
    for (stream, switch) in faults {
        let before = vouchers(&world.sandbox.llm).len();
        world.sandbox.llm.set(switch);
        let mut asked = body("write 120 words");
        asked["stream"] = json!(stream);
        let answer = ask(&served, &token, &asked).await;
        if answer.status() == StatusCode::OK {
            // It had begun: its end says what is wrong, and no client repeats what it has begun to read.
            let text = answer.text().await.unwrap();
            assert!(stream && !text.contains("[DONE]"), "{text}");
            assert!(events(&text).last().unwrap()["error"]["message"].is_string(), "{text}");
        } else {
            let (status, retry, _) = refused(answer).await;
            assert!(status.is_client_error() && !matches!(status.as_u16(), 408 | 409 | 429), "{status}");
            assert_eq!(retry, "false");
        }
        assert_eq!(vouchers(&world.sandbox.llm).len(), before + 1, "it is sent once");
        world.sandbox.llm.set(|faults| *faults = Faults::default());
        assert_eq!(ask(&served, &token, &body("goes on")).await.status(), StatusCode::OK);
    }
    // Who fails again and again is paid no more until a person looks: not by the gateway either.
    world.sandbox.llm.set(|faults| faults.fail_500 = Times::ALWAYS);
    let set_aside = async {
        loop {
            let (status, retry, code) = refused(ask(&served, &token, &body("again")).await).await;
            assert_eq!(retry, "false");
            if code == "provider_set_aside" {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), set_aside).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_paid_once() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    let first = named(&served, &token, "once", &body("once")).await;
    assert_eq!(first.status(), StatusCode::OK);
    let first: Value = first.json().await.unwrap();
    let again = named(&served, &token, "once", &body("once")).await;
    assert_eq!(again.status(), StatusCode::OK);
    let again: Value = again.json().await.unwrap();
    assert_eq!(again["choices"][0]["message"]["content"], first["choices"][0]["message"]["content"]);
    assert_eq!(again["drain"]["receipt"], first["drain"]["receipt"]);
    // Streamed this time: the same answer.
    let mut streamed = body("once");
    streamed["stream"] = json!(true);
    let text = named(&served, &token, "once", &streamed).await.text().await.unwrap();
    let said: String =
        events(&text).iter().filter_map(|part| part["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(json!(said), first["choices"][0]["message"]["content"]);
    let other = named(&served, &token, "once", &body("another")).await;
    assert_eq!(refused(other).await, told(StatusCode::UNPROCESSABLE_ENTITY, "false", "idempotency_conflict"));
    assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    served.stop().await;
}

/// Requests that overlap are paid from channels of their own, as many as the operator allows; beyond that they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_overlap_have_channels_of_their_own() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_AUTO_OPEN", "1").with("DRAIN_GATEWAY_CHANNELS", "3")).await;
    let token = served.agent("ann", &["--allow-providers", "sim-llm", "--auto-open", "1"]).await;
    assert_eq!(ask(&served, &token, &body("first")).await.status(), StatusCode::OK);
    let open = async || {
        let channels = served.env.run(&["channels", "--json"]).await.ok_json();
        channels["channels"].as_array().unwrap().len()
    };
    assert_eq!(open().await, 1);
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(4)));
    let asked: Vec<Value> = (0..5).map(|n| body(&format!("at once {n}"))).collect();
    let all = futures::future::join_all(asked.iter().map(|asked| ask(&served, &token, asked)));
    let (answers, ()) = futures::join!(all, async {
        until("three are at the provider at once", async || {
            let under_way = vouchers(&world.sandbox.llm).iter().filter(|seen| seen.body.contains("at once")).count();
            under_way >= 3
        })
        .await;
        world.sandbox.llm.set(|faults| faults.slow = None);
    });
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    let used: std::collections::HashSet<_> = answers.iter().map(|answer| header(answer, "x-drain-channel")).collect();
    assert_eq!((used.len(), open().await), (3, 3));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_in_the_clients_own_form() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    for (param, more) in
        [("n", json!({ "n": 2 })), ("tools", json!({ "tools": [{}] })), ("messages", json!({ "messages": [] }))]
    {
        let mut asked = body("hi");
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = ask(&served, &token, &asked).await;
        assert_eq!((answer.status(), header(&answer, "x-should-retry")), (StatusCode::BAD_REQUEST, "false"));
        let error: Value = answer.json().await.unwrap();
        assert_eq!(
            (&error["error"]["param"], &error["error"]["type"]),
            (&json!(param), &json!("invalid_request_error"))
        );
    }
    let request = |path: &str| served.request(Method::POST, path).bearer_auth(&token).body("{");
    assert_eq!(refused(request("/v1/chat/completions").send().await.unwrap()).await.0, StatusCode::BAD_REQUEST);
    let unknown = json!({ "model": "gpt-17", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(
        refused(ask(&served, &token, &unknown).await).await,
        told(StatusCode::NOT_FOUND, "false", "unknown_model")
    );
    let dear = served.request(Method::POST, "/v1/chat/completions").bearer_auth(&token).json(&body("hi"));
    let dear = dear.header("x-drain-max-cost", "0.000001").send().await.unwrap();
    let (status, retry, _) = refused(dear).await;
    assert!(status.is_client_error() && retry == "false", "{status}");
    assert!(vouchers(&world.sandbox.llm).is_empty());
    served.stop().await;
}

/// Of those that are allowed the cheapest that is there is asked; where it fails no other one is paid in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_provider_is_asked_by_price_and_health() {
    let world = world().await;
    let served = Served::start(&Env::of(&world).with("DRAIN_AUTO_OPEN", "1")).await;
    let both = ["--allow-providers", "sim-llm,sim-llm-v1", "--auto-open", "1"];
    let token = served.agent("ann", &both).await;
    let asked = async |text: &str| {
        let answer = ask(&served, &token, &body(text)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.text().await);
        header(&answer, "x-drain-provider").to_owned()
    };
    // What its listing says is dear.
    let dear = |factor: u64| {
        world.sandbox.directory.change("sim-llm", |listing| {
            listing.models.iter_mut().for_each(|model| (model.input, model.output) = (225 * factor, 900 * factor));
        })
    };
    assert!(dear(4));
    assert_eq!(asked("by price").await, "sim-llm-v1");
    dear(1);
    world.sandbox.directory.change("sim-llm-v1", |listing| listing.online = false);
    assert_eq!(asked("by health").await, "sim-llm");
    world.sandbox.directory.change("sim-llm-v1", |listing| listing.online = true);
    let before = (vouchers(&world.sandbox.llm).len(), vouchers(&world.sandbox.v1).len());
    for provider in [&world.sandbox.llm, &world.sandbox.v1] {
        provider.set(|faults| faults.fail_500 = Times::ALWAYS);
    }
    let (status, retry, _) = refused(ask(&served, &token, &body("it fails")).await).await;
    assert_eq!((status, retry.as_str()), (StatusCode::FAILED_DEPENDENCY, "false"));
    let after = (vouchers(&world.sandbox.llm).len(), vouchers(&world.sandbox.v1).len());
    assert_eq!(after.0 + after.1, before.0 + before.1 + 1, "one is asked, and once");
    // By its own name it is that one, whatever the other asks.
    world.sandbox.v1.set(|faults| *faults = Faults::default());
    let named = json!({ "model": format!("sim-llm-v1/{MODEL}"), "messages": [{ "role": "user", "content": "you" }] });
    let answer = ask(&served, &token, &named).await;
    assert_eq!((answer.status(), header(&answer, "x-drain-provider")), (StatusCode::OK, "sim-llm-v1"));
    served.stop().await;
}

/// M15: a client whose own time is over sends the same once more by itself. Said to be that, it is answered, and paid once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m15_what_a_client_sends_again_by_itself_is_paid_once() {
    let world = world().await;
    let (served, token) = gateway(&world).await;
    assert_eq!(ask(&served, &token, &body("opens the channel")).await.status(), StatusCode::OK);
    world.sandbox.llm.set(|faults| faults.slow = Some(Duration::from_secs(3)));
    let again = |count: &'static str, patience: u64| {
        let request = served.request(Method::POST, "/v1/chat/completions").bearer_auth(&token).json(&body("slow"));
        request.header("x-stainless-retry-count", count).timeout(Duration::from_secs(patience)).send()
    };
    let before = vouchers(&world.sandbox.llm).len();
    let (given_up, ()) = futures::join!(
        again("0", 1),
        until("it is at the provider", async || { vouchers(&world.sandbox.llm).len() == before + 1 })
    );
    assert!(given_up.unwrap_err().is_timeout());
    let answered = again("1", 30).await.unwrap();
    assert_eq!(answered.status(), StatusCode::OK);
    assert_eq!(vouchers(&world.sandbox.llm).len(), before + 1);
    // Delivered: the same words are another request from here on. The server need not know that a client has given up.
    let (not_heard, answered) = futures::join!(again("0", 30), async {
        until("it is at the provider", async || vouchers(&world.sandbox.llm).len() == before + 2).await;
        again("1", 30).await
    });
    let (not_heard, answered) =
        (not_heard.unwrap().json::<Value>().await.unwrap(), answered.unwrap().json::<Value>().await.unwrap());
    assert_eq!(answered["choices"], not_heard["choices"]);
    assert!(answered["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()), "{answered}");
    assert_eq!(vouchers(&world.sandbox.llm).len(), before + 2);
    served.stop().await;
}
