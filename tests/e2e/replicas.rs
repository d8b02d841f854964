//! Several replicas of `drain-mcp serve` over one PostgreSQL server: one of them has a wallet, the others pass on to it, and
//! what happens to one of them costs nobody money twice.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::harness::World;
use crate::process_harness::served::{Client, Served, add_agent, client, message_in, message_of, stateless};
use crate::process_harness::{Answer, Env, chat, until, vouchers, world};

#[path = "../postgres/server.rs"]
pub mod postgres;
use postgres::{OWNER, ROLE};

/// A world, a database and replicas over both, each with a home of its own.
struct Fleet {
    world: World,
    database: postgres::Server,
    homes: Vec<TempDir>,
    url: String,
    more: Vec<(String, String)>,
    token: String,
    /// Another agent's.
    bob: String,
}

impl Fleet {
    async fn new() -> Self {
        let (world, database) = (world().await, postgres::Server::start());
        let url = database.url(OWNER);
        let homes = vec![TempDir::new().unwrap()];
        let first = Env::of(&world).with("DRAIN_HOME", homes[0].path().display().to_string());
        let token = add_agent(&first, "ann", &[]).await;
        let bob = add_agent(&first, "bob", &[]).await;
        Self { world, database, homes, url, more: Vec::new(), token, bob }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }

    /// The environment of the next replica: its own home with the same agents, its own address.
    fn env(&mut self) -> Env {
        if self.homes.len() > 1 || self.homes[0].path().join("used").exists() {
            let home = TempDir::new().unwrap();
            copy_agents(self.homes[0].path(), home.path());
            self.homes.push(home);
        } else {
            std::fs::write(self.homes[0].path().join("used"), "").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let env = Env::of(&self.world)
            .with("DRAIN_HOME", self.homes.last().unwrap().path().display().to_string())
            .with("DRAIN_JOURNAL_URL", self.url.clone())
            .with("DRAIN_JOURNAL_LEASE", "2s")
            .with("DRAIN_LISTEN", format!("127.0.0.1:{port}"))
            .with("DRAIN_REPLICA_URL", format!("http://127.0.0.1:{port}"));
        self.more.iter().fold(env, |env, (name, value)| env.with(name, value.clone()))
    }

    async fn replica(&mut self) -> Served {
        let env = self.env();
        Served::start_with(&env, &["serve"]).await
    }

    /// The wallet's schema.
    fn schema(&self) -> String {
        format!("drain_137_{:#x}", self.world.agent())
    }

    fn sql(&self, sql: &str) -> String {
        self.database.sql("drain", &format!("SET search_path TO {}; {sql}", self.schema()))
    }

    /// No two vouchers that the provider saw on a channel have one number, none is below an earlier one, and none was ever
    /// signed that the journal does not hold.
    fn nothing_twice(&self) {
        let held = self.sql(
            "SELECT c.channel_id || ' ' || v.nonce || ' ' || v.amount FROM vouchers v JOIN channels c USING (intent)",
        );
        let held: HashSet<&str> = held.lines().collect();
        let mut last: HashMap<String, (u64, u64)> = HashMap::new();
        for request in vouchers(&self.world.sandbox.llm) {
            let (nonce, amount) = (request.nonce.unwrap(), request.amount.unwrap());
            let voucher = format!("{} {nonce} {amount}", request.channel);
            assert!(held.contains(voucher.as_str()), "a voucher that the journal does not hold: {voucher}");
            let last = last.entry(request.channel).or_default();
            // What a replica that stood still had recorded comes late, and is refused.
            let late = nonce < last.0 && request.outcome.contains("nonce");
            // One of amount zero asks for the provider's books, and authorises nothing.
            assert!(
                late || nonce > last.0 && (amount == 0 || amount >= last.1),
                "{voucher} after {last:?}: {}",
                request.outcome
            );
            *last = (nonce.max(last.0), amount.max(last.1));
        }
    }

    /// Which of these has the wallet.
    fn holder(&self, replicas: &[Served]) -> Option<usize> {
        let address = self.sql("SELECT address FROM identity");
        replicas.iter().position(|replica| address.trim_end_matches('/') == replica.url)
    }
}

fn copy_agents(from: &Path, to: &Path) {
    let name = "agents.toml";
    std::fs::copy(from.join(name), to.join(name)).unwrap();
    std::fs::set_permissions(to.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

async fn open(served: &Served, token: &str) -> String {
    let client = served.client(token, Client::stateless()).await;
    let id = client.open("sim-llm", "1").await;
    client.leave().await;
    id
}

/// One request, as often as it was not begun.
async fn ask(served: &Served, token: &str, channel: &str, text: &str) -> Result<Answer, (StatusCode, String)> {
    let answer = served.stateless(token, "drain_chat", &chat(channel, text)).send().await.unwrap();
    let status = answer.status();
    if status != StatusCode::OK {
        return Err((status, answer.text().await.unwrap()));
    }
    Ok(Answer::of(message_of(answer).await["result"].clone()))
}

async fn paid(served: &Served, token: &str, channel: &str, text: &str) {
    let answer = ask(served, token, channel, text).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert!(!answer.is_error, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_wallet_is_one_replicas_and_the_others_pass_on_what_its_agents_ask() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let (second, third) = (fleet.replica().await, fleet.replica().await);
    let token = fleet.token.clone();
    for replica in [&first, &second, &third] {
        assert_eq!(replica.ready().await.0, StatusCode::OK);
    }
    // Whichever is asked: opening, paying, sessions.
    let channel = open(&third, &token).await;
    for replica in [&first, &second, &third] {
        paid(replica, &token, &channel, "hello").await;
    }
    let session = second.session(&token, "2025-11-25").await;
    session.ok("drain_chat", chat(&channel, "in a session")).await;
    let client = first.client(&token, Client::stateless()).await;
    let status = client.ok("drain_channel_status", json!({ "channelId": channel })).await;
    assert_eq!(status.data["requests"], 4, "{}", status.text);
    client.leave().await;
    // A token that nobody has is refused by whoever is asked.
    let nobody =
        second.stateless(&format!("drain_{}", "a".repeat(43)), "drain_balance", &json!({})).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    // One that is told to end hands over at once.
    let told = std::time::Instant::now();
    first.stop().await;
    paid(&third, &token, &channel, "after the end of the first").await;
    println!("handed over after {:?}", told.elapsed());
    paid(&second, &token, &channel, "through the other").await;
    fleet.nothing_twice();
    second.stop().await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_replica_that_is_killed_is_taken_over_within_its_lease() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    let mut named = chat(&channel, "with a name");
    named["requestId"] = json!("once");
    let answered = second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    let first_answer = Answer::of(message_of(answered).await["result"].clone());
    assert!(!first_answer.is_error, "{}", first_answer.text);
    first.kill().await;
    let killed = std::time::Instant::now();
    paid(&second, &token, &channel, "after").await;
    println!("taken over after {:?} of 2 s", killed.elapsed());
    // What was paid is not lost with the replica that paid, and not paid again.
    let before = vouchers(&fleet.world.sandbox.llm).len();
    let again = second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    let again = Answer::of(message_of(again).await["result"].clone());
    assert_eq!(again.data["content"], first_answer.data["content"], "{}", again.text);
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before);
    fleet.nothing_twice();
    second.stop().await;
}

/// The hardest moment: the voucher is recorded, nothing is signed, and the process stands still until its wallet is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_m2_a_replica_that_stood_still_between_record_and_signature_signs_nothing_new() {
    let mut fleet = Fleet::new().await;
    let env = fleet.env().with("DRAIN_TEST_POINT", "voucher-authorized=stop@2");
    let mut first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    paid(&second, &token, &channel, "before").await;
    let (status, text) = ask(&second, &token, &channel, "while it stands still").await.unwrap_err();
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{text}");
    assert!(text.contains("not known"), "{text}");
    paid(&second, &token, &channel, "taken over").await;
    continued(&first);
    first.says("another process has taken the journal over").await;
    // What it had recorded may still leave, and the provider refuses it: a later number is there. It signs no more.
    until("it knows that the wallet is another's", async || first.ready().await.0 == StatusCode::OK).await;
    paid(&first, &token, &channel, "passed on by the one that stood still").await;
    fleet.nothing_twice();
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM vouchers WHERE amount > (SELECT MIN(deposit) FROM channels)"), "0");
    second.stop().await;
    first.stop().await;
}

/// It stands still with the answer half read, and its wallet is another's when it goes on: the answer is kept all the same, and
/// found by the request's name through the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn an_answer_that_came_to_a_replica_that_had_lost_the_wallet_is_not_lost() {
    let mut fleet = Fleet::new().await;
    let env = fleet.env().with("DRAIN_TEST_POINT", "voucher-sent=stop@2");
    let first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    paid(&second, &token, &channel, "before").await;
    let mut named = chat(&channel, "with a name");
    named["requestId"] = json!("once");
    let ask = async || second.stateless(&token, "drain_chat", &named).send().await.unwrap();
    assert_eq!(ask().await.status(), StatusCode::BAD_GATEWAY);
    let unknown = Answer::of(message_of(ask().await).await["result"].clone());
    assert_eq!(unknown.data["code"], "request_unknown", "{}", unknown.text);
    continued(&first);
    until("its answer is found", async || {
        let answer = Answer::of(message_of(ask().await).await["result"].clone());
        !answer.is_error && answer.text.contains("nothing was paid again")
    })
    .await;
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), 2, "it was paid once");
    // The provider's next total says what it cost.
    paid(&second, &token, &channel, "the next").await;
    until("nothing is unknown", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0")
        .await;
    fleet.nothing_twice();
    second.stop().await;
    first.stop().await;
}

