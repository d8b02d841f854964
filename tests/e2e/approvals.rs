//! Approvals: what a person must say yes to, by which way, and what a yes is good for (M5).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drain_mcp::actors::Runtime;
use drain_mcp::api::{ChatReply, PayFrom, Progress, ProviderWish, Question};
use drain_mcp::config::{Config, Password};
use drain_mcp::error::{Code, Failure};
use drain_mcp::operator;
use drain_mcp::policy::approvals::{Verdict, Via};
use drain_protocol::ChannelId;
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{World, call, failed, in_system, open, pay, unspent, until, usdc, vouchers};
use crate::process_harness::{Agent, Env, Greeting, Human};

const PASSPHRASE: &str = "correct horse battery";

/// Asks above a tenth of a cent, or above one USDC of deposit.
fn asking(world: &World) -> Config {
    let mut config = world.config();
    let limits = Arc::make_mut(&mut config.limits);
    limits.approve.request = Some(usdc("0.0001"));
    limits.approve.deposit = Some(usdc("1"));
    operator::set(&config.home, PASSPHRASE).unwrap();
    config
}

async fn say(runtime: &Runtime, id: &str, verdict: Verdict) {
    runtime.decide(id, verdict, Password::new(PASSPHRASE)).await.unwrap();
}

/// The question that a failure names; it tells the exact command, too.
fn question(failure: &Failure) -> String {
    let id =
        failure.next.split_whitespace().find(|word| word.starts_with('a') && word[1..].starts_with(char::is_numeric));
    let id = id.unwrap().trim_end_matches('.').to_owned();
    assert!(failure.next.contains(&format!("drain-mcp approvals approve {id}")), "{failure:?}");
    id
}

async fn costly(runtime: &Runtime, channel: ChannelId) -> Result<Box<drain_mcp::api::Paid>, Failure> {
    let mut request = call(channel, "sim-small", "Hello");
    request.max_tokens = Some(500);
    pay(runtime, request).await
}

#[test]
fn m5_a_costly_request_waits_for_the_operator_and_is_paid_once() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(asking(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let asked = unspent(costly(&runtime, channel).await, Code::ApprovalNeeded);
        let id = question(&asked);
        assert!(asked.message.contains("tester") && asked.message.contains("for one request"), "{asked:?}");
        assert_eq!(vouchers(&world.sandbox.llm), []);
        // Asking again asks nobody twice.
        assert_eq!(question(&unspent(costly(&runtime, channel).await, Code::ApprovalNeeded)), id);
        assert_eq!(runtime.approvals().await.unwrap().len(), 1);
        // An agent that can type knows no passphrase.
        let guess = runtime.decide(&id, Verdict::Approve, Password::new("guess guess")).await;
        assert_eq!(guess.unwrap_err().code, Code::NotAllowed);
        unspent(costly(&runtime, channel).await, Code::ApprovalNeeded);
        say(&runtime, &id, Verdict::Approve).await;
        costly(&runtime, channel).await.unwrap();
        assert_ne!(question(&unspent(costly(&runtime, channel).await, Code::ApprovalNeeded)), id, "used once");
        // What costs little is nobody's business.
        let mut small = call(channel, "sim-small", "Hello");
        small.max_tokens = Some(20);
        pay(&runtime, small).await.unwrap();
    });
}

/// A request that would open a channel asks for the deposit as any opening does, and then for itself.
#[test]
fn m5_a_request_that_opens_a_channel_asks_for_the_deposit_first() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(asking(&world)).await;
        let wish = ProviderWish { provider: "sim-llm".into(), max_deposit: Some(usdc("2")), duration: None };
        let mut request = call(ChannelId([0; 32].into()), "sim-small", "Hello");
        (request.from, request.max_tokens) = (PayFrom::Provider(wish), Some(500));
        let asked = unspent(pay(&runtime, request.clone()).await, Code::ApprovalNeeded);
        assert!(asked.message.contains("locks 2.00 USDC") && asked.message.contains("for 1d"), "{asked:?}");
        assert_eq!((world.sent().await, runtime.channels(true).await.unwrap().len()), (0, 0));
        say(&runtime, &question(&asked), Verdict::Approve).await;
        let asked = unspent(pay(&runtime, request.clone()).await, Code::ApprovalNeeded);
        assert!(
            asked.message.contains("for one request") && asked.message.contains("was opened for this"),
            "{asked:?}"
        );
        say(&runtime, &question(&asked), Verdict::Approve).await;
        pay(&runtime, request).await.unwrap();
        assert_eq!(runtime.channels(false).await.unwrap().len(), 1);
        assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    });
}

