//! `drain-mcp install` and `uninstall`: the entry in an MCP client's file.

mod clients;
mod entry;
mod file;
mod json;
mod remove;
mod toml;

use std::path::PathBuf;

use serde_json::{Value, json};

use self::clients::{Client, Format, Scope};
use self::entry::{Entry, NAME};
use self::file::{ClientFile, unusable};
use super::exit::Exit;
use super::output::Output;
use super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::{Global, Offer};
use crate::config::Key;
use crate::error::{Code, Failure};

pub use remove::Args as RemoveArgs;
pub(super) use remove::run as uninstall;

/// Arguments of `drain-mcp install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp install --client claude-code
  drain-mcp install --client cursor --scope project
  drain-mcp install --client vscode --read-only
  drain-mcp install --client claude-desktop --print
  drain-mcp install --client codex --sandbox --yes
  drain-mcp install --client zed --server https://drain.example.com --token-file ~/drain-token

The change is shown before it is made, and nothing else in the file changes. The file as it was is kept beside it. No key is
written: the program finds its wallet as every command does, by the configuration in its home folder.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// What the client's agent is given
    #[command(flatten)]
    pub offer: Offer,
    /// Pay through this server of a fleet (drain-mcp serve); the client's machine has no wallet then
    #[arg(long, value_name = "URL", requires = "token_file")]
    server: Option<String>,
    /// The file with the agent's token for that server
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// Show what to put into the file, and change nothing
    #[arg(long, conflicts_with_all = ["yes", "replace"])]
    print: bool,
    /// Take the place of an entry named drain that starts something else
    #[arg(long)]
    replace: bool,
}

/// Which file.
#[derive(Debug, clap::Args)]
struct Target {
    /// Which MCP client
    #[arg(long, value_enum)]
    client: Client,
    /// For this user, or for whoever works in this folder
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,
    /// The client's file, where it is not at its usual place
    #[arg(long, value_name = "FILE", conflicts_with = "scope")]
    file: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Target {
    fn path(&self) -> Result<PathBuf, Failure> {
        match &self.file {
            Some(file) => Ok(file.clone()),
            None => self.client.file(self.scope),
        }
    }

    fn confirmed(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        need_terminal(&Tty, "Without --yes this")?;
        match Tty.line(&format!("{question} [y/N] ")).map_err(terminal_failed)?.to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::unspent(Code::Cancelled, "Nothing was changed.", "Run the command again to change it.")),
        }
    }
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let output = Output { json: global.json, play_money: false };
    let client = args.target.client;
    let (program, arguments, env) = (program()?, arguments(args, global)?, variables(args)?);
    let typed = matches!(client.format(), Format::Json { typed: true, .. });
    let new = entry::entry(&program, &arguments, &env, typed);
    if args.print {
        return print(args, &new, output);
    }
    let path = args.target.path()?;
    let file = ClientFile::read(&path)?;
    let text = file.text.as_deref().unwrap_or_default();
    let refused = |reason: String| unusable(&file.path, reason);
    let old = find(client, text).map_err(refused)?;
    let ours = old.as_ref().is_some_and(entry::is_ours);
    if old.is_some() && !ours && !args.replace {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            format!("{} has an entry \"{NAME}\" that starts something else.", file.path.display()),
            "Look at it; with --replace this one takes its place.",
        ));
    }
    let new = match &old {
        Some(old) if ours => entry::merged(old, &new),
        _ => new,
    };
    let label = client.label();
    let answer = |changed: bool| json!({ "client": client.name(), "file": file.path, "changed": changed, "entry": shown(&new, &env, true) });
    if old.as_ref() == Some(&new) {
        output.answer(&answer(false), || format!("{label} has it already: {}", file.path.display()))?;
        return Ok(Exit::Ok);
    }
    let changed = insert(client, text, &new).map_err(refused)?;
    output.remark(&format!("{} ({label}):", file.path.display()));
    if let Some(old) = &old {
        output.remark(&lines("- ", client, &entry::shown(old, &env, ours)));
    }
    output.remark(&lines("+ ", client, &entry::shown(&new, &env, true)));
    output.remark("Nothing else in it changes. No key is written.");
    let unseen = unseen();
    if !unseen.is_empty() && args.server.is_none() {
        output.remark(&format!(
            "note: {label} does not see this shell's {}: set them in config.toml of the home folder",
            unseen.join(", ")
        ));
    }
    args.target.confirmed("Write it?")?;
    file.replace(&changed)?;
    output.answer(&answer(true), || {
        format!("{label} has it now; restart {label}, or reload its MCP servers. drain-mcp doctor checks the wallet.")
    })?;
    Ok(Exit::Ok)
}

