//! Disks that fail and files that are not what was written: signing stops, or goes on with recovered channels; the error
//! names the file, the meaning for the money and the command that helps; nothing is reset by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use drain_mcp::error::Failure;
use drain_mcp::journal::{self, Journal, Location};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{World, usdc};
use crate::process_harness::{Agent, Answer, Env, Greeting, chat, until, vouchers, world};
use crate::survivor::audit_vouchers;

const NEWEST: Greeting = Greeting::Lines("2025-11-25");

/// The wallet's folder.
pub fn folder(world: &World) -> PathBuf {
    world.home.path().join(format!("137-{:#x}", world.agent()))
}

fn journal(world: &World) -> PathBuf {
    folder(world).join("journal.db")
}

fn log(world: &World) -> PathBuf {
    folder(world).join("journal.db-wal")
}

/// M1, M15: the failure says all that a person needs.
fn says_it_all(answer: &Answer, way_out: &str) {
    assert_eq!(answer.data["money"]["state"], "not_spent", "{}", answer.text);
    for part in ["journal", "Nothing is signed", way_out] {
        assert!(answer.text.contains(part), "{part}: {}", answer.text);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_a_disk_that_fails_in_the_middle_signs_nothing_and_goes_on_when_it_works_again() {
    use crate::layer::Layer;
    for (fault, way_out) in [
        ("full", "Make room on the disk"),
        ("short", "Make room on the disk"),
        ("readonly", "Check the disk"),
        ("broken", "Check the disk"),
        ("sync", "Check the disk"),
    ] {
        let world = world().await;
        let layer = Layer::under(&world);
        let mut agent = Agent::start(&layer.env(&Env::of(&world)), NEWEST).await;
        let id = agent.open("sim-llm", "1", "4h").await;
        agent.ok("drain_chat", chat(&id, "before")).await;
        let before = (vouchers(&world.sandbox.llm).len(), world.sent().await);
        layer.fail(fault);
        for text in ["one", "two"] {
            let refused = agent.fails("drain_chat", chat(&id, text), "journal_failed").await;
            says_it_all(&refused, way_out);
            assert!(refused.text.contains(journal(&world).to_str().unwrap()), "{fault}: {}", refused.text);
        }
        let open = json!({ "provider": "sim-weather", "amount": "1", "duration": "4h" });
        agent.fails("drain_open_channel", open.clone(), "journal_failed").await;
        agent.fails("drain_cooperative_close", json!({ "channelId": id }), "journal_failed").await;
        assert_eq!((vouchers(&world.sandbox.llm).len(), world.sent().await), before, "{fault}: nothing left");

        layer.heal();
        agent.ok("drain_chat", chat(&id, "after")).await;
        agent.ok("drain_open_channel", open).await;
        audit_vouchers(&world);
        // A journal that was hurt is sound: the next process reads it.
        agent.kill().await;
        let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
        agent.ok("drain_chat", chat(&id, "and later")).await;
        agent.ok("drain_cooperative_close", json!({ "channelId": id })).await;
        audit_vouchers(&world);
        assert_eq!(agent.leave().await.code, Some(0), "{fault}");
    }
}

/// What was answered belongs to the caller, and what cannot be recorded of it stays reserved.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_a_disk_that_fails_while_a_provider_works_loses_no_answer_and_keeps_the_reservation() {
    use crate::layer::Layer;
    let world = world().await;
    let layer = Layer::under(&world);
    let mut agent = Agent::start(&layer.env(&Env::of(&world)), NEWEST).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    world.sandbox.llm.set(|faults| faults.slow = Some(std::time::Duration::from_millis(300)));
    let asked = agent.ask("tools/call", json!({ "name": "drain_chat", "arguments": chat(&id, "hello") })).await;
    until("the provider has it", async || vouchers(&world.sandbox.llm).len() == 1).await;
    layer.fail("full");
    let answer = Answer::of(agent.answer(asked).await.unwrap());
    assert!(!answer.is_error, "{}", answer.text);
    // Nothing more can be recorded.
    agent.fails("drain_chat", chat(&id, "more"), "journal_failed").await;
    agent.kill().await;
    layer.heal();
    world.sandbox.llm.reset_faults();
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let status = agent.ok("drain_channel_status", json!({ "channelId": id })).await;
    assert_ne!(status.data["in_flight"], "0.00", "{}", status.text);
    agent.ok("drain_chat", chat(&id, "later")).await;
    audit_vouchers(&world);
    agent.leave().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_a_disk_that_refuses_at_the_start_keeps_money_still_and_discovery_going() {
    use crate::layer::Layer;
    for (fault, way_out) in
        [("denied", "Let this user write"), ("full", "Make room"), ("readonly", "Let this user write")]
    {
        let world = world().await;
        let layer = Layer::under(&world);
        layer.fail(fault);
        let mut agent = Agent::start(&layer.env(&Env::of(&world)), NEWEST).await;
        agent.ok("drain_providers", json!({})).await;
        let open = json!({ "provider": "sim-llm", "amount": "1" });
        let refused = agent.fails("drain_open_channel", open.clone(), "journal_failed").await;
        says_it_all(&refused, way_out);
        assert!(refused.text.contains(folder(&world).to_str().unwrap()), "{}", refused.text);
        assert_eq!(world.sent().await, 0);
        agent.leave().await;
        layer.heal();
        let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
        agent.ok("drain_open_channel", open).await;
        agent.leave().await;
    }
}

/// A world in which money has moved, its files at rest in one piece, and the channel that still pays.
pub async fn history(world: &World) -> String {
    let mut agent = Agent::start(&Env::of(world), NEWEST).await;
    let first = agent.open("sim-llm", "1", "4h").await;
    agent.ok("drain_chat", chat(&first, "hello")).await;
    agent.ok("drain_cooperative_close", json!({ "channelId": first })).await;
    let id = agent.open("sim-llm", "1", "4h").await;
    for _ in 0..5 {
        agent.ok("drain_chat", chat(&id, "hello")).await;
    }
    agent.kill().await;
    // The last connection copies the log and removes it.
    world.journaled("SELECT COUNT(*) FROM channels");
    assert!(!log(world).exists() && journal(world).exists());
    id
}

/// More of it, ended by a kill, so that the log holds what the database does not.
async fn more(world: &World, id: &str) {
    let mut agent = Agent::start(&Env::of(world), NEWEST).await;
    for _ in 0..3 {
        agent.ok("drain_chat", chat(id, "more")).await;
    }
    agent.kill().await;
    assert!(fs::metadata(log(world)).unwrap().len() > 10_000);
}

/// What a bit must not change unseen.
fn money(path: &Path) -> Result<Vec<String>, rusqlite::Error> {
    let db = Connection::open(path)?;
    let mut statement = db.prepare(
        "SELECT quote(intent) || quote(state) || quote(signed) || quote(nonce) || quote(charged) || quote(recovered) || \
         (SELECT COUNT(*) || quote(SUM(bound)) FROM vouchers v WHERE v.intent = c.intent AND v.state = 'in_flight') FROM channels c ORDER BY intent",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// A flipped bit in each page, at many places: found before anything is signed, or of no weight for the money. The file
/// is left as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_a_flipped_bit_is_found_or_changes_no_books() {
    let world = world().await;
    history(&world).await;
    let bytes = fs::read(journal(&world)).unwrap();
    let before = money(&journal(&world)).unwrap();
    let (mut found, mut harmless) = (0, 0);
    let home = tempfile::tempdir().unwrap();
    // A prime, so that every kind of place in a page has its turn; and all of the numbers that follow a channel's id.
    let ids = bytes
        .windows(66)
        .enumerate()
        .filter(|(_, text)| text.starts_with(b"0x") && text[2..].iter().all(u8::is_ascii_hexdigit));
    let numbers: Vec<usize> =
        ids.flat_map(|(at, _)| at + 66..(at + 106).min(bytes.len())).flat_map(|at| [at, at]).collect();
    assert!(numbers.len() >= 2 * 2 * 40, "{}", numbers.len());
    for (turn, place) in (0..bytes.len()).step_by(127).chain(numbers).enumerate() {
        let folder = home.path().join(turn.to_string());
        fs::create_dir(&folder).unwrap();
        let path = folder.join("journal.db");
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (turn % 8);
        fs::write(&path, &flipped).unwrap();
        match journal::take(&Location::new(folder.clone())).and_then(|hold| Journal::open(hold.unwrap())) {
            Ok(journal) => {
                drop(journal);
                assert_eq!(money(&path).unwrap(), before, "byte {place} of {}", bytes.len());
                harmless += 1;
            }
            Err(error) => {
                let failure = Failure::from(error);
                assert!(failure.message.contains(path.to_str().unwrap()), "{failure:?}");
                assert!(!failure.next.is_empty());
                let after = fs::read(&path).unwrap();
                assert!(after == flipped, "byte {place}: a damaged file is left as it is: {failure:?}");
                found += 1;
            }
        }
        fs::remove_dir_all(folder).unwrap();
    }
    println!("{found} flipped bits found, {harmless} without weight");
    assert!(found > 30 && harmless > 100);
}

/// What was done to the files.
type Harm = fn(&World);

fn damaged() -> BTreeMap<&'static str, Harm> {
    BTreeMap::from([
        ("cut in half", (|world: &World| cut(&journal(world), 2)) as Harm),
        ("cut to a part of its head", |world| cut(&journal(world), 1_000)),
        ("emptied", |world| fs::write(journal(world), "").unwrap()),
        ("text", |world| fs::write(journal(world), "not a database, but long enough to be one").unwrap()),
        ("zeros", |world| fs::write(journal(world), vec![0; 40_960]).unwrap()),
        ("another program's", |world| {
            fs::remove_file(journal(world)).unwrap();
            Connection::open(journal(world))
                .unwrap()
                .execute_batch("CREATE TABLE t (a); PRAGMA user_version = 3")
                .unwrap();
        }),
        ("a number changed", |world| {
            let db = Connection::open(journal(world)).unwrap();
            db.execute_batch("UPDATE channels SET signed = signed + 1000 WHERE state = 'open'").unwrap();
        }),
    ])
}

fn cut(path: &Path, parts: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / parts).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_a_damaged_journal_signs_nothing_and_is_left_as_it_is() {
    for (what, harm) in damaged() {
        let world = world().await;
        let id = history(&world).await;
        harm(&world);
        let left = fs::read(journal(&world)).unwrap();
        let before = (vouchers(&world.sandbox.llm).len(), world.sent().await);
        let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
        agent.ok("drain_providers", json!({})).await;
        let refused = agent.fails("drain_chat", chat(&id, "hello"), "journal_failed").await;
        assert!(refused.text.contains(journal(&world).to_str().unwrap()), "{what}: {}", refused.text);
        for part in ["Nothing is signed", "drain-mcp journal import", "drain-mcp channels recover"] {
            assert!(refused.text.contains(part), "{what}: {part}: {}", refused.text);
        }
        agent.fails("drain_open_channel", json!({ "provider": "sim-llm", "amount": "1" }), "journal_failed").await;
        agent.leave().await;
        assert_eq!((vouchers(&world.sandbox.llm).len(), world.sent().await), before, "{what}");
        assert!(fs::read(journal(&world)).unwrap() == left, "{what}: the file is left as it is");
    }
}

/// M2: where something is missing, numbers go on above all that were ever used, and no consent of the provider is asked.
async fn goes_on_recovered(world: &World, what: &str, id: &str) {
    let mut agent = Agent::start(&Env::of(world), NEWEST).await;
    let listed = agent.ok("drain_channels", json!({})).await;
    let channel =
        listed.data["channels"].as_array().unwrap().iter().find(|channel| channel["channel_id"] == id).cloned();
    let channel = channel.unwrap_or_else(|| panic!("{what}: {}", listed.text));
    assert_eq!(channel["recovered"], Value::Bool(true), "{what}: {channel}");
    agent.ok("drain_chat", chat(id, "after it")).await;
    agent.fails("drain_cooperative_close", json!({ "channelId": id }), "close_refused").await;
    let ended = agent.leave().await;
    assert!(
        ended.stderr.contains("recovered channels") && ended.stderr.contains("drain-mcp channels recover"),
        "{what}: {}",
        ended.stderr
    );
    let sent: Vec<_> = vouchers(&world.sandbox.llm).into_iter().filter(|request| request.channel == id).collect();
    let (last, before) = sent.split_last().unwrap();
    assert!(before.iter().all(|request| request.nonce < last.nonce), "{what}: a number was used again");
    assert!(last.outcome.starts_with("billed"), "{what}: {}", last.outcome);
    // What was signed in the meantime is nobody's to know: what this journal holds as signed is kept to, and what the
    // provider holds as owed is paid.
    let signed = usdc(channel["signed"].as_str().unwrap()).units();
    let owed = world.sandbox.llm.books(id.parse().unwrap()).unwrap().total_charged;
    assert!(last.amount >= Some(signed.max(owed)), "{what}: {last:?}, signed {signed}, owed {owed}");
    // The next start finds nothing new to say, and the notice stays for a person.
    let mut agent = Agent::start(&Env::of(world), NEWEST).await;
    agent.ok("drain_chat", chat(id, "once more")).await;
    assert!(!agent.leave().await.stderr.contains("recovered channels"), "{what}: said once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_an_older_copy_put_back_is_noticed_and_its_channels_are_recovered() {
    let world = world().await;
    let id = history(&world).await;
    let older = fs::read(journal(&world)).unwrap();
    more(&world, &id).await;
    let newer = {
        world.journaled("SELECT COUNT(*) FROM channels");
        fs::read(journal(&world)).unwrap()
    };
    fs::write(journal(&world), older).unwrap();
    goes_on_recovered(&world, "an older copy", &id).await;
    // And the newer one again: it knows nothing of what was signed since.
    world.journaled("SELECT COUNT(*) FROM channels");
    fs::write(journal(&world), newer).unwrap();
    goes_on_recovered(&world, "the newer one again", &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_a_log_that_was_lost_is_noticed_and_its_channels_are_recovered() {
    let harms: [(&str, Harm); 4] = [
        ("deleted", |world| fs::remove_file(log(world)).unwrap()),
        ("emptied", |world| fs::write(log(world), "").unwrap()),
        ("cut in half", |world| cut(&log(world), 2)),
        ("its head overwritten", |world| {
            let mut bytes = fs::read(log(world)).unwrap();
            bytes[..32].fill(0x55);
            fs::write(log(world), bytes).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let world = world().await;
        let id = history(&world).await;
        more(&world, &id).await;
        harm(&world);
        goes_on_recovered(&world, what, &id).await;
    }
}

/// The log of another journal is replayed by SQLite without a question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_the_log_of_another_journal_is_noticed() {
    let (other, world) = (world().await, world().await);
    let others = history(&other).await;
    more(&other, &others).await;
    let id = history(&world).await;
    fs::copy(log(&other), log(&world)).unwrap();
    let before = (vouchers(&world.sandbox.llm).len(), world.sent().await);
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    let answer = agent.call("drain_chat", chat(&id, "hello")).await;
    // Damaged, or another journal in whole, whose channels are not this world's.
    if answer.is_error {
        assert_eq!((vouchers(&world.sandbox.llm).len(), world.sent().await), before, "{}", answer.text);
        assert!(
            ["journal_failed", "unknown_channel"].contains(&answer.data["code"].as_str().unwrap()),
            "{}",
            answer.text
        );
    }
    let ended = agent.leave().await;
    if answer.data["code"] != "journal_failed" {
        assert!(ended.stderr.contains("recovered channels"), "{}", ended.stderr);
    }
    let sent = vouchers(&world.sandbox.llm);
    assert!(
        sent.windows(2).all(|pair| pair[0].channel != pair[1].channel || pair[0].nonce < pair[1].nonce),
        "{sent:?}"
    );
}

/// A journal that is gone is not silently begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_was_deleted_is_said_with_the_command_that_finds_its_channels() {
    let world = world().await;
    let id = history(&world).await;
    fs::remove_file(journal(&world)).unwrap();
    let mut agent = Agent::start(&Env::of(&world), NEWEST).await;
    agent.fails("drain_chat", chat(&id, "hello"), "unknown_channel").await;
    let ended = agent.leave().await;
    for part in ["the one before is gone", "drain-mcp channels recover", journal(&world).to_str().unwrap()] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let doctor = Env::of(&world).run(&["doctor"]).await;
    assert!(doctor.everything().contains("the one before is gone"), "{}", doctor.everything());
}
