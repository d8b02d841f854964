//! The log: lines on stderr, for a person or a machine, and by which call each came about.
//!
//! Every call has one span, `call`, with its request's id, its tool and its agent. It is entered anew wherever the call's work
//! goes on (the runtime, a channel's job, a transaction of the wallet), so that the lines from the tool call to the
//! voucher, the provider and the last transaction have one id; `drain-mcp audit --request` knows it too. Nothing that an agent
//! asks or a provider answers is in a line, unless the operator asks for it (`DRAIN_LOG_CONTENT`).

use tracing::{Level, Metadata, Span, error_span};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{ConfigError, Key, LogConfig, LogFormat};
use crate::policy::{Asked, Caller};

/// Lines that may wait where stderr is read slowly; more are lost.
const LINES_KEPT: usize = 4_096;
/// What is asked and answered.
const CONTENT: &str = "drain_mcp::content";
/// What a command says on stderr, where each line of that is to be an object.
const SAID: &str = "drain_mcp::said";
/// Of one request or answer, the most that is logged.
const CONTENT_CHARS: usize = 4_000;

/// Logs to stderr, never to stdout, which belongs to the answer or to MCP. `default` counts where no filter was chosen. A
/// thread of its own writes, so that nobody waits where stderr is not read; what it cannot keep is lost. The end of what is
/// returned writes what is left.
///
/// # Errors
/// A filter that is none.
pub fn start(config: &LogConfig, default: &str) -> Result<WorkerGuard, ConfigError> {
    // What is said is no matter of levels.
    let filter = format!("{},{SAID}=info", config.filter.as_deref().unwrap_or(default));
    let filter = EnvFilter::builder().parse(filter).map_err(|e| ConfigError {
        name: Key::Log.spec().env.into(),
        problem: format!("this is not a log filter ({e})"),
        fix: "Write error, warn, info, debug or trace, or for example drain_mcp=debug".into(),
    })?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES_KEPT).finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match config.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let config = config.clone();
    let shown = filter_fn(move |of| is_shown(of, &config));
    // A second call, in tests, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines).with(filter).with(shown).try_init();
    Ok(guard)
}

/// Whatever the filter says. AWS's crates log whole answers, those of credential sources among them (M12): nothing of theirs is
/// shown, and what went wrong is in our own errors. MCP's crate logs whole messages where something is looked for.
fn is_shown(of: &Metadata<'_>, config: &LogConfig) -> bool {
    let from = |names: &[&str]| names.iter().any(|name| of.target().starts_with(name));
    let tells_content = of.target() == CONTENT || (from(&["rmcp"]) && *of.level() > Level::WARN);
    let said = of.target() == SAID && config.format == LogFormat::Text;
    !from(&["aws_", "alloy_signer_aws"]) && !said && (config.content || !tells_content)
}

/// The span of a call for which it is not known yet who asks. Shown with warnings and errors, too.
pub fn asked(asked: &Asked) -> Span {
    error_span!(parent: None, "call", request = %asked.request, tool = %asked.tool)
}

/// The span of a call, wherever its work goes on.
pub fn call(caller: &Caller) -> Span {
    let Asked { request, tool } = &caller.asked;
    error_span!(parent: None, "call", %request, %tool, agent = %caller.agent)
}

/// Says `text` as a line of the log; `false` where it is to be said as it is.
pub fn said(text: &str) -> bool {
    let as_line = tracing::enabled!(target: SAID, Level::INFO);
    if as_line {
        tracing::info!(target: SAID, "{text}");
    }
    as_line
}

/// Logs what a provider is asked or has answered, where the operator wants that. It is somebody else's text.
pub fn content(of: &'static str, text: impl FnOnce() -> String) {
    if tracing::enabled!(target: CONTENT, Level::INFO) {
        let text = text();
        let shown: String = text.chars().take(CONTENT_CHARS).collect();
        tracing::info!(target: CONTENT, of, chars = text.chars().count(), text = ?shown, "content");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tracing::subscriber::with_default;
    use tracing_subscriber::Registry;

    use super::*;

    fn shown(content: bool, tell: impl FnOnce()) -> Vec<&'static str> {
        use std::sync::{Arc, Mutex};
        #[derive(Clone, Default)]
        struct Seen(Arc<Mutex<Vec<&'static str>>>);
        impl<S: tracing::Subscriber> Layer<S> for Seen {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                self.0.lock().unwrap().push(event.metadata().target());
            }
        }
        let seen = Seen::default();
        let config = LogConfig { filter: None, format: LogFormat::Text, content };
        let filter = filter_fn(move |of| is_shown(of, &config));
        with_default(Registry::default().with(seen.clone().with_filter(filter)), tell);
        let seen = seen.0.lock().unwrap();
        seen.clone()
    }

    fn everybody_tells() {
        tracing::error!(target: "aws_config::imds::region", "a credential");
        tracing::error!(target: "alloy_signer_aws::signer", "an answer");
        tracing::debug!(target: "rmcp::service", "a whole message");
        tracing::warn!(target: "rmcp::service", "a warning");
        tracing::debug!(target: "hyper_util::client", "a connection");
        content("request", || "what an agent asks".into());
    }

    #[test]
    fn m12_answers_of_credential_sources_and_content_are_not_logged() {
        assert_eq!(shown(false, everybody_tells), ["rmcp::service", "hyper_util::client"]);
    }

    #[test]
    fn m12_content_is_logged_where_the_operator_wants_it_and_credentials_are_not() {
        assert_eq!(shown(true, everybody_tells), ["rmcp::service", "rmcp::service", "hyper_util::client", CONTENT]);
    }

    #[test]
    fn a_bad_filter_names_its_variable() {
        let config = LogConfig { filter: Some("drain_mcp=loud".into()), format: LogFormat::Text, content: false };
        assert!(start(&config, "warn").is_err_and(|e| e.to_string().starts_with("DRAIN_LOG: ")));
    }
}
