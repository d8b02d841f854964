//! Providers of every kind, decent and not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use drain_protocol::chat::{ChatRequest, Message, Role};
use drain_protocol::headers::CostHeaders;
use drain_protocol::refusal::RefusalCode;
use drain_protocol::{ChannelId, Usdc};
use reqwest::Url;

use super::testing::{Step, TestServer, answer, dead_url};
use super::{ChatError, ChatOutcome, ProviderClient, RequestLimits};
use crate::error::{Code, Money};
use crate::http_client::{HttpClient, HttpError, UrlPolicy};

const LIMITS: RequestLimits = RequestLimits::new(Duration::from_secs(5), 10_000);
const VOUCHER: &str = r#"{"channelId":"0x00","amount":"934","nonce":"1","signature":"0xfeed"}"#;
const GOOD: &str = r#"{"id":"c-1","model":"sim-small","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":20,"total_tokens":28}}"#;

fn client() -> ProviderClient {
    ProviderClient::new(HttpClient::new(UrlPolicy { allow_insecure: true }))
}

fn request() -> ChatRequest {
    let messages = vec![Message { role: Role::User, content: "Hello".into() }];
    ChatRequest { model: "sim-small".into(), messages, max_tokens: Some(60), temperature: None, stream: false }
}

async fn chat(server: &TestServer) -> Result<ChatOutcome, ChatError> {
    client().chat(&server.url, &request(), VOUCHER, LIMITS).await
}

async fn chat_fixed(status: u16, headers: &[(&str, &str)], body: &str) -> Result<ChatOutcome, ChatError> {
    chat(&TestServer::fixed(status, headers, body).await).await
}

async fn chat_steps(steps: Vec<Step>) -> Result<ChatOutcome, ChatError> {
    chat(&TestServer::start(move |_| steps.clone()).await).await
}

fn answered(outcome: Result<ChatOutcome, ChatError>) -> (drain_protocol::chat::ChatAnswer, CostHeaders) {
    match outcome.unwrap() {
        ChatOutcome::Answered { answer, costs, .. } => (*answer, costs),
        other => panic!("{other:?}"),
    }
}

