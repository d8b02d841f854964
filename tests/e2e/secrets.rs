//! M12: a marker key, its password and its recovery phrase, and everything that a process says, writes and sends on its
//! way through all that it does. None of them is in it, in any form (`tap`).

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use alloy::hex;
use alloy::primitives::{B256, b256};
use alloy::signers::local::MnemonicBuilder;
use alloy::signers::local::coins_bip39::English;
use drain_sandbox::marketplace::SandboxConfig;
use drain_sandbox::provider::Times;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::World;
use crate::metrics::{free_port, scrape};
use crate::process_harness::{Agent, Ended, Env, Greeting, chat, until};
use crate::sharing::sockets;
use crate::tap::{Marker, Tap};

pub const KEY: B256 = b256!("7d1f8a3cc95be04263a7915efb08d2746ae49c1305b8f7d92e60c4a87f3b1d59");
const PASSWORD: &str = "marker-Password of 7 zebras";
/// A published test vector, and its entropy.
const PHRASE: &str = "ozone drill grab fiber curtain grace pudding thank cruise elder eight picnic";
const ENTROPY: [u8; 16] = hex!("9e885d952ad362caeb4efe34a8e91bd2");
const AWS_SECRET: &str = "MarkerSecretOfAWS/7zebras+fortyCharacters";
const LINES: Greeting = Greeting::Lines("2025-11-25");

fn markers() -> Vec<Marker> {
    let derived = MnemonicBuilder::<English>::default().phrase(PHRASE).build().unwrap().to_bytes();
    vec![
        Marker::key("the key", &KEY),
        Marker::text("the password", PASSWORD),
        Marker::text("the phrase", PHRASE),
        Marker::bytes("the phrase's entropy", &ENTROPY),
        Marker::key("the phrase's key", &derived),
        Marker::text("AWS's secret", AWS_SECRET),
    ]
}

/// A marketplace with a tap at each of its doors.
pub struct Stage {
    pub world: World,
    pub tap: Tap,
    pub env: Env,
    /// What is the operator's own: outside of what is searched.
    private: TempDir,
    /// What the notify command saw.
    told: PathBuf,
    /// Where its metrics are.
    metrics: u16,
}

impl Stage {
    pub async fn set() -> Self {
        let world = World::with(SandboxConfig { agent_key: KEY, ..SandboxConfig::default() }).await;
        let (tap, private) = (Tap::default(), tempfile::tempdir().unwrap());
        let (told, metrics) = (private.path().join("told"), free_port());
        let directory = &world.sandbox.directory;
        for id in ["sim-llm", "sim-weather", "sim-llm-v1"] {
            let url = directory.listings().iter().find(|listing| listing.id == id).unwrap().api_url.clone();
            let tapped = tap.http("provider", &url).await;
            directory.change(id, |listing| listing.api_url = tapped.trim_end_matches('/').to_owned());
        }
        let env = Env::of(&world)
            .without("DRAIN_PRIVATE_KEY")
            .with("DRAIN_RPC_URL", tap.http("rpc", world.sandbox.rpc_url()).await)
            .with("DRAIN_DIRECTORY_URL", tap.http("directory", &directory.url()).await)
            .with("DRAIN_LOG", "trace")
            .with("DRAIN_LOG_CONTENT", "on")
            .with("DRAIN_TELEMETRY", "on")
            .with("DRAIN_APPROVE_REQUESTS_ABOVE", "0.01")
            .with("DRAIN_APPROVAL_WAIT", "0")
            .with("DRAIN_NOTIFY_COMMAND", format!("{{ env; cat; }} >> {}", told.display()))
            .with("DRAIN_NOTIFY_WEBHOOK", tap.http("webhook", &hook().await).await)
            .with("DRAIN_METRICS_ADDR", metrics.to_string())
            .with("PATH", "/usr/bin:/bin");
        Self { world, tap, env, private, told, metrics }
    }

    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.private.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    pub fn ended(&self, ended: Ended) -> Ended {
        self.tap.add("stdout", &ended.stdout);
        self.tap.add("stderr", &ended.stderr);
        ended
    }

    pub async fn run(&self, env: &Env, args: &[&str], input: &str) -> Ended {
        self.ended(env.run_with(args, input).await)
    }

    pub async fn start(&self, env: &Env) -> Agent {
        Agent::start(env, LINES).await
    }

