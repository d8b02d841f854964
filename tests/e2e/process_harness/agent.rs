//! An MCP client of the process, in either generation of the protocol, with the person beside it.

use std::sync::{Arc, Mutex};

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult, ElicitationAction,
    ErrorData, Implementation, ProtocolVersion, ReadResourceRequestParams,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, watch};

use super::{Ended, Env, PATIENCE, SOON, collect};

/// How a client greets.
#[derive(Clone, Copy, Debug)]
pub enum Greeting {
    /// JSON-RPC lines written here, with an `initialize` of this revision.
    Lines(&'static str),
    /// JSON-RPC lines without a greeting.
    None,
    /// rmcp's client with `initialize`.
    Initialize,
    /// rmcp's client of the stateless generation: `server/discover`.
    Discover,
}

/// The person at an rmcp client, who answers every form the same way. By default nobody: the client shows no forms.
#[derive(Clone, Debug, Default)]
pub struct Human {
    /// Yes or no; `None` cannot be asked.
    pub answer: Option<bool>,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl ClientHandler for Human {
    fn get_info(&self) -> ClientConfig {
        let capabilities = match self.answer {
            Some(_) => ClientCapabilities::builder().enable_elicitation().build(),
            None => ClientCapabilities::default(),
        };
        ClientConfig::new(capabilities, Implementation::new("test", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let ElicitRequestParams::FormElicitationParams { message, .. } = request else { panic!("{request:?}") };
        self.asked.lock().unwrap().push(message);
        let content = json!({ "approve": self.answer.expect("it shows forms") });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }
}

enum Link {
    Lines { stdin: ChildStdin, incoming: mpsc::UnboundedReceiver<String>, next_id: u64 },
    Client(RunningService<RoleClient, Human>),
}

/// An MCP session with a process.
pub struct Agent {
    link: Link,
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: watch::Receiver<String>,
    /// Notifications that came while a request waited (lines only).
    pub notifications: Vec<Value>,
}

impl Agent {
    /// Starts `drain-mcp` without a command and greets it.
    pub async fn start(env: &Env, greeting: Greeting) -> Self {
        Self::start_with(env, &[], greeting).await
    }

    pub async fn start_with(env: &Env, args: &[&str], greeting: Greeting) -> Self {
        Self::start_beside(env, args, greeting, Human::default()).await
    }

    /// With a person at the client.
    pub async fn start_beside(env: &Env, args: &[&str], greeting: Greeting, human: Human) -> Self {
        let mut child = env.command(args).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = Arc::new(Mutex::new(Vec::new()));
        let incoming = lines(child.stdout.take().unwrap(), stdout.clone());
        let link = match greeting {
            Greeting::Lines(_) | Greeting::None => Link::Lines { stdin, incoming, next_id: 0 },
            Greeting::Initialize => Link::Client(client(human, incoming, stdin, ClientLifecycleMode::Initialize).await),
            Greeting::Discover => {
                let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
                Link::Client(client(human, incoming, stdin, mode).await)
            }
        };
        let mut agent = Self { link, child, stdout, stderr, notifications: Vec::new() };
        if let Greeting::Lines(version) = greeting {
            let info = json!({ "name": "test", "version": "1" });
            let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info });
            let hello = agent.request("initialize", params).await.unwrap();
            assert_eq!(hello["protocolVersion"], version);
            agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        }
        agent
    }

    /// Calls a tool.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> Answer {
        let result = match &mut self.link {
            Link::Client(client) => {
                let params = CallToolRequestParams::new(tool.to_owned())
                    .with_arguments(arguments.as_object().expect("arguments are an object").clone());
                let result = tokio::time::timeout(PATIENCE, client.call_tool(params)).await.expect("an answer in time");
                serde_json::to_value(result.unwrap()).unwrap()
            }
            Link::Lines { .. } => {
                let params = json!({ "name": tool, "arguments": arguments });
                self.request("tools/call", params).await.unwrap_or_else(|error| panic!("{tool}: {error}"))
            }
        };
        let answer = Answer::of(result);
        println!("--- {tool}\n{}\n", answer.text);
        answer
    }

    /// Calls a tool that must succeed.
    pub async fn ok(&mut self, tool: &str, arguments: Value) -> Answer {
        let answer = self.call(tool, arguments).await;
        assert!(!answer.is_error, "{}", answer.text);
        answer
    }

    /// Calls a tool that must fail with this code.
    pub async fn fails(&mut self, tool: &str, arguments: Value, code: &str) -> Answer {
        let answer = self.call(tool, arguments.clone()).await;
        assert!(answer.is_error, "{arguments}: {}", answer.text);
        assert_eq!(answer.data["code"], code, "{arguments}: {}", answer.text);
        for field in ["message", "money", "retry", "next"] {
            assert!(answer.data.get(field).is_some_and(|value| !value.is_null()), "{field}: {}", answer.data);
        }
        answer
    }

    /// Opens a channel; its id.
    pub async fn open(&mut self, provider: &str, amount: &str, duration: &str) -> String {
        let arguments = json!({ "provider": provider, "amount": amount, "duration": duration });
        let opened = self.ok("drain_open_channel", arguments).await;
        opened.data["channel"]["channel_id"].as_str().unwrap().to_owned()
    }

    pub async fn tools(&mut self) -> Vec<Value> {
        match &mut self.link {
            Link::Client(client) => {
                let tools = client.list_all_tools().await.unwrap();
                tools.iter().map(|tool| serde_json::to_value(tool).unwrap()).collect()
            }
            Link::Lines { .. } => {
                let listed = self.request("tools/list", json!({})).await.unwrap();
                listed["tools"].as_array().unwrap().clone()
            }
        }
    }

