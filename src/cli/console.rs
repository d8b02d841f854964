//! `drain-mcp console`: the console for one person's wallet on this machine, beside whatever runs.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exit::Exit;
use super::session::{Needs, Session};
use crate::agents::token::Token;
use crate::error::{Code, Failure};
use crate::http::Wallet;
use crate::http::console::{Key, console, router};
use crate::listener;

/// What a browser needs to know of the person's desktop, and nothing of ours.
const SESSION: [&str; 9] = [
    "PATH",
    "HOME",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "XDG_CURRENT_DESKTOP",
    "DBUS_SESSION_BUS_ADDRESS",
    "BROWSER",
];

/// A person and the tabs of a browser.
const CONNECTIONS: usize = 64;

/// Arguments of `drain-mcp console`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp console                 opens a browser on the wallet, its limits, channels and questions
  drain-mcp console --no-browser    prints the address only

It ends with Ctrl-C. The address holds a token that opens one session, on this machine alone. drain-mcp serve has the same page at
/console, where DRAIN_CONSOLE_TOKEN is set.")]
pub struct Args {
    /// Print the address and open no browser
    #[arg(long)]
    pub no_browser: bool,
    /// The port on 127.0.0.1 [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub port: u16,
}

pub(super) async fn run(args: Args, session: &mut Session) -> Result<Exit, Failure> {
    let (settings, output) = (session.config()?.serve.clone(), session.output);
    let ended = session
        .run(Needs::Wallet, async |runtime, _| {
            let cannot = |error: std::io::Error| {
                Failure::unspent(
                    Code::InvalidArgument,
                    format!("127.0.0.1:{} cannot be listened on: {error}", args.port),
                    "Take another --port, or none.",
                )
            };
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).await.map_err(cannot)?;
            let address = listener.local_addr().map_err(cannot)?;
            let token = Token::new();
            let name = runtime.config().wallet.clone();
            let ending = CancellationToken::new();
            let console = console(vec![Wallet { name, runtime }], Key::once(&token), &settings, ending.clone());
            let url = format!("http://{address}/console#token={}", token.expose());
            output.answer(&json!({ "url": url }), || format!("The console is at {url}\nCtrl-C ends it."))?;
            // There until the end: a browser may be slow.
            let _page = if args.no_browser { None } else { open(&url) };
            let _end = ending.clone().drop_guard();
            listener::accept(listener, router(console), CONNECTIONS, ending, TaskTracker::new()).await;
            Ok(())
        })
        .await;
    match ended {
        // Ctrl-C is its usual end.
        Err(failure) if failure.code == Code::Cancelled => Ok(Exit::Ok),
        ended => ended.map(|()| Exit::Ok),
    }
}

/// Where there is a browser to open. What it is given shows in the list of processes, so that is not the address itself but a file
/// of this user's alone, which leads there.
fn open(url: &str) -> Option<tempfile::NamedTempFile> {
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    let named = tempfile::Builder::new().prefix("drain-console-").suffix(".html").permissions(private).tempfile();
    let mut page = named.ok()?;
    write!(page, "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\"><title>drain console</title>")
        .ok()?;
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let known = SESSION.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let quiet = Command::new(program)
        .arg(page.path())
        .env_clear()
        .envs(known)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = quiet {
        tracing::debug!(%error, "no browser was opened");
    }
    Some(page)
}
