//! Keystore files: our own, other wallets', damaged and hostile ones.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fixtures::{KEY, own, secret};
use crate::keystore::{address_of, create, create_at_cost, open};
use crate::sealed::Cost;
use crate::{Backend, SignerError};

const CHEAP: Cost = Cost { log_n: 4, r: 8, p: 1 };

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    (directory, path)
}

fn code<T>(result: Result<T, SignerError>) -> &'static str {
    let Err(error) = result else { return "ok" };
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("pass word") && !shown.contains(&KEY[..8]), "{shown}");
    error.code()
}

/// A cheap keystore with something changed.
fn changed(change: impl FnOnce(&mut Value)) -> &'static str {
    let (_directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", CHEAP).unwrap();
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
    let start = Instant::now();
    let code = code(open(&path, "pass word"));
    assert!(start.elapsed() < Duration::from_secs(5), "a file must not buy that much work");
    code
}

#[test]
fn round_trip() {
    let (directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", CHEAP).unwrap();
    assert_eq!(address_of(&path), Ok(Some(own())));
    let backend = open(&path, "pass word").unwrap();
    assert_eq!((backend.address(), backend.capabilities().kind), (own(), "keystore"));
    assert_eq!(code(open(&path, "pass wore")), "wrong_password");
    assert_eq!(code(open(&path, "")), "wrong_password");
    assert!(!std::fs::read_to_string(&path).unwrap().contains(KEY));

    // Nothing else is left behind, and the file is never overwritten.
    let before = std::fs::read(&path).unwrap();
    assert_eq!(code(create_at_cost(&path, &secret(), "other", CHEAP)), "keystore_exists");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", CHEAP).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_creators_one_winner() {
    let (directory, path) = place();
    let codes = std::thread::scope(|scope| {
        let racers: Vec<_> =
            (0..8).map(|_| scope.spawn(|| code(create_at_cost(&path, &secret(), "pass word", CHEAP)))).collect();
        racers.into_iter().map(|r| r.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(codes.iter().filter(|c| **c == "ok").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == "keystore_exists").count(), 7);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    assert!(open(&path, "pass word").is_ok());
}

#[test]
fn places_that_do_not_work() {
    let (directory, path) = place();
    assert_eq!(code(open(&path, "pass word")), "keystore_missing");
    assert_eq!(code(address_of(&path)), "keystore_missing");
    assert_eq!(code(open(directory.path(), "pass word")), "keystore_corrupt");
    assert_eq!(code(create_at_cost(&path, &secret(), "", CHEAP)), "empty_password");
    assert_eq!(code(create_at_cost(&path.join("no/such"), &secret(), "pass word", CHEAP)), "unavailable");
    #[cfg(unix)]
    {
        // A dangling link counts as a file: what it points to is not ours to create.
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert_eq!(code(create_at_cost(&path, &secret(), "pass word", CHEAP)), "keystore_exists");
    }
}

#[test]
fn damaged_files() {
    assert_eq!(changed(|_| {}), "ok");
    assert_eq!(changed(|j| j["crypto"]["mac"] = json!("00".repeat(32))), "wrong_password");
    assert_eq!(changed(|j| j["crypto"]["ciphertext"] = json!("00".repeat(32))), "wrong_password");
    // The mac does not cover the iv: only the address tells that another key comes out.
    assert_eq!(changed(|j| j["crypto"]["cipherparams"]["iv"] = json!("00".repeat(16))), "keystore_corrupt");
    assert_eq!(changed(|j| j["address"] = json!("77".repeat(20))), "keystore_corrupt");
    assert_eq!(changed(|j| j["address"] = json!("nobody")), "keystore_corrupt");
    assert_eq!(changed(|j| drop(j.as_object_mut().unwrap().remove("address"))), "ok");
    assert_eq!(changed(|j| j["version"] = json!(1)), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["cipher"] = json!("aes-256-gcm")), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["kdf"] = json!("argon2id")), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["mac"] = json!("00")), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["mac"] = json!("zz".repeat(32))), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["ciphertext"] = json!("00".repeat(31))), "keystore_corrupt");
    assert_eq!(changed(|j| j["crypto"]["cipherparams"]["iv"] = json!("00")), "keystore_corrupt");
    assert_eq!(changed(|j| drop(j["crypto"].as_object_mut().unwrap().remove("mac"))), "keystore_corrupt");
}

#[test]
fn truncated_anywhere() {
    let (_directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", CHEAP).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(code(open(&path, "pass word")), "keystore_corrupt", "{length}");
        assert_eq!(code(address_of(&path)), "keystore_corrupt");
    }
}