    /// Waits until it says this on stderr.
    pub async fn says(&mut self, text: &str) {
        let said = self.stderr.wait_for(|all| all.contains(text));
        let said = tokio::time::timeout(PATIENCE, said).await;
        assert!(said.is_ok_and(|said| said.is_ok()), "it never says {text:?}: {}", self.stderr.borrow().as_str());
    }

    pub async fn read(&mut self, uri: &str) -> String {
        let result = match &mut self.link {
            Link::Client(client) => {
                serde_json::to_value(client.read_resource(ReadResourceRequestParams::new(uri)).await.unwrap()).unwrap()
            }
            Link::Lines { .. } => self.request("resources/read", json!({ "uri": uri })).await.unwrap(),
        };
        result["contents"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Sends a request without waiting; its id.
    pub async fn ask(&mut self, method: &str, params: Value) -> u64 {
        let Link::Lines { next_id, .. } = &mut self.link else { panic!("lines only") };
        *next_id += 1;
        let id = *next_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        id
    }

    /// Waits for the answer to a request: its result or its error.
    pub async fn answer(&mut self, id: u64) -> Result<Value, Value> {
        loop {
            let message = self.next().await;
            if message["id"] != id {
                assert!(message.get("method").is_some() || message["id"].is_null(), "not asked for: {message}");
                self.notifications.push(message);
                continue;
            }
            return match message.get("error") {
                Some(error) => Err(error.clone()),
                None => Ok(message["result"].clone()),
            };
        }
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.ask(method, params).await;
        self.answer(id).await
    }

    pub async fn send(&mut self, message: &Value) {
        self.send_text(&format!("{message}\n")).await;
    }

    /// Any bytes.
    pub async fn send_text(&mut self, text: &str) {
        let Link::Lines { stdin, .. } = &mut self.link else { panic!("lines only") };
        stdin.write_all(text.as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// The next message.
    pub async fn next(&mut self) -> Value {
        let Link::Lines { incoming, .. } = &mut self.link else { panic!("lines only") };
        let line = tokio::time::timeout(PATIENCE, incoming.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("no answer; stderr:\n{}", self.stderr.borrow().as_str()));
        let line = line.unwrap_or_else(|| panic!("stdout ended; stderr:\n{}", self.stderr.borrow().as_str()));
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// What was said of progress since, to who asked for it by `token`: step by step, each with a text.
    pub fn progress_said(&mut self, token: &str) {
        let said = std::mem::take(&mut self.notifications);
        assert!(said.len() >= 2, "{said:?}");
        for (step, message) in said.iter().enumerate() {
            assert_eq!(message["method"], "notifications/progress");
            assert_eq!(message["params"]["progressToken"], token);
            assert_eq!(message["params"]["progress"].as_f64(), Some(step as f64 + 1.0));
            assert!(message["params"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Ends it as a crash does.
    pub async fn kill(mut self) -> Ended {
        self.child.start_kill().unwrap();
        self.ended(false).await
    }

    /// Asks it to end, as a service manager does.
    pub async fn terminate(self) -> Ended {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.ended(false).await
    }

    /// The client leaves: the server's stdin ends.
    pub async fn leave(self) -> Ended {
        self.ended(true).await
    }

    async fn ended(mut self, close: bool) -> Ended {
        let kept = match self.link {
            Link::Client(client) if close => {
                client.cancel().await.unwrap();
                None
            }
            Link::Lines { stdin, .. } if close => {
                drop(stdin);
                None
            }
            link => Some(link),
        };
        let status = tokio::time::timeout(SOON, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end; {}", self.stderr.borrow().as_str())).unwrap();
        drop(kept);
        // Both pipes have ended with it.
        let _ = tokio::time::timeout(SOON, async { while self.stderr.changed().await.is_ok() {} }).await;
        let ended = Ended {
            code: status.code(),
            stdout: self.stdout.lock().unwrap().join("\n"),
            stderr: self.stderr.borrow().clone(),
        };
        println!("--- ended with {:?}\n{}", ended.code, ended.stderr);
        ended
    }
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub is_error: bool,
    /// All its texts.
    pub text: String,
    /// The same as data.
    pub data: Value,
}

impl Answer {
    pub fn of(result: Value) -> Self {
        let blocks = result["content"].as_array().unwrap_or_else(|| panic!("no content: {result}"));
        let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
        Self { is_error: result["isError"] == true, text: texts.join("\n"), data: result["structuredContent"].clone() }
    }

    pub fn last_line(&self) -> &str {
        self.text.lines().last().unwrap_or_default()
    }
}

async fn client(
    human: Human,
    mut incoming: mpsc::UnboundedReceiver<String>,
    stdin: ChildStdin,
    mode: ClientLifecycleMode,
) -> RunningService<RoleClient, Human> {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        while let Some(line) = incoming.recv().await {
            if ours.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                break;
            }
        }
    });
    let greeted = tokio::time::timeout(PATIENCE, human.serve_with_lifecycle((theirs, stdin), mode));
    greeted.await.expect("a greeting in time").unwrap()
}

/// Keeps and passes on every line.
fn lines(
    stdout: impl AsyncRead + Unpin + Send + 'static,
    kept: Arc<Mutex<Vec<String>>>,
) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            kept.lock().unwrap().push(line.clone());
            let _ = sender.send(line);
        }
    });
    receiver
}
