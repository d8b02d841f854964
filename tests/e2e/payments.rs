//! Requests that are paid without a channel, by HTTP 402: MPP and x402. Each time the server's log tells what was signed, and
//! the chain what was taken.

mod channels;
mod faults;
#[cfg(feature = "mpp")]
mod process;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{Body, Payment, PaymentCall, PaymentReply, Progress, ReceiptQuery, Target};
use drain_mcp::config::{Config, Password};
use drain_mcp::error::{Code, Failure};
use drain_mcp::operator;
use drain_mcp::policy::approvals::Verdict;
use drain_protocol::{Address, Usdc};
use drain_sandbox::paid::Credential;
use drain_sandbox::{Paid, PaidConfig};

use crate::harness::{World, in_system, open, unspent, until, usdc};

const PASSPHRASE: &str = "correct horse battery";
/// What each request costs.
const PRICE: &str = "0.01";

/// How servers want to be paid, and what the receipt then says.
const WAYS: [(&str, &str); 4] = [("mpp", "mpp"), ("x402v2", "x402v2"), ("x402v1", "x402v1"), ("both", "mpp")];

pub fn get(server: &Paid, path: &str) -> PaymentCall {
    PaymentCall {
        target: Target::Url(format!("{}{path}", server.url())),
        method: "GET".into(),
        headers: BTreeMap::new(),
        body: None,
        mpp_only: false,
        max_cost: None,
        request_id: None,
    }
}

pub async fn buy(runtime: &Runtime, call: PaymentCall) -> Result<PaymentReply, Failure> {
    runtime.pay_request(call, Progress::none()).await
}

/// The payments that a server was given, in order.
pub fn credentials(server: &Paid) -> Vec<Credential> {
    server.log().into_iter().filter_map(|request| request.credential).collect()
}

fn paid(reply: &PaymentReply) -> &Payment {
    reply.payment.as_ref().unwrap_or_else(|| panic!("nothing was paid: {reply:?}"))
}

fn text(reply: &PaymentReply) -> &str {
    match &reply.body {
        Body::Text(text) => text,
        Body::Base64(_) => panic!("no text"),
    }
}

/// What was ever moved to an account.
pub async fn received(world: &World, account: Address) -> Usdc {
    world.sandbox.observer().usdc_balance(account).await.unwrap()
}

/// Waits until the chain has said what became of every payment.
pub async fn resolved(world: &World) {
    until("the chain tells of every payment", async || {
        world.journaled("SELECT COUNT(*) FROM payments WHERE confirmed = 0") == 0
    })
    .await;
}

/// What a quote says against paying.
async fn against(runtime: &Runtime, call: PaymentCall) -> Option<String> {
    runtime.quote_request(call).await.unwrap().demand.unwrap().refused
}

/// A server that nobody lists.
async fn stranger(world: &World) -> Paid {
    let rpc = world.sandbox.env().into_iter().find(|(name, _)| name == "DRAIN_RPC_URL").unwrap().1;
    Paid::start(rpc, PaidConfig::new(Address::repeat_byte(0x51), usdc(PRICE))).await.unwrap()
}

fn limited(world: &World, change: impl FnOnce(&mut drain_mcp::policy::Limits)) -> Config {
    let mut config = world.config();
    change(Arc::make_mut(&mut config.limits));
    config
}

