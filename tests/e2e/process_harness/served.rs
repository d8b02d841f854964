//! A real `drain-mcp serve`, agents of it, and clients over HTTP: rmcp's in both generations, and requests by hand.

use std::process::ExitStatus;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::watch;

use super::{Answer, Env, Human, PATIENCE, collect, world};
use crate::harness::World;

/// The revisions with sessions.
pub const WITH_SESSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The one without.
pub const STATELESS: &str = "2026-07-28";

/// The server.
pub struct Served {
    pub env: Env,
    /// `http://host:port`.
    pub url: String,
    child: Child,
    stderr: watch::Receiver<String>,
}

impl Served {
    /// Starts on a free port, and waits until it listens.
    pub async fn start(env: &Env) -> Self {
        Self::start_at(env, "127.0.0.1:0").await
    }

    /// The same at this address.
    pub async fn start_at(env: &Env, listen: &str) -> Self {
        Self::start_with(&env.clone().with("DRAIN_LISTEN", listen), &["serve"]).await
    }

    /// The same with these arguments, where the environment says.
    pub async fn start_with(env: &Env, args: &[&str]) -> Self {
        let env = env.clone();
        let mut child = env.command(args).spawn().unwrap();
        let mut stderr = collect(child.stderr.take().unwrap());
        let line = "serving MCP on ";
        let listens = stderr.wait_for(|all| all.split_once(line).is_some_and(|(_, url)| url.contains("/mcp")));
        let listens = tokio::time::timeout(PATIENCE, listens).await.is_ok_and(|said| said.is_ok());
        let said = stderr.borrow().clone();
        assert!(listens, "it does not listen: {said}");
        let url = said.split_once(line).unwrap().1.split_once("/mcp").unwrap().0.to_owned();
        Self { env, url, child, stderr }
    }

    /// Adds an agent; its token.
    pub async fn agent(&self, name: &str, more: &[&str]) -> String {
        add_agent(&self.env, name, more).await
    }

    /// A request by hand.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url))
    }

    /// What a GET answers.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// What `/readyz` answers.
    pub async fn ready(&self) -> (StatusCode, Value) {
        let (status, text) = self.get("/readyz").await;
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
    }

    /// A message to `/mcp` by hand.
    pub fn post(&self, token: &str, message: &Value) -> RequestBuilder {
        self.request(Method::POST, "/mcp")
            .header("accept", "application/json, text/event-stream")
            .bearer_auth(token)
            .json(message)
    }

    /// Opens a session by hand.
    pub async fn session(&self, token: &str, version: &str) -> Session<'_> {
        let answer = self.post(token, &initialize(version)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let id = answer.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let hello = message_of(answer).await;
        assert_eq!(hello["result"]["protocolVersion"], version, "{hello}");
        let session = Session { served: self, token: token.to_owned(), id, version: version.to_owned() };
        let told = session.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).send().await;
        assert_eq!(told.unwrap().status(), StatusCode::ACCEPTED);
        session
    }

    /// A call of a client of the stateless revision, by hand.
    pub fn stateless(&self, token: &str, tool: &str, arguments: &Value) -> RequestBuilder {
        stateless(self.request(Method::POST, "/mcp"), token, tool, arguments)
    }

    /// rmcp's client.
    pub async fn client(&self, token: &str, mode: ClientLifecycleMode) -> Client {
        let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", self.url)).auth_header(token);
        let transport = StreamableHttpClientTransport::with_client(client(), config);
        let greeted = tokio::time::timeout(PATIENCE, Human::default().serve_with_lifecycle(transport, mode));
        Client(greeted.await.expect("a greeting in time").unwrap())
    }

    /// Waits until it says this on stderr.
    pub async fn says(&mut self, text: &str) {
        let said = self.stderr.wait_for(|all| all.contains(text));
        let said = tokio::time::timeout(PATIENCE, said).await.is_ok_and(|said| said.is_ok());
        assert!(said, "it never says {text:?}: {}", self.stderr.borrow().as_str());
    }

    pub fn stderr(&self) -> String {
        self.stderr.borrow().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Ends it as a crash does.
    pub async fn kill(mut self) {
        self.child.start_kill().unwrap();
        self.ended().await;
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it does not end: {}", self.stderr.borrow().as_str())).unwrap();
        println!("--- serve ended with {status}\n{}", self.stderr.borrow().as_str());
        status
    }

    /// Asks it to end, and waits.
    pub async fn stop(mut self) {
        self.terminate();
        assert_eq!(self.ended().await.code(), Some(0), "{}", self.stderr());
    }
}

