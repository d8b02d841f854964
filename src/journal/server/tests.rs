//! The journal's own tests once more, on a server.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use super::super::db::{Db, params};
use super::super::location::TEST_SERVER;
use super::super::{Location, schema, take};
use super::{AnswersTable, Server, prepare};
use crate::answers::AnswerId;

#[allow(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../../../tests/postgres/server.rs"]
mod server;

/// What only a file has: copies, pages, the mark of an older file put back.
const OF_A_FILE: [&str; 3] = ["journal::backup_tests", "journal::writer::tests", "journal::repeats::tests::a_copy"];

#[test]
#[ignore = "needs postgres"]
fn the_same_tests_pass_on_a_server() {
    let server = server::Server::start();
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.env(TEST_SERVER, server.url(server::OWNER)).args(["journal::", "--test-threads", "4"]);
    for skipped in OF_A_FILE {
        tests.args(["--skip", skipped]);
    }
    let output = tests.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let result = text.lines().rev().find(|line| line.starts_with("test result:")).expect("the tests did not end");
    let passed = result.split(' ').zip(result.split(' ').skip(1)).find(|(_, word)| word.starts_with("passed"));
    let passed: usize = passed.unwrap().0.parse().unwrap();
    assert!(passed >= 40, "only {passed} tests ran on a server: {result}");
}

/// What only one of the two has: who holds the journal, and what stands in files of their own beside a file.
const OF_ONE: [&str; 8] = [
    "identity.only",
    "identity.cluster",
    "identity.fence",
    "identity.leased_until",
    "identity.address",
    "identities.id",
    "schema_version.",
    "answers.",
];

/// A step of one database that the other one was not given would be found by a runtime, with somebody's money in it.
#[test]
#[ignore = "needs postgres"]
fn both_databases_have_the_same_tables_and_columns() {
    let (home, server) = (tempfile::tempdir().unwrap(), server::Server::start());
    let location = Location::new(home.path().into());
    drop(take(&location).unwrap());
    drop(schema::open(home.path()).unwrap());
    let file = rusqlite::Connection::open(location.file()).unwrap();
    let of_the_file = columns(
        &(&file).into(),
        "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
    );
    let reached = Server::parse(&server.url(server::OWNER), Duration::from_secs(10)).unwrap();
    prepare(&reached, "drain_test", None).unwrap();
    let session = reached.session("drain_test").unwrap();
    let of_the_server = columns(
        &Db::Postgres(&session),
        "SELECT CAST(table_name AS TEXT) || '.' || CAST(column_name AS TEXT) FROM information_schema.columns WHERE table_schema = 'drain_test'",
    );
    assert!(of_the_file.len() > 100);
    assert_eq!(of_the_file, of_the_server);
}

fn columns(db: &Db<'_>, query: &str) -> BTreeSet<String> {
    let found = db.prepare_cached(query).unwrap().query_map(params![], |row| row.get(0)).unwrap();
    found.into_iter().filter(|column: &String| !OF_ONE.iter().any(|one| column.starts_with(one))).collect()
}

#[test]
#[ignore = "needs postgres"]
fn m4_who_takes_a_journal_hears_the_servers_clock() {
    let (home, server) = (tempfile::tempdir().unwrap(), server::Server::start());
    let reached = Server::parse(&server.url(server::OWNER), Duration::from_secs(10)).unwrap();
    let wallet = drain_protocol::Address::repeat_byte(7);
    let hold = take(&Location::new(home.path().into()).on(reached, 137, wallet)).unwrap().unwrap();
    let now: u64 = server.sql("drain", &format!("SELECT drain_137_{wallet:#x}.unixepoch()")).parse().unwrap();
    assert!(hold.server_time().is_some_and(|heard| (now - 5..=now).contains(&heard)));
}

#[test]
#[ignore = "needs postgres"]
fn answers_are_kept_for_their_time_and_their_size() {
    let server = server::Server::start();
    let reached = Server::parse(&server.url(server::OWNER), Duration::from_secs(10)).unwrap();
    let wallet = drain_protocol::Address::repeat_byte(7);
    prepare(&reached, &format!("drain_137_{wallet:#x}"), None).unwrap();
    let table = AnswersTable::new(reached, format!("drain_137_{wallet:#x}"));
    let id = |receipt: &str| AnswerId { receipt: receipt.into(), channel: "0x01".into(), agent: "ann".into() };
    for (receipt, at) in [("c1-1", 10), ("c1-2", 20), ("c1-3", 30), ("c1-4", 40)] {
        table.keep(&id(receipt), "hash", "0123456789", at).unwrap();
    }
    let kept = || ["c1-1", "c1-2", "c1-3", "c1-4"].map(|receipt| table.find(&id(receipt), 0).unwrap().is_some());
    // The first one of a receipt stays, and nobody else's is found.
    table.keep(&id("c1-4"), "other", "another", 50).unwrap();
    assert_eq!(table.find(&id("c1-4"), 0).unwrap(), Some(("hash".into(), "0123456789".into())));
    assert_eq!(table.find(&AnswerId { agent: "bob".into(), ..id("c1-4") }, 0).unwrap(), None);
    assert_eq!(table.find(&id("c1-1"), 11).unwrap(), None, "too old");
    table.forget(15, 1_000).unwrap();
    assert_eq!(kept(), [false, true, true, true]);
    table.forget(0, 25).unwrap();
    assert_eq!(kept(), [false, false, true, true], "the newest that fit");
    // A session that broke off is made anew.
    server.down("fast");
    server.up();
    assert_eq!(kept(), [false, false, true, true]);
}