fn continued(served: &Served) {
    signalled(served, rustix::process::Signal::CONT);
}

/// What happens on the way to the database.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    None,
    /// Nothing comes through.
    Cut,
    /// The next commit does not arrive, and its connection ends.
    CommitLost,
    /// It arrives, and its answer does not.
    AnswerLost,
}

/// A way to the database with trouble on it.
struct Way {
    port: u16,
    trouble: watch::Sender<Trouble>,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let trouble = watch::Sender::new(Trouble::None);
        let state = trouble.clone();
        tokio::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                if *state.borrow() == Trouble::Cut {
                    continue;
                }
                let to = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(from, to, state.clone()));
            }
        });
        Self { port: here, trouble }
    }
}

async fn carry(mut from: TcpStream, mut to: TcpStream, trouble: watch::Sender<Trouble>) {
    let mut changed = trouble.subscribe();
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = from.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                let commits = asked[..count].windows(12).any(|bytes| bytes == b"SELECT keep(");
                let lost = commits.then(|| *trouble.borrow());
                if lost == Some(Trouble::CommitLost) {
                    trouble.send_replace(Trouble::None);
                    return;
                }
                to.write_all(&asked[..count]).await.unwrap();
                if lost == Some(Trouble::AnswerLost) {
                    // It is committed when this comes.
                    assert!(to.read(&mut answered).await.unwrap() > 0);
                    trouble.send_replace(Trouble::None);
                    return;
                }
            }
            read = to.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if from.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
            () = async { drop(changed.wait_for(|trouble| *trouble == Trouble::Cut).await) } => return,
        }
    }
}

