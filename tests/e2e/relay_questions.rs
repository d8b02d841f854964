//! Questions of a server to the client of a relay. `drain-mcp serve` asks none: the person at an agent's client is not the
//! wallet's. Another server of the SDK does here, and ends its sessions in between.

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequestParams, ElicitationSchema,
    Implementation, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::process_harness::{Agent, Answer, Greeting, world};
use crate::relay::{Relayed, calling};

/// Asks for a name at each call, and answers with it.
#[derive(Clone)]
struct Asking;

impl ServerHandler for Asking {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("asking", "1"))
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let form = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "Who?".into(),
            requested_schema: ElicitationSchema::builder().required_bool("yes").build_unchecked(),
        };
        let asked = context.peer.create_elicitation(form).await;
        let content = asked.map_err(|error| ErrorData::internal_error(error.to_string(), None))?.content;
        let text = content.unwrap_or_default()["name"].as_str().unwrap_or("nobody").to_owned();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

/// The server; its URL, and its sessions.
async fn asking() -> (String, Arc<LocalSessionManager>) {
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Asking), sessions.clone(), StreamableHttpServerConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, axum::Router::new().fallback_service(service)).into_future());
    (url, sessions)
}

/// A client that shows forms.
async fn client(url: &str) -> Agent {
    let mut agent = Relayed::to(url, &format!("drain_{}", "t".repeat(43))).start(Greeting::None).await;
    let info = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": { "elicitation": {} }, "clientInfo": info });
    agent.request("initialize", params).await.unwrap();
    agent.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
    agent
}

/// The question that comes next.
async fn question(agent: &mut Agent) -> Value {
    let asked = agent.next().await;
    assert_eq!(
        (&asked["method"], &asked["params"]["message"]),
        (&json!("elicitation/create"), &json!("Who?")),
        "{asked}"
    );
    asked["id"].clone()
}

async fn tell(agent: &mut Agent, id: &Value, name: &str) {
    let result = json!({ "action": "accept", "content": { "name": name } });
    agent.send(&json!({ "jsonrpc": "2.0", "id": id, "result": result })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_and_answers_pass_through() {
    let _world = world().await;
    let (url, _) = asking().await;
    let mut agent = client(&url).await;
    for name in ["ann", "bob"] {
        let call = agent.ask("tools/call", calling("who", json!({}), false)).await;
        let id = question(&mut agent).await;
        tell(&mut agent, &id, name).await;
        assert_eq!(Answer::of(agent.answer(call).await.unwrap()).text, name);
    }
    agent.leave().await;
}

/// M5: servers count their questions from zero in each session. An answer to one that was lost answers no other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m5_an_answer_to_a_lost_question_answers_no_other() {
    let _world = world().await;
    let (url, sessions) = asking().await;
    let mut agent = client(&url).await;
    let lost = agent.ask("tools/call", calling("who", json!({}), false)).await;
    let before = question(&mut agent).await;
    let all: Vec<_> = sessions.sessions.read().await.keys().cloned().collect();
    for session in all {
        sessions.close_session(&session).await.unwrap();
    }
    let answer = Answer::of(agent.answer(lost).await.unwrap());
    assert_eq!(answer.data["money"]["state"], "unknown", "{}", answer.text);

    let call = agent.ask("tools/call", calling("who", json!({}), false)).await;
    // The client is told that nobody waits for the first one.
    let mut withdrawn = std::mem::take(&mut agent.notifications);
    let mut now = None;
    while now.is_none() || withdrawn.is_empty() {
        let message = agent.next().await;
        match message["method"].as_str() {
            Some("elicitation/create") => now = Some(message["id"].clone()),
            _ => withdrawn.push(message),
        }
    }
    assert_eq!(withdrawn[0]["method"], "notifications/cancelled", "{withdrawn:?}");
    assert_eq!(withdrawn[0]["params"]["requestId"], before, "{withdrawn:?}");
    let now = now.unwrap();
    assert_ne!(now, before);
    // It answers all the same, late.
    tell(&mut agent, &before, "mallory").await;
    tell(&mut agent, &now, "ann").await;
    assert_eq!(Answer::of(agent.answer(call).await.unwrap()).text, "ann");
    agent.leave().await;
}
