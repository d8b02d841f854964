//! The Ledger backend against the software device of the sandbox, and against an outside emulator where one is named.

mod faults;
mod recorded;

use std::sync::Arc;
use std::time::Duration;

use drain_protocol::Address;
use drain_sandbox::ledger::{Keys, LedgerPeer, LedgerPeerConfig};

use super::conformance::{behaves, conforms};
use super::fixtures::{KEY, own};
use crate::ledger::{Connect, HdPath, LedgerBackend, accounts};
use crate::{Backend, Prompt, SharedBackend};

/// Longer than any machine needs where somebody answers.
const PATIENCE: Duration = Duration::from_secs(120);

fn tcp(peer: &LedgerPeer) -> Connect {
    Connect::Tcp(peer.address().to_string())
}

fn config() -> LedgerPeerConfig {
    LedgerPeerConfig { keys: Keys::One(KEY.parse().unwrap()), ..LedgerPeerConfig::default() }
}

async fn peer() -> LedgerPeer {
    LedgerPeer::start(config()).await.unwrap()
}

fn backend_of(connect: Connect, address: Address, patience: Duration) -> SharedBackend {
    Arc::new(LedgerBackend::new(connect, HdPath::default(), address, patience))
}

fn backend(peer: &LedgerPeer) -> SharedBackend {
    backend_of(tcp(peer), own(), PATIENCE)
}

/// What a person was told, collected.
fn listener() -> (Prompt, Arc<std::sync::Mutex<Vec<String>>>) {
    let told: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let sink = told.clone();
    (Prompt::new(move |text| sink.lock().unwrap().push(text.into())), told)
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn conforms_as_every_backend() {
    for full_eip712 in [true, false] {
        let peers = tokio::sync::Mutex::new(Vec::new());
        conforms("ledger", async |secret| {
            // The key leaves the test's secret by its number in the vectors alone.
            let address = secret.address();
            let keys = super::fixtures::list("accounts")
                .iter()
                .find(|account| account["address"] == address.to_string())
                .map(|account| Keys::One(super::fixtures::text(account, "privateKey").parse().unwrap()))
                .unwrap();
            let config = LedgerPeerConfig { keys, full_eip712, ..LedgerPeerConfig::default() };
            let peer = LedgerPeer::start(config).await.unwrap();
            let made = backend_of(tcp(&peer), address, PATIENCE);
            peers.lock().await.push(peer);
            made
        })
        .await;
    }
}

/// The same suite against an emulator that somebody else started: `DRAIN_TEST_LEDGER=host:port`, its prompts approved by
/// hand or by its own automation, blind signing on.
#[tokio::test]
async fn an_outside_emulator_conforms() {
    let Ok(address) = std::env::var("DRAIN_TEST_LEDGER") else { return };
    let connect = Connect::Tcp(address);
    let own = accounts(&connect, &[HdPath::default()]).await.unwrap()[0];
    let made = || backend_of(connect.clone(), own, PATIENCE);
    behaves(&made(), &made()).await;
}

#[tokio::test]
async fn accounts_are_listed_without_a_press() {
    let peer = LedgerPeer::start(LedgerPeerConfig::default()).await.unwrap();
    let paths = [HdPath::ledger_live(0), HdPath::ledger_live(1), HdPath::legacy(0), HdPath::legacy(1)];
    let found = accounts(&tcp(&peer), &paths).await.unwrap();
    // m/44'/60'/0'/0/0 is in the recordings.
    assert_eq!(found[0].to_string(), "0x9858EfFD232B4033E47d90003D41EC34EcaEda94");
    assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert!(peer.screens().is_empty());
    let elsewhere: HdPath = "m/44'/1'/0'".parse().unwrap();
    assert_eq!(accounts(&tcp(&peer), &[elsewhere]).await.unwrap_err().code(), "ledger_path_refused");
}

#[test]
fn paths() {
    for text in ["m/44'/60'/0'/0/0", "m/44'/60'/5'/0/0", "m/44'/60'/0'/7", "m/0"] {
        assert_eq!(text.parse::<HdPath>().unwrap().to_string(), text);
    }
    assert_eq!("44h/60H/0'/0/0".parse::<HdPath>().unwrap(), HdPath::default());
    for text in [
        "",
        "m",
        "m/",
        "m/44''",
        "m/+4",
        "m/-1",
        "m/2147483648",
        "m/4294967295'",
        "m/1/2/3/4/5/6/7/8/9/10/11",
        "m/x",
        "m//1",
    ] {
        assert!(text.parse::<HdPath>().is_err(), "{text}");
    }
}

#[test]
fn starting_contacts_nothing() {
    // No runtime, no device.
    let backend = LedgerBackend::new(Connect::Tcp("127.0.0.1:1".into()), HdPath::default(), own(), PATIENCE);
    assert_eq!(backend.address(), own());
    let capabilities = backend.capabilities();
    assert!(capabilities.interactive && !capabilities.in_process && capabilities.concurrency == 1);
}
