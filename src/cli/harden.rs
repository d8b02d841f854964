//! What happens before anything else: no core dumps, TLS.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn dumps_are_off() {
        assert_eq!(no_core_dumps(), Vec::<String>::new());
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
