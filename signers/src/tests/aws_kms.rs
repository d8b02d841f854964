//! The KMS backend against moto (tests/kms/server.py): what it signs, what it does when AWS does not.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy::hex;
use serde_json::{Value, json};

use super::conformance::conforms;
use super::fixtures::{KEY, open, other, own, policy, voucher};
use super::kms_server::{Key, url};
use crate::*;

/// Long enough for several tries, short enough for tests.
const LIMIT: Duration = Duration::from_millis(1_500);

fn settings(key: &Key) -> KmsSettings {
    let region = Some("us-east-1".into());
    KmsSettings { key: key.id.clone(), region, endpoint: Some(url()), concurrency: 16, limit: LIMIT, address: None }
}

/// The test account's key.
fn known() -> Key {
    Key::new(json!({ "private": KEY }))
}

async fn backend(key: &Key) -> KmsBackend {
    KmsBackend::connect(settings(key), Duration::from_secs(20)).await.unwrap()
}

async fn sign(backend: &KmsBackend) -> Result<[u8; 65], SignerError> {
    backend.sign_message(&voucher(1).into(), &Prompt::nobody()).await
}

/// What an error must be: told apart by its code, saying what to do, holding nothing secret.
fn shows(error: &SignerError, code: &str, words: &str) {
    let text = error.to_string();
    println!("{code}: {text}");
    assert_eq!(error.code(), code, "{error:?}");
    assert!(text.contains(words), "{words} not in {text}");
    assert!(text.contains("; ") && text.len() < 400 && !text.chars().any(char::is_control), "{text}");
    let secret = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap();
    for hidden in [secret.as_str(), "SESSIONTOKENECHO", "security token included"] {
        assert!(!format!("{text} {error:?}").contains(hidden), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn conforms_to_the_vectors() {
    conforms("aws-kms", async |secret| {
        let key = Key::new(json!({ "private": hex::encode(*secret.bytes()) }));
        Arc::new(backend(&key).await) as SharedBackend
    })
    .await;
}

/// AWS makes signatures of either half; the contract takes low s only.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn s_is_low_and_v_is_right() {
    let key = Key::new(json!({}));
    let signer = Signer::new(backend(&key).await, policy());
    for amount in 1..=40 {
        signer.sign_voucher(&voucher(amount), &Prompt::nobody()).await.unwrap();
    }
    signer.sign_transaction(&open(), &Prompt::nobody()).await.unwrap();
    assert_eq!((key.asked("GetPublicKey"), key.asked("Sign")), (1, 41), "the public key is read once");
    let capabilities = signer.capabilities();
    assert!(!capabilities.interactive && !capabilities.in_process && !capabilities.clear_signing);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn an_arn_names_its_region() {
    let key = known();
    let by_arn = KmsSettings { key: key.arn.clone(), region: None, ..settings(&key) };
    let backend = KmsBackend::connect(by_arn, LIMIT).await.unwrap();
    assert_eq!(backend.address(), own());
    sign(&backend).await.unwrap();
    assert_eq!(KmsSettings::region_of("arn:aws-cn:kms:cn-north-1:1:key/x"), Some("cn-north-1"));
    for other in ["1234-abcd", "arn:aws:iam:eu-central-1:1:x", "arn:aws:kms::1:key/x", ""] {
        assert_eq!(KmsSettings::region_of(other), None, "{other}");
    }
}

/// Each fault of a signature, with its code and what a person reads.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn every_fault_of_a_signature_has_its_error() {
    let faults = [
        ("throttled", "kms_throttled", "higher quota"),
        ("internal", "kms_failing", "KMSInternalException"),
        ("unavailable", "kms_failing", "HTTP 503"),
        ("denied", "kms_denied", "may not do kms:Sign"),
        ("expired", "kms_bad_credentials", "ExpiredTokenException"),
        ("unknown_client", "kms_bad_credentials", "renew them"),
        ("bad_signature", "kms_bad_credentials", "clock"),
        ("strange", "kms_refused", "(SomethingNewExceptionb)"),
        ("hang", "kms_timed_out", "DRAIN_KMS_TIMEOUT"),
        ("drop", "kms_unreachable", "check the network"),
        ("garbage", "bad_signature", "check which key"),
        ("nothing", "bad_signature", "check which key"),
        ("another_key", "bad_signature", "check which key"),
    ];
    for (fault, code, words) in faults {
        let key = known();
        let backend = backend(&key).await;
        key.fault("Sign", fault, -1);
        shows(&sign(&backend).await.unwrap_err(), code, words);
        // It is over: the same backend signs.
        key.mend();
        sign(&backend).await.unwrap_or_else(|e| panic!("after {fault}: {e}"));
    }
}

/// What a key is, rather than what happens on the way.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn every_unusable_key_has_its_error() {
    let states = [
        ("Disabled", "kms_key_disabled", "aws kms enable-key"),
        ("PendingDeletion", "kms_key_pending_deletion", "cancel-key-deletion"),
        ("PendingImport", "kms_key_unusable", "describe-key"),
    ];
    for (state, code, words) in states {
        let key = known();
        let used = backend(&key).await;
        key.state(state);
        shows(&sign(&used).await.unwrap_err(), code, words);
        shows(&KmsBackend::connect(settings(&key), LIMIT).await.unwrap_err(), code, words);
        key.state("Enabled");
        sign(&used).await.unwrap();
    }
    for spec in ["RSA_2048", "ECC_NIST_P256", "SYMMETRIC_DEFAULT"] {
        let key = Key::new(json!({ "spec": spec }));
        let error = KmsBackend::connect(settings(&key), LIMIT).await.unwrap_err();
        shows(&error, "kms_wrong_key_type", "ECC_SECG_P256K1");
    }
    let denied = known();
    denied.fault("GetPublicKey", "denied", -1);
    let error = KmsBackend::connect(settings(&denied), LIMIT).await.unwrap_err();
    shows(&error, "kms_denied", "may not do kms:GetPublicKey");

    let missing = Key { id: "11111111-2222-3333-4444-555555555555".into(), arn: String::new() };
    let error = KmsBackend::connect(settings(&missing), LIMIT).await.unwrap_err();
    shows(&error, "kms_no_such_key", "DRAIN_KMS_REGION");

    // Not the account that the operator expects: nothing is signed.
    let key = known();
    let wrong = KmsBackend::of_account(settings(&key), other());
    shows(&sign(&wrong).await.unwrap_err(), "kms_wrong_address", &own().to_string());
    assert_eq!(key.asked("Sign"), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn what_passes_is_tried_again_and_said() {
    for (fault, times) in [("throttled", 3), ("internal", 2), ("unavailable", 2), ("drop", 1), ("hang", 1)] {
        let key = known();
        let patient = KmsSettings { limit: Duration::from_secs(10), ..settings(&key) };
        let backend = KmsBackend::connect(patient, LIMIT).await.unwrap();
        key.fault("Sign", fault, times);
        let said = Arc::new(Mutex::new(Vec::new()));
        let prompt = Prompt::new({
            let said = Arc::clone(&said);
            move |text| said.lock().unwrap().push(text.to_owned())
        });
        backend.sign_message(&voucher(1).into(), &prompt).await.unwrap_or_else(|e| panic!("{fault}: {e}"));
        assert_eq!(key.asked("Sign"), times as usize + 1, "{fault}");
        assert_eq!(said.lock().unwrap().len(), 1, "{fault}: once");
    }
    // What another try does not mend is not tried again.
    let key = known();
    let backend = backend(&key).await;
    key.fault("Sign", "denied", -1);
    sign(&backend).await.unwrap_err();
    assert_eq!(key.asked("Sign"), 1);
}

/// Where AWS cannot be reached a backend of a known account starts, says why it does not sign, and signs once it can.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn starts_without_aws_and_needs_no_new_start() {
    let key = known();
    key.fault("GetPublicKey", "drop", -1);
    let backend = KmsBackend::of_account(settings(&key), own());
    assert_eq!((backend.address(), key.seen().len()), (own(), 0));
    shows(&sign(&backend).await.unwrap_err(), "kms_unreachable", &url());
    key.mend();
    sign(&backend).await.unwrap();

    let dead = KmsSettings { endpoint: Some("http://127.0.0.1:9".into()), ..settings(&key) };
    shows(&KmsBackend::connect(dead, LIMIT).await.unwrap_err(), "kms_unreachable", "Connection refused");

    // A new process finds the same account.
    assert_eq!(KmsBackend::connect(settings(&key), LIMIT).await.unwrap().address(), own());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn no_more_than_configured_at_once() {
    let key = known();
    let few = KmsSettings { concurrency: 3, limit: Duration::from_secs(30), ..settings(&key) };
    let backend = Arc::new(KmsBackend::connect(few, LIMIT).await.unwrap());
    key.fault("Sign", "slow", -1);
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let backend = Arc::clone(&backend);
            tokio::spawn(async move { sign(&backend).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((key.peak(), key.asked("Sign")), (3, 12));

    // Who gets no turn in time is told so; nobody waits longer.
    let one = KmsSettings { concurrency: 1, limit: Duration::from_secs(1), ..settings(&key) };
    let backend = Arc::new(KmsBackend::connect(one, LIMIT).await.unwrap());
    let results = futures::future::join_all((0..20).map(|_| sign(&backend))).await;
    let busy: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(results[0].is_ok() && busy.len() >= 10, "{results:?}");
    shows(busy[busy.len() - 1], "kms_busy", "DRAIN_KMS_CONCURRENCY");
}

/// Who gives up waiting gives the turn back, and nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn a_cancelled_wait_leaves_nothing() {
    let key = known();
    let one = KmsSettings { concurrency: 1, limit: Duration::from_secs(30), ..settings(&key) };
    let backend = Arc::new(KmsBackend::connect(one, LIMIT).await.unwrap());
    key.fault("Sign", "hang", 1);
    let waiting = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move { sign(&backend).await }
    });
    while key.asked("Sign") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    sign(&backend).await.unwrap();
}

/// The rules come first: AWS is not even asked.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn another_chain_is_refused_before_aws_is_asked() {
    let key = known();
    let elsewhere = Policy::new(1, Vec::new());
    let signer = Signer::new(KmsBackend::of_account(settings(&key), own()), elsewhere);
    let refused = signer.sign_voucher(&voucher(1), &Prompt::nobody()).await.unwrap_err();
    assert_eq!(refused.code(), "refused");
    assert_eq!(signer.sign_transaction(&open(), &Prompt::nobody()).await.unwrap_err().code(), "refused");
    assert_eq!(key.seen().len(), 0);
}

/// M12: what leaves for AWS holds a digest and AWS's own signature, and what is shown holds no credential.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn m12_no_credential_leaves_or_shows() {
    let secret = std::env::var("AWS_SECRET_ACCESS_KEY").expect("credentials for moto; see .ci/run");
    let key = known();
    let backend = backend(&key).await;
    sign(&backend).await.unwrap();
    let sent = key.seen().iter().map(Value::to_string).collect::<String>();
    assert!(sent.contains("AWS4-HMAC-SHA256") && sent.contains(r#"\"MessageType\":\"DIGEST\""#), "{sent}");
    let shown = format!("{backend:?}") + &format!("{:?}", Signer::new(backend, policy()));
    for text in [sent, shown] {
        assert!(!text.contains(&secret) && !text.contains(&hex::encode(&secret)), "{text}");
    }
}

/// What a signature takes here. Printed, not judged: `cargo test -p drain-signers --features aws -- --ignored --nocapture figures`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto"]
async fn figures() {
    let key = known();
    let backend = Arc::new(backend(&key).await);
    for at_once in [1, 16] {
        let started = Instant::now();
        let tasks: Vec<_> = (0..at_once)
            .map(|_| {
                let backend = Arc::clone(&backend);
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for _ in 0..(320 / at_once) {
                        let started = Instant::now();
                        sign(&backend).await.unwrap();
                        times.push(started.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        let rate = times.len() as f64 / started.elapsed().as_secs_f64();
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100];
        println!("{at_once} at once: p50 {:?}, p99 {:?}, {rate:.0} signatures a second", at(50), at(99));
    }
}