#[test]
fn hostile_files() {
    let scrypt = |n: u64, r: u64, p: u64| {
        changed(|j| {
            let params = &mut j["crypto"]["kdfparams"];
            (params["n"], params["r"], params["p"]) = (json!(n), json!(r), json!(p));
        })
    };
    for (n, r, p) in [
        (1 << 19, 8, 1),
        (1 << 40, 1, 1),
        (1 << 63, 8, 1),
        (u64::MAX, u64::MAX >> 32, u64::MAX >> 32),
        (2, u64::MAX >> 32, 1),
        (2, 1, u64::MAX >> 32),
        (2, 1 << 12, 1 << 12),
        (1 << 18, 1, 64),
        (0, 8, 1),
        (1, 8, 1),
        (3, 8, 1),
        (16, 0, 1),
        (16, 8, 0),
        (16, 1 << 33, 1),
    ] {
        assert_eq!(scrypt(n, r, p), "keystore_corrupt", "{n} {r} {p}");
    }
    for dklen in [0, 16, 31, 64, u64::MAX] {
        assert_eq!(changed(|j| j["crypto"]["kdfparams"]["dklen"] = json!(dklen)), "keystore_corrupt");
    }
    let pbkdf2 = |c: u64, prf: &str| {
        changed(|j| {
            j["crypto"]["kdf"] = json!("pbkdf2");
            j["crypto"]["kdfparams"] = json!({ "dklen": 32, "c": c, "prf": prf, "salt": "00" });
        })
    };
    assert_eq!(pbkdf2(1, "hmac-sha256"), "wrong_password");
    assert_eq!(pbkdf2(0, "hmac-sha256"), "keystore_corrupt");
    assert_eq!(pbkdf2(u64::from(u32::MAX), "hmac-sha256"), "keystore_corrupt");
    assert_eq!(pbkdf2(1, "hmac-md5"), "keystore_corrupt");
    assert_eq!(changed(|j| j["padding"] = json!("x".repeat(70_000))), "keystore_corrupt");
}

/// A person gives the path of a file with the bare key in it: the error does not repeat it.
#[test]
fn a_bare_key_is_not_repeated() {
    let (_directory, path) = place();
    for content in
        [KEY.to_owned(), format!("\"{KEY}\""), format!("{{\"{KEY}\":1}}"), "12345678".repeat(8), "12345678".into()]
    {
        std::fs::write(&path, &content).unwrap();
        let error = open(&path, "pass word").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(error.code(), "keystore_corrupt");
        assert!(!shown.contains(&KEY[..8]) && !shown.contains("12345678"), "{shown}");
    }
}

/// The format's own example (Web3 Secret Storage Definition). Its other one, scrypt with n = 2^18 and r = 1, breaks RFC
/// 7914 (n < 2^(16r)) and is refused, as `eth-keystore` refuses it; no wallet writes such files.
#[test]
fn published_file() {
    let address = "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b";
    let pbkdf2 = json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144, "dklen": 32, "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    });
    let (_directory, path) = place();
    std::fs::write(&path, pbkdf2.to_string()).unwrap();
    assert_eq!(address_of(&path), Ok(None));
    assert_eq!(open(&path, "testpassword").unwrap().address().to_string(), address);
}

/// Files go both ways between us and the crate that alloy uses.
#[test]
fn alloy_reads_ours_and_we_read_alloys() {
    let (directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", CHEAP).unwrap();
    assert_eq!(PrivateKeySigner::decrypt_keystore(&path, "pass word").unwrap().address(), own());

    let bytes = alloy::hex::decode(KEY).unwrap();
    let rng = &mut secp256k1::rand::thread_rng();
    PrivateKeySigner::encrypt_keystore(directory.path(), rng, bytes, "pass word", Some("alloy.json")).unwrap();
    assert_eq!(open(&directory.path().join("alloy.json"), "pass word").unwrap().address(), own());
}

/// At the cost that real files have; slow without optimisation: run with `--release -- --ignored`.
#[test]
fn full_cost() {
    let (_directory, path) = place();
    let start = Instant::now();
    create(&path, &secret(), "pass word").unwrap();
    println!("create: {:?}", start.elapsed());
    assert_eq!(PrivateKeySigner::decrypt_keystore(&path, "pass word").unwrap().address(), own());
    let start = Instant::now();
    assert!(open(&path, "pass word").is_ok());
    println!("open: {:?}", start.elapsed());

    // geth's standard.
    let (_directory, path) = place();
    create_at_cost(&path, &secret(), "pass word", Cost { log_n: 18, r: 8, p: 1 }).unwrap();
    assert!(open(&path, "pass word").is_ok());
}
