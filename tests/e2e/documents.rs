//! What documents tell a reader to type: every command of ours is one of the program, with its flags and values; and all
//! that can be tried on a sandbox is run, in each document's own order.

mod reader;

use std::process::Stdio;

use clap::Parser;
use clap::error::ErrorKind;
use drain_mcp::cli::Cli;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use self::reader::{Line, invocations, pages};
use crate::process_harness::served::Served;
use crate::process_harness::{Env, PATIENCE, PROGRAM};

/// Commands that are not run here: how they begin, in any document or in one, and why or by which test instead.
const NOT_HERE: [(&str, &str); 48] = [
    ("cargo run --release --locked -- demo", "the tests `demo` run it"),
    ("drain-mcp demo", "the tests `demo` run it"),
    ("cargo test", "it is how this runs"),
    ("cargo install", "builds a release"),
    ("cargo build", "builds a release"),
    ("cargo deny", ".ci/run checks it"),
    ("DRAIN_SOAK_MINUTES=", "the tests `soak` are it"),
    ("DRAIN_TEST_LEDGER=", "needs somebody else's emulator"),
    ("pip install", ".ci/run starts it"),
    ("export DRAIN_TEST_KMS=", ".ci/run sets it"),
    ("drain-mcp console", "serves until Ctrl-C: the tests `console`"),
    ("export DRAIN_CONSOLE_TOKEN=", "only for a server with a console: the tests `console`"),
    ("drain-mcp wallet new", "asks a person at a terminal: the tests `wallet`"),
    ("drain-mcp approvals passphrase", "asks a person at a terminal: the tests `approvals`"),
    ("drain-mcp approvals approve", "asks a person for the passphrase: the tests `approvals`"),
    ("drain-mcp install --client claude-code ", "asks a person at a terminal: the tests `install`"),
    ("drain-mcp uninstall", "asks a person at a terminal: the tests `install`"),
    ("drain-mcp wallet sweep", "asks a person at a terminal: the tests `treasury`"),
    ("drain-mcp wallet fund", "asks a person at a device: the tests `treasury`"),
    ("drain-mcp wallet ledger list", "needs a Ledger: the tests `ledger`"),
    ("drain-mcp sandbox --ledger", "needs somebody who presses: the tests `ledger`"),
    ("export DRAIN_TREASURY=ledger", "needs a Ledger: the tests `treasury`"),
    ("export DRAIN_SIGNER=ledger", "needs a Ledger: the tests `ledger`"),
    ("export DRAIN_LEDGER_ADDRESS=", "needs a Ledger: the tests `ledger`"),
    ("DRAIN_KEYSTORE_PASSWORD_COMMAND=", "needs a keyring; no command, but a setting"),
    ("drain-mcp journal prepare", "needs PostgreSQL: the tests `replicas`"),
    ("curl http://10.0.0.5", "asks a replica: the tests `replicas`"),
    ("aws kms create-key", "needs an account at AWS"),
    ("export DRAIN_KMS_KEY_ID=", "needs AWS: the tests `kms`"),
    ("drain-mcp wallet address     # asks KMS", "needs AWS: the tests `kms`"),
    ("export DRAIN_KMS_ADDRESS=", "needs AWS: the tests `kms`"),
    ("claude mcp add", "needs Claude Code"),
    ("npm uninstall", "takes a program off the machine"),
    ("install -m 600 /dev/stdin", "a person types the password"),
    ("cp ~/.drain-mcp/channels.json", "the file of another program"),
    ("sudo ", "needs root"),
    ("packaging/README.md: curl ", "asks the service that systemd started"),
    ("cd dashboards", "only for Prometheus"),
    ("prometheus --config", "needs Prometheus: the tests `dashboards`"),
    ("q() {", "asks Prometheus: the tests `dashboards`"),
    ("q '", "asks Prometheus: the tests `dashboards`"),
    ("curl -s http://127.0.0.1:9090", "asks Prometheus: the tests `dashboards`"),
    ("cargo bench", "measures for minutes"),
    ("DRAIN_TEST_POSTGRES=", "measures for minutes"),
    ("export DRAIN_AUTO_OPEN=", "of the server that is started next: the tests `gateway`"),
    ("DRAIN_HOME=fleet drain-mcp", "for a cluster"),
    ("docker ", "needs Docker"),
    ("kubectl ", "needs a cluster"),
];

