//! The agent of the demo: a real MCP client that drives this very binary as a process of its own.

use rmcp::model::{CallToolRequestParams, ContentBlock, JsonObject};
use rmcp::service::RunningService;
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceExt};
use serde_json::Value;
use tokio::process::Command;

use crate::error::Failure;

/// An MCP session with a `drain-mcp` process over stdio.
pub(super) struct Agent {
    session: RunningService<RoleClient, ()>,
}

/// What a tool answered.
pub(super) struct Told {
    /// For the reader.
    pub text: String,
    /// The same as data.
    pub data: Value,
}

impl Agent {
    /// Starts the server with exactly this environment: nothing of the person's own reaches it.
    pub(super) async fn start(env: &[(String, String)]) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| fault("our own program is not found", &e))?;
        let mut command = Command::new(program);
        command.env_clear().envs(env.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        let transport = TokioChildProcess::new(command).map_err(|e| fault("the server did not start", &e))?;
        let session = ().serve(transport).await.map_err(|e| fault("the server did not answer", &e))?;
        Ok(Self { session })
    }

    /// The names of the tools that the server offers.
    pub(super) async fn tools(&self) -> Result<usize, Failure> {
        let tools = self.session.list_all_tools().await.map_err(|e| fault("tools/list failed", &e))?;
        Ok(tools.len())
    }

    /// Calls a tool; a refusal is a failure of the demo.
    pub(super) async fn call(&self, tool: &'static str, arguments: Value) -> Result<Told, Failure> {
        let mut params = CallToolRequestParams::new(tool);
        params.arguments = match arguments {
            Value::Object(arguments) => Some(arguments),
            _ => Some(JsonObject::new()),
        };
        let result = self.session.call_tool(params).await.map_err(|e| fault(tool, &e))?;
        let text = result.content.iter().filter_map(ContentBlock::as_text).map(|block| block.text.as_str());
        let text = text.collect::<Vec<_>>().join("\n");
        if result.is_error == Some(true) {
            return Err(Failure::internal(format!("{tool} was refused: {text}")));
        }
        Ok(Told { text, data: result.structured_content.unwrap_or_default() })
    }

    /// Ends the session: the server leaves by itself when its input closes.
    pub(super) async fn leave(self) {
        // A server that does not leave is killed when the process handle drops.
        let _ = self.session.cancel().await;
    }
}

fn fault(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("{what}: {error}"))
}
