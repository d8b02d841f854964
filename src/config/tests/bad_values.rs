//! What no variable takes is refused by the variable's name.

use super::*;

/// Every value error names the variable and says what is right.
#[test]
fn bad_values_name_their_variable() {
    let bad: &[(Key, &[&str])] = &[
        (Key::Home, &["~other/\u{0}"]),
        (Key::ConfigFile, &["/nonexistent/config.toml", "/"]),
        (Key::PrivateKey, &["0x1234", "zz", "0x0000000000000000000000000000000000000000000000000000000000000000"]),
        (Key::Signer, &["trezor", "ledger", "aws-kms", "local"]),
        (Key::KmsKeyId, &["alias/drain", "arn:aws:kms:eu-central-1:111122223333:alias/drain", "two words", "é"]),
        (Key::KmsAddress, &["0x12", KEY]),
        (Key::KmsRegion, &["Frankfurt", "eu central 1"]),
        (Key::KmsEndpoint, &["http://kms.example", "ftp://x", "https://a:b@kms.example", "https://kms.example?x=1"]),
        (Key::KmsConcurrency, &["0", "1001", "many"]),
        (Key::KmsTimeout, &["0", "never"]),
        (Key::LedgerAddress, &["0x12", KEY]),
        (Key::LedgerPath, &["m/44''", "44/x"]),
        (Key::LedgerEmulator, &["9999", "http://127.0.0.1:9999", "host:port"]),
        (Key::LedgerTimeout, &["0", "never"]),
        (Key::DeviceWait, &["0", "never"]),
        (Key::Treasury, &["safe", "0x12"]),
        (Key::RefillBelow, &["-1", "much"]),
        (Key::SweepKeep, &["-1", "much"]),
        (Key::SweepKeepPol, &["-1", "much"]),
        (Key::FundPerDay, &["-1", "much"]),
        (Key::SweepsPerDay, &["-1", "1.5"]),
        (Key::ChainId, &["0", "-1", "polygon", "1e3", "99999999999", "1"]),
        (Key::RpcUrls, &["wss://x.example", "ftp://x.example", "https://", ","]),
        (Key::TempoUrls, &["wss://x.example", ","]),
        (Key::TempoChainId, &["137", "tempo"]),
        (Key::RpcTimeout, &["0", "-1s", "fast", "2d"]),
        (
            Key::Contract,
            &[
                "0x12",
                ADDRESS,
                "0x70997970C51812dc3A010C7d01b50e0d17dc79C8:v3",
                "0x0C2B3aA1e80629D572b1f200e6DF3586B3946A8A:v1",
                "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359:v2",
                ",",
            ],
        ),
        (Key::ContractGeneration, &["v3"]),
        (Key::Usdc, &[ADDRESS]),
        (Key::Confirmations, &["-1", "many"]),
        (Key::PollInterval, &["1ms"]),
        (Key::TransactionTimeout, &["never"]),
        (Key::ReplaceAfter, &["0"]),
        (Key::DirectoryUrl, &["ftp://x", "https://user:pw@dir.example"]),
        (Key::MarketplaceUrl, &["http://", "https://user@base.example"]),
        (Key::MarketplaceTimeout, &["?"]),
        (Key::DirectoryMaxAge, &["1.5"]),
        (Key::Telemetry, &["maybe"]),
        (Key::Agent, &["two words", "a/b", "é"]),
        (Key::Tools, &["write"]),
        (Key::MaxPerRequest, &["-1"]),
        (Key::MaxPerHour, &["much"]),
        (Key::MaxPerDay, &["1e3"]),
        (Key::MaxPerPayment, &["-1", "0.0000001"]),
        (Key::PayHosts, &[",", "a.example/x", "a.example.", "ftp://a.example", "a.example:x"]),
        (Key::MaxPerProvider, &["0.0000001"]),
        (Key::MaxPerAgent, &["1,5"]),
        (Key::MaxNewcomers, &["x"]),
        (Key::MaxOpenChannels, &["-1", "many"]),
        (Key::MaxOpensPerHour, &["1.5"]),
        (Key::MaxGasPerTransaction, &["-1", "1e3"]),
        (Key::MaxGasPerDay, &["0.0000000001"]),
        (Key::AutoOpen, &["on", "-1"]),
        (Key::AllowProviders, &[","]),
        (Key::DenyProviders, &[","]),
        (Key::AllowCategories, &[","]),
        (Key::DenyCategories, &[","]),
        (Key::Freeze, &["maybe"]),
        (Key::ApproveRequestsAbove, &["never", "-1"]),
        (Key::ApproveDepositsAbove, &["1e3"]),
        (Key::ApprovalsVia, &["mail", ","]),
        (Key::ApprovalWait, &["soon"]),
        (Key::ApprovalValid, &["0", "1y"]),
        (Key::NotifyCommand, &[]),
        (Key::NotifyWebhook, &["http://hook.example", "ftp://x", "https://user:pw@hook.example"]),
        (Key::MaxPerChannel, &["-1", "abc", "1e3", "0.0000001", "99999999999999999999"]),
        (Key::MaxLocked, &["1,5"]),
        (Key::MaxSessionFee, &["x"]),
        (Key::UnlimitedAllowance, &["2"]),
        (Key::DefaultMaxTokens, &["0", "-5", "1.5"]),
        (Key::DefaultMaxCost, &["$1"]),
        (Key::RequestTimeout, &["0"]),
        (Key::Stream, &["maybe"]),
        (Key::MaxAnswerBytes, &["1"]),
        (Key::MaxRequestBytes, &["16MB"]),
        (Key::Queue, &["0"]),
        (Key::RequestIdTime, &["0", "soon", "366d"]),
        (Key::KeepAnswers, &["-1", "for ever", "366d"]),
        (Key::AnswersMaxBytes, &["256MB", "-1"]),
        (Key::PriceTolerance, &["-3"]),
        (Key::MaxDuration, &["0", "forever"]),
        (Key::MetricsAddr, &["on", "65536", "metrics.example:9464", "https://127.0.0.1:9464"]),
        (Key::CloseIdle, &["0", "59s", "soon"]),
        (Key::PolUsdc, &["-1", "much"]),
        (Key::DefaultDuration, &["0", "1w1w", "11y"]),
        (Key::AllowInsecure, &["ja"]),
        (Key::Wallet, &["other", "two words"]),
        (Key::Listen, &["off", "example.com:5858", "0.0.0.0:5858"]),
        (Key::ListenPublic, &["maybe"]),
        (Key::ReplicaUrl, &["ftp://10.0.0.5", "http://a:b@10.0.0.5"]),
        (
            Key::JournalUrl,
            &["journal.db", "postgres://drain:secret@db.example/drain", "postgres:///", "mysql://db/drain"],
        ),
        (Key::JournalLease, &["0", "100ms", "1h", "never"]),
        (Key::AllowedHosts, &[",", "https://mcp.example"]),
        (Key::AllowedOrigins, &[",", "mcp.example"]),
        (Key::MetricsToken, &["short"]),
        (Key::ConsoleToken, &["short", "with a blank in it"]),
        (Key::DrainTime, &["0"]),
        (Key::MaxConnections, &["0", "many"]),
        (Key::MaxAgentRequests, &["0"]),
        (Key::MaxAgentSessions, &["0"]),
        (Key::SessionIdle, &["0"]),
        (Key::MaxBodyBytes, &["1", "8MB"]),
        (Key::CallTime, &["forever"]),
        (Key::GatewayChannels, &["0", "65", "many"]),
        (Key::PlayMoney, &["on", "x"]),
    ];
    for key in Key::ALL {
        let name = key.spec().env;
        let Some((_, values)) = bad.iter().find(|(k, _)| k == key) else {
            assert!(
                matches!(
                    key,
                    Key::Log
                        | Key::LogFormat
                        | Key::LogContent
                        | Key::ServerUrl
                        | Key::AgentToken
                        | Key::Keystore
                        | Key::KeystorePassword
                        | Key::KeystorePasswordCommand
                ),
                "{key:?} is not tested"
            );
            continue;
        };
        for value in *values {
            if *key == Key::Home {
                continue;
            }
            let found = load(&[(name, value)]).err().unwrap_or_else(|| panic!("{name}={value} was taken"));
            // A chain without defaults names what is missing instead.
            assert!(found.name.starts_with("DRAIN_"), "{name}={value}: {found}");
            assert!(found.name.starts_with(name) || *key == Key::ChainId, "{name}={value}: {found}");
            assert!(!found.fix.is_empty() && !found.problem.is_empty());
        }
    }
}
