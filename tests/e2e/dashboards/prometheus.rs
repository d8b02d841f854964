//! A real Prometheus that scrapes what a test serves. `DRAIN_TEST_PROMETHEUS` is its program; `.ci/run` installs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde_json::{Value, json};

use crate::metrics::free_port;
use crate::process_harness::served::client;
use crate::process_harness::until;

/// What is checked in.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

pub const RULES: [&str; 2] = ["rules/recording.yml", "rules/alerts.yml"];

/// Looks every second, where operators look every 15. The rules are those that are checked in, but that little is waited
/// for: what an alert holds `for` becomes three seconds, and windows of two minutes become ten seconds.
const CONFIG: &str = "\
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [recording.yml, alerts.yml]
scrape_configs:
  - job_name: drain-mcp
    file_sd_configs: [{ files: [targets.json], refresh_interval: 1s }]
";

fn program() -> PathBuf {
    std::env::var_os("DRAIN_TEST_PROMETHEUS")
        .map(Into::into)
        .expect("DRAIN_TEST_PROMETHEUS is Prometheus' program; see .ci/run")
}

/// What promtool says.
pub fn promtool(args: &[&str], input: &str) -> Output {
    let beside = || program().with_file_name("promtool");
    let tool = std::env::var_os("DRAIN_TEST_PROMTOOL").map_or_else(beside, Into::into);
    let mut child = Command::new(tool)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, beside prometheus or DRAIN_TEST_PROMTOOL");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A running Prometheus; dropping it ends it.
pub struct Prometheus {
    process: Child,
    url: String,
    files: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Starts it, with these to look at.
    pub async fn start(targets: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let place = |name: &str| files.path().join(name);
        for path in RULES {
            let text = std::fs::read_to_string(folder().join(path)).unwrap();
            let lines = text.replace("[2m]", "[10s]");
            let short = lines.lines().map(|line| match line.split_once("for: ") {
                Some((before, _)) if before.trim().is_empty() => format!("{before}for: 3s\n"),
                _ => format!("{line}\n"),
            });
            std::fs::write(place(path.trim_start_matches("rules/")), short.collect::<String>()).unwrap();
        }
        std::fs::write(place("prometheus.yml"), CONFIG).unwrap();
        std::fs::write(place("targets.json"), listed(targets)).unwrap();
        let checked = promtool(&["check", "config", &place("prometheus.yml").display().to_string()], "");
        assert!(checked.status.success(), "{checked:?}");
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new(program())
            .env_clear()
            .arg(format!("--config.file={}", place("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", place("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(place("log")).unwrap())
            .spawn()
            .expect("DRAIN_TEST_PROMETHEUS is a program");
        let started = Self { process, url: format!("http://{address}"), files };
        until("Prometheus is ready", async || {
            let answer = client().get(format!("{}/-/ready", started.url)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        started
    }

    /// Looks at these from now on.
    pub fn look_at(&self, targets: &[&str]) {
        // At once, so that no half of it is read.
        let new = self.files.path().join("new");
        std::fs::write(&new, listed(targets)).unwrap();
        std::fs::rename(new, self.files.path().join("targets.json")).unwrap();
    }

    /// What its API answers, with what it says of itself where that is no success.
    pub async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), query).unwrap();
        let answer = client().get(url).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{path} {query:?}: {answer}");
        answer["data"].clone()
    }

    /// What a query gives now: series, and a number each.
    pub async fn now(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.ask("query", &[("query", query)]).await;
        let series = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
        series.iter().map(|series| (series["metric"].clone(), number(&series["value"]))).collect()
    }

    /// Every number that a query gave in the last minutes.
    pub async fn lately(&self, query: &str) -> Vec<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (from, to) = ((now - 600).to_string(), now.to_string());
        let asked = [("query", query), ("start", &from), ("end", &to), ("step", "1")];
        let data = self.ask("query_range", &asked).await;
        let series = data["result"].as_array().unwrap();
        series.iter().flat_map(|series| series["values"].as_array().unwrap()).map(number).collect()
    }
}

fn listed(targets: &[&str]) -> String {
    json!([{ "targets": targets }]).to_string()
}

/// Of `[time, "number"]`.
fn number(sample: &Value) -> f64 {
    sample[1].as_str().unwrap().parse().unwrap()
}
