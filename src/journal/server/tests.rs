//! The journal's own tests once more, on a server.

use std::process::Command;

use super::super::location::TEST_SERVER;

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
