//! A stub and what sessions with it share: environment, homes, the same work for all.

use std::path::Path;

use drain_protocol::chat::{Message, Role};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::errors::Result;
use crate::server::{Prepared, Server};
use crate::stub::Stub;

/// The model at 225 / 900 base units per 1000 tokens.
pub const MODEL: &str = "sim-small";
/// Characters of the prompt.
const PROMPT: usize = 800;
/// What 200 prompt and 60 completion tokens cost, in base units.
pub const COST: u64 = (200 * 225 + 60 * 900) / 1_000;

/// The prompt.
pub fn prompt() -> String {
    "All work and no play makes a dull benchmark. ".chars().cycle().take(PROMPT).collect()
}

/// The conversation, for those who compute its bound.
pub fn messages() -> Vec<Message> {
    vec![Message { role: Role::User, content: prompt() }]
}

/// The one request that every figure sends: no maxTokens, no maxCost.
pub fn chat(channel: &str) -> Prepared {
    let messages = json!([{ "role": "user", "content": prompt() }]);
    Prepared::call("drain_chat", &json!({ "channelId": channel, "model": MODEL, "messages": messages }))
}

/// The running stub.
#[derive(Debug)]
pub struct World {
    /// Chain, directory, provider.
    pub stub: Stub,
}

impl World {
    /// Starts the stub.
    pub fn start() -> Result<Self> {
        Ok(Self { stub: Stub::start()? })
    }

    /// A server with a home of its own and what else is to be set.
    pub fn session(&self, settings: &[(&str, &str)]) -> Result<Session> {
        // Beside the build, not in /tmp: that may be memory.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let env = self.env(home.path(), settings);
        let server = Server::start(&env)?;
        Ok(Session { server, home, stub: self.stub.pid() })
    }

    /// The environment of a server with this home.
    pub fn env(&self, home: &Path, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        // Far above every deposit of these figures.
        let own = [
            ("DRAIN_MAX_LOCKED", "100000"),
            ("DRAIN_MAX_OPEN_CHANNELS", "1000"),
            ("DRAIN_MAX_OPENS_PER_HOUR", "1000"),
            ("DRAIN_MAX_PER_CHANNEL", "1000"),
            ("DRAIN_MAX_PER_HOUR", "100000"),
            ("DRAIN_MAX_PER_DAY", "100000"),
            ("DRAIN_MAX_PER_PROVIDER", "100000"),
            ("DRAIN_MAX_PER_AGENT", "100000"),
            ("DRAIN_MAX_NEWCOMERS", "100000"),
            ("DRAIN_MAX_GAS_PER_DAY", "1000"),
        ];
        let mut env = self.stub.env().to_vec();
        env.push(("DRAIN_HOME".into(), home.display().to_string()));
        env.extend(own.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into())));
        env
    }
}

/// One server and its home.
#[derive(Debug)]
pub struct Session {
    /// The server.
    pub server: Server,
    /// Where its journal is: removed at the end.
    pub home: TempDir,
    /// The stub's process.
    pub stub: u32,
}

impl Session {
    /// Opens a channel to the LLM provider; its id.
    pub fn open(&mut self, deposit: &str) -> Result<String> {
        let arguments = json!({ "provider": "sim-llm", "amount": deposit });
        let opened = self.server.call("drain_open_channel", &arguments)?;
        let id = opened["channel"]["channel_id"].as_str().ok_or("an opened channel without id")?;
        Ok(id.to_owned())
    }

    /// What `drain_channel_status` says.
    pub fn status(&mut self, channel: &str) -> Result<Value> {
        self.server.call("drain_channel_status", &json!({ "channelId": channel }))
    }
}