/// A server with one agent; its token.
pub async fn fleet_of_one() -> (World, Served, String) {
    let world = world().await;
    let served = Served::start(&Env::of(&world)).await;
    let token = served.agent("ann", &[]).await;
    (world, served, token)
}

/// Adds an agent to a fleet; its token.
pub async fn add_agent(env: &Env, name: &str, more: &[&str]) -> String {
    let args: Vec<&str> = ["agents", "add", name, "--budget", "5", "--json"].iter().chain(more).copied().collect();
    env.run(&args).await.ok_json()["token"].as_str().unwrap().to_owned()
}

/// Nothing of the tester's environment reaches it.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// The first message of a client of a revision with sessions.
pub fn initialize(version: &str) -> Value {
    let info = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

/// A call of a tool, for a session.
pub fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

/// A call of a client of the stateless revision, to this URL.
pub fn stateless(to: RequestBuilder, token: &str, tool: &str, arguments: &Value) -> RequestBuilder {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    to.header("accept", "application/json, text/event-stream")
        .bearer_auth(token)
        .json(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }))
        .header("mcp-protocol-version", STATELESS)
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool)
}

/// The JSON-RPC answer in a body, of either media type.
pub async fn message_of(answer: Response) -> Value {
    message_in(&answer.text().await.unwrap())
}

/// The same, of what a body held.
pub fn message_in(text: &str) -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok().filter(|value| value.is_object());
    let events = text.lines().filter_map(|line| line.strip_prefix("data:")).filter_map(|data| parse(data.trim()));
    let found = parse(text).or_else(|| events.into_iter().find(|value| value.get("id").is_some()));
    found.unwrap_or_else(|| panic!("no answer in {text:?}"))
}

/// A session by hand.
pub struct Session<'a> {
    served: &'a Served,
    pub token: String,
    pub id: String,
    pub version: String,
}

impl Session<'_> {
    /// What another agent shows who knows a session's id.
    pub fn as_shown_by(&self, token: &str, id: &str) -> Self {
        Self { served: self.served, token: token.into(), id: id.into(), version: self.version.clone() }
    }

    pub fn post(&self, message: &Value) -> RequestBuilder {
        self.served
            .post(&self.token, message)
            .header("mcp-session-id", &self.id)
            .header("mcp-protocol-version", &self.version)
    }

    /// GET or DELETE.
    pub fn bare(&self, method: Method) -> RequestBuilder {
        self.served
            .request(method, "/mcp")
            .header("accept", "text/event-stream")
            .header("mcp-session-id", &self.id)
            .header("mcp-protocol-version", &self.version)
            .bearer_auth(&self.token)
    }

    /// Calls a tool that must succeed.
    pub async fn ok(&self, tool: &str, arguments: Value) -> Answer {
        let answer = self.post(&call(1, tool, &arguments)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = Answer::of(message_of(answer).await["result"].clone());
        assert!(!answer.is_error, "{}", answer.text);
        answer
    }
}

/// rmcp's client over HTTP.
pub struct Client(RunningService<RoleClient, Human>);

impl Client {
    pub fn stateless() -> ClientLifecycleMode {
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
    }

    pub async fn tools(&self) -> Vec<String> {
        self.0.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.into_owned()).collect()
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Answer {
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments.as_object().unwrap().clone());
        let result = tokio::time::timeout(PATIENCE, self.0.call_tool(params)).await.expect("an answer in time");
        let answer = Answer::of(serde_json::to_value(result.unwrap()).unwrap());
        println!("--- {tool}\n{}\n", answer.text);
        answer
    }

    pub async fn ok(&self, tool: &str, arguments: Value) -> Answer {
        let answer = self.call(tool, arguments).await;
        assert!(!answer.is_error, "{}", answer.text);
        answer
    }

    /// Calls a tool that must fail with this code.
    pub async fn fails(&self, tool: &str, arguments: Value, code: &str) -> Answer {
        let answer = self.call(tool, arguments).await;
        assert!(answer.is_error && answer.data["code"] == code, "{}", answer.text);
        answer
    }

    /// Opens a channel; its id.
    pub async fn open(&self, provider: &str, amount: &str) -> String {
        let opened =
            self.ok("drain_open_channel", json!({ "provider": provider, "amount": amount, "duration": "4h" })).await;
        opened.data["channel"]["channel_id"].as_str().unwrap().to_owned()
    }

    pub async fn leave(self) {
        self.0.cancel().await.unwrap();
    }
}