fn refused(outcome: Result<ChatOutcome, ChatError>) -> drain_protocol::refusal::Refusal {
    match outcome.unwrap() {
        ChatOutcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn units(units: u64) -> Option<Usdc> {
    Usdc::from_units(units)
}

#[tokio::test]
async fn a_paid_request_carries_voucher_and_body_and_brings_answer_and_costs() {
    let headers = [("X-DRAIN-Cost", "330"), ("X-DRAIN-Total", "330"), ("X-DRAIN-Remaining", "4999670")];
    let server = TestServer::fixed(200, &headers, GOOD).await;
    let base = server.at("/some/prefix/");
    let (answer, costs) = answered(client().chat(&base, &request(), VOUCHER, LIMITS).await);
    assert_eq!((answer.content.as_str(), answer.usage.unwrap().completion_tokens), ("hello", 20));
    assert_eq!((costs.cost, costs.total, costs.garbage), (units(330), units(330), false));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /some/prefix/v1/chat/completions", "the prefix of apiUrl stays, its slash goes");
    assert_eq!(seen.header("x-drain-voucher"), Some(VOUCHER));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.body, r#"{"model":"sim-small","messages":[{"role":"user","content":"Hello"}],"max_tokens":60}"#);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_three_dialects_of_refusal() {
    let a = r#"{"error":{"message":"Payment validation failed: insufficient_funds","type":"payment_required","code":"insufficient_funds"}}"#;
    let headers = [("X-DRAIN-Error", "insufficient_funds"), ("X-DRAIN-Required", "783"), ("X-DRAIN-Provided", "-10")];
    let refusal = refused(chat_fixed(402, &headers, a).await);
    assert_eq!((refusal.status, refusal.code.clone()), (402, RefusalCode::InsufficientFunds));
    assert_eq!((refusal.required, refusal.provided), (units(783), Some(-10)));

    let b = r#"{"error":{"message":"Voucher error: insufficient_funds"},"required":"4500"}"#;
    let refusal = refused(chat_fixed(402, &[], b).await);
    assert_eq!((refusal.code, refusal.required), (RefusalCode::InsufficientFunds, units(4500)));

    let refusal = refused(chat_fixed(400, &[], r#"{"error":"input_too_large"}"#).await);
    assert_eq!(refusal.code, RefusalCode::InputTooLarge);
}

#[tokio::test]
async fn every_status_that_is_no_success_is_a_refusal_with_its_status() {
    for status in [400, 401, 403, 404, 408, 413, 429, 500, 502, 503, 504] {
        let refusal = refused(chat_fixed(status, &[], "<html><body>Sorry</body></html>").await);
        assert_eq!(refusal.status, status);
        assert!(!refusal.message.contains('<'), "{}", refusal.message);
    }
    assert_eq!(refused(chat_fixed(429, &[], "slow down").await).code, RefusalCode::RateLimited);
}

#[tokio::test]
async fn m15_a_refusal_whose_body_is_cut_or_endless_is_still_a_refusal() {
    let head =
        b"HTTP/1.1 402 Payment Required\r\nx-drain-error: invalid_nonce\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let cut = chat_steps(vec![Step::Send(head.clone()), Step::Send(b"{\"err".to_vec())]).await;
    assert_eq!(refused(cut).code, RefusalCode::InvalidNonce);
    let endless = chat_steps(vec![Step::Send(head), Step::Repeat(vec![b'x'; 10_000], Duration::ZERO)]).await;
    assert_eq!(refused(endless).code, RefusalCode::InvalidNonce);
}

#[tokio::test]
async fn m15_a_paid_answer_of_any_form_reaches_the_caller() {
    let cost = [("x-drain-cost", "5")];
    let (answer, _) = answered(chat_fixed(200, &cost, r#"{"choices":[{"message":{"content":"hi"}}]}"#).await);
    assert_eq!((answer.content.as_str(), answer.usage), ("hi", None), "usage may be missing");
    for body in ["<html>proxy</html>", "plain words", "{\"torn\":", ""] {
        let (answer, costs) = answered(chat_fixed(200, &cost, body).await);
        assert_eq!((answer.content.as_str(), costs.cost), (body, units(5)));
    }
}

#[tokio::test]
async fn m15_nonsense_without_a_cost_is_an_error_after_sending() {
    for (body, excerpt) in [("<html>\u{1b}[31m\n proxy</html>", "<html>[31m proxy</html>"), ("", "")] {
        let error = chat_fixed(200, &[("content-type", "Text/HTML")], body).await.unwrap_err();
        let content_type = Some("text/html".to_owned());
        assert_eq!(error, ChatError::Nonsense { status: 200, content_type, excerpt: excerpt.into() });
        assert!(!error.before_sent());
    }
    let failure = chat_fixed(204, &[], "").await.unwrap_err().into_failure("P", Money::GasOnly);
    assert_eq!((failure.code, failure.money), (Code::AnswerLost, Money::GasOnly));
    assert!(failure.message.contains("HTTP 204 with nothing instead of an answer"), "{}", failure.message);
}

#[tokio::test]
async fn garbage_in_cost_headers_is_marked_and_the_answer_kept() {
    for garbage in ["", "abc", "1.5", "-3", "99999999999999999999999999", "0x10"] {
        let (answer, costs) = answered(chat_fixed(200, &[("x-drain-cost", garbage)], GOOD).await);
        assert_eq!((answer.content.as_str(), costs.cost, costs.garbage), ("hello", None, true), "{garbage:?}");
    }
    let raw = [b"HTTP/1.1 200 OK\r\nx-drain-cost: \xff\xfe\r\ncontent-length: 2\r\n\r\n{}".as_slice()].concat();
    let (_, costs) = answered(chat_steps(vec![Step::Send(raw)]).await);
    assert!(costs.garbage);
}

#[tokio::test]
async fn m14_a_paid_request_follows_no_redirect_and_takes_the_voucher_nowhere_else() {
    let target = TestServer::fixed(200, &[], GOOD).await;
    for status in [301, 302, 303, 307, 308] {
        let error = chat_fixed(status, &[("location", target.url.as_str())], "").await.unwrap_err();
        assert!(matches!(error, ChatError::Lost { error: HttpError::Redirect { .. }, .. }), "{error:?}");
        assert!(!error.before_sent());
    }
    assert!(target.seen().is_empty());
}

#[tokio::test]
async fn m15_what_was_lost_before_sending_was_not_spent() {
    let error = client().chat(&dead_url().await, &request(), VOUCHER, LIMITS).await.unwrap_err();
    assert!(error.before_sent(), "{error:?}");
    let failure = error.into_failure("Sim\n-LLM", Money::GasOnly);
    assert_eq!((failure.code, failure.money), (Code::ProviderUnreachable, Money::NotSpent));
    assert!(failure.message.starts_with("\"Sim -LLM\": cannot connect"), "{}", failure.message);

    let strict = ProviderClient::new(HttpClient::new(UrlPolicy::default()));
    for base in ["http://127.0.0.1:1", "https://169.254.169.254", "https://[::1]:1", "https://localhost:1"] {
        let error = strict.chat(&Url::parse(base).unwrap(), &request(), VOUCHER, LIMITS).await.unwrap_err();
        assert!(error.before_sent(), "{base}");
        assert_eq!(error.into_failure("P", Money::GasOnly).code, Code::UrlRefused, "{base}");
    }

    let error = client().chat(&dead_url().await, &request(), "a\nb", LIMITS).await.unwrap_err();
    assert!(matches!(error, ChatError::Unsendable(_)) && error.before_sent());
}

#[tokio::test]
async fn m15_what_was_lost_after_sending_keeps_what_the_head_said() {
    let head = b"HTTP/1.1 200 OK\r\nx-drain-cost: 330\r\ncontent-length: 5000\r\n\r\n".to_vec();
    let cut = chat_steps(vec![Step::Send(head.clone()), Step::Send(b"{\"choices\"".to_vec())]).await.unwrap_err();
    assert!(matches!(cut, ChatError::Lost { error: HttpError::Cut(_), .. }), "{cut:?}");
    assert_eq!((cut.before_sent(), cut.costs().unwrap().cost), (false, units(330)));

    let drip = TestServer::start(move |_| {
        vec![Step::Send(head.clone()), Step::Repeat(b" ".to_vec(), Duration::from_millis(20))]
    })
    .await;
    let limits = RequestLimits::new(Duration::from_millis(300), 10_000);
    let error = client().chat(&drip.url, &request(), VOUCHER, limits).await.unwrap_err();
    assert!(matches!(error, ChatError::Lost { error: HttpError::Timeout { before_sent: false }, .. }), "{error:?}");
    assert_eq!(error.costs().unwrap().cost, units(330));

    let large = chat_fixed(200, &[("x-drain-cost", "7")], &"x".repeat(10_001)).await.unwrap_err();
    assert!(matches!(large, ChatError::Lost { error: HttpError::TooLarge { .. }, .. }), "{large:?}");
    let silent = chat_steps(vec![]).await.unwrap_err();
    assert!(matches!(silent, ChatError::Lost { error: HttpError::Cut(_), .. }) && !silent.before_sent());
    let reserved = Money::Pending { receipt: "r-1".into() };
    let failure = silent.into_failure("P", reserved.clone());
    assert_eq!((failure.code, failure.money), (Code::AnswerLost, reserved));
}

#[tokio::test]
async fn m15_a_paid_request_on_a_reused_connection_that_dies_is_sent_once() {
    let server = TestServer::start(|seen| {
        // Prices keep the connection; the paid request gets it, arrives, and finds it closed without an answer.
        if seen.line.starts_with("GET") {
            let body = r#"{"models":{}}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            return vec![Step::Send(head.into_bytes()), Step::Again];
        }
        vec![]
    })
    .await;
    let client = client();
    client.pricing(&server.url).await.unwrap();
    let error = client.chat(&server.url, &request(), VOUCHER, LIMITS).await.unwrap_err();
    assert!(matches!(error, ChatError::Lost { error: HttpError::Cut(_), .. }) && !error.before_sent(), "{error:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let paid = server.seen().into_iter().filter(|seen| seen.line.starts_with("POST")).count();
    assert_eq!(paid, 1);
}

#[tokio::test]
async fn m12_the_voucher_is_in_no_error_text() {
    let secret = r#"{"signature":"0xfeedfacefeedface"}"#;
    for url in [dead_url().await, TestServer::fixed(302, &[], "").await.url.clone()] {
        let error = client().chat(&url, &request(), secret, LIMITS).await.unwrap_err();
        assert!(!format!("{error:?} {error}").contains("feedface"));
    }
}

const STREAM: [(&str, &str); 1] = [("content-type", "text/event-stream; charset=utf-8")];
const CHUNKS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_read_to_its_trailer() {
    let body = format!("{CHUNKS}data: [DONE]\n\n: X-DRAIN-Cost: 8250\n: X-DRAIN-Total: 158250\n");
    let (answer, costs) = answered(chat_fixed(200, &STREAM, &body).await);
    assert_eq!((answer.content.as_str(), answer.finish_reason.as_deref()), ("hello", Some("stop")));
    assert_eq!((costs.cost, costs.total), (units(8250), units(158_250)));
    assert_eq!(answer.raw.pointer("/choices/0/message/content").unwrap(), "hello");
}

#[tokio::test]
async fn m15_a_stream_that_ends_early_is_lost_and_a_torn_trailer_is_no_cost() {
    let lost = chat_fixed(200, &STREAM, CHUNKS).await.unwrap_err();
    assert!(matches!(lost, ChatError::Lost { error: HttpError::Cut(_), .. }), "{lost:?}");
    let torn = format!("{CHUNKS}data: [DONE]\n\n: X-DRAIN-Cost: 8");
    let (answer, costs) = answered(chat_fixed(200, &STREAM, &torn).await);
    assert_eq!((answer.content.as_str(), costs.cost, costs.garbage), ("hello", None, true));
    let failed = format!("{CHUNKS}data: {{\"error\": \"overloaded\"}}\n\n");
    let ChatOutcome::BrokenOff { refusal, came } = chat_fixed(200, &STREAM, &failed).await.unwrap() else { panic!() };
    assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Upstream("stream_error".into()), "overloaded"));
    assert_eq!(came, "hello");
}

#[tokio::test]
async fn prices_are_read_and_kept_as_they_came() {
    let body = r#"{"provider":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8","models":{"sim-small":{"inputPer1kTokens":"0.000225","outputPer1kTokens":"0.0009"}}}"#;
    let server = TestServer::fixed(200, &[], body).await;
    let (list, raw) = client().pricing(&server.at("/p")).await.unwrap();
    assert_eq!((list.models.len(), raw.as_str()), (1, body));
    assert_eq!(server.seen()[0].line, "GET /p/v1/pricing");
    for (status, body) in [(500, "x"), (200, "<html>"), (200, "[]"), (302, "")] {
        let server = TestServer::fixed(status, &[], body).await;
        let failure = client().pricing(&server.url).await.unwrap_err().into_failure("P");
        assert!(matches!(failure.code, Code::ProviderUnreachable | Code::UrlRefused), "{failure:?}");
        assert_eq!(failure.money, Money::NotSpent);
    }
}

#[tokio::test]
async fn discovery_reads_the_402_and_sends_no_voucher() {
    let headers = [
        ("X-DRAIN-Error", "voucher_required"),
        ("X-Payment-Protocol", "drain-v2"),
        ("X-Payment-Contract", "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A"),
        ("X-Payment-Chain", "137"),
    ];
    let server = TestServer::fixed(402, &headers, "{}").await;
    let discovery = client().discover(&server.url).await.unwrap().unwrap();
    assert_eq!(discovery.contract, Some(drain_protocol::deployment::POLYGON_V2));
    assert_eq!(discovery.chain_id, Some(137));
    let seen = &server.seen()[0];
    assert_eq!((seen.line.as_str(), seen.header("x-drain-voucher")), ("POST /v1/chat/completions", None));

    let silent = TestServer::fixed(402, &headers[..1], "{}").await;
    assert_eq!(client().discover(&silent.url).await.unwrap(), None);
    let generous = TestServer::fixed(200, &headers, GOOD).await;
    assert_eq!(client().discover(&generous.url).await.unwrap(), None);
    assert!(client().discover(&dead_url().await).await.unwrap_err().before_sent());
}

#[tokio::test]
async fn m13_instructions_are_cleaned_and_cut() {
    let text = format!("# Use\u{202E} me\u{1b}[2J\u{0}\n{}", "é".repeat(60_000));
    let server = TestServer::fixed(200, &[], &text).await;
    let docs = client().docs(&server.url).await.unwrap();
    assert!(docs.starts_with("# Use me[2J\né"), "{}", &docs[..20]);
    assert_eq!(docs.chars().count(), 4_000);
    assert!(client().docs(&TestServer::fixed(404, &[], "no").await.url).await.is_err());
}

#[tokio::test]
async fn m13_errors_quote_providers_cleanly_and_only_the_origin_of_urls() {
    let server = TestServer::fixed(500, &[], "\u{1b}[31mbad\u{202E}\nthing").await;
    let error = client().pricing(&server.at("/secret-path?key=1")).await.unwrap_err();
    let port = server.url.port().unwrap();
    assert_eq!(error.to_string(), format!("prices from http://127.0.0.1:{port}: HTTP 500, it says \"[31mbad thing\""));
}

#[tokio::test]
async fn the_close_answer_is_asked_for_in_lower_case() {
    let id: ChannelId = format!("0x{}", "AB".repeat(32)).parse().unwrap();
    let body = format!(r#"{{"channelId":"{id}","finalAmount":"1264","signature":"0x{}"}}"#, "11".repeat(65));
    let server = TestServer::fixed(200, &[], &body).await;
    let close = client().close(&server.url, id).await.unwrap();
    assert_eq!((Some(close.final_amount), close.channel_id), (units(1264), Some(id)));
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/close-channel");
    assert_eq!(seen.body, format!(r#"{{"channelId":"0x{}"}}"#, "ab".repeat(32)));
    for (status, body) in [(404, "Cannot POST"), (500, r#"{"error":"internal_error"}"#), (200, "{}"), (200, "")] {
        let server = TestServer::start(move |_| vec![Step::Send(answer(status, &[], body))]).await;
        let error = client().close(&server.url, id).await.unwrap_err();
        assert_eq!(error.http_status(), (status != 200).then_some(status), "{error}");
    }
}