/// Every protocol: exactly the price, exactly once, to exactly the payee; on record, counted and confirmed by the chain.
#[test]
fn m1_each_protocol_pays_exactly_its_price() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let (server, held) = (&world.sandbox.paid, world.held().await);
        for (number, (way, protocol)) in WAYS.into_iter().enumerate() {
            let reply = buy(&runtime, get(server, &format!("/{way}/things"))).await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
            assert!(text(&reply).contains(&format!("/{way}/things")), "{reply:?}");
            let payment = paid(&reply);
            assert_eq!((payment.protocol.as_str(), payment.state.as_str()), (protocol, "paid"), "{way}");
            assert_eq!((payment.amount, &payment.payee), (usdc(PRICE), &server.payee().to_string()));
            assert_eq!(payment.receipt, format!("p{}", number + 1));
            let given = credentials(server);
            assert_eq!(given.len(), number + 1, "{way}: one signature");
            let last = given.last().unwrap();
            assert_eq!(payment.transaction, last.settled.map(|hash| format!("{hash:#x}")));
            assert!(last.valid_before.to::<u64>() <= world.chain().timestamp() + 600, "{way}: the window is bounded");
        }
        let spent = usdc("0.04");
        assert_eq!(received(&world, server.payee()).await, spent);
        assert_eq!(held.checked_sub(world.held().await), Some(spent));
        resolved(&world).await;
        let budget = runtime.budget().await.unwrap();
        assert_eq!(budget.spent_today, spent);
        let line = |name: &str| budget.limits.iter().find(|line| line.name == name).unwrap().used.clone();
        assert_eq!(line("per_hour"), Some(format!("{spent} USDC")));
        let receipts = runtime.receipts(ReceiptQuery { limit: 10, ..ReceiptQuery::default() }).await.unwrap();
        let shown: Vec<_> =
            receipts.iter().map(|r| (r.receipt.as_str(), r.protocol.as_str(), r.outcome.as_str())).collect();
        let expected = [
            ("p4", "mpp", "answered"),
            ("p3", "x402v1", "answered"),
            ("p2", "x402v2", "answered"),
            ("p1", "mpp", "answered"),
        ];
        assert_eq!(shown, expected);
        let kept = runtime.receipt("p2").await.unwrap();
        assert!(kept.answer.unwrap().content.contains("/x402v2/things"));
        assert_eq!(world.journaled("SELECT COUNT(*) FROM payments WHERE confirmed = 1 AND state = 'settled'"), 4);
    });
}

/// A request with a body goes out twice as it is, and nothing of it is left out.
#[test]
fn a_request_arrives_as_it_was_given() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let headers = BTreeMap::from([("X-Trace".to_owned(), "abc".to_owned())]);
        let call = PaymentCall {
            method: "POST".into(),
            body: Some("{\"q\":1}".into()),
            headers,
            ..get(&world.sandbox.paid, "/x402v2/search?page=2")
        };
        buy(&runtime, call).await.unwrap();
        let log = world.sandbox.paid.log();
        assert_eq!(log.len(), 2);
        for request in log {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/x402v2/search?page=2"));
            assert_eq!(request.body, b"{\"q\":1}");
            assert_eq!(
                (request.header("x-trace"), request.header("content-type")),
                (Some("abc"), Some("application/json"))
            );
        }
    });
}

/// What asks for no payment is paid nothing; what asks in an unknown way is not paid.
#[test]
fn what_is_not_a_payment_is_not_paid() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        let free = buy(&runtime, get(server, "/free/things")).await.unwrap();
        assert_eq!((free.status, free.payment.is_none()), (200, true));
        unspent(buy(&runtime, get(server, "/other/things")).await, Code::NotPayable);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM payments"), 0);
    });
}

/// What would be paid is told without paying, and nothing of it is remembered.
#[test]
fn a_quote_tells_price_payee_and_worst_case() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        for (way, protocol) in WAYS {
            let quote = runtime.quote_request(get(server, &format!("/{way}/x"))).await.unwrap();
            let demand = quote.demand.unwrap();
            assert_eq!((demand.protocol.as_str(), demand.price), (protocol, Some(usdc(PRICE))));
            assert_eq!((demand.payee, demand.chain_id), (Some(server.payee().to_string()), Some(137)));
            assert!(demand.refused.is_none() && !demand.asks_person && demand.worst_case.is_some());
        }
        // Nobody does anything for a quote: it has no body.
        let body = Some("{\"q\":1}".to_owned());
        let post = PaymentCall { method: "POST".into(), body, ..get(server, "/mpp/x") };
        runtime.quote_request(post).await.unwrap();
        assert!(server.log().iter().all(|request| request.body.is_empty()));
        let delete = PaymentCall { method: "DELETE".into(), ..get(server, "/mpp/x") };
        unspent(runtime.quote_request(delete).await, Code::InvalidArgument);
        let other = stranger(&world).await;
        assert!(runtime.quote_request(get(&other, "/mpp/x")).await.unwrap().demand.unwrap().asks_person);
        server.set(|faults| faults.price = Some("300000".into()));
        let dear = runtime.quote_request(get(server, "/mpp/x")).await.unwrap().demand.unwrap();
        assert_eq!(dear.price, Some(usdc("0.3")));
        assert_eq!(credentials(server).len(), 0);
        assert_eq!(world.journaled("SELECT COUNT(*) FROM payee_pins"), 0);
    });
}

