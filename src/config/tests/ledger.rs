//! Which account of which Ledger.

use std::time::Duration;

use super::{ADDRESS, KEY, SignerConfig, error, ok};

#[test]
fn without_the_feature_it_says_how_to_get_it() {
    let named = error(&[("DRAIN_SIGNER", "ledger")]);
    let set = [("DRAIN_LEDGER_ADDRESS", ADDRESS)];
    if cfg!(feature = "ledger") {
        assert!(named.contains("drain-mcp wallet ledger list") && named.contains("DRAIN_LEDGER_ADDRESS"), "{named}");
        return;
    }
    let inferred = error(&set);
    for text in [named, inferred] {
        assert!(text.contains("built without ledger") && text.contains("Build with --features ledger"), "{text}");
    }
}

#[cfg(feature = "ledger")]
#[test]
fn an_account_is_enough() {
    let SignerConfig::Ledger(settings) = ok(&[("DRAIN_LEDGER_ADDRESS", ADDRESS)]).signer else { panic!() };
    assert_eq!(
        (settings.address.to_string().as_str(), settings.path.to_string().as_str()),
        (ADDRESS, "m/44'/60'/0'/0/0")
    );
    assert_eq!((settings.emulator, settings.patience), (None, Duration::from_secs(300)));
    let config = ok(&[
        ("DRAIN_SIGNER", "Ledger"),
        ("DRAIN_LEDGER_ADDRESS", &ADDRESS.to_lowercase()),
        ("DRAIN_LEDGER_PATH", "44'/60'/0'/3"),
        ("DRAIN_LEDGER_EMULATOR", "localhost:9999"),
        ("DRAIN_LEDGER_TIMEOUT", "45s"),
    ]);
    let SignerConfig::Ledger(settings) = config.signer else { panic!() };
    assert_eq!(settings.path.to_string(), "m/44'/60'/0'/3");
    assert_eq!((settings.emulator.as_deref(), settings.patience), (Some("localhost:9999"), Duration::from_secs(45)));
}

#[cfg(feature = "ledger")]
#[test]
fn two_signers_need_a_word() {
    for (other, value) in [("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_KEYSTORE", "/k")] {
        let both = error(&[("DRAIN_LEDGER_ADDRESS", ADDRESS), (other, value)]);
        assert!(both.starts_with(other) && both.contains("DRAIN_LEDGER_ADDRESS is set too"), "{both}");
        assert!(both.contains("DRAIN_SIGNER"), "{both}");
    }
    // A device that only funds is named beside the key that pays.
    let config = ok(&[("DRAIN_LEDGER_ADDRESS", ADDRESS), ("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_SIGNER", "local")]);
    assert!(matches!(config.signer, SignerConfig::Local(_)));
}
