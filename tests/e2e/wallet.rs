//! `drain-mcp wallet` without a person at a terminal: what works, and what is refused.

use std::os::unix::fs::PermissionsExt;

use drain_protocol::{Address, U256};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{World, usdc};
use crate::process_harness::{Env, world};

const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const ADDRESS: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const STRANGER: &str = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC";
const PASSWORD: &str = "correct horse battery";

/// Without a key, with a keystore's password in a file.
fn keystore_env(world: &World, home: &TempDir) -> Env {
    let password = home.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    Env::of(world)
        .without("DRAIN_PRIVATE_KEY")
        .with("DRAIN_HOME", home.path().join("own").display().to_string())
        .with("DRAIN_KEYSTORE_PASSWORD_FILE", password.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_wallet_pays_and_its_phrase_brings_it_back() {
    let world = world().await;
    let home = tempfile::tempdir().unwrap();
    let env = keystore_env(&world, &home);
    let made = env.run(&["wallet", "new", "--yes", "--show-phrase", "--json"]).await.ok_json();
    let phrase = made["phrase"].as_str().unwrap();
    assert_eq!(phrase.split(' ').count(), 12);
    let address = made["address"].as_str().unwrap();
    let path = std::path::Path::new(made["keystore"].as_str().unwrap());
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let before = std::fs::read(path).unwrap();
    let again = env.run(&["wallet", "new", "--yes", "--json"]).await;
    assert_eq!((again.code, &again.json()["error"]["code"]), (Some(1), &json!("signer_failed")), "never overwritten");
    assert_eq!(std::fs::read(path).unwrap(), before);

    // It says what it lacks, and how to get it.
    assert_eq!(env.run(&["wallet", "address", "--json"]).await.ok_json()["address"], address);
    let empty = env.run(&["wallet", "balance"]).await;
    assert!(empty.stdout.contains("native USDC") && empty.stdout.contains("0.10 POL"), "{}", empty.stdout);
    let poor = env.run(&["open", "sim-llm", "1", "--json"]).await;
    assert_eq!(poor.code, Some(4), "{poor:?}");

    // With 5 USDC and no POL the gas station helps.
    let account: Address = address.parse().unwrap();
    world.sandbox.observer().fund(account, usdc("5"), U256::ZERO).await.unwrap();
    let stuck = env.run(&["balance", "--json"]).await.ok_json();
    assert!(stuck["advice"].to_string().contains("drain-mcp wallet gas"), "{stuck}");
    assert_eq!(env.run(&["open", "sim-llm", "1", "--json"]).await.json()["error"]["code"], "insufficient_gas");
    env.run(&["wallet", "gas", "--json"]).await.ok_json();
    assert!(world.sandbox.directory.fuelled().contains(&account));
    let opened = env.run(&["open", "sim-llm", "1", "--json"]).await.ok_json();
    let id = opened["channel"]["channel_id"].as_str().unwrap();
    env.run(&["chat", id, "-m", "sim-small", "hello", "--json"]).await.ok_json();

    // Another machine, the same phrase: the same wallet.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = keystore_env(&world, &elsewhere);
    let imported = other.run_with(&["wallet", "import", "--json"], &format!("{phrase}\n")).await;
    assert_eq!(imported.ok_json()["address"], address);
    assert!(!imported.everything().contains(phrase));
    assert_eq!(other.run(&["balance", "--json"]).await.ok_json()["address"], address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn imports_what_is_a_key_and_echoes_none() {
    let world = world().await;
    for (text, works) in [
        (KEY.to_owned(), true),
        (format!("  0x{KEY}\n"), true),
        (KEY[1..].to_owned(), false),
        (format!("{KEY}00"), false),
        ("0".repeat(64), false),
        ("abandon ability able about above absent absorb abstract absurd abuse access secretword".to_owned(), false),
        (String::new(), false),
    ] {
        let home = tempfile::tempdir().unwrap();
        let env = keystore_env(&world, &home);
        let ended = env.run_with(&["wallet", "import", "--json"], &text).await;
        assert_eq!(ended.code == Some(0), works, "{text:?}: {ended:?}");
        let everything = ended.everything().to_lowercase();
        assert!(!everything.contains(&KEY[1..40]) && !everything.contains("secretword"), "{everything}");
        if works {
            assert_eq!(ended.json()["address"], ADDRESS);
            // Another password opens nothing, and says so.
            let wrong =
                env.clone().without("DRAIN_KEYSTORE_PASSWORD_FILE").with("DRAIN_KEYSTORE_PASSWORD", "wrongword");
            let locked = wrong.run(&["balance", "--json"]).await;
            assert_eq!(locked.json()["error"]["code"], "signer_failed");
            assert!(!locked.everything().contains("wrongword"));
        } else {
            assert!(!home.path().join("own/keystore.json").exists());
        }
    }
}

/// M5: what shows the key or moves money out needs a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exporting_and_sending_need_a_terminal() {
    let world = world().await;
    let home = tempfile::tempdir().unwrap();
    let env = keystore_env(&world, &home);
    env.run_with(&["wallet", "import", "--json"], KEY).await.ok_json();
    let observer = world.sandbox.observer();
    let account: Address = ADDRESS.parse().unwrap();
    observer.fund(account, usdc("5"), U256::from(10).pow(U256::from(18))).await.unwrap();
    let send = ["wallet", "send", "--to", STRANGER, "--amount", "1", "--token", "usdc", "--json"];
    for args in [&["wallet", "export", "--json"][..], &send] {
        for input in ["", "yes\n", &format!("{PASSWORD}\n")] {
            let ended = env.run_with(args, input).await;
            let error = &ended.json()["error"];
            assert_eq!((ended.code, &error["code"]), (Some(2), &json!("invalid_argument")), "{args:?}");
            assert!(error["message"].as_str().unwrap().contains("needs a person at a terminal"), "{error}");
            assert!(!ended.everything().contains(KEY));
        }
    }
    assert_eq!(observer.usdc_balance(account).await.unwrap(), usdc("5"));
    // Nor is a key shown that somebody set in the environment.
    let given = Env::of(&world);
    let ended = given.run(&["wallet", "export", "--json"]).await;
    assert_eq!(ended.code, Some(2));
    assert!(!ended.everything().contains(given.get("DRAIN_PRIVATE_KEY").trim_start_matches("0x")));

    let nobody = tempfile::tempdir().unwrap();
    let new = Env::of(&world).without("DRAIN_PRIVATE_KEY").with("DRAIN_HOME", nobody.path().display().to_string());
    let refused = new.run(&["wallet", "new", "--json"]).await;
    assert_eq!(refused.code, Some(2), "nobody writes the phrase down");
    let refused = new.run(&["wallet", "new", "--yes", "--json"]).await;
    assert_eq!(refused.code, Some(2), "nobody types a password");
    assert_eq!(std::fs::read_dir(nobody.path()).unwrap().count(), 0);
}
