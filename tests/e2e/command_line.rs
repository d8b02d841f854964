//! The command line as people and scripts use it.

use serde_json::{Value, json};

use crate::harness::usdc;
use crate::process_harness::{Ended, Env, until, vouchers, world};

const COMMANDS: [&[&str]; 26] = [
    &[],
    &["providers"],
    &["balance"],
    &["open"],
    &["chat"],
    &["channels"],
    &["channels", "recover"],
    &["refund"],
    &["rescue"],
    &["wallet", "unfreeze"],
    &["close"],
    &["doctor"],
    &["demo"],
    &["sandbox"],
    &["journal"],
    &["journal", "export"],
    &["journal", "import"],
    &["journal", "verify"],
    &["wallet"],
    &["wallet", "new"],
    &["wallet", "import"],
    &["wallet", "export"],
    &["wallet", "address"],
    &["wallet", "balance"],
    &["wallet", "send"],
    &["wallet", "gas"],
];

#[tokio::test]
async fn every_help_teaches_by_examples() {
    for command in COMMANDS {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let ended = Env::default().run(&args).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let examples =
            ended.stdout.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{command:?}: {}", ended.stdout));
        let example = format!("drain-mcp {}", command.join(" "));
        assert!(examples.contains(example.trim()), "{command:?}: {examples}");
    }
    let ended = Env::default().run(&["--help"]).await;
    for code in ["0  done", "1  failed", "2  wrong", "3  money", "4  refused", "5  failed", "130  interrupted"] {
        assert!(ended.stdout.contains(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_in_commands() {
    let world = world().await;
    let env = Env::of(&world);
    let wallet = world.sandbox.agent().address();
    let observer = world.sandbox.observer();

    let page = env.run(&["providers", "--json", "--online", "--category", "llm", "--limit", "5"]).await.ok_json();
    let ids: Vec<&str> = page["providers"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["sim-llm", "sim-llm-v1"]);
    let shown = env.run(&["providers", "sim-llm"]).await;
    assert!(shown.code == Some(0) && shown.stdout.contains("Agent Instructions"));
    let balance = env.run(&["balance", "--json"]).await.ok_json();
    assert_eq!((&balance["usdc"], &balance["play_money"]), (&json!("100.00"), &json!(true)));

    let opened = env.run(&["open", "sim-llm", "0.5", "--duration", "2h", "--cap", "0.25", "--json"]).await.ok_json();
    let id = opened["channel"]["channel_id"].as_str().unwrap().to_owned();
    assert_eq!((&opened["channel"]["cap"], &opened["channel"]["deposit"]), (&json!("0.25"), &json!("0.50")));
    assert_eq!(observer.total_locked().await.unwrap(), usdc("0.5"));
    let paid = env.run(&["chat", &id, "--model", "sim-small", "Say hello", "--json"]).await.ok_json();
    assert_ne!(paid["content"], "");
    // As a filter: the prompt from stdin, the answer alone on stdout, what it cost on stderr.
    let piped = env.run_with(&["chat", &id, "-m", "sim-small", "--system", "Be brief"], "Summarise: a letter").await;
    assert_eq!(piped.code, Some(0));
    assert!(piped.stdout.starts_with("PLAY MONEY\n") && !piped.stdout.contains("receipt"), "{}", piped.stdout);
    assert!(piped.stderr.contains("paid 0.0000") && piped.stderr.contains("receipt"), "{}", piped.stderr);
    let conversation =
        r#"[{"role":"user","content":"one"},{"role":"assistant","content":"1"},{"role":"user","content":"two"}]"#;
    let third =
        env.run_with(&["chat", &id, "-m", "sim-small", "--messages", "-", "--json"], conversation).await.ok_json();
    assert_eq!(third["channel"]["requests"], 3);
    assert_eq!(vouchers(&world.sandbox.llm).len(), 3);

    let listed = env.run(&["channels", "--json"]).await.ok_json();
    assert_eq!(listed["channels"][0]["charged"], third["channel"]["charged"]);
    let one = env.run(&["channels", &id]).await;
    assert!(one.stdout.contains("requests   3") && one.stdout.contains("cap        0.25"), "{}", one.stdout);
    let closed = env.run(&["close", &id, "--json"]).await.ok_json();
    assert_eq!(
        usdc(closed["paid"].as_str().unwrap()).units(),
        usdc("100").units() - observer.usdc_balance(wallet).await.unwrap().units()
    );
    assert_eq!(observer.total_locked().await.unwrap(), usdc("0"));
    assert_eq!(env.run(&["channels", "--json"]).await.ok_json()["channels"], json!([]));
    assert_eq!(env.run(&["channels", "--all", "--json"]).await.ok_json()["channels"][0]["state"], "closed");

    let weather = env.run(&["open", "sim-weather", "0.1", "--json"]).await.ok_json();
    let weather = weather["channel"]["channel_id"].as_str().unwrap().to_owned();
    let city = ["chat", &weather, "-m", "sim/forecast", "{\"city\":\"Oslo\"}", "--json"];
    let first = env.run(&city).await.ok_json();
    if first["read_first"] == true {
        assert_eq!(env.run(&city).await.ok_json()["cost"], "0.005");
    } else {
        assert_eq!(first["cost"], "0.005");
    }
    let all = env.run(&["close", "--all", "--json"]).await.ok_json();
    assert_eq!(all["channels"][0]["channel"]["state"], "closed");
    assert_eq!(env.run(&["close", "--all"]).await.stdout, "PLAY MONEY\nNo channels to close.\n");
}

/// Every failure has its documented exit code, and says the same as text and as JSON.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_mean_something() {
    let world = world().await;
    let env = Env::of(&world).with("DRAIN_RPC_TIMEOUT", "1500ms").with("DRAIN_REQUEST_TIMEOUT", "3s");
    let opened = env.run(&["open", "sim-llm-v1", "0.5", "--duration", "2h", "--json"]).await.ok_json();
    let v1 = opened["channel"]["channel_id"].as_str().unwrap();
    let opened = env.run(&["open", "sim-llm", "0.5", "--duration", "2h", "--json"]).await.ok_json();
    let id = opened["channel"]["channel_id"].as_str().unwrap();
    let unknown = format!("0x{}", "ab".repeat(32));
    let no_key = env.clone().without("DRAIN_PRIVATE_KEY");
    let no_node = env.clone().with("DRAIN_RPC_URL", "http://127.0.0.1:9");
    let rich = env.clone().with("DRAIN_MAX_PER_CHANNEL", "10000");
    let bad_key = env.clone().with("DRAIN_PRIVATE_KEY", "hello");
    let cases: [(&Env, &[&str], i32, &str); 21] = [
        (&env, &["dance"], 2, "invalid_argument"),
        (&env, &["open"], 2, "invalid_argument"),
        (&env, &["providers", "--limit", "301"], 2, "invalid_argument"),
        (&env, &["open", "sim-llm", "-1"], 2, "invalid_argument"),
        (&env, &["open", "sim-llm", "1e3"], 2, "invalid_argument"),
        (&env, &["open", "sim-llm", "1", "--duration", "0"], 2, "invalid_argument"),
        (&env, &["chat", "0x12", "-m", "sim-small", "hi"], 2, "invalid_argument"),
        (&env, &["chat", id, "-m", "sim-small", "  "], 2, "invalid_argument"),
        (&env, &["chat", id, "-m", "sim-small", "--max-tokens", "0", "hi"], 2, "invalid_argument"),
        (&env, &["chat", id, "-m", "sim-small", "--messages", "/nonexistent"], 2, "invalid_argument"),
        (&bad_key, &["balance"], 2, "invalid_config"),
        (&no_key, &["balance"], 2, "no_signer"),
        (&no_key, &["open", "sim-llm", "1"], 2, "no_signer"),
        (&env, &["providers", "nobody"], 1, "unknown_provider"),
        (&env, &["chat", &unknown, "-m", "sim-small", "hi"], 1, "unknown_channel"),
        (&no_node, &["balance"], 1, "chain_unavailable"),
        (&env, &["open", "sim-llm", "50"], 4, "limit_reached"),
        (&rich, &["open", "sim-llm", "1000"], 4, "insufficient_usdc"),
        (&env, &["open", "sim-llm", "1", "--duration", "1m"], 4, "duration_refused"),
        (&env, &["open", "sim-mpp", "1"], 4, "not_payable"),
        (&env, &["close", v1], 4, "not_expired"),
    ];
    for (env, args, code, name) in cases {
        refused(env, args, code, name).await;
    }
    // Bytes that are no text.
    let mut open = env.command(&["open"]);
    open.arg(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")).arg("1");
    let ended = open.output().await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(2) && !said.contains("panicked"), "{said}");
    world.sandbox.llm.set(|faults| faults.hang = drain_sandbox::Times::ALWAYS);
    let lost = env.run(&["chat", id, "-m", "sim-small", "hi", "--json"]).await;
    assert_eq!((lost.code, &lost.json()["error"]["money"]["state"]), (Some(3), &json!("reserved")));
    assert_eq!(vouchers(&world.sandbox.llm).len(), 1, "one, by the last");
}

async fn refused(env: &Env, args: &[&str], code: i32, name: &str) {
    let with_json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let ended = env.run(&with_json).await;
    let error = ended.json()["error"].clone();
    assert_eq!((ended.code, &error["code"]), (Some(code), &json!(name)), "{args:?}: {error}");
    for field in ["message", "next"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{args:?}: {error}");
    }
    assert_eq!(error["money"]["state"], "not_spent", "{args:?}");
    let ended: Ended = env.run(args).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{args:?}");
    assert!(!ended.stderr.is_empty() && !ended.stderr.contains("panicked"), "{args:?}: {}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_serves_other_processes_until_it_is_stopped() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut child = Env::default().command(&["sandbox", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(crate::process_harness::PATIENCE, lines.next_line());
    let said: Value = serde_json::from_str(&line.await.unwrap().unwrap().unwrap()).unwrap();
    assert_eq!(said["client"]["mcpServers"]["drain"]["env"], said["env"], "the line to paste says the same");
    let pairs = said["env"].as_object().unwrap().iter();
    let env = pairs.fold(Env::default(), |env, (name, value)| env.with(name, value.as_str().unwrap()));
    // A folder that nobody else could make before, with a configuration in it.
    let made = std::fs::metadata(env.get("DRAIN_HOME")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&made.permissions()) & 0o777, 0o700);
    let opened = env.run(&["open", "sim-llm", "1", "--json"]).await.ok_json();
    let id = opened["channel"]["channel_id"].as_str().unwrap();
    assert_eq!(env.run(&["chat", id, "-m", "sim-small", "hi", "--json"]).await.ok_json()["play_money"], true);
    assert_eq!(env.run(&["doctor", "--json"]).await.ok_json()["ok"], true);
    // What the journal knows of a provider is shown where a wallet is at hand.
    let known = env.run(&["providers", "sim-llm", "--json"]).await.ok_json();
    assert_eq!(known["listing"]["standing"]["answered"], 1, "{known}");
    assert_eq!(known["channels"][0]["channel_id"], id, "{known}");
    let without = env.clone().without("DRAIN_PRIVATE_KEY").run(&["providers", "sim-llm", "--json"]).await.ok_json();
    assert_eq!(without["listing"]["standing"], Value::Null);
    env.run(&["close", id, "--json"]).await.ok_json();
    assert!(std::path::Path::new(env.get("DRAIN_HOME")).exists());
    // Time goes on there although nobody sends anything.
    let chain = drain_sandbox::rpc::RpcClient::new(env.get("DRAIN_RPC_URL")).unwrap();
    let before = chain.block_time().await.unwrap();
    until("a block comes by itself", async || chain.block_time().await.unwrap() > before).await;

    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(crate::process_harness::SOON, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!std::path::Path::new(env.get("DRAIN_HOME")).exists(), "records of money that is gone");
    assert_eq!(env.run(&["providers", "--json"]).await.code, Some(1));
}

/// Each shell's own syntax check takes what is printed for it, and finds commands and flags in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shells_are_told_what_to_complete() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Env::default().run(&["completions", shell]).await;
        assert_eq!(ended.code, Some(0), "{shell}");
        for part in ["providers", "max-deposit", "read-only"] {
            assert!(ended.stdout.contains(part), "{shell}: {part}");
        }
        if shell == "bash" {
            let script = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(script.path(), &ended.stdout).unwrap();
            assert!(std::process::Command::new("bash").arg("-n").arg(script.path()).status().unwrap().success());
        }
    }
    assert_eq!(Env::default().run(&["completions", "tcsh"]).await.code, Some(2));
}