/// Whether a commit was made is found out before anybody is told, so that nothing is signed twice and nothing unsigned is
/// reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_a_commit_of_which_nothing_was_heard_is_read_back() {
    let mut fleet = Fleet::new().await;
    let way = Way::to(fleet.database.port).await;
    let env = fleet.env().with("DRAIN_JOURNAL_URL", fleet.database.url_at(OWNER, way.port));
    let first = Served::start_with(&env, &["serve"]).await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    until("it is booked", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0").await;
    for turn in 0..3 {
        let before = vouchers(&fleet.world.sandbox.llm).len();
        way.trouble.send_replace(Trouble::AnswerLost);
        paid(&first, &token, &channel, "committed, and nothing heard of it").await;
        assert_eq!(
            (*way.trouble.borrow(), vouchers(&fleet.world.sandbox.llm).len()),
            (Trouble::None, before + 1),
            "{turn}"
        );
        until("it is booked", async || fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'") == "0")
            .await;
        way.trouble.send_replace(Trouble::CommitLost);
        let refused = ask(&first, &token, &channel, "not committed").await.unwrap();
        assert!(refused.is_error && refused.data["code"] == "journal_failed", "{}", refused.text);
        assert!(refused.text.contains("Nothing was spent"), "{}", refused.text);
        assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before + 1, "{turn}");
        let recorded: usize = fleet.sql("SELECT COUNT(*) FROM vouchers").parse().unwrap();
        assert_eq!(recorded, before + 1, "what was not committed is not there");
    }
    paid(&first, &token, &channel, "afterwards").await;
    fleet.nothing_twice();
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_m2_a_replica_that_is_cut_off_from_the_database_signs_nothing_and_comes_back() {
    let mut fleet = Fleet::new().await;
    let way = Way::to(fleet.database.port).await;
    let env = fleet.env().with("DRAIN_JOURNAL_URL", fleet.database.url_at(OWNER, way.port));
    let first = Served::start_with(&env, &["serve"]).await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    way.trouble.send_replace(Trouble::Cut);
    // What is asked of it is refused, or passed on once another one has the wallet: never paid without a record.
    let answer = ask(&first, &token, &channel, "while it is cut off").await;
    println!("while it is cut off: {:?}", answer.as_ref().map(|answer| answer.text.clone()));
    // What was passed on to it just before may be told as unknown.
    until("it is taken over", async || match ask(&second, &token, &channel, "taken over").await {
        Ok(answer) => !answer.is_error,
        Err((status, _)) => {
            assert_eq!(status, StatusCode::BAD_GATEWAY);
            false
        }
    })
    .await;
    way.trouble.send_replace(Trouble::None);
    until("it passes on again", async || {
        ask(&first, &token, &channel, "again").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    fleet.nothing_twice();
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_nothing_is_signed_on_a_server_that_can_lose_a_commit() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    for (setting, unsafe_, safe) in
        [("synchronous_commit", "off", "on"), ("synchronous_commit", "local", "on"), ("fsync", "off", "on")]
    {
        let set = |value: &str| {
            fleet.database.settings(&format!("{setting} = {value}"));
            fleet.database.reload();
        };
        let before = vouchers(&fleet.world.sandbox.llm).len();
        set(unsafe_);
        until("it is refused", async || {
            let answer = ask(&first, &token, &channel, "on an unsafe server").await.unwrap();
            answer.is_error && answer.data["code"] == "journal_failed" && answer.text.contains(setting)
        })
        .await;
        let asked = vouchers(&fleet.world.sandbox.llm).len();
        let refused = ask(&first, &token, &channel, "still unsafe").await.unwrap();
        assert!(refused.is_error && vouchers(&fleet.world.sandbox.llm).len() == asked, "{before}");
        // Nor by one that starts now.
        set(safe);
        until("it is paid again", async || !ask(&first, &token, &channel, "safe again").await.unwrap().is_error).await;
    }
    fleet.nothing_twice();
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m1_the_server_is_restarted_under_load_and_every_request_is_answered_or_refused() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&second, &token).await;
    let asking = async {
        let (mut answered, mut refused) = (0, 0);
        for turn in 0..60 {
            match ask(&second, &token, &channel, &format!("request {turn}")).await {
                Ok(answer) if !answer.is_error => answered += 1,
                Ok(_) | Err((StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY, _)) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        (answered, refused)
    };
    let restarting = async {
        for how in ["immediate", "fast"] {
            until("some are paid", async || vouchers(&fleet.world.sandbox.llm).len() > 5).await;
            tokio::task::block_in_place(|| {
                fleet.database.down(how);
                fleet.database.up();
            });
        }
    };
    let ((answered, refused), ()) = futures::join!(asking, restarting);
    println!("{answered} answered, {refused} refused");
    assert!(answered >= 40, "{answered} answered, {refused} refused");
    paid(&first, &token, &channel, "afterwards").await;
    fleet.nothing_twice();
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM vouchers WHERE state = 'in_flight'"), "0");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_least_privileged_account_pays_and_changes_no_record() {
    let mut fleet = Fleet::new().await;
    let owner = fleet.env();
    let made = owner.run(&["journal", "prepare", "--grant", ROLE, "--json"]).await.ok_json();
    assert_eq!((&made["before"], &made["granted"]), (&Value::Null, &json!(ROLE)));
    fleet.url = fleet.database.url(ROLE);
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "hello").await;
    let schema = fleet.schema();
    for (forbidden, table) in [
        ("UPDATE", "audit"),
        ("DELETE", "audit"),
        ("DELETE", "vouchers"),
        ("TRUNCATE", "audit"),
        ("UPDATE", "schema_version"),
    ] {
        let may = fleet
            .database
            .sql("drain", &format!("SELECT has_table_privilege('{ROLE}', '{schema}.{table}', '{forbidden}')"));
        assert_eq!(may, "f", "{forbidden} {table}");
    }
    // And what the owner itself does is refused by the trigger.
    for change in [
        "UPDATE audit SET amount = 1",
        "DELETE FROM audit",
        "TRUNCATE audit CASCADE",
        "UPDATE channels SET signed = signed - 1",
    ] {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fleet.sql(change)));
        assert!(refused.is_err(), "{change}");
    }
    first.stop().await;
}

/// A thousand requests of twenty agents, spread over three replicas, while one after another is killed or stands still, and the
/// database is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_thousand_requests_survive_what_happens_to_replicas_and_database() {
    const AGENTS: usize = 20;
    const EACH: usize = 50;
    let mut fleet = Fleet::new().await.with("DRAIN_MAX_OPENS_PER_HOUR", "100").with("DRAIN_MAX_NEWCOMERS", "20");
    let home = Env::of(&fleet.world).with("DRAIN_HOME", fleet.homes[0].path().display().to_string());
    let mut tokens = Vec::new();
    for agent in 0..AGENTS {
        tokens.push(add_agent(&home, &format!("agent{agent}"), &[]).await);
    }
    let mut replicas = vec![fleet.replica().await, fleet.replica().await, fleet.replica().await];
    let mut channels = Vec::new();
    for (agent, token) in tokens.iter().enumerate() {
        let client = replicas[agent % 3].client(token, Client::stateless()).await;
        channels.push(client.open("sim-llm", "0.25").await);
        client.leave().await;
    }
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let (urls, asked) = (&urls, &AtomicUsize::new(0));
    let agents = tokens.iter().zip(&channels).enumerate().map(|(agent, (token, channel))| async move {
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        for turn in 0..EACH {
            let mut arguments = chat(channel, &format!("request {turn} of agent {agent}."));
            arguments["requestId"] = json!(format!("{agent}-{turn}"));
            // Where it was surely not begun it is sent again, to the next one.
            for place in agent + turn.. {
                let outcome = by_hand(&urls[place % 3], token, &arguments).await;
                match outcome {
                    Told::Answered(answer) if !answer.is_error => answered.push(turn),
                    Told::Answered(answer) if answer.text.contains("Nothing was spent") => continue,
                    Told::Answered(_) | Told::Unknown => unknown.push(turn),
                    Told::NotBegun => continue,
                }
                break;
            }
            asked.fetch_add(1, Ordering::Relaxed);
        }
        (answered, unknown)
    });
    let trouble = async {
        for (at, what) in [(200, "kill"), (450, "stop"), (700, "restart")] {
            until("so many were asked", async || asked.load(Ordering::Relaxed) >= at).await;
            let holder = fleet.holder(&replicas).unwrap();
            println!("{what}: {} has the wallet", replicas[holder].url);
            match what {
                "kill" => {
                    let env = replicas[holder].env.clone();
                    let gone = replicas.remove(holder);
                    gone.kill().await;
                    until("another one has it", async || fleet.holder(&replicas).is_some()).await;
                    replicas.push(Served::start_with(&env, &["serve"]).await);
                }
                "stop" => {
                    signalled(&replicas[holder], rustix::process::Signal::STOP);
                    until("another one has it", async || fleet.holder(&replicas).is_some_and(|now| now != holder))
                        .await;
                    continued(&replicas[holder]);
                }
                _ => tokio::task::block_in_place(|| {
                    fleet.database.down("immediate");
                    fleet.database.up();
                }),
            }
        }
    };
    let (told, ()) = futures::join!(futures::future::join_all(agents), trouble);
    let answered: usize = told.iter().map(|(answered, _)| answered.len()).sum();
    let unknown: usize = told.iter().map(|(_, unknown)| unknown.len()).sum();
    println!("{answered} answered, {unknown} of which nothing was known at first");
    assert_eq!(answered + unknown, AGENTS * EACH);
    assert!(answered > AGENTS * EACH * 9 / 10, "{answered} answered");
    // Asked again by its name, none is paid a second time, and what was answered is answered so.
    for (agent, (answered, unknown)) in told.iter().enumerate() {
        for turn in answered.iter().take(3).chain(unknown) {
            let mut arguments = chat(&channels[agent], &format!("request {turn} of agent {agent}."));
            arguments["requestId"] = json!(format!("{agent}-{turn}"));
            let Told::Answered(again) = by_hand(&replicas[0].url, &tokens[agent], &arguments).await else {
                panic!("{arguments}")
            };
            assert!(!again.is_error || unknown.contains(turn), "{}", again.text);
        }
    }
    let mut paid_for: HashMap<String, usize> = HashMap::new();
    for request in
        vouchers(&fleet.world.sandbox.llm).into_iter().filter(|request| request.outcome.starts_with("billed"))
    {
        *paid_for.entry(request.body).or_default() += 1;
    }
    assert!(paid_for.values().all(|times| *times == 1), "a request was paid twice");
    fleet.nothing_twice();
    let over = "SELECT COUNT(*) FROM channels WHERE signed > deposit OR signed < charged";
    assert_eq!(fleet.sql(over), "0");
    for replica in replicas {
        replica.stop().await;
    }
}