#[test]
fn m5_a_no_stays_a_no_over_a_restart() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(asking(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let id = question(&unspent(costly(&runtime, channel).await, Code::ApprovalNeeded));
        say(&runtime, &id, Verdict::Deny).await;
        unspent(costly(&runtime, channel).await, Code::ApprovalDenied);
        drop(runtime);
        let runtime = world.runtime_with(asking(&world)).await;
        unspent(costly(&runtime, channel).await, Code::ApprovalDenied);
        assert_eq!(vouchers(&world.sandbox.llm), []);
    });
}

#[test]
fn m5_a_large_deposit_is_locked_after_a_yes_only() {
    in_system(async {
        let world = World::start().await;
        let runtime = world.runtime_with(asking(&world)).await;
        let sent = world.sent().await;
        let asked = unspent(open(&runtime, "sim-llm", "2", "24h").await, Code::ApprovalNeeded);
        assert!(asked.message.contains("locks 2.00 USDC"), "{asked:?}");
        assert_eq!(world.sent().await, sent, "no approval, no open");
        say(&runtime, &question(&asked), Verdict::Approve).await;
        // Longer than was said yes to.
        unspent(open(&runtime, "sim-llm", "2", "48h").await, Code::ApprovalNeeded);
        open(&runtime, "sim-llm", "2", "24h").await.unwrap();
        unspent(open(&runtime, "sim-llm", "2", "24h").await, Code::ApprovalNeeded);
    });
}

#[test]
fn m5_a_call_that_waits_goes_on_when_the_person_answers() {
    in_system(async {
        let world = World::start().await;
        let mut config = asking(&world);
        config.approvals.wait = Duration::from_secs(60);
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let waiting = actix::spawn({
            let runtime = runtime.clone();
            async move { costly(&runtime, channel).await }
        });
        until("it asks", async || !runtime.approvals().await.unwrap().is_empty()).await;
        // Others on the channel do not wait with it.
        let mut small = call(channel, "sim-small", "Hello");
        small.max_tokens = Some(20);
        pay(&runtime, small).await.unwrap();
        assert!(!waiting.is_finished());
        say(&runtime, "a1", Verdict::Approve).await;
        waiting.await.unwrap().unwrap();
        // And one that is told no.
        let waiting = actix::spawn({
            let runtime = runtime.clone();
            async move { costly(&runtime, channel).await }
        });
        until("it asks", async || !runtime.approvals().await.unwrap().is_empty()).await;
        say(&runtime, "a2", Verdict::Deny).await;
        unspent(waiting.await.unwrap(), Code::ApprovalDenied);
    });
}

/// A client whose person gives this answer to every question.
fn client(verdict: Verdict) -> (Progress, mpsc::Receiver<String>) {
    let (sender, mut questions) = mpsc::channel::<Question>(1);
    let (told, texts) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(question) = questions.recv().await {
            told.try_send(question.text).unwrap();
            question.reply.send(verdict).unwrap();
        }
    });
    (Progress::none().with_person(sender), texts)
}

#[test]
fn m5_the_clients_person_counts_only_where_the_operator_says_so() {
    in_system(async {
        let world = World::start().await;
        let request = |channel| {
            let mut request = call(channel, "sim-small", "Hello");
            request.max_tokens = Some(500);
            request
        };
        let runtime = world.runtime_with(asking(&world)).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        let (progress, mut texts) = client(Verdict::Approve);
        unspent(runtime.chat(request(channel), progress).await, Code::ApprovalNeeded);
        assert!(texts.try_recv().is_err(), "a client that answers by itself is not even asked");
        drop(runtime);

        let mut config = asking(&world);
        config.approvals.via = vec![Via::Elicitation];
        config.approvals.wait = Duration::from_secs(60);
        let runtime = world.runtime_with(config).await;
        let denied = runtime.decide("a1", Verdict::Approve, Password::new(PASSPHRASE)).await;
        failed(denied, Code::NotAllowed);
        let (progress, mut texts) = client(Verdict::Approve);
        assert!(matches!(runtime.chat(request(channel), progress).await.unwrap(), ChatReply::Paid(_)));
        let text = texts.try_recv().unwrap();
        assert!(text.contains("at most") && text.contains("for one request"), "{text}");
        let (progress, _texts) = client(Verdict::Deny);
        unspent(runtime.chat(request(channel), progress).await, Code::ApprovalDenied);
    });
}

