//! The protocol's conformance suite against `drain-mcp serve`. Its server part wants a server of fixtures: tools, resources
//! and prompts with names of its own. What needs none of them is run, at each revision that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use super::{Clients, PATIENCE, scripts};
use crate::process_harness::served::Served;
use crate::process_harness::{Ended, Env, world};

const SUITE: &str = "node_modules/@modelcontextprotocol/conformance/dist/index.js";

/// What is run.
const RUN: [&str; 13] = [
    "server-initialize",
    "server-session-lifecycle",
    "server-stateless",
    "ping",
    "tools-list",
    "server-sse-polling",
    "server-sse-multiple-streams",
    "resources-list",
    "sep-2164-resource-not-found",
    "prompts-list",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
];

/// What is left out, by the beginning of its name, and why.
const LEFT_OUT: [(&str, &str); 14] = [
    ("tools-call-", "calls tools of the suite's own"),
    ("http-custom-header-", "wants a tool with annotated headers"),
    ("json-schema-2020-12", "looks at a tool of its own"),
    ("elicitation-", "calls tools of its own"),
    ("input-required-", "calls tools and prompts of its own"),
    ("resources-read-", "reads resources of its own"),
    ("resources-templates-read", "reads a template of its own; we have none"),
    ("prompts-get-", "gets prompts of its own"),
    ("resources-subscribe", "we offer no subscriptions"),
    ("resources-unsubscribe", "we offer no subscriptions"),
    ("logging-set-level", "we offer no logging to clients"),
    ("completion-complete", "we offer no completion"),
    ("sep-2640-skills-", "we offer no skills over MCP"),
    ("tasks-", "we offer no tasks"),
];

/// Checks inside of what is run that cannot hold here, and why.
const NOT_HERE: [(&str, &str, &str); 5] = [
    ("server-stateless", "sep-2575-server-rejects-undeclared-capability", "calls a tool of the suite's own"),
    ("server-stateless", "sep-2575-missing-capability-http-400", "calls a tool of the suite's own"),
    ("server-stateless", "sep-2575-http-server-no-independent-requests-on-stream", "calls a tool of the suite's own"),
    ("server-stateless", "sep-2575-server-no-log-without-loglevel", "calls a tool of the suite's own"),
    ("server-sse-polling", "server-sse-disconnect-resume", "calls a tool of the suite's own"),
];

/// The suite, and what it talks to: a server behind a port that adds the token.
struct Suite {
    clients: Clients,
    _bearer: Child,
    url: String,
    results: tempfile::TempDir,
}

impl Suite {
    async fn run(&self, args: &[&str]) -> Ended {
        let home = Env::default().with("HOME", self.results.path().display().to_string());
        let mut suite = self.clients.node(&home, SUITE);
        suite.args(args);
        Ended::of(suite, "", PATIENCE).await
    }

    /// The server scenarios with the dated revisions that each is for.
    async fn scenarios(&self) -> BTreeMap<String, Vec<String>> {
        let listed = self.run(&["list", "--server"]).await;
        let scenario = |line: &str| {
            let (name, revisions) = line.strip_prefix("  - ")?.split_once(" [")?;
            let revisions = revisions.trim_end_matches(']').split(',').filter(|name| name.starts_with("20"));
            Some((name.to_owned(), revisions.map(str::to_owned).collect()))
        };
        listed.stdout.lines().filter_map(scenario).collect()
    }

    /// What each check of a scenario came to: its id, status and complaint.
    async fn checks(&self, scenario: &str, revision: &str) -> Vec<(String, String, String)> {
        let folder = self.results.path().join(format!("{scenario} {revision}"));
        let output = folder.display().to_string();
        let args = ["server", "--url", &self.url, "--scenario", scenario, "--spec-version", revision, "-o", &output];
        let ended = self.run(&args).await;
        let mut runs = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("{scenario} did not run: {ended:?}"));
        let file = runs.next().unwrap().unwrap().path().join("checks.json");
        let checks: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        checks.iter().map(|check| (text(check, "id"), text(check, "status"), text(check, "errorMessage"))).collect()
    }
}

/// A server, and the suite beside it.
async fn suite(env: &Env) -> (Served, Suite) {
    let clients = Clients::find();
    let mut bearer = clients.node(&Env::default(), scripts().join("bearer.mjs"));
    let mut bearer = bearer.stderr(Stdio::inherit()).spawn().unwrap();
    let mut lines = BufReader::new(bearer.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().expect("its own address");
    // A page of its own is let in where the operator names it.
    let served = Served::start(&env.clone().with("DRAIN_ALLOWED_ORIGINS", &url)).await;
    let token = served.agent("ann", &[]).await;
    let told = format!("{}\n{token}\n", served.url);
    bearer.stdin.as_mut().unwrap().write_all(told.as_bytes()).await.unwrap();
    let suite = Suite { clients, _bearer: bearer, url: format!("{url}/mcp"), results: tempfile::tempdir().unwrap() };
    (served, suite)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' clients: .ci/clients"]
async fn the_conformance_suite_holds_at_every_revision() {
    let world = world().await;
    let (served, suite) = suite(&Env::of(&world)).await;
    let scenarios = suite.scenarios().await;
    let decided = |name: &str| RUN.contains(&name) || LEFT_OUT.iter().any(|(start, _)| name.starts_with(start));
    let undecided: Vec<_> = scenarios.keys().filter(|name| !decided(name)).collect();
    assert!(undecided.is_empty(), "neither run nor left out: {undecided:?}");
    for (start, _) in LEFT_OUT {
        assert!(scenarios.keys().any(|name| name.starts_with(start)), "the suite has no {start}");
    }

    let (mut failed, mut not_here) = (Vec::new(), BTreeSet::new());
    for scenario in RUN {
        for revision in &scenarios[scenario] {
            let checks = suite.checks(scenario, revision).await;
            assert!(checks.iter().any(|(_, status, _)| status == "SUCCESS"), "{scenario} {revision}: {checks:?}");
            for (id, status, why) in checks {
                println!("{revision} {scenario} {id}: {status} {why}");
                match status.as_str() {
                    // Skipped is what a server need not have: notifications of changes.
                    "SUCCESS" | "INFO" | "SKIPPED" => {}
                    _ if NOT_HERE.iter().any(|(of, check, _)| *of == scenario && *check == id) => {
                        not_here.insert(id);
                    }
                    _ => failed.push(format!("{revision} {scenario} {id}: {status} {why}")),
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(not_here.len(), NOT_HERE.len(), "some of these hold by now: {not_here:?}");
    served.stop().await;
}
