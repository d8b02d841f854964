//! A wallet whose key is in AWS KMS, through the real process: moto (tests/kms/server.py) holds the key of the sandbox's
//! funded account.

use serde_json::{Value, json};

use crate::harness::World;
use crate::kms_server::{Key, url};
use crate::process_harness::{Agent, Env, Greeting, chat, vouchers, world};

const SECRET: &str = "SecretOfAWSThatNobodyMaySee";
const TOKEN: &str = "TokenOfAWSThatOnlyAWSMaySee";
const NEWEST: Greeting = Greeting::Lines("2025-11-25");

/// A process with the sandbox's account in KMS, and no key of its own.
fn kms(world: &World) -> (Key, Env) {
    let env = Env::of(world);
    let key = Key::new(json!({ "private": env.get("DRAIN_PRIVATE_KEY").trim_start_matches("0x") }));
    let env = env
        .without("DRAIN_PRIVATE_KEY")
        .with("DRAIN_KMS_KEY_ID", key.arn.clone())
        .with("DRAIN_KMS_ENDPOINT", url())
        .with("DRAIN_KMS_TIMEOUT", "2s")
        .with("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", SECRET)
        .with("AWS_SESSION_TOKEN", TOKEN)
        .with("AWS_EC2_METADATA_DISABLED", "true");
    (key, env)
}

/// Opens, pays twice and closes with a key that is nowhere here; no credential of AWS is in anything that this leaves
/// behind or sends, and AWS's own requests hold the token where AWS wants it and the secret nowhere (M12).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn m12_opens_pays_and_closes_and_shows_no_credential() {
    let world = world().await;
    let (key, env) = kms(&world);
    let private = Env::of(&world).get("DRAIN_PRIVATE_KEY").trim_start_matches("0x").to_owned();
    let env = env.with("DRAIN_LOG", "trace").with("DRAIN_LOG_CONTENT", "on");
    let mut agent = Agent::start(&env, NEWEST).await;
    let channel = agent.open("sim-llm", "1", "24h").await;
    for text in ["one", "two"] {
        agent.ok("drain_chat", chat(&channel, text)).await;
    }
    // And one without a channel.
    let single = cfg!(feature = "mpp");
    if single {
        let hello = json!({ "provider": "sim-mpp", "messages": [{ "role": "user", "content": "three" }] });
        let paid = agent.ok("mpp_chat", hello).await;
        assert_eq!(paid.data["payment"]["state"], "paid", "{}", paid.text);
    }
    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    let ended = agent.leave().await;

    // Once, however many signatures: two transactions to open, two vouchers, one close, and the payment.
    assert_eq!((key.asked("GetPublicKey"), key.asked("Sign")), (1, 5 + usize::from(single)));
    let mut everything = ended.everything();
    for request in vouchers(&world.sandbox.llm) {
        everything += &format!("{request:?}");
    }
    for entry in walk(world.home.path()) {
        everything += &String::from_utf8_lossy(&std::fs::read(entry).unwrap());
    }
    for hidden in [SECRET, TOKEN, private.as_str()] {
        assert!(!everything.contains(hidden), "{hidden}");
    }
    for request in key.seen() {
        assert_eq!(request["headers"]["HTTP_X_AMZ_SECURITY_TOKEN"], TOKEN);
        let sent = request.to_string();
        assert!(!sent.contains(SECRET) && !sent.contains(&private), "{sent}");
    }
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // A socket has no content.
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else if path.is_file() {
                vec![path]
            } else {
                vec![]
            }
        })
        .collect()
}

/// Where AWS cannot be reached, the server starts and discovery works; money says why not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn starts_where_aws_cannot_be_reached() {
    let world = world().await;
    let (key, env) = kms(&world);
    let dead = env.clone().with("DRAIN_KMS_ENDPOINT", "http://127.0.0.1:9");
    let mut agent = Agent::start(&dead, NEWEST).await;
    assert!(!agent.tools().await.is_empty());
    agent.ok("drain_providers", json!({})).await;
    let open = json!({ "provider": "sim-llm", "amount": "1", "duration": "24h" });
    let failed = agent.fails("drain_open_channel", open.clone(), "signer_failed").await;
    for words in ["Connection refused", "DRAIN_KMS_ADDRESS", "docs/signers.md"] {
        assert!(failed.text.contains(words), "{words}: {}", failed.text);
    }
    agent.leave().await;

    // With its account named it waits for nobody at start, and signs as soon as AWS is there.
    key.fault("GetPublicKey", "drop", -1);
    let named = env.with("DRAIN_KMS_ADDRESS", world.agent().to_string());
    let mut agent = Agent::start(&named, NEWEST).await;
    assert_eq!(agent.ok("drain_balance", json!({})).await.data["address"], world.agent().to_string());
    assert_eq!(key.seen().len(), 0);
    let failed = agent.fails("drain_open_channel", open, "signer_failed").await;
    assert_eq!(failed.data["money"]["state"], "not_spent", "{}", failed.data);
    assert!(failed.text.contains("kms_unreachable"), "{}", failed.text);
    key.mend();
    let channel = agent.open("sim-llm", "1", "24h").await;
    agent.ok("drain_chat", chat(&channel, "now")).await;
    agent.leave().await;
}