/// M3: what a budget would refuse is told by the quote, by the rule that decides when it is paid.
#[test]
fn m3_a_quote_tells_what_the_budgets_refuse() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(limited(&world, |limits| limits.newcomers = usdc("0.009"))).await;
        let server = &world.sandbox.paid;
        let demand = runtime.quote_request(get(server, "/mpp/x")).await.unwrap().demand.unwrap();
        assert_eq!(demand.caps_leave, Some(usdc("0.009")));
        let paid = unspent(buy(&runtime, get(server, "/mpp/x")).await, Code::LimitReached);
        assert!(demand.refused.as_ref().is_some_and(|why| paid.message.contains(why.as_str())), "{demand:?} {paid:?}");
    });
}

/// M3, M4: each limit refuses before anything is signed, and what vouchers have used counts too.
#[test]
fn m3_what_is_too_dear_is_not_signed() {
    in_system(async {
        type Change = fn(&mut drain_mcp::policy::Limits);
        let changes: [Change; 7] = [
            |limits| limits.per_payment = usdc("0.009999"),
            |limits| limits.per_request = usdc("0.009999"),
            |limits| limits.per_hour = usdc("0.009999"),
            |limits| limits.per_day = usdc("0.009999"),
            |limits| limits.per_agent = usdc("0.009999"),
            |limits| limits.per_provider = usdc("0.009999"),
            |limits| limits.newcomers = usdc("0.009999"),
        ];
        for change in changes {
            let world = World::start().await;
            let runtime = world.runtime_with(limited(&world, change)).await;
            let refused = unspent(buy(&runtime, get(&world.sandbox.paid, "/mpp/x")).await, Code::LimitReached);
            assert!(refused.message.contains("DRAIN_"), "{refused:?}");
            assert_eq!(credentials(&world.sandbox.paid).len(), 0);
        }
        let world = World::start().await;
        let runtime = world.runtime_with(limited(&world, |limits| limits.per_hour = usdc("0.0151"))).await;
        let call = PaymentCall { max_cost: Some(usdc("0.009")), ..get(&world.sandbox.paid, "/mpp/x") };
        unspent(buy(&runtime, call).await, Code::LimitReached);
        buy(&runtime, get(&world.sandbox.paid, "/mpp/x")).await.unwrap();
        unspent(buy(&runtime, get(&world.sandbox.paid, "/x402v2/x")).await, Code::LimitReached);
        // A voucher meets what the payment left.
        let channel = open(&runtime, "sim-llm", "1", "4h").await.unwrap();
        let mut costly = crate::harness::call(channel, "sim-small", "hello");
        costly.max_tokens = Some(8_000);
        unspent(crate::harness::pay(&runtime, costly).await, Code::LimitReached);
    });
}

