//! The protocol's face: lists, and the one point through which every call goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation,
    InputRequiredResult, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::answer::{Answer, Fault};
use super::args::Args;
use super::person::Person;
use super::resources::Resource;
use super::supervise::{What, supervise};
use super::tools::{self, Definition, Running};
use super::{instructions, prompts, resources, waiting};
use crate::actors::Runtime;
use crate::api::{Parts, Progress, Question, Said};
use crate::config::Toolset;
use crate::logging;
use crate::metrics;
use crate::policy::Asked;

/// Progress lines that may wait for a slow client; more are dropped.
pub(super) const PROGRESS_QUEUE: usize = 32;

/// Before a part of an answer among our lines: what follows is the provider's, and data (M13).
pub(super) const PART: &str = "provider: ";

/// One thing that a client asks for.
#[derive(Debug)]
pub(super) enum Job {
    /// A tool call with its arguments.
    Tool(&'static Definition, JsonObject),
    /// A resource.
    Resource(Resource),
}

/// What a call leads to.
#[derive(Debug)]
enum Reply {
    Answer(Answer),
    /// A person must be asked first; the client makes the same call again with the answer.
    Ask(Box<InputRequiredResult>),
}

/// Does the work of a job.
pub(super) type Handler = Arc<dyn Fn(Job, Asked, Progress) -> Running + Send + Sync>;

/// The MCP server. Cheap to clone; all clones share one runtime.
#[derive(Clone)]
pub struct Server {
    handler: Handler,
    set: Toolset,
    tools: Arc<Vec<Tool>>,
    play_money: bool,
    /// The longest that a call is waited for.
    call_time: Option<Duration>,
    /// Counts a client as connected, as long as it is served.
    _session: Option<Arc<metrics::Session>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("play_money", &self.play_money).finish_non_exhaustive()
    }
}

impl Server {
    /// A server over `runtime`.
    pub fn new(runtime: Runtime) -> Self {
        let (play_money, set) = (runtime.play_money(), runtime.config().tools);
        let device_wait = runtime.config().device_wait;
        let handler: Handler =
            Arc::new(move |job, asked, progress| Box::pin(work(runtime.asked(asked), job, progress)));
        let handler = match device_wait {
            Some(patience) => waiting::patient(handler, patience),
            None => handler,
        };
        Self::with_handler(handler, play_money).offering(set)
    }

    /// A server that lets `handler` do the work: the seam for tests.
    pub(super) fn with_handler(handler: Handler, play_money: bool) -> Self {
        let set = Toolset::All;
        Self { handler, set, tools: Arc::new(tools::listed(set)), play_money, call_time: None, _session: None }
    }

    /// The same with no more than these tools.
    pub fn offering(self, set: Toolset) -> Self {
        let set = self.set.min(set);
        Self { set, tools: Arc::new(tools::listed(set)), ..self }
    }

    /// The same; a call that takes longer is answered that it does.
    pub fn within(self, call_time: Duration) -> Self {
        Self { call_time: Some(call_time), ..self }
    }

    /// The same for one more client, which is counted until this is dropped.
    pub fn for_client(&self, transport: metrics::Transport) -> Self {
        Self { _session: Some(Arc::new(metrics::session(transport))), ..self.clone() }
    }

    /// Every call goes through here.
    async fn dispatch(&self, job: Job, person: Person, context: &RequestContext<RoleServer>) -> Result<Reply, Fault> {
        let name = match &job {
            Job::Tool(tool, _) => tool.name,
            Job::Resource(resource) => resource.name(),
        };
        let asked = Asked::by(name);
        let (begun, span) = (Instant::now(), logging::asked(&asked));
        let reply = self.call(job, asked, person, context).instrument(span.clone()).await;
        let outcome = match &reply {
            Ok(Reply::Answer(_)) => "ok",
            Ok(Reply::Ask(_)) => "ask",
            Err(fault) => fault.failure.code.as_str(),
        };
        metrics::mcp(name, outcome, begun.elapsed());
        span.in_scope(|| tracing::info!(outcome, seconds = begun.elapsed().as_secs_f64(), "answered"));
        reply
    }