    /// Everything from everywhere holds what shows that it was looked at, and no secret.
    fn clean(&self, seen: &[(&str, &str)]) {
        self.tap.folder("files", self.world.home.path());
        self.tap.add("notify", std::fs::read(&self.told).unwrap_or_default());
        for (place, part) in seen {
            assert!(self.tap.saw(place, part), "{place} was not looked at: no {part:?}");
        }
        let found = self.tap.search(&markers());
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// A server that takes what is posted to it.
async fn hook() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/hook", axum::routing::post(|| async {}));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn costly(channel: &str) -> Value {
    let mut request = chat(channel, "Think long");
    request["maxTokens"] = json!(20_000);
    request
}

/// The whole way: commands, a server, errors of every party, a second process, a crash, panics, refunds, copies.
pub async fn the_whole_way(stage: &Stage, env: &Env) {
    let (world, tap) = (&stage.world, &stage.tap);
    for args in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["wallet", "address"],
        &["wallet", "balance", "-vv"],
        &["providers", "sim-llm"],
        &["wallet", "export"],
        &["wallet", "send", "--to", "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "--amount", "1", "--token", "usdc"],
        &["chat", "nonsense", "hello"],
        &["no-such-command"],
    ] {
        stage.run(env, args, "").await;
    }
    let mut agent = stage.start(env).await;
    for (tool, arguments) in [
        ("drain_providers", json!({ "format": "full" })),
        ("drain_provider_info", json!({ "provider": "sim-llm" })),
        ("drain_balance", json!({})),
        ("drain_approve", json!({ "amount": "3" })),
    ] {
        agent.ok(tool, arguments).await;
    }
    for uri in ["drain://wallet", "drain://providers"] {
        agent.read(uri).await;
    }
    let channel = agent.open("sim-llm", "1", "4h").await;
    let old = agent.open("sim-llm-v1", "0.5", "2h").await;
    agent.ok("drain_chat", chat(&channel, "Say hello")).await;
    agent.ok("drain_feedback", json!({ "providerId": "sim-llm", "outcome": "success" })).await;

    // What an agent does wrong, what a limit refuses, what a person is asked.
    for (tool, arguments, code) in [
        ("drain_chat", json!({ "channelId": 7 }), "invalid_argument"),
        ("drain_chat", chat(&format!("0x{}", "5".repeat(64)), "hello"), "unknown_channel"),
        ("drain_open_channel", json!({ "provider": "sim-weather", "amount": "50" }), "limit_reached"),
        ("drain_chat", costly(&channel), "approval_needed"),
        ("drain_close_channel", json!({ "channelId": old }), "not_expired"),
    ] {
        agent.fails(tool, arguments, code).await;
    }
    // What a provider and a node do wrong.
    type Fault = fn(&mut drain_sandbox::provider::Faults);
    let faults: [Fault; 6] = [
        |f| f.cut_before_answer = Times::next(1),
        |f| f.html_answer = Times::next(1),
        |f| f.fail_500 = Times::next(1),
        |f| f.validation_error = Times::next(1),
        |f| f.invalid_nonce = Times::next(2),
        |f| f.redirect = Some((307, "http://127.0.0.1:9/".into())),
    ];
    for fault in faults {
        world.sandbox.llm.set(fault);
        agent.call("drain_chat", chat(&channel, "Say hello")).await;
    }
    world.sandbox.llm.set(|faults| *faults = Default::default());
    world.chain().main().update_faults(|faults| faults.fail_next = 30);
    agent.call("drain_balance", json!({})).await;
    agent.call("drain_open_channel", json!({ "provider": "sim-weather", "amount": "1" })).await;
    world.chain().main().update_faults(|faults| faults.fail_next = 0);

    // Other processes over its socket.
    tap.socket("socket", &sockets(world)[0]);
    let mut second = stage.start(env).await;
    second.call("drain_chat", chat(&channel, "Say hello")).await;
    second.fails("drain_chat", costly(&channel), "approval_needed").await;
    stage.run(env, &["channels"], "").await;
    stage.ended(second.leave().await);
    until("the operator was told", async || {
        let told = std::fs::read_to_string(&stage.told).unwrap_or_default();
        told.contains("approval_waiting") && tap.saw("webhook", "approval_waiting")
    })
    .await;
    until("its metrics show the channels", async || {
        let shown = scrape(stage.metrics).await.unwrap_or_default();
        tap.add("metrics", &shown);
        shown.contains("drain_channel_signed_usdc{")
    })
    .await;
    // A crash, and a panic with a voucher in hand.
    stage.ended(agent.kill().await);
    let mut agent = stage.start(&env.clone().with("DRAIN_TEST_POINT", "voucher-sent=panic@1")).await;
    agent.call("drain_chat", chat(&channel, "Say hello")).await;
    stage.ended(agent.leave().await);
    let mut agent = stage.start(env).await;
    agent.call("drain_chat", chat(&channel, "Say hello")).await;
    agent.call("drain_cooperative_close", json!({ "channelId": channel })).await;
    stage.ended(agent.leave().await);

    world.advance(7_200).await;
    let backup = stage.private.path().join("backup");
    for args in [
        &["refund", "--json"][..],
        &["channels", "--json"],
        &["channels", "recover"],
        &["approvals", "--json"],
        &["journal", "verify", "--on-chain"],
        &["journal", "export", &backup.display().to_string()],
    ] {
        stage.run(env, args, "").await;
    }
    tap.add("export", std::fs::read(backup).unwrap());
}

/// Where the whole way must have been seen.
fn seen(world: &World) -> Vec<(&'static str, String)> {
    let address = hex::encode(world.agent());
    vec![
        ("stdout", "\"jsonrpc\"".into()),
        ("stderr", " TRACE ".into()),
        ("stderr", "voucher-sent".into()),
        ("rpc", address.clone()),
        ("rpc", "eth_sendRawTransaction".into()),
        ("directory", "GET /api/mcp/providers".into()),
        ("provider", "POST /v1/chat/completions".into()),
        ("webhook", "approval_waiting".into()),
        ("notify", "PATH=/usr/bin:/bin".into()),
        ("notify", "approval_waiting".into()),
        ("socket", "Say hello".into()),
        ("metrics", format!("address=\"{}\"", world.agent())),
        ("metrics", "drain_rpc_requests_total{endpoint=\"http://127.0.0.1:".into()),
        ("metrics", "drain_channel_signed_usdc{".into()),
        ("files", "SQLite format 3".into()),
        ("files", address),
        ("export", "SQLite format 3".into()),
    ]
}

fn check(stage: &Stage) {
    let seen = seen(&stage.world);
    stage.clean(&seen.iter().map(|(place, part)| (*place, part.as_str())).collect::<Vec<_>>());
    let told = std::fs::read_to_string(&stage.told).unwrap();
    let ours: Vec<&str> = told.lines().filter(|line| line.starts_with("DRAIN")).collect();
    assert!(ours.is_empty(), "a command sees nothing of ours: {ours:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_a_key_from_the_environment_is_nowhere() {
    let stage = Stage::set().await;
    let env = stage.env.clone().with("DRAIN_PRIVATE_KEY", format!("0x{}", hex::encode(KEY)));
    the_whole_way(&stage, &env).await;
    // Keys that are almost right are named by their variable only.
    for wrong in [hex::encode(KEY)[1..].to_owned(), hex::encode(KEY) + "00", hex::encode(KEY).replace('7', "g")] {
        stage.run(&env.clone().with("DRAIN_PRIVATE_KEY", wrong), &["balance"], "").await;
    }
    check(&stage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_a_key_from_a_file_is_nowhere() {
    let stage = Stage::set().await;
    let path = stage.secret("key", &hex::encode_upper(KEY));
    let env = stage.env.clone().with("DRAIN_PRIVATE_KEY_FILE", path.clone());
    the_whole_way(&stage, &env).await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    stage.run(&env, &["balance"], "").await;
    // Where it has no place it is not repeated.
    let config = stage.secret("config.toml", &format!("[signer]\nprivate_key = \"0x{}\"\n", hex::encode(KEY)));
    stage.run(&env, &["balance", "--config", &config], "").await;
    let config = stage.secret("config.toml", &format!("[signer\nprivate_key = \"0x{}\"\n", hex::encode(KEY)));
    stage.run(&env, &["balance", "--config", &config], "").await;
    check(&stage);
}

/// A keystore whose password comes from a variable, and from a command that holds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_a_keystores_key_password_and_phrase_are_nowhere() {
    let stage = Stage::set().await;
    let by_command = stage.env.clone().with("DRAIN_KEYSTORE_PASSWORD_COMMAND", format!("echo '{PASSWORD}'"));
    let made = stage.run(&by_command, &["wallet", "import", "--json"], &hex::encode(KEY)).await;
    assert_eq!(made.ok_json()["address"], stage.world.agent().to_string());
    the_whole_way(&stage, &by_command).await;
    let by_file = stage.secret("password", PASSWORD);
    for env in [
        stage.env.clone().with("DRAIN_KEYSTORE_PASSWORD", PASSWORD),
        stage.env.clone().with("DRAIN_KEYSTORE_PASSWORD_FILE", by_file),
        stage.env.clone().with("DRAIN_KEYSTORE_PASSWORD", format!("{PASSWORD}, not")),
        stage
            .env
            .clone()
            .with("DRAIN_KEYSTORE_PASSWORD_COMMAND", format!("echo '{PASSWORD}'; echo '{PASSWORD}' >&2; exit 9")),
        stage.env.clone().with("DRAIN_KEYSTORE_PASSWORD_COMMAND", format!("echo '{PASSWORD} and more'")),
    ] {
        let mut agent = stage.start(&env).await;
        agent.call("drain_balance", json!({})).await;
        stage.ended(agent.leave().await);
        stage.run(&env, &["balance", "--json"], "").await;
    }
    // Another wallet from its phrase, and phrases that are almost right.
    let phrases = by_command.with("DRAIN_HOME", stage.world.home.path().join("another").display().to_string());
    for wrong in [PHRASE.replace("picnic", "picnics"), PHRASE.replace("picnic", "ozone"), format!("{PHRASE} zebra")] {
        let refused = stage.run(&phrases, &["wallet", "import", "--json"], &wrong).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
    }
    stage.run(&phrases, &["wallet", "import", "--json"], PHRASE).await.ok_json();
    stage.run(&phrases, &["doctor"], "").await;
    stage.run(&phrases, &["balance"], "").await;
    check(&stage);
}

/// Opens, pays and closes, and asks for the state.
#[cfg(any(feature = "ledger", feature = "aws"))]
async fn a_short_way(stage: &Stage, env: &Env) -> String {
    let mut agent = stage.start(env).await;
    let channel = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&channel, "Say hello")).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": channel })).await;
    stage.ended(agent.leave().await);
    stage.run(env, &["doctor"], "").await;
    channel
}

/// A device signs; a key that is set beside it goes to nobody, and the device's is in its answers neither.
#[cfg(feature = "ledger")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m12_nothing_secret_goes_to_a_device() {
    use drain_sandbox::ledger::{Keys, LedgerPeer, LedgerPeerConfig};
    let stage = Stage::set().await;
    let device =
        LedgerPeer::start(LedgerPeerConfig { keys: Keys::One(KEY), ..LedgerPeerConfig::default() }).await.unwrap();
    let env = stage
        .env
        .clone()
        .with("DRAIN_SIGNER", "ledger")
        .with("DRAIN_LEDGER_ADDRESS", stage.world.agent().to_string())
        .with("DRAIN_LEDGER_EMULATOR", stage.tap.tcp("device", &device.address().to_string()).await)
        .with("DRAIN_PRIVATE_KEY", hex::encode(KEY))
        .with("DRAIN_KEYSTORE_PASSWORD", PASSWORD);
    let channel = a_short_way(&stage, &env).await;
    // What goes to the device is what is signed: the voucher's channel is among it.
    let id = hex::decode(channel.trim_start_matches("0x")).unwrap();
    assert!(stage.tap.saw("device", id));
    stage.clean(&[("provider", "POST /v1/chat/completions"), ("rpc", "eth_sendRawTransaction")]);
}