/// What a person puts in by hand.
fn print(args: &Args, new: &Entry, output: Output) -> Result<Exit, Failure> {
    let client = args.target.client;
    let path = args.target.path()?;
    let text = insert(client, "", new).map_err(Failure::internal)?;
    let value = json!({ "client": client.name(), "file": path, "text": text });
    output.answer(&value, || text.clone())?;
    output.remark(&format!("Put it into {}", path.display()));
    Ok(Exit::Ok)
}

/// This program's own file: clients search no PATH that a shell has.
fn program() -> Result<String, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("the program's own file is not known: {error}")))?;
    utf8(path)
}

/// What every command takes, as the client passes it on: files by their whole paths.
fn arguments(args: &Args, global: &Global) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    let mut say = |name: &str, value: String| said.extend([name.to_owned(), value]);
    if let Some(file) = &global.config {
        say("--config", absolute(file.clone())?);
    }
    // A client has another environment than this shell.
    let home = global.home.clone().or_else(|| std::env::var_os(Key::Home.spec().env).map(PathBuf::from));
    if let (Some(home), None, false) = (home.filter(|home| !home.as_os_str().is_empty()), &args.server, global.sandbox)
    {
        say("--home", absolute(home)?);
    }
    if let Some(chain) = &global.chain {
        say("--chain", chain.clone());
    }
    if let Some(wallet) = &global.wallet {
        say("--wallet", wallet.clone());
    }
    if let Some(tools) = args.offer.tools {
        say("--tools", tools.to_string());
    }
    said.extend(args.offer.read_only.then(|| "--read-only".to_owned()));
    said.extend(global.sandbox.then(|| "--sandbox".to_owned()));
    Ok(said)
}

/// Of a fleet's server: where it is, and where the token is. The token itself stays in its file.
fn variables(args: &Args) -> Result<Vec<(String, String)>, Failure> {
    let (Some(server), Some(file)) = (&args.server, &args.token_file) else { return Ok(Vec::new()) };
    let token = Key::AgentToken.spec();
    let name = token.env_file().ok_or_else(|| Failure::internal("a token has no file"))?;
    Ok(vec![(Key::ServerUrl.spec().env.to_owned(), server.clone()), (name, absolute(file.clone())?)])
}

/// What is set for drain-mcp in this shell and nowhere else.
fn unseen() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("DRAIN_") && name != Key::Home.spec().env).collect();
    names.sort_unstable();
    names
}

fn absolute(path: PathBuf) -> Result<String, Failure> {
    utf8(std::path::absolute(path).map_err(|error| Failure::argument("path", error))?)
}

fn utf8(path: PathBuf) -> Result<String, Failure> {
    path.into_os_string().into_string().map_err(|_| Failure::argument("path", "it is not UTF-8 text"))
}

/// Some editors begin a file with it; it is not part of the text.
fn unmarked(text: &str) -> (&str, &str) {
    text.split_at(if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 })
}

fn find(client: Client, text: &str) -> Result<Option<Entry>, String> {
    let (_, text) = unmarked(text);
    match client.format() {
        Format::Json { servers, .. } => json::find(text, servers),
        Format::Toml => toml::find(text),
    }
}

fn insert(client: Client, text: &str, entry: &Entry) -> Result<String, String> {
    let (mark, text) = unmarked(text);
    let text = match client.format() {
        Format::Json { servers, .. } => json::insert(text, servers, entry),
        Format::Toml => toml::insert(text, entry),
    }?;
    Ok(format!("{mark}{text}"))
}

fn removed(client: Client, text: &str) -> Result<String, String> {
    let (mark, text) = unmarked(text);
    let text = match client.format() {
        Format::Json { servers, .. } => json::remove(text, servers),
        Format::Toml => toml::remove(text),
    }?;
    Ok(format!("{mark}{text}"))
}

/// An entry as lines of its file, each after a sign.
fn lines(sign: &str, client: Client, entry: &Entry) -> String {
    let text = match client.format() {
        Format::Json { .. } => json::alone(entry),
        Format::Toml => toml::alone(entry).unwrap_or_else(|error| error),
    };
    text.lines().map(|line| format!("{sign}{line}")).collect::<Vec<_>>().join("\n")
}

fn shown(entry: &Entry, open: &[(String, String)], ours: bool) -> Value {
    Value::Object(entry::shown(entry, open, ours))
}