/// A real process, whose client shows forms, in both generations of the protocol.
#[test]
fn m5_a_person_at_the_client_answers_in_both_generations() {
    in_system(async {
        let world = World::start().await;
        let channel = open(&world.runtime().await, "sim-llm", "1", "24h").await.unwrap();
        let env = Env::of(&world)
            .with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.0001")
            .with("DRAIN_APPROVALS_VIA", "elicitation")
            .with("DRAIN_APPROVAL_WAIT", "1m");
        let request = json!({
            "channelId": channel.to_string(), "model": "sim-small", "maxTokens": 500,
            "messages": [{ "role": "user", "content": "Hello" }]
        });
        for greeting in [Greeting::Initialize, Greeting::Discover] {
            for yes in [true, false] {
                let before = vouchers(&world.sandbox.llm).len();
                let human = Human { answer: Some(yes), ..Human::default() };
                let asked = human.asked.clone();
                let mut agent = Agent::start_beside(&env, &[], greeting, human).await;
                if yes {
                    let paid = agent.ok("drain_chat", request.clone()).await;
                    assert!(paid.last_line().contains("Paid"), "{}", paid.text);
                } else {
                    agent.fails("drain_chat", request.clone(), "approval_denied").await;
                }
                assert_eq!(vouchers(&world.sandbox.llm).len() - before, usize::from(yes), "{greeting:?}");
                let asked = asked.lock().unwrap().clone();
                assert_eq!(asked.len(), 1, "{asked:?}");
                assert!(asked[0].contains("pays \"Sim-LLM\"") && asked[0].contains("at most"), "{asked:?}");
                agent.leave().await;
                // A no counts for as long as the question does: the next client asks for a little more.
                if !yes {
                    world.journal().execute("UPDATE approvals SET expires_at = 0", []).unwrap();
                }
            }
        }
        // A client without forms is told what a person types; the operator is told too, by a command that sees no key (M12).
        let told = world.home.path().join("told");
        let command = format!("env > {0}.new; cat >> {0}.new; mv {0}.new {0}", told.display());
        let env =
            env.with("DRAIN_APPROVAL_WAIT", "0").with("DRAIN_NOTIFY_COMMAND", command).with("PATH", "/usr/bin:/bin");
        let mut agent = Agent::start(&env, Greeting::Discover).await;
        agent.fails("drain_chat", request, "approval_needed").await;
        until("the command ran", async || told.exists()).await;
        let told = std::fs::read_to_string(told).unwrap();
        assert!(told.contains("PATH=") && told.contains("approval_waiting") && !told.contains("DRAIN_"), "{told}");
    });
}

#[test]
fn the_operator_is_told_by_command_and_webhook() {
    in_system(async {
        let world = World::start().await;
        let log = world.home.path().join("told");
        let hook = Hook::start().await;
        let mut config = asking(&world);
        Arc::make_mut(&mut config.limits).per_hour = usdc("0.00047");
        config.notify.command = Some(format!("cat >> {0}; echo >> {0}", log.display()));
        config.notify.webhook = Some(hook.url.parse().unwrap());
        let runtime = world.runtime_with(config).await;
        let channel = open(&runtime, "sim-llm", "1", "24h").await.unwrap();
        unspent(costly(&runtime, channel).await, Code::ApprovalNeeded);
        say(&runtime, "a1", Verdict::Approve).await;
        costly(&runtime, channel).await.unwrap();
        // Nobody is asked for what no yes could allow.
        unspent(costly(&runtime, channel).await, Code::LimitReached);
        unspent(costly(&runtime, channel).await, Code::LimitReached);
        runtime.cooperative_close(channel, Progress::none()).await.unwrap();
        let told = || std::fs::read_to_string(&log).unwrap_or_default();
        until("all is told", async || told().contains("refund_done")).await;
        let lines: Vec<serde_json::Value> =
            told().lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<_> = lines.iter().map(|event| event["event"].as_str().unwrap()).collect();
        // The same limit is told once.
        assert_eq!(events, ["approval_waiting", "cap_reached", "refund_done"]);
        assert_eq!(lines[1]["subject"], "DRAIN_MAX_PER_HOUR");
        until("the hook has all of it", async || hook.bodies().len() == 3).await;
        assert_eq!(hook.bodies(), lines.iter().map(ToString::to_string).collect::<Vec<_>>());
    });
}

/// Takes what is posted to it.
struct Hook {
    url: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        let take = move |body: String| async move {
            let event: serde_json::Value = serde_json::from_str(&body).unwrap();
            kept.lock().unwrap().push(event.to_string());
        };
        let app = axum::Router::new().route("/hook", axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, bodies }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}
