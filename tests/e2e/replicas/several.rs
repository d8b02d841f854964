//! Several wallets over several replicas.

use std::os::unix::fs::PermissionsExt;

use drain_protocol::U256;
use drain_signers::{Backend, LocalBackend, Secret};

use super::*;
use crate::harness::usdc;

const WALLETS: usize = 4;

/// Four wallets in one configuration, each with an agent; their tokens.
async fn four_wallets(fleet: &mut Fleet) -> Vec<Token> {
    let home = fleet.homes[0].path().to_owned();
    let (mut tables, mut book, mut tokens) = (String::new(), String::new(), Vec::new());
    for n in 0..WALLETS {
        let key = format!("{:064x}", 0x17 + n);
        let address = LocalBackend::new(Secret::parse(&key).unwrap()).address();
        let gas = U256::from(10).pow(U256::from(18));
        fleet.world.sandbox.observer().fund(address, usdc("50"), gas).await.unwrap();
        let path = home.join(format!("{n}.key"));
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        tables.push_str(&format!("[wallet.w{n}]\nprivate_key_file = \"{}\"\n", path.display()));
        let token = Token::new();
        book.push_str(&entry(n, &format!("w{n}"), &token));
        tokens.push(token);
    }
    std::fs::write(home.join("wallets.toml"), tables).unwrap();
    std::fs::write(home.join("agents.toml"), book).unwrap();
    fleet.more.push(("DRAIN_CONFIG".into(), home.join("wallets.toml").display().to_string()));
    tokens
}

/// How many wallets a replica has, by its metrics.
async fn held(replica: &Served) -> usize {
    let (_, text) = replica.get("/metrics").await;
    text.lines().filter(|line| line.starts_with("drain_wallet_held{") && line.ends_with(" 1")).count()
}

async fn start(fleet: &mut Fleet) -> Served {
    let env = fleet.env().without("DRAIN_PRIVATE_KEY").with("DRAIN_JOURNAL_LEASE", "20s");
    Served::start_with(&env, &["serve"]).await
}

/// Wallets that become free go to those who have fewer: not all of them are one replica's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgres"]
async fn several_wallets_spread_over_the_replicas_that_are_there() {
    let mut fleet = Fleet::new().await;
    let tokens = four_wallets(&mut fleet).await;
    let first = start(&mut fleet).await;
    until("the only one has all", async || held(&first).await == WALLETS).await;
    let second = start(&mut fleet).await;
    let third = start(&mut fleet).await;
    assert_eq!((held(&second).await, held(&third).await), (0, 0));
    for (token, replica) in tokens.iter().zip([&second, &third, &second, &third]) {
        let channel = open(replica, token.expose()).await;
        paid(replica, token.expose(), &channel, "hello").await;
    }
    first.stop().await;
    until("all are somebody's", async || held(&second).await + held(&third).await == WALLETS).await;
    let split = (held(&second).await, held(&third).await);
    assert!(split.0 > 0 && split.1 > 0, "{split:?}");
    // And from one that was killed, whoever is left takes all.
    let left = split.1;
    third.kill().await;
    until("the last one has all", async || held(&second).await == WALLETS).await;
    let (_, text) = second.get("/metrics").await;
    let taken =
        text.lines().filter(|line| line.starts_with("drain_wallet_taken_total{") && line.ends_with(" 1")).count();
    assert_eq!(taken, WALLETS, "{left} were taken over: {text}");
    for token in &tokens {
        let balance = second.stateless(token.expose(), "drain_balance", &json!({})).send().await.unwrap();
        assert_eq!(balance.status(), StatusCode::OK);
    }
    second.stop().await;
}