/// What one request was told.
enum Told {
    Answered(Box<Answer>),
    Unknown,
    NotBegun,
}

async fn by_hand(url: &str, token: &str, arguments: &Value) -> Told {
    let sent = stateless(client().post(format!("{url}/mcp")), token, "drain_chat", arguments).send().await;
    match sent {
        Err(error) if error.is_connect() => Told::NotBegun,
        // Its replica was killed while it had it.
        Err(_) => Told::Unknown,
        Ok(answer) if answer.status() == StatusCode::OK => match answer.text().await {
            Ok(text) => Told::Answered(Box::new(Answer::of(message_in(&text)["result"].clone()))),
            Err(_) => Told::Unknown,
        },
        Ok(answer) if answer.headers().contains_key("drain-not-begun") => Told::NotBegun,
        Ok(answer) if answer.status() == StatusCode::BAD_GATEWAY => Told::Unknown,
        Ok(answer) => panic!("{}", answer.status()),
    }
}

fn signalled(served: &Served, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(served.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// The primary is lost and a standby takes over, which may lack what was committed last: no channel's history is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_standby_that_took_over_makes_every_channel_a_recovered_one() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before").await;
    fleet.database.down("fast");
    fleet.database.up_as_standby();
    let before = vouchers(&fleet.world.sandbox.llm).len();
    let refused = ask(&first, &token, &channel, "by a standby").await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.is_error), "a standby can record nothing");
    let late = fleet.env().run(&["serve"]).await;
    assert!(late.code == Some(1) && late.stderr.contains("in recovery"), "{late:?}");
    assert_eq!(vouchers(&fleet.world.sandbox.llm).len(), before);
    fleet.database.promote();
    until("it is paid on the new timeline", async || {
        ask(&first, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    assert!(fleet.sql("SELECT notice FROM identity").contains("another history"));
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM audit WHERE kind = 'copy'"), "1");
    fleet.nothing_twice();
    first.stop().await;
    // Said once: the next start knows this history.
    let again = fleet.replica().await;
    paid(&again, &token, &channel, "by the next").await;
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM audit WHERE kind = 'copy'"), "1");
    again.stop().await;
}

/// A dump of the records is put back while nobody looks: it is not what the server committed last, and nobody's mark tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_dump_that_was_put_back_makes_every_channel_a_recovered_one() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before the dump").await;
    let dump = fleet.database.dump("drain");
    for turn in 0..3 {
        paid(&first, &token, &channel, &format!("after the dump {turn}")).await;
    }
    first.kill().await;
    fleet.database.restore("drain", &dump, &fleet.schema());
    // On another machine, which never had the wallet.
    let second = fleet.replica().await;
    until("it is paid again", async || {
        ask(&second, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    let seen = vouchers(&fleet.world.sandbox.llm);
    let numbers: HashSet<_> = seen.iter().map(|request| request.nonce.unwrap()).collect();
    assert_eq!(numbers.len(), seen.len(), "a number was used twice");
    second.stop().await;
}

/// The same under a holder that goes on: what it knows and what is there now are not one history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_dump_that_is_put_back_under_a_holder_is_noticed_by_its_next_commit() {
    let mut fleet = Fleet::new().await;
    let mut first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&first, &token, &channel, "before the dump").await;
    let dump = fleet.database.dump("drain");
    paid(&first, &token, &channel, "after the dump").await;
    fleet.database.restore("drain", &dump, &fleet.schema());
    until("it is paid again", async || {
        ask(&first, &token, &channel, "afterwards").await.is_ok_and(|answer| !answer.is_error)
    })
    .await;
    first.says("another process has taken the journal over").await;
    assert_eq!(fleet.sql("SELECT recovered FROM channels"), "1");
    let seen = vouchers(&fleet.world.sandbox.llm);
    let numbers: HashSet<_> = seen.iter().map(|request| request.nonce.unwrap()).collect();
    assert_eq!(numbers.len(), seen.len(), "a number was used twice");
    first.stop().await;
}

/// A process of the same machine that knows of no server does not take the wallet beside the replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m2_a_process_without_the_servers_url_does_not_become_a_second_holder() {
    let mut fleet = Fleet::new().await;
    let first = fleet.replica().await;
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    let beside = first.env.clone().without("DRAIN_JOURNAL_URL");
    // It shares the replica's runtime over the socket, as any process of the machine does.
    let shown = beside.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(shown["channels"][0]["channel_id"], channel.as_str(), "{shown}");
    let folder = fleet.homes[0].path().join(format!("137-{:#x}", fleet.world.agent()));
    assert!(!folder.join("journal.db").exists(), "it began a journal of its own");
    first.stop().await;
}

/// A later version's schema, replicas of this one that go on with it, and one replaced after another while an agent pays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn replicas_go_on_with_a_later_schema_and_are_replaced_one_after_another() {
    let mut fleet = Fleet::new().await;
    let (first, second) = (fleet.replica().await, fleet.replica().await);
    let token = fleet.token.clone();
    let channel = open(&first, &token).await;
    paid(&second, &token, &channel, "before").await;
    // What a step of the next version may do: columns and tables that this one does not know.
    let version: u64 = fleet.sql("SELECT version FROM schema_version").parse().unwrap();
    fleet.sql(&format!(
        "BEGIN; ALTER TABLE channels ADD COLUMN later BIGINT NOT NULL DEFAULT 0; ALTER TABLE vouchers ADD COLUMN later TEXT; \
         ALTER TABLE audit ADD COLUMN later TEXT; CREATE TABLE later (id BIGINT); UPDATE schema_version SET version = {}, oldest = {version}; COMMIT",
        version + 1
    ));
    let third = fleet.replica().await;
    for replica in [&first, &second, &third] {
        paid(replica, &token, &channel, "after the step").await;
    }
    let client = third.client(&token, Client::stateless()).await;
    let budget = client.ok("drain_budget", json!({})).await;
    assert!(budget.text.contains("receipt") || !budget.data["receipts"].is_null(), "{}", budget.text);
    client.leave().await;
    let asking = async {
        for turn in 0..30 {
            paid(&third, &token, &channel, &format!("while they are replaced {turn}")).await;
        }
    };
    let replacing = async {
        first.stop().await;
        second.stop().await;
    };
    futures::join!(asking, replacing);
    fleet.nothing_twice();
    // One that the next version does not allow any more says so, and leaves the journal as it is.
    fleet.sql(&format!("UPDATE schema_version SET oldest = {}", version + 1));
    let late = fleet.env();
    let refused = late.run(&["serve"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("newer drain-mcp"), "{refused:?}");
    paid(&third, &token, &channel, "the one that runs goes on").await;
    third.stop().await;
}

/// Two agents on two replicas want the last cent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn m4_the_last_of_a_budget_is_spent_once() {
    let mut fleet = Fleet::new().await.with("DRAIN_MAX_PER_DAY", "0.002");
    let first = fleet.replica().await;
    let second = fleet.replica().await;
    let token = fleet.token.clone();
    let (tokens, replicas) = ([token, fleet.bob.clone()], [&first, &second]);
    let channels = [open(&first, &tokens[0]).await, open(&second, &tokens[1]).await];
    let mut asked = Vec::new();
    for turn in 0..20 {
        let which = turn % 2;
        asked.push(ask(replicas[which], &tokens[which], &channels[which], "a request that costs something"));
    }
    let answers = futures::future::join_all(asked).await;
    let refused = answers.iter().filter(|answer| answer.as_ref().unwrap().data["code"] == "limit_reached").count();
    assert!(refused > 0, "the budget is never used up");
    let signed: u64 = fleet.sql("SELECT SUM(signed) FROM channels").parse().unwrap();
    assert!(signed <= 2_000, "{signed} of 2000 signed");
    first.stop().await;
    second.stop().await;
}