/// A signature that fails costs nothing, and the next one pays on the same channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn a_failed_signature_sends_nothing() {
    let world = world().await;
    let (key, env) = kms(&world);
    let mut agent = Agent::start(&env, NEWEST).await;
    let channel = agent.open("sim-llm", "1", "24h").await;
    for (fault, code) in [("denied", "kms_denied"), ("hang", "kms_timed_out"), ("throttled", "kms_throttled")] {
        key.fault("Sign", fault, -1);
        let failed = agent.fails("drain_chat", chat(&channel, "no"), "signer_failed").await;
        assert!(failed.text.contains(code), "{}", failed.text);
        assert_eq!(failed.data["money"]["state"], "not_spent", "{}", failed.data);
        key.mend();
    }
    assert!(vouchers(&world.sandbox.llm).is_empty());
    // Throttled for a moment only: nobody notices.
    key.fault("Sign", "throttled", 2);
    agent.ok("drain_chat", chat(&channel, "yes")).await;
    assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    agent.leave().await;
}

/// What a person at the command line sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn the_command_line_knows_it() {
    let world = world().await;
    let (key, env) = kms(&world);
    let account = world.agent().to_string();
    assert_eq!(env.run(&["wallet", "address", "--json"]).await.ok_json()["address"], account);

    let line =
        |report: &Value| report["checks"].as_array().unwrap().iter().find(|l| l["check"] == "key").unwrap().clone();
    let unnamed = line(&env.run(&["doctor", "--json"]).await.json());
    assert_eq!(unnamed["status"], "warn");
    assert_eq!(unnamed["fix"].as_str().unwrap().split_once(':').unwrap().0, format!("Set DRAIN_KMS_ADDRESS={account}"));
    let named = env.clone().with("DRAIN_KMS_ADDRESS", account.clone());
    let found = line(&named.run(&["doctor", "--json"]).await.json());
    assert_eq!(found["status"], "ok");
    let text = found["found"].as_str().unwrap();
    for words in [&account, &key.arn, "unattended", "16 at a time"] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let export = env.run(&["wallet", "export"]).await;
    assert!(export.everything().contains("gives it to nobody"), "{export:?}");
    let nobody = env.clone().without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY").without("AWS_SESSION_TOKEN");
    let nobody = nobody.with("HOME", world.home.path().display().to_string());
    let lost = nobody.run(&["wallet", "address"]).await;
    assert!(lost.everything().contains("AWS_PROFILE") && lost.code == Some(1), "{lost:?}");
    // A keystore can be made beside it; it says which of the two counts.
    let made =
        env.clone().with("DRAIN_KEYSTORE_PASSWORD", "pw").run(&["wallet", "new", "--yes", "--show-phrase"]).await;
    assert!(made.stderr.contains("DRAIN_KMS_KEY_ID is set and counts before this keystore"), "{made:?}");
    // Another account than the operator named: nothing is signed.
    let wrong = env.with("DRAIN_KMS_ADDRESS", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
    let refused = wrong.run(&["doctor", "--json"]).await.json();
    assert!(line(&refused)["found"].as_str().unwrap().contains("not to 0x7099"), "{refused}");
}

/// The page explains every code that there is.
#[test]
fn every_code_is_explained() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/signers.md")).unwrap();
    let source = std::fs::read_to_string(root.join("signers/src/aws_kms/problem.rs")).unwrap();
    let codes: Vec<&str> = source.split('"').filter(|text| text.starts_with("kms_")).collect();
    assert!(codes.len() >= 16, "{codes:?}");
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "{code}");
    }
}