/// M5: a host that only a model named waits for a person, whatever it costs; the yes is for this host, payee and price, once.
#[test]
fn m5_a_host_that_only_a_model_named_waits_for_a_person() {
    in_system(async {
        let world = World::start().await;
        let (config, server) = (world.config(), stranger(&world).await);
        operator::set(&config.home, PASSPHRASE).unwrap();
        let runtime = world.runtime_with(config).await;
        let asked = unspent(buy(&runtime, get(&server, "/mpp/x")).await, Code::ApprovalNeeded);
        assert!(asked.message.contains(&server.payee().to_string()) && asked.message.contains(PRICE), "{asked:?}");
        assert_eq!(credentials(&server).len(), 0);
        let questions = runtime.approvals().await.unwrap();
        assert_eq!(questions.len(), 1);
        runtime.decide(&questions[0].id, Verdict::Approve, Password::new(PASSPHRASE)).await.unwrap();
        // Dearer than what was agreed to is another question.
        server.set(|faults| faults.price = Some("10001".into()));
        unspent(buy(&runtime, get(&server, "/mpp/x")).await, Code::ApprovalNeeded);
        server.reset_faults();
        buy(&runtime, get(&server, "/mpp/x")).await.unwrap();
        unspent(buy(&runtime, get(&server, "/mpp/x")).await, Code::ApprovalNeeded);
        assert_eq!(credentials(&server).len(), 1);
        let open = runtime.approvals().await.unwrap();
        let open = open.iter().find(|question| question.state == "waiting").unwrap();
        runtime.decide(&open.id, Verdict::Deny, Password::new(PASSPHRASE)).await.unwrap();
        unspent(buy(&runtime, get(&server, "/mpp/x")).await, Code::ApprovalDenied);
        // The answer was to that request, and not to whatever is asked there.
        unspent(buy(&runtime, get(&server, "/mpp/y")).await, Code::ApprovalNeeded);
        assert_eq!(credentials(&server).len(), 1);
    });
}

/// M5: a person's word in the configuration is a yes for a host within the caps, and a deny list counts before it is asked.
#[test]
fn m5_hosts_that_a_person_named_are_paid_and_denied_ones_are_not_asked() {
    in_system(async {
        let world = World::start().await;
        let server = stranger(&world).await;
        let host = server.url().trim_start_matches("http://").to_owned();
        {
            let config = limited(&world, |limits| limits.pay_hosts = vec![host.clone()]);
            let runtime = world.runtime_with(config).await;
            buy(&runtime, get(&server, "/x402v1/x")).await.unwrap();
        }
        let before = server.log().len();
        let config = limited(&world, |limits| {
            limits.pay_hosts = vec![host.clone()];
            limits.parties.deny_providers = vec!["127.0.0.1".into()];
        });
        let runtime = world.runtime_with(config).await;
        unspent(buy(&runtime, get(&server, "/x402v1/x")).await, Code::NotAllowed);
        assert_eq!(server.log().len(), before, "it was not even asked");
    });
}

/// M14: whom a host is paid to first is pinned, over restarts, until a person says otherwise.
#[test]
fn m14_another_payee_waits_for_a_person() {
    in_system(async {
        let world = World::start().await;
        let server = &world.sandbox.paid;
        buy(&world.runtime().await, get(server, "/mpp/x")).await.unwrap();
        server.set(|faults| faults.payee = Some(Address::repeat_byte(0x66)));
        let runtime = world.runtime().await;
        let quoted = against(&runtime, get(server, "/mpp/x")).await;
        let refused = unspent(buy(&runtime, get(server, "/mpp/x")).await, Code::ProviderChanged);
        assert_eq!(quoted.as_ref(), Some(&refused.message));
        let host = server.url().trim_start_matches("http://").to_owned();
        assert!(refused.next.contains(&format!("--trust {host}")), "{refused:?}");
        assert_eq!(credentials(server).len(), 1);
        assert!(runtime.trust_provider(&host).await.unwrap());
        // The server's own fault: it wants another payee and then refuses its own terms, or not; we pay whom it named.
        let _ = buy(&runtime, get(server, "/mpp/x")).await;
        assert_eq!(credentials(server).last().unwrap().to, Address::repeat_byte(0x66));
    });
}

/// M11: a frozen wallet signs no payment.
#[test]
fn m11_a_frozen_wallet_pays_nobody() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        runtime.freeze("now").await.unwrap();
        crate::harness::failed(buy(&runtime, get(&world.sandbox.paid, "/mpp/x")).await, Code::WalletFrozen);
        assert_eq!(credentials(&world.sandbox.paid).len(), 0);
    });
}

