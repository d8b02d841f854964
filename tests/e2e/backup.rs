//! `drain-mcp journal`: copies out, copies in, and what is wrong with one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use drain_sandbox::contracts::CHANNEL_V2;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::disk::{folder, history};
use crate::harness::World;
use crate::process_harness::{Agent, Env, Greeting, chat, vouchers, world};
use crate::survivor::audit_vouchers;

const NEWEST: Greeting = Greeting::Lines("2025-11-25");

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_whole_and_private_and_its_owner_goes_on_meanwhile() {
    let world = world().await;
    let env = Env::of(&world);
    let mut agent = Agent::start(&env, NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&id, "hello")).await;
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("drain.backup");
    let name = file.to_str().unwrap();
    let ((), exported) = tokio::join!(
        async {
            for _ in 0..20 {
                agent.ok("drain_chat", chat(&id, "the owner goes on")).await;
            }
        },
        async { env.run(&["journal", "export", name, "--json"]).await }
    );
    let exported = exported.ok_json();
    assert_eq!((mode(&file), mode(&out.path().join("drain.backup.manifest.json"))), (0o600, 0o600));
    assert_eq!((&exported["channels"], &exported["chain_id"]), (&json!(1), &json!(137)), "{exported}");
    assert!(!out.path().join("drain.backup-wal").exists());
    // The copy is of one moment: its sums add up.
    let verified = env.run(&["journal", "verify", name, "--json"]).await.ok_json();
    assert_eq!((&verified["problems"], &verified["channels"]), (&json!([]), &json!(1)), "{verified}");
    assert_eq!(verified["commits"], exported["commits"]);
    // A live one is verified beside its owner too, against the chain.
    let live = env.run(&["journal", "verify", "--on-chain", "--json"]).await.ok_json();
    assert_eq!(
        (&live["problems"], &live["on_chain"], &live["vouchers"]),
        (&json!([]), &json!(true), &json!(21)),
        "{live}"
    );

    let again = env.run(&["journal", "export", name]).await;
    assert!(again.code == Some(2) && again.stderr.contains("not overwritten"), "{again:?}");
    agent.ok("drain_chat", chat(&id, "and on")).await;
    audit_vouchers(&world);
    agent.leave().await;
}

/// Exports, and lets more be paid afterwards; the copy and the channel.
async fn copy_and_more(world: &World, to: &Path) -> String {
    let env = Env::of(world);
    let id = history(world).await;
    env.run(&["journal", "export", to.to_str().unwrap(), "--json"]).await.ok_json();
    let mut agent = Agent::start(&env, NEWEST).await;
    for _ in 0..3 {
        agent.ok("drain_chat", chat(&id, "after the copy")).await;
    }
    agent.leave().await;
    id
}

