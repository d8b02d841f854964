//! Shell commands that the operator configured: they are started here, and with a cleared environment (M12).
//!
//! `tests/e2e/secrets.rs` holds the list of all places that start a process.

use std::process::Stdio;

use tokio::process::Command;

/// What such a command keeps of our environment: enough to find programs, the person's files, the session's keyring and
/// screen. Nothing of ours, and nothing that may be another program's secret.
const KEPT: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "PASSWORD_STORE_DIR",
];

/// A command for `sh`: without our pipes, ended when it is dropped.
pub fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_clear();
    shell.envs(KEPT.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    // Standard output may be MCP's, and standard input the client's.
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    shell
}
