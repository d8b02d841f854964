//! Many agents, while everything happens at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use drain_mcp::agents::MOST;
use futures::{StreamExt, stream};

use super::*;

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
            match insistent(urls, agent + turn, token, &arguments).await {
                true => answered.push(turn),
                false => unknown.push(turn),
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
    paid_once(&fleet);
    for replica in replicas {
        replica.stop().await;
    }
}

/// As many agents as one file may name, who share a channel, each with one request, while one replica is killed and another ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn a_thousand_agents_are_served_while_one_replica_is_killed_and_another_ends() {
    const AT_ONCE: usize = 32;
    let mut fleet = Fleet::new().await.with("DRAIN_MAX_NEWCOMERS", "20");
    let tokens: Vec<Token> = (0..MOST).map(|_| Token::new()).collect();
    let book =
        tokens.iter().enumerate().map(|(agent, token)| entry(agent, "default", token) + "share_channels = true\n");
    std::fs::write(fleet.homes[0].path().join("agents.toml"), book.collect::<String>()).unwrap();
    let mut replicas = vec![fleet.replica().await, fleet.replica().await, fleet.replica().await];
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url.clone()).collect();
    let (urls, asked) = (&urls, &AtomicUsize::new(0));
    // The first one opens it, the others join.
    let wanted = json!({ "provider": "sim-llm", "amount": "5" });
    let opened = replicas[0].stateless(tokens[0].expose(), "drain_open_channel", &wanted).send().await.unwrap();
    assert!(!Answer::of(message_of(opened).await["result"].clone()).is_error);
    let agents = tokens.iter().enumerate().map(|(agent, token)| async move {
        let mut arguments = json!({ "provider": "sim-llm", "model": "sim-small", "maxDeposit": "5", "maxTokens": 20 });
        arguments["messages"] = json!([{ "role": "user", "content": format!("I am agent {agent}.") }]);
        arguments["requestId"] = json!("only");
        let answered = insistent(urls, agent, token.expose(), &arguments).await;
        asked.fetch_add(1, Ordering::Relaxed);
        answered
    });
    let agents = stream::iter(agents).buffered(AT_ONCE).collect::<Vec<bool>>();
    let trouble = async {
        until("so many were asked", async || asked.load(Ordering::Relaxed) >= 300).await;
        let gone = replicas.remove(fleet.holder(&replicas).unwrap());
        gone.kill().await;
        until("another one has it", async || fleet.holder(&replicas).is_some()).await;
        until("so many were asked", async || asked.load(Ordering::Relaxed) >= 600).await;
        let ends = replicas.remove(fleet.holder(&replicas).unwrap());
        ends.stop().await;
    };
    let (told, ()) = futures::join!(agents, trouble);
    let answered = told.iter().filter(|answered| **answered).count();
    println!("{answered} of {MOST} agents answered at once");
    // Of those that were on their way when a replica was killed nobody knows, and those that reach the other one as that closes may
    // find their connections ended.
    assert!(answered >= MOST - 2 * AT_ONCE, "{answered} answered");
    paid_once(&fleet);
    assert_eq!(fleet.sql("SELECT COUNT(*) FROM channels"), "1");
    let agents = fleet.sql("SELECT COUNT(DISTINCT agent) FROM vouchers WHERE state IN ('settled', 'in_flight')");
    assert!(agents.parse::<usize>().unwrap() >= answered, "{agents}");
    replicas.remove(0).stop().await;
}

/// No request was billed twice, and the books hold.
fn paid_once(fleet: &Fleet) {
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
}

/// Asks until it is answered or nobody knows: where it was surely not begun it is sent again, to the next replica. Whether it was
/// answered.
async fn insistent(urls: &[String], first: usize, token: &str, arguments: &Value) -> bool {
    let mut place = first;
    loop {
        match by_hand(&urls[place % urls.len()], token, arguments).await {
            Told::Answered(answer) if !answer.is_error => return true,
            Told::Answered(answer) if answer.text.contains("Nothing was spent") => {}
            Told::Answered(_) | Told::Unknown => return false,
            Told::NotBegun => {}
        }
        place += 1;
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
