//! A node of somebody else's making, one per world: anvil. `DRAIN_TEST_ANVIL` is its program; `.ci/run` installs it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::World;

/// Chooses the chain of every world of this process: `anvil`, or our own without it.
pub const CHAIN: &str = "DRAIN_TEST_CHAIN";

/// A running anvil; dropping it ends it.
pub struct Node {
    process: Child,
    pub url: String,
}

impl Node {
    /// Every block is final at once, as on the sandbox's own chain.
    pub fn start(chain_id: u64) -> Self {
        Self::start_with(chain_id, &[])
    }

    /// Tempo's kind of chain, with a block each second. Its rich account is none of ours.
    pub fn tempo(chain_id: u64) -> Self {
        Self::start_with(chain_id, &["--network", "tempo", "--block-time", "1", "--mnemonic-seed-unsafe", "7"])
    }

    fn start_with(chain_id: u64, more: &[&str]) -> Self {
        let program = std::env::var_os("DRAIN_TEST_ANVIL").expect("DRAIN_TEST_ANVIL is anvil's program; see .ci/run");
        let mut process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0", "--slots-in-an-epoch", "0"])
            .args(["--accounts", "1", "--chain-id", &chain_id.to_string()])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.strip_prefix("Listening on ")?.to_owned()));
        // Its log is read on, so that it never waits for a reader.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, url: format!("http://{}", address.expect("anvil did not start")) }
    }

    /// One for this world, if the process's worlds live on anvil.
    pub fn wanted(chain_id: u64) -> Option<Self> {
        (std::env::var_os(CHAIN)? == "anvil").then(|| Self::start(chain_id))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How a test says that it plays with what only our own chain has: faults of the node, reorganisations, held
/// transactions, counts of requests.
pub const OWN_CHAIN: &str = "this test plays with the switches of our own chain";

/// The tests of this program once more, on anvil. One may fail only by saying that it needs our own chain.
#[test]
#[ignore = "needs anvil"]
fn the_same_tests_pass_on_anvil() {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let output = tests.env(CHAIN, "anvil").env("RUST_BACKTRACE", "0").args(["--test-threads", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<&str> = text.split("\n---- ").skip(1).filter(|report| !report.contains(OWN_CHAIN)).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n---- "));
    let result = text.lines().rev().find(|line| line.starts_with("test result:")).expect("the tests did not end");
    let passed = result.split(' ').zip(result.split(' ').skip(1)).find(|(_, word)| word.starts_with("passed"));
    let passed: usize = passed.unwrap().0.parse().unwrap();
    assert!(passed >= 140, "only {passed} tests ran on anvil");
}

/// A world on anvil, whatever the others live on.
pub async fn world(config: drain_sandbox::SandboxConfig) -> World {
    World::on(Some(Node::start(config.chain.chain_id)), config).await
}
