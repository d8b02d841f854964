//! Every variable, precedence, conflicts.

mod bad_values;
mod files;
mod ledger;
mod signers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use drain_protocol::{Generation, Usdc, deployment};

use super::keys::{Key, Kind};
use crate::policy::limits::Parties;

use super::{Config, ConfigError, PasswordFrom, SignerConfig, Sources, docs, file};

const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const ADDRESS: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let base = [("HOME", "/nonexistent")].into_iter().chain(pairs.iter().copied());
    Config::load(Sources::from_pairs(base))
}

fn ok(pairs: &[(&str, &str)]) -> Config {
    load(pairs).unwrap()
}

fn error(pairs: &[(&str, &str)]) -> String {
    load(pairs).unwrap_err().to_string()
}

/// A home folder with files in it.
fn home(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
        mode(&folder.path().join(name), 0o600);
    }
    folder
}

fn mode(path: &Path, mode: u32) {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn path(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn nothing_has_to_be_set() {
    let config = ok(&[]);
    assert_eq!(config.home, Path::new("/nonexistent/.drain-mcp"));
    assert_eq!(config.chain.chain_id, 137);
    assert_eq!(config.chain.rpc_urls.len(), 2);
    assert_ne!(config.chain.rpc_urls[0].host_str(), config.chain.rpc_urls[1].host_str());
    assert_eq!(config.chain.deployments, deployment::builtin(137));
    assert_eq!(config.marketplace.directory_url.as_str(), "https://handshake58.com/api/mcp/providers");
    assert_eq!(config.marketplace.base_url.as_str(), "https://handshake58.com/");
    assert!(!config.marketplace.telemetry);
    assert!(matches!(config.signer, SignerConfig::None));
    assert_eq!(config.limits.per_channel, Usdc::new(5_000_000));
    assert_eq!(config.limits.locked, Usdc::new(20_000_000));
    assert_eq!(config.limits.session_fee, Usdc::new(10_000));
    assert_eq!(config.limits.per_request, Usdc::new(250_000));
    assert_eq!((config.limits.per_hour, config.limits.per_day), (Usdc::new(5_000_000), Usdc::new(20_000_000)));
    assert_eq!((config.limits.open_channels, config.limits.opens_per_hour), (20, 20));
    assert!(config.limits.parties == Parties::default() && config.agent == "default");
    assert!(!config.limits.unlimited_allowance);
    assert_eq!(config.requests.default_max_tokens, 1024);
    assert_eq!(config.requests.default_max_cost, Usdc::new(50_000));
    assert_eq!(config.requests.timeout, Duration::from_secs(120));
    assert!(!config.requests.allow_insecure && !config.play_money);
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn empty_variables_count_as_unset() {
    let all: Vec<(&str, &str)> = Key::ALL.iter().map(|key| (key.spec().env, " ")).collect();
    let config = ok(&all);
    assert_eq!(format!("{config:?}"), format!("{:?}", ok(&[])));
}

#[test]
fn tempo_is_a_chain_of_its_own() {
    assert!(ok(&[("DRAIN_TEMPO_CHAIN_ID", "42431")]).tempo.is_none(), "nothing is paid there without an endpoint");
    let urls = ("DRAIN_TEMPO_RPC_URL", "https://rpc.tempo.xyz https://other.example");
    let tempo = ok(&[urls]).tempo.unwrap();
    assert_eq!((tempo.chain_id, tempo.rpc_urls.len(), tempo.deployments.len()), (4_217, 2, 0));
    let test = ok(&[urls, ("DRAIN_TEMPO_CHAIN_ID", "42431"), ("DRAIN_CHAIN_ID", "80002")]);
    assert_eq!((test.chain.chain_id, test.tempo.unwrap().chain_id), (80_002, 42_431));
}

/// Every variable changes what it says it changes.
#[test]
fn every_variable_has_an_effect() {
    let folder = home(&[("key", KEY), ("store.json", "{}"), ("other.toml", "[limits]\nlocked = 7\n")]);
    let (store, other) = (path(&folder, "store.json"), path(&folder, "other.toml"));
    let own = format!("{ADDRESS}:v1");
    let good: &[(Key, &str, &str)] = &[
        (Key::Home, "/srv/drain", "home: \"/srv/drain\""),
        (Key::ConfigFile, &other, "locked: Usdc(7000000)"),
        (Key::PrivateKey, KEY, "Local([secret])"),
        (Key::Signer, "keystore", "Keystore { path: \"/nonexistent/.drain-mcp/keystore.json\""),
        (Key::Keystore, &store, "store.json\", password: None"),
        (Key::KeystorePassword, "hunter2", ""),
        (Key::KeystorePasswordCommand, "echo hunter2", ""),
        // Where KMS is not built in, naming a key of it is an error; the rest counts with a key only.
        (
            Key::KmsKeyId,
            if cfg!(feature = "aws") { "1234abcd" } else { "" },
            if cfg!(feature = "aws") { "AwsKms(KmsSettings { key: \"1234abcd\"" } else { "" },
        ),
        (Key::KmsAddress, ADDRESS, ""),
        (Key::KmsRegion, "eu-central-1", ""),
        (Key::KmsEndpoint, "https://vpce.example", ""),
        (Key::KmsConcurrency, "3", ""),
        (Key::KmsTimeout, "3s", ""),
        (
            Key::LedgerAddress,
            if cfg!(feature = "ledger") { ADDRESS } else { "" },
            if cfg!(feature = "ledger") { "Ledger(LedgerSettings" } else { "" },
        ),
        (Key::LedgerPath, "m/44'/60'/1'/0/0", ""),
        (Key::LedgerEmulator, "127.0.0.1:9999", ""),
        (Key::LedgerTimeout, "90s", ""),
        (Key::DeviceWait, "90s", ""),
        (
            Key::Treasury,
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "treasury: Some(TreasuryConfig { address: 0x70997970",
        ),
        (Key::RefillBelow, "0.5", ""),
        (Key::SweepKeep, "7", ""),
        (Key::SweepKeepPol, "0.2", ""),
        (Key::FundPerDay, "9", ""),
        (Key::SweepsPerDay, "2", ""),
        (Key::ChainId, "80002", "chain_id: 80002"),
        (Key::RpcUrls, "http://127.0.0.1:8545", "rpc_urls: [\"http://127.0.0.1:8545\"]"),
        (Key::TempoUrls, "http://127.0.0.1:8546", "rpc_urls: [\"http://127.0.0.1:8546\"]"),
        (Key::TempoChainId, "42431", ""),
        (Key::RpcTimeout, "3s", "rpc_timeout: 3s"),
        (Key::Contract, &own, "deployments: [Deployment { generation: V1"),
        (Key::ContractGeneration, "v1", "generation: Some(V1)"),
        (Key::Usdc, "", ""),
        (Key::Confirmations, "64", "confirmations: 64"),
        (Key::PollInterval, "250ms", "poll_interval: 250ms"),
        (Key::TransactionTimeout, "90s", "transaction_timeout: 90s"),
        (Key::ReplaceAfter, "3m", "replace_after: 180s"),
        (Key::DirectoryUrl, "dir.example/x", "directory_url: \"https://dir.example/…\""),
        (Key::MarketplaceUrl, "base.example", "base_url: \"https://base.example\""),
        (Key::MarketplaceTimeout, "1s", " timeout: 1s"),
        (Key::DirectoryMaxAge, "5m", "max_age: 300s"),
        (Key::Telemetry, "on", "telemetry: true"),
        (Key::Agent, "ann-1", "agent: \"ann-1\""),
        (Key::Tools, "read", "tools: Read"),
        (Key::MaxPerRequest, "0.5", "per_request: Usdc(500000)"),
        (Key::MaxPerPayment, "0.3", "per_payment: Usdc(300000)"),
        (
            Key::PayHosts,
            "Api.example, b.example:8443 https://c.example:443/ bücher.example",
            "pay_hosts: [\"api.example\", \"b.example:8443\", \"c.example\", \"xn--bcher-kva.example\"]",
        ),
        (Key::MaxPerHour, "6", "per_hour: Usdc(6000000)"),
        (Key::MaxPerDay, "7", "per_day: Usdc(7000000)"),
        (Key::MaxPerProvider, "8", "per_provider: Usdc(8000000)"),
        (Key::MaxPerAgent, "9", "per_agent: Usdc(9000000)"),
        (Key::MaxNewcomers, "0.1", "newcomers: Usdc(100000)"),
        (Key::MaxOpenChannels, "3", "open_channels: 3"),
        (Key::MaxOpensPerHour, "4", "opens_per_hour: 4"),
        (Key::MaxGasPerTransaction, "0.25", "gas_per_transaction: Pol(250000000)"),
        (Key::MaxGasPerDay, "1", "gas_per_day: Pol(1000000000)"),
        (Key::AutoOpen, "0.5", "auto_open: Some(Usdc(500000))"),
        (Key::AllowProviders, "A, b", "allow_providers: Some([\"a\", \"b\"])"),
        (Key::DenyProviders, "c", "deny_providers: [\"c\"]"),
        (Key::AllowCategories, "llm", "allow_categories: Some([\"llm\"])"),
        (Key::DenyCategories, "image", "deny_categories: [\"image\"]"),
        (Key::Freeze, "on", "frozen: true"),
        (Key::ApproveRequestsAbove, "0.1", "request: Some(Usdc(100000))"),
        (Key::ApproveDepositsAbove, "2", "deposit: Some(Usdc(2000000))"),
        (Key::ApprovalsVia, "elicitation,terminal", "via: [Elicitation, Terminal]"),
        (Key::ApprovalWait, "0", "wait: 0ns"),
        (Key::ApprovalValid, "5m", "valid: 300s"),
        (Key::NotifyCommand, "cat", "command: true"),
        (Key::NotifyWebhook, "hook.example/x", "webhook: Some(\"https://hook.example/…\")"),
        (Key::MaxPerChannel, "1.5", "per_channel: Usdc(1500000)"),
        (Key::MaxLocked, "3", "locked: Usdc(3000000)"),
        (Key::MaxSessionFee, "0", "session_fee: Usdc(0)"),
        (Key::MaxDuration, "2d", "max_duration: ChannelDuration(172800)"),
        (Key::UnlimitedAllowance, "yes", "unlimited_allowance: true"),
        (Key::MetricsAddr, "9464", "metrics: Some(127.0.0.1:9464)"),
        (Key::CloseIdle, "90m", "idle: Some(5400s)"),
        (Key::PolUsdc, "1.25", "pol_in_usdc: Usdc(1250000)"),
        (Key::DefaultMaxTokens, "99", "default_max_tokens: 99"),
        (Key::DefaultMaxCost, ".2", "default_max_cost: Usdc(200000)"),
        (Key::RequestTimeout, "1m", "timeout: 60s"),
        (Key::Stream, "off", "stream: false"),
        (Key::MaxAnswerBytes, "2048", "max_answer_bytes: 2048"),
        (Key::MaxRequestBytes, "4096", "max_request_bytes: 4096"),
        (Key::Queue, "3", "queue: 3"),
        (Key::RequestIdTime, "36h", "request_id_time: 129600s"),
        (Key::KeepAnswers, "0", "time: 0ns"),
        (Key::AnswersMaxBytes, "4096", "bytes: 4096"),
        (Key::PriceTolerance, "5", "price_tolerance_percent: 5"),
        (Key::DefaultDuration, "1.5h", "default_duration: ChannelDuration(5400)"),
        (Key::AllowInsecure, "1", "allow_insecure: true"),
        (Key::Wallet, "default", ""),
        (Key::Listen, "127.0.0.2:1", "listen: 127.0.0.2:1"),
        (Key::ListenPublic, "on", ""),
        (Key::ReplicaUrl, "http://10.0.0.5:5858", "10.0.0.5"),
        #[cfg(feature = "postgres")]
        (Key::JournalUrl, "postgres://drain:secret@127.0.0.1/drain", "server: Some(postgres://127.0.0.1/drain)"),
        #[cfg(not(feature = "postgres"))]
        (Key::JournalUrl, "", ""),
        (Key::JournalLease, "5s", ""),
        (Key::AllowedHosts, "mcp.example", "allowed_hosts: [\"mcp.example\", \"127.0.0.1\"]"),
        (Key::AllowedOrigins, "https://app.example", "allowed_origins: [\"https://app.example:443\"]"),
        (Key::MetricsToken, "0123456789abcdef", "metrics_token: Some([secret])"),
        (Key::ConsoleToken, "0123456789abcdef", "console_token: Some([secret])"),
        (Key::DrainTime, "5s", "drain_time: 5s"),
        (Key::MaxConnections, "9", "max_connections: 9"),
        (Key::MaxAgentRequests, "9", "max_requests: 9"),
        (Key::MaxAgentSessions, "9", "max_sessions: 9"),
        (Key::SessionIdle, "5m", "session_idle: 300s"),
        (Key::MaxBodyBytes, "65536", "max_body_bytes: 65536"),
        (Key::CallTime, "3m", "call_time: 180s"),
        (Key::GatewayChannels, "7", "gateway_channels: 7"),
        // A client of the server has a configuration of its own, with tests beside it.
        (Key::ServerUrl, "https://mcp.example", "DRAIN_SERVER_URL counts for drain-mcp without a command only"),
        (Key::AgentToken, "drain_x", ""),
        (Key::PlayMoney, "", ""),
        (Key::Log, "debug", ""),
        (Key::LogFormat, "json", ""),
        (Key::LogContent, "off", ""),
    ];
    for key in Key::ALL {
        let (_, value, effect) =
            good.iter().find(|(k, ..)| k == key).unwrap_or_else(|| panic!("{key:?} is not tested"));
        let shown = format!("{:?}", ok(&[(key.spec().env, value)]));
        assert!(shown.contains(effect), "{key:?}: {effect} not in {shown}");
        assert!(effect.is_empty() || !format!("{:?}", ok(&[])).contains(effect), "{key:?}: {effect} is the default");
    }
}

#[test]
fn file_then_environment_then_flags() {
    let folder = home(&[("config.toml", "[limits]\nper_channel = 1\nlocked = 9\n[requests]\nqueue = 7\n")]);
    let home = folder.path().display().to_string();
    let config = ok(&[("DRAIN_HOME", &home)]);
    assert_eq!(
        (config.limits.per_channel, config.limits.locked, config.requests.queue),
        (Usdc::new(1_000_000), Usdc::new(9_000_000), 7)
    );

    let mut sources =
        Sources::from_pairs([("DRAIN_HOME", home.as_str()), ("DRAIN_MAX_PER_CHANNEL", "2"), ("DRAIN_QUEUE", "8")]);
    sources.flags.push((Key::Queue, "9".into(), "--queue"));
    let config = Config::load(sources).unwrap();
    assert_eq!(
        (config.limits.per_channel, config.limits.locked, config.requests.queue),
        (Usdc::new(2_000_000), Usdc::new(9_000_000), 9)
    );
    assert!(config.warnings.is_empty());

    let mut sources = Sources::from_pairs([("DRAIN_HOME", home.as_str())]);
    sources.flags.push((Key::ChainId, "x".into(), "--chain"));
    assert!(Config::load(sources).unwrap_err().to_string().starts_with("--chain: "));
}

#[test]
fn the_named_file_counts_in_place_of_the_default_one() {
    let folder = home(&[
        ("config.toml", "[requests]\nqueue = 7\n"),
        ("a.toml", "[requests]\nqueue = 8\n"),
        ("b.toml", "[requests]\nqueue = 9\n"),
    ]);
    let home = folder.path().display().to_string();
    let env = [("DRAIN_HOME", home.clone()), ("DRAIN_CONFIG", path(&folder, "a.toml"))];
    assert_eq!(Config::load(Sources::from_pairs(env.clone())).unwrap().requests.queue, 8);
    let mut sources = Sources::from_pairs(env);
    sources.file = Some(PathBuf::from(path(&folder, "b.toml")));
    assert_eq!(Config::load(sources).unwrap().requests.queue, 9);
    let mut sources = Sources::from_pairs([("DRAIN_HOME", home)]);
    sources.file = Some("/nonexistent.toml".into());
    assert!(Config::load(sources).unwrap_err().to_string().starts_with("--config: "));
}

#[test]
fn both_spellings_of_the_chain() {
    assert_eq!(ok(&[("DRAINCHAIN_ID", "80002")]).chain.chain_id, 80002);
    assert_eq!(ok(&[("DRAIN_CHAIN_ID", "80002"), ("DRAINCHAIN_ID", " 80002 ")]).chain.chain_id, 80002);
    let text = error(&[("DRAIN_CHAIN_ID", "137"), ("DRAINCHAIN_ID", "80002")]);
    assert!(text.contains("DRAIN_CHAIN_ID") && text.contains("DRAINCHAIN_ID"), "{text}");
}

#[test]
fn an_operators_own_contracts() {
    let v2 = "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A";
    let other = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    // Known ones say their generation themselves.
    assert_eq!(ok(&[("DRAIN_CONTRACT", v2)]).chain.deployments, deployment::builtin(137)[..1]);
    let config = ok(&[
        ("DRAIN_CONTRACT", other),
        ("DRAIN_CONTRACT_GENERATION", "V1"),
        ("DRAIN_USDC", ADDRESS),
        ("DRAIN_CHAIN_ID", "80002"),
    ]);
    assert_eq!(config.chain.deployments.len(), 1);
    assert_eq!(config.chain.deployments[0].generation, Generation::V1);
    assert_eq!(config.chain.deployments[0].usdc.to_string(), ADDRESS);
    let two = format!("{v2}:v2, {other}:v1");
    assert_eq!(ok(&[("DRAIN_CONTRACT", &two)]).chain.deployments.len(), 2);
    assert!(error(&[("DRAIN_CONTRACT", &format!("{v2}:v2 {other}:v2"))]).contains("one generation"));
    // Another chain needs everything said.
    let far =
        [("DRAIN_CHAIN_ID", "31337"), ("DRAIN_RPC_URL", "http://localhost:8545"), ("DRAIN_CONTRACT", two.as_str())];
    assert!(error(&far).contains("DRAIN_USDC"));
    // Amoy has no contract: discovery works.
    let amoy = ok(&[("DRAIN_CHAIN_ID", "80002")]);
    assert!(amoy.chain.deployments.is_empty() && amoy.warnings[0].contains("DRAIN_CONTRACT"));
    assert_eq!(amoy.chain.rpc_urls[0].as_str(), "https://rpc-amoy.polygon.technology/");
    // A file's generation belongs to the file's contract.
    let folder = home(&[("config.toml", &format!("[chain]\ncontract = \"{v2}\"\ncontract_generation = \"v2\"\n"))]);
    let home = folder.path().display().to_string();
    assert!(error(&[("DRAIN_HOME", &home), ("DRAIN_CONTRACT", other)]).contains("generation"));
    // A wrong checksum is a warning.
    let odd = v2.replace("0C2B", "0c2B");
    assert!(ok(&[("DRAIN_CONTRACT", &odd)]).warnings[0].contains("checksum"));
}

#[test]
fn urls_and_origins() {
    let config = ok(&[("DRAIN_DIRECTORY_URL", "www.handshake58.com/api/mcpproviders?x=1")]);
    assert_eq!(config.marketplace.directory_url.as_str(), "https://www.handshake58.com/api/mcpproviders?x=1");
    assert_eq!(config.marketplace.base_url.as_str(), "https://www.handshake58.com/");
    assert_eq!(
        ok(&[("DRAIN_DIRECTORY_URL", "https://d.example")]).marketplace.directory_url.path(),
        "/api/mcp/providers"
    );
    assert_eq!(ok(&[("DRAIN_RPC_URL", "https://a.example, b.example\nhttps://a.example")]).chain.rpc_urls.len(), 2);
    assert!(ok(&[("DRAIN_RPC_URL", "http://10.1.1.1:8545")]).warnings[0].contains("not encrypted"));
    // A node of one's own may serve the real chain: the mark needs a marketplace on this machine too.
    let mark = [("DRAIN_PLAY_MONEY", "on"), ("DRAIN_RPC_URL", "http://127.0.0.1:1")];
    assert!(error(&mark).contains("DRAIN_PLAY_MONEY"));
    assert!(ok(&[mark[0], mark[1], ("DRAIN_DIRECTORY_URL", "http://localhost:2")]).play_money);
}