/// M2: no number twice, no consent asked for, and the one before is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_an_imported_copy_goes_on_with_recovered_channels_and_keeps_the_one_before() {
    let world = world().await;
    let env = Env::of(&world);
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("drain.backup");
    let name = file.to_str().unwrap();
    let id = copy_and_more(&world, &file).await;

    let refused = env.run(&["journal", "import", name]).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("--replace"), "{refused:?}");
    let owner = Agent::start(&env, NEWEST).await;
    let refused = env.run(&["journal", "import", name, "--replace", "--json"]).await;
    assert_eq!(refused.json()["error"]["code"], "wallet_in_use");
    owner.leave().await;

    let signed = world.journaled("SELECT signed FROM channels WHERE state = 'open'");
    let imported = env.run(&["journal", "import", name, "--replace", "--json"]).await.ok_json();
    assert_eq!((&imported["channels"], &imported["manifest"]), (&json!(1), &json!(true)), "{imported}");
    let kept = imported["replaced"].as_str().unwrap();
    let before: i64 = Connection::open(kept)
        .unwrap()
        .query_row("SELECT signed FROM channels WHERE state = 'open'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(before, signed, "the one before is whole");
    assert_eq!(mode(&folder(&world).join("journal.db")), 0o600);

    let mut agent = Agent::start(&env, NEWEST).await;
    let listed = agent.ok("drain_channels", json!({})).await;
    assert_eq!(listed.data["channels"][0]["recovered"], Value::Bool(true), "{}", listed.text);
    agent.ok("drain_chat", chat(&id, "on the copy")).await;
    agent.fails("drain_cooperative_close", json!({ "channelId": id }), "close_refused").await;
    let sent: Vec<_> = vouchers(&world.sandbox.llm).into_iter().filter(|request| request.channel == id).collect();
    let (last, earlier) = sent.split_last().unwrap();
    assert!(earlier.iter().all(|request| request.nonce < last.nonce) && last.outcome.starts_with("billed"), "{last:?}");
    assert!(!agent.leave().await.stderr.contains("recovered channels"), "an import is no surprise");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_taken_in_where_there_is_no_journal() {
    let world = world().await;
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("drain.backup");
    let id = copy_and_more(&world, &file).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let env = Env::of(&world).with("DRAIN_HOME", elsewhere.path().to_str().unwrap());
    let imported = env.run(&["journal", "import", file.to_str().unwrap()]).await;
    assert!(imported.code == Some(0) && imported.stdout.contains("channels recover"), "{imported:?}");
    let mut agent = Agent::start(&env, NEWEST).await;
    agent.ok("drain_chat", chat(&id, "elsewhere")).await;
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_whole_is_refused_and_nothing_is_changed() {
    let world = world().await;
    let env = Env::of(&world);
    let out = tempfile::tempdir().unwrap();
    let good = out.path().join("good");
    let id = copy_and_more(&world, &good).await;
    let manifest = fs::read(out.path().join("good.manifest.json")).unwrap();
    let bytes = fs::read(&good).unwrap();
    let mut flipped = bytes.clone();
    let place = flipped.len() - 100;
    flipped[place] ^= 1;
    let tampered = out.path().join("tampered");
    fs::copy(&good, &tampered).unwrap();
    let db = Connection::open(&tampered).unwrap();
    db.execute_batch("UPDATE channels SET signed = signed + 1 WHERE state = 'open'").unwrap();
    let tampered = {
        drop(db);
        fs::read(&tampered).unwrap()
    };
    let others = out.path().join("others");
    fs::copy(&good, &others).unwrap();
    let db = Connection::open(&others).unwrap();
    db.execute_batch("UPDATE channels SET consumer = '0x00000000000000000000000000000000000000aa'").unwrap();
    let others = {
        drop(db);
        fs::read(&others).unwrap()
    };

    let live = folder(&world).join("journal.db");
    world.journaled("SELECT 1");
    let before = fs::read(&live).unwrap();
    let cases: [(&str, &[u8], bool, &str); 6] = [
        ("flipped", &flipped, true, "not the file that was exported"),
        ("cut", &bytes[..bytes.len() / 2], false, "malformed"),
        ("sums", &tampered, false, "signed amount"),
        ("others", &others, false, "another wallet"),
        ("text", b"a letter to a friend, long enough to be looked at as a database", false, "not a database"),
        ("empty", b"", false, "no journal"),
    ];
    for (name, bytes, with_manifest, reason) in cases {
        let file = out.path().join(name);
        fs::write(&file, bytes).unwrap();
        if with_manifest {
            fs::write(out.path().join(format!("{name}.manifest.json")), &manifest).unwrap();
        }
        let refused = env.run(&["journal", "import", file.to_str().unwrap(), "--replace", "--json"]).await;
        let error = &refused.json()["error"];
        assert_eq!((refused.code, &error["code"]), (Some(1), &json!("journal_failed")), "{name}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(reason) && message.contains(file.to_str().unwrap()), "{name}: {message}");
        assert!(error["next"].as_str().unwrap().contains("Nothing was changed"), "{error}");
        // verify says the same of it.
        let verified = env.run(&["journal", "verify", file.to_str().unwrap()]).await;
        assert!(name == "others" || verified.code == Some(1), "{name}: {verified:?}");
    }
    let missing = env.run(&["journal", "import", out.path().join("nowhere").to_str().unwrap(), "--replace"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(fs::read(&live).unwrap() == before, "the present journal is untouched");
    let names: Vec<_> = fs::read_dir(folder(&world)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("importing")), "{names:?}");
    let mut agent = Agent::start(&env, NEWEST).await;
    agent.ok("drain_chat", chat(&id, "as before")).await;
    audit_vouchers(&world);
    agent.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_compares_the_sums_the_mark_and_the_contract() {
    let world = world().await;
    let env = Env::of(&world);
    let none = env.run(&["journal", "verify"]).await;
    assert!(none.code == Some(1) && none.stderr.contains("there is no journal"), "{none:?}");
    let id = history(&world).await;
    let older = fs::read(folder(&world).join("journal.db")).unwrap();
    let fine = env.run(&["journal", "verify", "--on-chain"]).await;
    assert!(fine.code == Some(0) && fine.stdout.contains("Nothing is wrong"), "{fine:?}");

    // What the contract says otherwise.
    let wrong = |sql: &'static str, words: &'static str| {
        let (world, env, older) = (&world, &env, &older);
        async move {
            let live = folder(world).join("journal.db");
            Connection::open(&live).unwrap().execute_batch(sql).unwrap();
            let verified = env.run(&["journal", "verify", "--on-chain", "--json"]).await;
            let found = verified.json()["problems"].to_string();
            assert!(verified.code == Some(1) && found.contains(words), "{sql}: {found}");
            fs::write(&live, older).unwrap();
        }
    };
    wrong("UPDATE channels SET deposit = deposit + 1 WHERE state = 'open'", "deposit").await;
    wrong("UPDATE channels SET expires_at = expires_at + 1 WHERE state = 'open'", "end at").await;
    wrong("UPDATE channels SET state = 'closed', refunded = 0 WHERE state = 'open'", "still holds").await;
    wrong("UPDATE channels SET provider_wallet = consumer WHERE state = 'open'", "parties").await;
    wrong("UPDATE channels SET charged = charged + 1 WHERE state = 'open'", "sum of its requests").await;
    wrong("UPDATE spent_by_day SET charged = charged - 1", "spent by day").await;
    wrong("UPDATE usage SET amount = amount - 1 WHERE scope = 'all'", "a budget").await;
    wrong("UPDATE channels SET nonce = nonce + 1 WHERE state = 'open'", "last number").await;

    // The provider takes money: known by the next run, and no problem.
    world.sandbox.llm.claim(id.parse().unwrap()).await.unwrap();
    let claimed = env.run(&["journal", "verify", "--on-chain", "--json"]).await.ok_json();
    assert!(claimed["notes"].to_string().contains("claimed by now"), "{claimed}");
    // Closed past this journal, and an older copy than was used.
    world.advance(5 * 3_600).await;
    world.close_elsewhere(CHANNEL_V2, id.parse().unwrap()).await;
    let closed = env.run(&["journal", "verify", "--on-chain", "--json"]).await.ok_json();
    assert!(closed["notes"].to_string().contains("has it no more"), "{closed}");
    let mut agent = Agent::start(&env, NEWEST).await;
    agent.open("sim-weather", "1", "4h").await;
    agent.leave().await;
    world.journaled("SELECT 1");
    fs::write(folder(&world).join("journal.db"), &older).unwrap();
    let verified = env.run(&["journal", "verify"]).await;
    assert!(verified.code == Some(1) && verified.stdout.contains("older copy"), "{verified:?}");
}
