//! A keystore in stdio mode: its password from a variable, a file or a keyring's command, and opened while the client is
//! answered already.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use drain_signers::{Secret, keystore};
use serde_json::{Value, json};

use crate::harness::World;
use crate::process_harness::{Agent, Env, Greeting, chat, until, vouchers, world};

const PASSWORD: &str = "correct horse battery";
const LINES: Greeting = Greeting::Lines("2025-11-25");

/// The agent's key in a keystore, and nothing that opens it.
fn locked(world: &World) -> Env {
    let env = Env::of(world);
    let path = world.home.path().join("keystore.json");
    keystore::create(&path, &Secret::parse(env.get("DRAIN_PRIVATE_KEY")).unwrap(), PASSWORD).unwrap();
    env.without("DRAIN_PRIVATE_KEY")
}

/// What a keyring's person does in the end: a file, and the command that waits for it.
fn keyring(world: &World) -> (PathBuf, String) {
    let folder = world.home.path().display();
    let command =
        format!("echo $$ > {folder}/pid; until test -e {folder}/typed; do sleep 0.02; done; cat {folder}/typed");
    (world.home.path().join("typed"), command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_is_answered_before_the_keystore_is_open() {
    let world = world().await;
    let (typed, command) = keyring(&world);
    let env = locked(&world).with("DRAIN_KEYSTORE_PASSWORD_COMMAND", command);
    let mut agent = Agent::start(&env, LINES).await;
    assert_eq!(agent.tools().await.len(), crate::stdio::TOOLS.len());
    agent.ok("drain_providers", json!({})).await;
    agent.ok("drain_provider_info", json!({ "provider": "sim-llm" })).await;
    // What needs the wallet waits and says so.
    let arguments = json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" });
    let params = json!({ "name": "drain_open_channel", "arguments": arguments, "_meta": { "progressToken": 1 } });
    let opening = agent.ask("tools/call", params).await;
    let told = agent.next().await;
    assert_eq!(told["params"]["message"], "the wallet's key is being opened", "{told}");
    agent.ok("drain_providers", json!({})).await;
    assert_eq!(world.transactions(), 0);

    std::fs::write(typed.with_extension("new"), format!("{PASSWORD}\n")).unwrap();
    std::fs::rename(typed.with_extension("new"), typed).unwrap();
    let opened = agent.answer(opening).await.unwrap();
    let id = opened["structuredContent"]["channel"]["channel_id"].as_str().unwrap().to_owned();
    agent.ok("drain_chat", chat(&id, "hello")).await;
    assert_eq!(vouchers(&world.sandbox.llm).len(), 1);
    // It holds the wallet as ever: a second process shares it, with its own way to the password.
    let second = env.clone().without("DRAIN_KEYSTORE_PASSWORD_COMMAND").with("DRAIN_KEYSTORE_PASSWORD", PASSWORD);
    let mut second = Agent::start(&second, LINES).await;
    second.ok("drain_chat", chat(&id, "hello from the second")).await;
    let listed = env.clone().without("DRAIN_KEYSTORE_PASSWORD_COMMAND").run(&["channels", "--json"]).await.ok_json();
    assert_eq!(listed["channels"][0]["requests"], 2, "a command needs no password beside it: {listed}");
    second.leave().await;
    let ended = agent.leave().await;
    assert!(ended.code == Some(0) && !ended.everything().contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_the_waiting_command_along() {
    let world = world().await;
    let (_, command) = keyring(&world);
    let mut agent = Agent::start(&locked(&world).with("DRAIN_KEYSTORE_PASSWORD_COMMAND", command), LINES).await;
    agent.tools().await;
    agent.ask("tools/call", json!({ "name": "drain_balance", "arguments": {} })).await;
    let pid = world.home.path().join("pid");
    let running = || std::fs::read_to_string(&pid).ok().and_then(|pid| pid.trim().parse::<i32>().ok());
    until("the command runs", async || running().is_some()).await;
    let pid = rustix::process::Pid::from_raw(running().unwrap()).unwrap();
    assert!(rustix::process::test_kill_process(pid).is_ok());
    assert_eq!(agent.leave().await.code, Some(0));
    // Gone, or waiting for whoever collects the dead.
    until("the command has ended", async || {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        rustix::process::test_kill_process(pid).is_err() || line.is_ok_and(|line| line.is_empty())
    })
    .await;
}

/// What opens nothing is told by what needs the key, and on stderr; the rest works. Nothing is ever asked on stdin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keystore_that_does_not_open_keeps_the_server_up() {
    let world = world().await;
    let env = locked(&world);
    let file = world.home.path().join("password");
    std::fs::write(&file, "wrongsecret").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (given, said) in [
        (Some(("DRAIN_KEYSTORE_PASSWORD", "wrongsecret".to_owned())), "password"),
        (Some(("DRAIN_KEYSTORE_PASSWORD_FILE", file.display().to_string())), "password"),
        (Some(("DRAIN_KEYSTORE_PASSWORD_COMMAND", "echo wrongsecret".into())), "password"),
        (Some(("DRAIN_KEYSTORE_PASSWORD_COMMAND", "echo wrongsecret; exit 7".into())), "exit status: 7"),
        (Some(("DRAIN_KEYSTORE_PASSWORD_COMMAND", "yes wrongsecret".into())), "more than 4096 bytes"),
        (Some(("DRAIN_KEYSTORE_PASSWORD_COMMAND", "true".into())), "wrote nothing"),
        (None, "DRAIN_KEYSTORE_PASSWORD_COMMAND"),
    ] {
        let mut env = env.clone().with("DRAIN_LOG", "trace").with("DRAIN_LOG_CONTENT", "on");
        if let Some((name, value)) = &given {
            env = env.with(name, value);
        }
        let mut agent = Agent::start(&env, LINES).await;
        agent.tools().await;
        for (tool, arguments) in [
            ("drain_balance", json!({})),
            ("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1", "duration": "4h" })),
        ] {
            let refused = agent.fails(tool, arguments, "signer_failed").await;
            assert!(refused.text.contains(said), "{given:?}: {}", refused.text);
        }
        agent.ok("drain_providers", json!({})).await;
        let ended = agent.leave().await;
        assert_eq!(ended.code, Some(0));
        let warned = ended.stderr.lines().any(|line| line.contains("serving without the key") && line.contains(said));
        assert!(warned, "{given:?}");
        assert!(!ended.everything().contains("wrongsecret"), "{given:?}");
        let only_messages = ended.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(only_messages, "{}", ended.stdout);
    }
    assert_eq!(world.transactions(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_take_the_password_from_a_keyring_too() {
    let world = world().await;
    let home = tempfile::tempdir().unwrap();
    let env = Env::of(&world)
        .without("DRAIN_PRIVATE_KEY")
        .with("DRAIN_HOME", home.path().join("own").display().to_string())
        .with("DRAIN_KEYSTORE_PASSWORD_COMMAND", format!("echo '{PASSWORD}'"));
    let key = Env::of(&world).get("DRAIN_PRIVATE_KEY").to_owned();
    env.run_with(&["wallet", "import", "--json"], &key).await.ok_json();
    assert_eq!(env.run(&["balance", "--json"]).await.ok_json()["usdc"], "100.00");
    let opened = keystore::open(&home.path().join("own/keystore.json"), PASSWORD).unwrap();
    assert_eq!(drain_signers::Backend::address(&opened), world.agent());
    let failing = env.with("DRAIN_KEYSTORE_PASSWORD_COMMAND", "exit 3").run(&["balance", "--json"]).await;
    assert_eq!(failing.json()["error"]["code"], "signer_failed");
}