    async fn call(
        &self,
        job: Job,
        asked: Asked,
        person: Person,
        context: &RequestContext<RoleServer>,
    ) -> Result<Reply, Fault> {
        let what = match &job {
            Job::Tool(tool, _) => What { name: tool.name, moves_money: tool.effect.moves_money() },
            Job::Resource(resource) => What { name: resource.name(), moves_money: false },
        };
        let token = context.meta.get_progress_token();
        let (sender, receiver) = mpsc::channel(PROGRESS_QUEUE);
        let progress = if token.is_some() { Progress::to(sender).with_parts(Parts::Shown) } else { Progress::none() };
        let (asker, mut questions) = mpsc::channel::<Question>(1);
        let progress = if matches!(person, Person::Nobody) { progress } else { progress.with_person(asker) };
        let stop = context.ct.child_token();
        let mut step = 0.0;
        let tell = |said: Said| {
            step += 1.0;
            let text = match said {
                Said::Line(text) => text,
                // As JSON's string: one line that nothing in it can end.
                Said::Part(text) => format!("{PART}{}", Value::from(text)),
            };
            let param = token.clone().map(|token| ProgressNotificationParam::new(token, step).with_message(text));
            async move {
                if let Some(param) = param
                    && let Err(error) = context.peer.notify_progress(param).await
                {
                    tracing::debug!(%error, "progress was not delivered");
                }
            }
        };
        let supervised = supervise(what, (self.handler)(job, asked, progress), &stop, receiver, tell);
        tokio::pin!(supervised);
        let too_long = async {
            match self.call_time {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(too_long);
        loop {
            tokio::select! {
                outcome = &mut supervised => return outcome.map(Reply::Answer),
                () = &mut too_long => {
                    stop.cancel();
                    // Unless it ended in this very moment.
                    return supervised.await.map(Reply::Answer).map_err(|_| Fault::outlasted(what.name, what.moves_money));
                }
                Some(question) = questions.recv() => {
                    if let Some(input) = person.ask(question) {
                        // Nothing is signed while a person is asked: the work ends, and the next call begins it anew.
                        stop.cancel();
                        // Unless a person at a terminal answered in this very moment.
                        return match supervised.await {
                            Ok(answer) => Ok(Reply::Answer(answer)),
                            Err(_) => Ok(Reply::Ask(Box::new(input))),
                        };
                    }
                }
            }
        }
    }
}

/// The work behind a job.
async fn work(runtime: Runtime, job: Job, progress: Progress) -> Result<Answer, crate::error::Failure> {
    match job {
        Job::Tool(tool, given) => {
            let args = Args::new(tool.params, given)?;
            let notes = args.notes().to_vec();
            Ok((tool.run)(runtime, args, progress).await?.with_notes(notes))
        }
        Job::Resource(resource) => resource.read(runtime).await,
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build();
        let implementation =
            Implementation::new("drain-mcp", env!("CARGO_PKG_VERSION")).with_title("DRAIN payment channels");
        ServerConfig::new(capabilities)
            .with_server_info(implementation)
            .with_instructions(instructions::text(self.set, self.play_money))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.as_ref().clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = tools::offered(&request.name, self.set)?;
        let person = if tool.effect.moves_money() { Person::of(&context, &request) } else { Person::Nobody };
        let job = Job::Tool(tool, request.arguments.unwrap_or_default());
        Ok(match self.dispatch(job, person, &context).await {
            Ok(Reply::Answer(answer)) => answer.into_result(self.play_money).into(),
            Ok(Reply::Ask(input)) => (*input).into(),
            Err(fault) => fault.into_result(self.play_money).into(),
        })
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::listed(self.set)))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, &request.arguments.unwrap_or_default(), self.set).map(Into::into)
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(resources::listed()))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let resource = Resource::find(&request.uri).ok_or_else(|| resources::unknown(&request.uri))?;
        match self.dispatch(Job::Resource(resource.clone()), Person::Nobody, &context).await {
            Ok(Reply::Ask(input)) => Ok((*input).into()),
            Ok(Reply::Answer(answer)) => {
                let contents = vec![resource.contents(answer.into_text(self.play_money))];
                Ok(ReadResourceResult::new(contents).into())
            }
            Err(fault) => {
                Err(ErrorData::internal_error(fault.text(self.play_money), Some(Value::Object(fault.data()))))
            }
        }
    }
}