/// What else a line that is run may begin with.
const HARMLESS: [&str; 4] = ["curl ", "for n in ", "ID=", "echo "];

/// What stands for what a reader puts in himself, whose values have a form: examples, and where the reader finds his own.
const PLACEHOLDERS: [(&str, &str, &str, &str); 4] = [
    (
        "CHANNEL",
        "0x1359e96ae8c4bea25526d161e80d05f81e0083dd918f699ccaa2dccec2d69bb3",
        "channels",
        "/channels/0/channel_id",
    ),
    ("ADDRESS", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "balance", "/address"),
    ("REQUEST", "049588ee8ca8a86c", "audit", "/rows/0/request"),
    ("ID", "049588ee8ca8a86c", "audit", "/rows/0/request"),
];
/// What may be anything, and is this.
const CHOSEN: [(&str, &str); 4] =
    [("PROVIDER", "sim-llm"), ("MODEL", "sim-small"), ("NAME", "cid"), ("FILE", "$HOME/channels-of-another.json")];

#[test]
fn every_command_in_a_document_is_one_of_the_program() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let lines = page.lines.iter().map(|line| (&line.text, true));
        for (text, whole) in lines.chain(page.quoted.iter().map(|text| (text, false))) {
            for mut words in invocations(text) {
                seen += 1;
                for word in &mut words {
                    if let Some((_, example, ..)) = PLACEHOLDERS.iter().find(|(name, ..)| name == word) {
                        *word = (*example).to_owned();
                    }
                }
                match Cli::try_parse_from(&words).map_err(|error| error.kind()) {
                    Ok(_) | Err(ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {}
                    // A sentence may name a command without all that it takes.
                    Err(
                        ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::InvalidValue
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                    ) if !whole => {}
                    // What `drain-mcp --version` says.
                    Err(ErrorKind::InvalidSubcommand) if !whole && words[1] == env!("CARGO_PKG_VERSION") => {}
                    Err(kind) => wrong.push(format!("{}: {text}: {words:?}: {kind:?}", page.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 100, "only {seen} commands were found");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_documents_run_in_their_order() {
    let mut wrong = Vec::new();
    let mut run = 0;
    for page in pages() {
        let here = |line: &&Line| {
            let placed = format!("{}: {}", page.name, line.text);
            !NOT_HERE.iter().any(|(start, _)| line.text.starts_with(start) || placed.starts_with(start))
        };
        let lines: Vec<&Line> = page.lines.iter().filter(here).collect();
        if lines.is_empty() {
            continue;
        }
        let mut reader = Reader::start().await;
        let mut section = &lines[0].section;
        for line in &lines {
            if line.section != *section {
                // A new section is read by somebody who has stopped what the one before left running.
                reader.stop_serving().await;
                section = &line.section;
            }
            run += 1;
            if let Err(problem) = reader.types(&line.command).await {
                wrong.push(format!("{} ({section}): {}: {problem}", page.name, line.text));
            }
        }
        reader.leave().await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(run > 40, "only {run} commands were run");
}

/// A person with a shell and a sandbox, who types what a document says.
struct Reader {
    home: TempDir,
    env: Env,
    sandbox: Child,
    served: Option<Served>,
    shell: Child,
    stdin: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = std::path::Path::new(PROGRAM).parent().unwrap().display().to_string();
        let base = Env::default()
            .with("HOME", home.path().display().to_string())
            .with("TMPDIR", home.path().display().to_string())
            .with("PATH", format!("{folder}:/usr/local/bin:/usr/bin:/bin"));
        let mut sandbox = base.command(&["sandbox", "--json"]).stderr(Stdio::inherit()).spawn().unwrap();
        let told = BufReader::new(sandbox.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        let pairs = told["env"].as_object().expect("its environment").iter();
        let env = pairs.fold(base, |env, (name, value)| env.with(name, value.as_str().unwrap()));
        let env = env.with("DRAIN_POLL_INTERVAL", "200ms");
        std::fs::write(home.path().join("channels-of-another.json"), json!({}).to_string()).unwrap();
        let mut bash = env.program("bash");
        bash.args(["--noprofile", "--norc"]).current_dir(home.path()).stderr(Stdio::null());
        let mut shell = bash.spawn().unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        // Nobody waits between two commands here.
        stdin.write_all(b"exec 2>&1\nsleep() { :; }\n").await.unwrap();
        let said = BufReader::new(shell.stdout.take().unwrap()).lines();
        // Somebody who reads on has a channel and has paid.
        let first =
            ["chat", "sim-llm", "--model", "sim-small", "Say hello", "--max-deposit", "0.50", "--duration", "2h"];
        assert_eq!(env.run(&first).await.code, Some(0));
        Self { home, env, sandbox, served: None, shell, stdin, said }
    }

    /// Types a command; what it said if it failed.
    async fn types(&mut self, command: &str) -> Result<(), String> {
        match command {
            // It runs already, and its environment is this one.
            "drain-mcp sandbox" => return Ok(()),
            "drain-mcp serve" => {
                self.served = Some(Served::start(&self.env).await);
                return Ok(());
            }
            _ if command.starts_with("drain-mcp ") || HARMLESS.iter().any(|start| command.starts_with(start)) => {}
            _ => return Err("is neither run nor in NOT_HERE".into()),
        }
        let mut command = self.filled(command).await;
        if let Some(served) = &self.served {
            command = command.replace("http://127.0.0.1:5858", &served.url);
        }
        let (code, said) = self.runs(&command).await;
        println!("$ {command}\n{said}");
        if code == 0 { Ok(()) } else { Err(format!("ended with {code}: {said}")) }
    }

    /// The same with values for its placeholders.
    async fn filled(&mut self, command: &str) -> String {
        let mut words = Vec::new();
        for word in command.split(' ') {
            let chosen = CHOSEN.iter().find(|(name, _)| *name == word);
            words.push(match PLACEHOLDERS.iter().find(|(name, ..)| *name == word) {
                Some((_, _, command, pointer)) => self.looks_up(command, pointer).await,
                None => chosen.map_or(word, |(_, value)| value).to_owned(),
            });
        }
        words.join(" ")
    }

    async fn looks_up(&self, command: &str, pointer: &str) -> String {
        let told = self.env.run(&[command, "--json"]).await.ok_json();
        told.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} in {told}")).to_owned()
    }

    async fn runs(&mut self, command: &str) -> (i32, String) {
        const END: &str = "-- ended with ";
        self.stdin
            .write_all(format!("{{ {command}\n}} < /dev/null; code=$?; echo; echo '{END}'$code\n").as_bytes())
            .await
            .unwrap();
        let mut said = String::new();
        let answer = async {
            loop {
                let line = self.said.next_line().await.unwrap().expect("the shell goes on");
                if let Some(code) = line.strip_prefix(END) {
                    return code.parse().unwrap();
                }
                said.push_str(&line);
                said.push('\n');
            }
        };
        let code = tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{command} does not end"));
        (code, said)
    }

    async fn stop_serving(&mut self) {
        if let Some(served) = self.served.take() {
            served.stop().await;
        }
    }

    async fn leave(mut self) {
        self.stop_serving().await;
        drop(self.stdin);
        assert!(self.shell.wait().await.unwrap().success());
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.sandbox.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.sandbox.wait().await.unwrap();
        drop(self.home);
    }
}
