//! What happens before anything else: no core dumps, TLS, the log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, Key};

/// Keeps keys out of core files and, on Linux, out of the reach of other processes of the same user: no debugger
/// attaches, and `/proc/PID/environ` and `mem` are closed to all but root. Before any key is read.
///
/// A system that refuses is no reason not to start: this is a second line, the first is that keys are erased. What it
/// refused is returned, to be said.
pub fn no_core_dumps() -> Vec<String> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mut refused = Vec::new();
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        refused.push(format!("core dumps could not be switched off ({error}): one would hold the key"));
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            refused.push(format!("other programs of this user can look into this process ({error})"));
        }
    }
    refused
}

/// One TLS provider for the process. Only the first call counts.
pub fn tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Logs to stderr, never to stdout, which belongs to the answer or to MCP. `-v` counts when DRAIN_LOG is not set.
pub fn log(filter: Option<&str>, verbose: u8) -> Result<(), ConfigError> {
    let default = match verbose {
        0 => "warn",
        1 => "warn,drain_mcp=info",
        2 => "warn,drain_mcp=debug",
        _ => "debug",
    };
    let filter = EnvFilter::builder().parse(filter.unwrap_or(default)).map_err(|e| ConfigError {
        name: Key::Log.spec().env.into(),
        problem: format!("this is not a log filter ({e})"),
        fix: "Write error, warn, info, debug or trace, or for example drain_mcp=debug".into(),
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let subscriber =
        tracing_subscriber::registry().with(lines).with(filter).with(filter_fn(|of| is_shown(of.target())));
    // A second call, in tests, keeps the first subscriber.
    let _ = subscriber.try_init();
    Ok(())
}

/// AWS's crates log whole answers, those of credential sources among them: nothing of theirs is logged, whatever the
/// filter says (M12). What went wrong is in our own errors.
fn is_shown(target: &str) -> bool {
    !target.starts_with("aws_") && !target.starts_with("alloy_signer_aws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_names_its_variable() {
        assert!(log(Some("drain_mcp=loud"), 0).is_err_and(|e| e.to_string().starts_with("DRAIN_LOG: ")));
    }

    #[test]
    fn m12_answers_of_credential_sources_are_not_logged() {
        assert!(!is_shown("aws_config::imds::region") && !is_shown("alloy_signer_aws::signer"));
        assert!(is_shown("drain_mcp::chain") && is_shown("hyper_util::client"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn dumps_are_off() {
        assert_eq!(no_core_dumps(), Vec::<String>::new());
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
