//! Many agents, while everything happens at once.

use std::sync::atomic::{AtomicUsize, Ordering};

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