/// An empty wallet signs nothing: what cannot be taken would only be reserved.
#[test]
fn a_wallet_without_money_signs_nothing() {
    in_system(async {
        let world = World::start().await;
        let poor = limited(&world, |limits| (limits.per_payment, limits.per_request) = (usdc("1000"), usdc("1000")));
        let runtime = world.runtime_with(poor).await;
        world.sandbox.paid.set(|faults| faults.price = Some("500000000".into()));
        let quoted = against(&runtime, get(&world.sandbox.paid, "/mpp/x")).await;
        let refused = unspent(buy(&runtime, get(&world.sandbox.paid, "/mpp/x")).await, Code::InsufficientUsdc);
        assert_eq!(quoted, Some(refused.message));
        assert_eq!(credentials(&world.sandbox.paid).len(), 0);
    });
}

/// M15: one payment for a name, also at once, also after a restart; another request under it is refused.
#[test]
fn m15_the_same_name_is_paid_once() {
    in_system(async {
        let world = World::start().await;
        let server = &world.sandbox.paid;
        let named = |path: &str| PaymentCall { request_id: Some("one".parse().unwrap()), ..get(server, path) };
        let runtime = world.runtime().await;
        server.set(|faults| faults.hang = Some(Duration::from_millis(300)));
        let (first, second) = futures::join!(buy(&runtime, named("/mpp/x")), buy(&runtime, named("/mpp/x")));
        let (first, second) = (first.unwrap(), second.unwrap());
        server.reset_faults();
        assert_eq!((text(&first), &paid(&first).receipt), (text(&second), &paid(&second).receipt));
        drop(runtime);
        let runtime = world.runtime().await;
        let again = buy(&runtime, named("/mpp/x")).await.unwrap();
        assert_eq!((text(&again), &paid(&again).receipt), (text(&first), &paid(&first).receipt));
        assert!(again.notes.iter().any(|note| note.contains("nothing was paid again")), "{:?}", again.notes);
        unspent(buy(&runtime, named("/x402v2/x")).await, Code::IdempotencyConflict);
        assert_eq!(credentials(server).len(), 1);
        assert_eq!(received(&world, server.payee()).await, usdc(PRICE));
    });
}

/// Bad input is refused before anybody is asked.
#[test]
fn bad_requests_are_refused_before_anybody_is_asked() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime().await;
        let server = &world.sandbox.paid;
        let with = |change: fn(&mut PaymentCall)| {
            let mut call = get(server, "/mpp/x");
            change(&mut call);
            call
        };
        let header = |name: &str| PaymentCall {
            headers: BTreeMap::from([(name.to_owned(), "x".to_owned())]),
            ..get(server, "/mpp/x")
        };
        for call in [
            with(|call| call.target = Target::Url("not a url".into())),
            with(|call| call.target = Target::Url(format!("https://x/{}", "a".repeat(9_000)))),
            with(|call| call.method = "TRACE".into()),
            with(|call| call.method = "GET\r\nX: y".into()),
            with(|call| call.body = Some("x".into())),
            with(|call| (call.method, call.body) = ("POST".into(), Some("x".repeat(5 << 20)))),
            with(|call| call.headers = (0..40).map(|n| (format!("x-{n}"), String::new())).collect()),
            with(|call| _ = call.headers.insert("x".into(), "a\r\nb: c".into())),
            header("Host"),
            header("Content-Length"),
            header("X-PAYMENT"),
            header("payment-signature"),
            header("X-DRAIN-Voucher"),
            header("Accept-Encoding"),
            header("bad name"),
        ] {
            unspent(buy(&runtime, call).await, Code::InvalidArgument);
        }
        for url in ["ftp://a.example/x", "http://user:pw@127.0.0.1/x", "file:///etc/passwd"] {
            let call = PaymentCall { target: Target::Url(url.into()), ..get(server, "") };
            unspent(buy(&runtime, call).await, Code::UrlRefused);
        }
        assert_eq!(server.log().len(), 0);
    });
}
