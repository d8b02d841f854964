//! Agents at work: for each one an MCP service over its wallet, with sessions, calls and streams of its own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Wallet;
use crate::actors::Runtime;
use crate::agents::Agent;
use crate::agents::book::Book;
use crate::agents::reader::Reader;
use crate::agents::token::TokenHash;
use crate::config::{ServeConfig, Toolset};
use crate::error::Failure;
use crate::mcp::server::Server;
use crate::metrics::Transport;
use crate::policy::FleetAgent;

/// Streams that a session may have open beside its calls.
const STREAMS_PER_SESSION: usize = 2;

/// One agent while it is served.
pub(super) struct Member {
    pub name: String,
    pub wallet: String,
    agent: Agent,
    pub runtime: Runtime,
    pub service: StreamableHttpService<Server, LocalSessionManager>,
    /// This agent's alone: another one's session is not in it.
    pub sessions: Arc<LocalSessionManager>,
    pub calls: Arc<Semaphore>,
    pub streams: Arc<Semaphore>,
    /// Cancelled when it is revoked.
    gone: CancellationToken,
}

impl Member {
    /// What it is given; never more than the server gives.
    pub(super) fn tools(&self) -> Toolset {
        self.agent.tools.unwrap_or_default().min(self.runtime.config().tools)
    }
}

/// Why there is no agent.
pub(super) enum Unknown {
    /// Nobody has this token.
    Nobody,
    /// Somebody may have it, and cannot be served.
    Unusable(String),
}

/// All agents.
pub(super) struct Fleet {
    reader: Reader,
    wallets: BTreeMap<String, Runtime>,
    limits: Limits,
    members: Mutex<Members>,
    /// Ends every session.
    end: CancellationToken,
}

/// What an agent may have at once.
#[derive(Clone, Copy)]
struct Limits {
    calls: usize,
    sessions: usize,
    idle: Duration,
    body: usize,
    call_time: Duration,
}

#[derive(Default)]
struct Members {
    /// The file that they are of.
    book: Option<Arc<Book>>,
    by_name: HashMap<String, Arc<Member>>,
}

impl Fleet {
    pub(super) fn new(settings: &ServeConfig, home: &Path, wallets: Vec<Wallet>) -> Self {
        Self {
            reader: Reader::new(home),
            wallets: wallets.into_iter().map(|wallet| (wallet.name, wallet.runtime)).collect(),
            limits: Limits {
                calls: settings.max_requests,
                sessions: settings.max_sessions,
                idle: settings.session_idle,
                body: settings.max_body_bytes,
                call_time: settings.call_time,
            },
            members: Mutex::default(),
            end: CancellationToken::new(),
        }
    }

    /// The agents of now. Whoever is not in the file any more, or is another one, is ended with all its sessions.
    pub(super) fn refresh(&self) -> Result<Arc<Book>, Failure> {
        let book = self.reader.book()?;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if !members.book.as_ref().is_some_and(|known| Arc::ptr_eq(known, &book)) {
            members.by_name.retain(|name, member| {
                let same = book.get(name) == Some(&member.agent);
                if !same {
                    member.gone.cancel();
                }
                same
            });
            members.book = Some(book.clone());
        }
        Ok(book)
    }

    /// The agent that has this token.
    pub(super) fn whose(&self, shown: &TokenHash) -> Result<Arc<Member>, Unknown> {
        let book = self.refresh().map_err(|_| {
            // What is wrong with it is for the operator: the log and /readyz say it.
            Unknown::Unusable("The agents' file cannot be used now; its operator must repair it.".into())
        })?;
        let (name, agent) = book.whose(shown).ok_or(Unknown::Nobody)?;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        match members.by_name.get(name) {
            // A file that changed in this moment is looked at with the next request.
            Some(member) if member.agent == *agent => Ok(member.clone()),
            _ => {
                let runtime = self.wallets.get(&agent.wallet).ok_or_else(|| {
                    Unknown::Unusable(format!(
                        "This agent's wallet {} is not in the server's configuration.",
                        agent.wallet
                    ))
                })?;
                let member = Arc::new(self.member(name, agent, runtime));
                if let Some(before) = members.by_name.insert(name.to_owned(), member.clone()) {
                    before.gone.cancel();
                }
                Ok(member)
            }
        }
    }

    fn member(&self, name: &str, agent: &Agent, runtime: &Runtime) -> Member {
        let mut sessions = LocalSessionManager::default();
        // What ends a session ends its calls: not while one may run.
        sessions.session_config.keep_alive = Some(self.limits.idle.max(self.limits.call_time));
        let sessions = Arc::new(sessions);
        let gone = self.end.child_token();
        let config = StreamableHttpServerConfig::default()
            // The guard looked at host and origin already.
            .disable_allowed_hosts()
            .with_json_response(true)
            .with_max_request_body_bytes(self.limits.body)
            .with_cancellation_token(gone.clone());
        let limits = Arc::new(agent.limits(&runtime.config().limits));
        let runtime = runtime.for_agent(FleetAgent { name: name.to_owned(), limits, share: agent.share_channels });
        // One for all requests of this agent; the newer protocol asks for it at each.
        let server =
            Server::new(runtime.clone()).offering(agent.tools.unwrap_or_default()).within(self.limits.call_time);
        let service =
            StreamableHttpService::new(move || Ok(server.for_client(Transport::Http)), sessions.clone(), config);
        Member {
            name: name.to_owned(),
            wallet: agent.wallet.clone(),
            agent: agent.clone(),
            runtime,
            service,
            sessions,
            calls: Arc::new(Semaphore::new(self.limits.calls)),
            streams: Arc::new(Semaphore::new(self.limits.sessions * STREAMS_PER_SESSION)),
            gone,
        }
    }

    /// Ends all sessions and what runs in them.
    pub(super) fn end(&self) {
        self.end.cancel();
    }
}
