//! Configuration as a process meets it: variables, files that hold values, config.toml, flags; and what is wrong.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::World;
use crate::process_harness::{Agent, Ended, Env, Greeting, world};

/// A file in the world's folder.
fn file(world: &World, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path: PathBuf = world.home.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

async fn works(env: &Env) -> Ended {
    let ended = env.run(&["balance", "--json"]).await;
    assert_eq!(ended.ok_json()["usdc"], "100.00");
    ended
}

/// Refused with exit code 2, as a command and as an MCP server; the message names all of `names`.
async fn refused(env: &Env, names: &[&str]) -> Ended {
    let ended = env.run(&["balance", "--json"]).await;
    assert_eq!((ended.code, &ended.json()["error"]["code"]), (Some(2), &json!("invalid_config")), "{ended:?}");
    let message = ended.json()["error"]["message"].as_str().unwrap().to_owned();
    for name in names {
        assert!(message.contains(name), "{name} in {message}");
    }
    let server = env.run(&[]).await;
    assert_eq!((server.code, server.stdout.as_str()), (Some(2), ""), "stdout belongs to MCP");
    assert!(server.stderr.contains(&message), "{}", server.stderr);
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_spellings_of_the_chain_id() {
    let world = world().await;
    let env = Env::of(&world);
    refused(&env.clone().with("DRAINCHAIN_ID", "80002"), &["DRAIN_CHAIN_ID", "DRAINCHAIN_ID"]).await;
    works(&env.clone().with("DRAINCHAIN_ID", "137")).await;
    works(&env.clone().without("DRAIN_CHAIN_ID").with("DRAINCHAIN_ID", "137")).await;
    works(&env.clone().with("DRAINCHAIN_ID", "")).await;
    let flag = env.run(&["balance", "--json", "--chain", "80002"]).await;
    assert!(flag.code == Some(2) && flag.stderr.contains("80002"), "a flag counts before the environment: {flag:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_from_files() {
    let world = world().await;
    let env = Env::of(&world);
    let key = env.get("DRAIN_PRIVATE_KEY").trim_start_matches("0x").to_owned();
    let bare = env.clone().without("DRAIN_PRIVATE_KEY").without("DRAIN_RPC_URL");
    for text in [format!("0x{key}"), format!(" {key} \n"), format!("\u{feff}0X{}\r\n", key.to_uppercase())] {
        let key_file = file(&world, "key", &text);
        let rpc_file = file(&world, "rpc", &format!("{}\n", env.get("DRAIN_RPC_URL")));
        works(&bare.clone().with("DRAIN_PRIVATE_KEY_FILE", key_file).with("DRAIN_RPC_URL_FILE", rpc_file)).await;
    }
    let key_file = file(&world, "key", &key);
    let both = env.clone().with("DRAIN_PRIVATE_KEY_FILE", &key_file);
    let ended = refused(&both, &["DRAIN_PRIVATE_KEY", "DRAIN_PRIVATE_KEY_FILE"]).await;
    assert!(!ended.everything().contains(&key));
    let only = |path: &str| env.clone().without("DRAIN_PRIVATE_KEY").with("DRAIN_PRIVATE_KEY_FILE", path);
    refused(&only("/nonexistent/key"), &["DRAIN_PRIVATE_KEY_FILE", "No such file"]).await;
    refused(&only("/dev"), &["DRAIN_PRIVATE_KEY_FILE"]).await;
    refused(&only(&file(&world, "empty", "\n")), &["DRAIN_PRIVATE_KEY_FILE", "empty"]).await;
    refused(&only(&file(&world, "large", &"a".repeat(100_000))), &["DRAIN_PRIVATE_KEY_FILE", "large"]).await;

    // Readable by all: it may be theirs already.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let loose = refused(&only(&key_file), &["DRAIN_PRIVATE_KEY_FILE", "other users"]).await;
    assert!(!loose.everything().contains(&key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_the_environment_with_blanks_or_wrong() {
    let world = world().await;
    let env = Env::of(&world);
    let key = env.get("DRAIN_PRIVATE_KEY").trim_start_matches("0x").to_owned();
    for text in [key.clone(), format!("0x{key}"), format!("  0x{key}\n")] {
        works(&env.clone().with("DRAIN_PRIVATE_KEY", text)).await;
    }
    for text in [&key[..63], &format!("{key}0"), &format!("0x0x{key}"), &"0".repeat(64), &"f".repeat(64), "hello"] {
        let ended = refused(&env.clone().with("DRAIN_PRIVATE_KEY", text), &["DRAIN_PRIVATE_KEY"]).await;
        assert!(!ended.everything().contains(&key[..20]) && !ended.everything().contains(&text[..5]), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_is_named_and_no_credential_is_shown() {
    let world = world().await;
    let env = Env::of(&world);
    for (name, value) in [
        ("DRAIN_CHAIN_ID", "polygon"),
        ("DRAIN_CHAIN_ID", "0"),
        ("DRAIN_CHAIN_ID", "-137"),
        ("DRAIN_RPC_URL", "http://user:hunter22@"),
        ("DRAIN_RPC_URL", "ftp://hunter22.example"),
        ("DRAIN_RPC_URL", ","),
        ("DRAIN_DIRECTORY_URL", "http://"),
        ("DRAIN_MAX_PER_CHANNEL", "lots"),
        ("DRAIN_MAX_PER_CHANNEL", "-1"),
        ("DRAIN_MAX_LOCKED", "1e3"),
        ("DRAIN_RPC_TIMEOUT", "soon"),
        ("DRAIN_REQUEST_TIMEOUT", "0"),
        ("DRAIN_DEFAULT_DURATION", "-1h"),
        ("DRAIN_DEFAULT_MAX_TOKENS", "0"),
        ("DRAIN_TELEMETRY", "perhaps"),
        ("DRAIN_SIGNER", "abacus"),
        ("DRAIN_CONTRACT", "0x12:v2"),
        ("DRAIN_CONTRACT", "0x1111111111111111111111111111111111111111"),
        ("DRAIN_USDC", "0x1111111111111111111111111111111111111111"),
        ("DRAIN_CONFIG", "/nonexistent/config.toml"),
        ("DRAIN_LOG", "drain_mcp=loud"),
    ] {
        let ended = refused(&env.clone().with(name, value), &[name]).await;
        assert!(!ended.everything().contains("hunter22"), "{ended:?}");
    }
    // Play money is never claimed of a chain that may be real.
    refused(&env.clone().with("DRAIN_RPC_URL", "https://polygon.drpc.org"), &["DRAIN_PLAY_MONEY"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_counts_before_defaults_and_after_the_environment() {
    let world = world().await;
    let env = Env::of(&world);
    let key = file(&world, "key", env.get("DRAIN_PRIVATE_KEY"));
    let text = format!(
        "[chain]\nrpc_urls = [\"{}\"]\npoll_interval = \"200ms\"\n[marketplace]\ndirectory_url = \"{}\"\n\
         [signer]\nprivate_key_file = \"{key}\"\n[limits]\nper_channel = 0.5\nlocked = \"1\"\n",
        env.get("DRAIN_RPC_URL"),
        env.get("DRAIN_DIRECTORY_URL"),
    );
    file(&world, "config.toml", &text);
    let bare = Env::default().with("DRAIN_HOME", env.get("DRAIN_HOME"));
    works(&bare).await;
    let opened = bare.run(&["open", "sim-llm", "0.5", "--json"]).await.ok_json();
    assert_eq!(opened["channel"]["cap"], "0.50", "the file's limit");
    let opened =
        bare.clone().with("DRAIN_MAX_PER_CHANNEL", "0.25").run(&["open", "sim-weather", "0.25", "--json"]).await;
    assert_eq!(opened.ok_json()["channel"]["cap"], "0.25", "the environment's limit");
    let refused = bare.run(&["open", "sim-image", "0.5", "--json"]).await;
    assert_eq!((refused.code, &refused.json()["error"]["code"]), (Some(4), &json!("limit_reached")));

    // Named by a variable or a flag, in another folder.
    let elsewhere = tempfile::tempdir().unwrap();
    let path = Path::new(env.get("DRAIN_HOME")).join("config.toml").display().to_string();
    let home = Env::default().with("DRAIN_HOME", elsewhere.path().join("own").display().to_string());
    let named = home.clone().with("DRAIN_CONFIG", &path).run(&["balance", "--json"]).await;
    let flag = home.run(&["balance", "--json", "--config", &path]).await;
    assert_eq!((&named.ok_json()["usdc"], &flag.ok_json()["usdc"]), (&json!("99.25"), &json!("99.25")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_names_are_warned_of_and_known_ones_suggested() {
    let world = world().await;
    file(&world, "config.toml", "[limits]\nper_chanel = 1\n[teapot]\nshort = true\n");
    let env = Env::of(&world).with("DRAIN_MAX_LOKED", "3").with("DRAIN_TEAPOT", "on");
    let ended = works(&env).await;
    for part in ["DRAIN_MAX_LOKED", "did you mean DRAIN_MAX_LOCKED", "DRAIN_TEAPOT", "per_chanel", "teapot"] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
    let agent = Agent::start(&env, Greeting::Lines("2025-11-25")).await;
    let ended = agent.leave().await;
    assert!(ended.code == Some(0) && ended.stderr.contains("did you mean DRAIN_MAX_LOCKED"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_wrong_is_named_with_its_line_and_shows_no_secret() {
    let world = world().await;
    let env = Env::of(&world);
    for (text, names) in [
        ("[chain]\nrpc_urls = [\"https://u:hunter22@x\"\n", &["config.toml", "line"][..]),
        ("[signer]\nprivate_key = \"hunter22\"\n", &["config.toml", "secrets do not belong"]),
        ("[signer]\nkeystore_password = \"hunter22\"\n", &["config.toml", "secrets do not belong"]),
        ("[limits]\nper_channel = \"hunter22x\"\n", &["config.toml", "per_channel"]),
        ("[limits]\nper_channel = -1\n", &["config.toml", "per_channel"]),
        ("providers = \"all\"\n", &["config.toml", "providers"]),
        ("[[providers]]\nid = \"mine\"\n", &["config.toml", "providers"]),
    ] {
        file(&world, "config.toml", text);
        let ended = refused(&env, names).await;
        assert!(!ended.everything().contains("hunter22") || names.contains(&"per_channel"), "{ended:?}");
    }
    // Binary, or a folder.
    std::fs::write(world.home.path().join("config.toml"), [0xff, 0xfe, 0x00]).unwrap();
    refused(&env, &["config.toml"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directory_urls_are_forgiven_their_spelling() {
    let world = world().await;
    let origin = world.sandbox.directory.origin();
    for spelling in [
        origin.clone(),
        format!("{origin}/"),
        format!("{origin}/api/mcp/providers"),
        format!("{origin}/api/mcpproviders"),
    ] {
        let env = Env::of(&world).with("DRAIN_DIRECTORY_URL", &spelling);
        let page = env.run(&["providers", "--json"]).await.ok_json();
        assert!(page.to_string().contains("sim-llm"), "{spelling}");
    }
    // Without a scheme it is https, which the sandbox does not speak.
    let host = origin.trim_start_matches("http://");
    let ended = Env::of(&world).with("DRAIN_DIRECTORY_URL", host).run(&["providers", "--json"]).await;
    assert_eq!((ended.code, &ended.json()["error"]["code"]), (Some(1), &json!("directory_unavailable")));
    assert!(ended.stdout.contains(&format!("https://{host}")), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_configured_endpoints_are_contacted() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, Greeting::Discover).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", crate::process_harness::chat(&id, "hello")).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
    agent.leave().await;
    assert!(world.chain().main().request_count().values().sum::<u64>() > 0);
    // Telemetry is off unless it is switched on.
    assert!(world.sandbox.directory.telemetry().is_empty());
    let mut agent = Agent::start(&env.with("DRAIN_TELEMETRY", "on"), Greeting::Discover).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", crate::process_harness::chat(&id, "hello")).await;
    crate::process_harness::until("telemetry came", async || !world.sandbox.directory.telemetry().is_empty()).await;
    agent.leave().await;
}