/// KMS signs; neither a key that is set beside it nor AWS's secret goes anywhere, to AWS neither.
#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs moto"]
async fn m12_nothing_secret_goes_to_kms() {
    let stage = Stage::set().await;
    let key = crate::kms_server::Key::new(json!({ "private": hex::encode(KEY) }));
    let env = stage
        .env
        .clone()
        .with("DRAIN_SIGNER", "aws-kms")
        .with("DRAIN_KMS_KEY_ID", key.arn.clone())
        .with("DRAIN_KMS_ENDPOINT", stage.tap.http("kms", &crate::kms_server::url()).await)
        .with("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
        .with("AWS_EC2_METADATA_DISABLED", "true")
        .with("DRAIN_PRIVATE_KEY", hex::encode(KEY))
        .with("DRAIN_KEYSTORE_PASSWORD", PASSWORD);
    a_short_way(&stage, &env).await;
    key.fault("Sign", "denied", -1);
    stage.run(&env, &["open", "sim-llm", "1"], "").await;
    let seen = [("kms", "TrentService.Sign"), ("kms", "AKIAEXAMPLE"), ("rpc", "eth_sendRawTransaction")];
    stage.clean(&seen);
}

/// What the process closes of itself before it reads a key: no core file, and nobody but root looks into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(target_os = "linux")]
async fn m12_a_running_server_is_closed() {
    let stage = Stage::set().await;
    let env = stage.env.clone().with("DRAIN_PRIVATE_KEY", hex::encode(KEY));
    let agent = stage.start(&env).await;
    let proc = PathBuf::from(format!("/proc/{}", agent.pid()));
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Root may look at everything, so what is tested for it is who owns the files: root, whoever runs the process.
    if !rustix::process::geteuid().is_root() {
        for file in ["environ", "mem", "maps"] {
            let denied = std::fs::File::open(proc.join(file)).map(drop).unwrap_err();
            assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied, "{file}");
        }
    }
    agent.leave().await;
}
