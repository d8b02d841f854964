//! The command line for people: one file per subcommand, over the same [`crate::actors::Runtime`] that agents use.

mod agents;
mod approvals;
mod audit;
mod balance;
mod budget;
mod channels;
mod chat;
mod close;
mod completions;
mod console;
pub mod demo;
pub mod doctor;
pub mod exit;
mod harden;
mod install;
mod journal;
mod kms;
mod ledger;
mod offer;
mod open;
mod output;
mod password;
mod prompt;
mod providers;
mod quote;
mod receipts;
mod refund;
mod relay;
mod rescue;
mod rows;
pub mod sandbox;
#[cfg(feature = "sandbox")]
mod sandbox_ledger;
mod serve;
mod session;
mod signer;
mod stdio;
#[cfg(test)]
mod tests;
mod wallet;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use output::error_object;
pub use signer::signer_of;

use crate::config::{LogConfig, Sources};
use crate::error::{Code, Failure};
use crate::logging;
use exit::Exit;
use offer::Offer;
use output::Output;
use session::Session;

const EXAMPLES: &str = "\
Examples:
  drain-mcp                        MCP server on stdin and stdout: this is what an MCP client starts
  drain-mcp --sandbox              the same with a marketplace of play money in this process
  drain-mcp --read-only            the same with tools that only look
  drain-mcp serve                  MCP over HTTP for a fleet of agents with tokens (drain-mcp agents add)
  drain-mcp demo                   watch an agent find, pay and close, with play money, in half a minute
  drain-mcp wallet new             make a wallet; then send it $1-5 of native USDC on Polygon and about 0.10 POL
  drain-mcp doctor                 check key, chain, contracts, balances, directory and records
  drain-mcp install --client cursor   put it into an MCP client's configuration; also claude-code, vscode and others
  drain-mcp --sandbox providers    any command, with play money

In an MCP client's configuration:
  { \"mcpServers\": { \"drain\": { \"command\": \"drain-mcp\", \"env\": { \"DRAIN_PRIVATE_KEY\": \"0x...\" } } } }

Configuration of an MCP client whose agent belongs to a fleet (drain-mcp agents add prints it):
  { \"mcpServers\": { \"drain\": { \"command\": \"drain-mcp\",
    \"env\": { \"DRAIN_SERVER_URL\": \"https://...\", \"DRAIN_AGENT_TOKEN\": \"drain_...\" } } } }

Everything that can be set is in docs/configuration.md.";

/// Payment channels for AI agents: find providers, pay per request in USDC, get the rest back.
///
/// Without a subcommand it serves MCP on stdin and stdout. Without a wallet it starts all the same: providers and
/// their docs can be read, and everything that needs money says how to make and fund a wallet. Limits come from the
/// configuration; no agent can raise them.
#[derive(Debug, Parser)]
#[command(name = "drain-mcp", version, after_help = after_help())]
pub struct Cli {
    /// What counts for every command.
    #[command(flatten)]
    pub global: Global,
    /// What MCP clients are given, where this is their server.
    #[command(flatten)]
    pub offer: Offer,
    /// The command; none is the MCP server.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// The configuration file [default: config.toml in the home folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder of records and keystore [default: ~/.drain-mcp]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub home: Option<PathBuf>,
    /// The chain's id [default: 137, Polygon]
    #[arg(long, global = true, value_name = "ID")]
    pub chain: Option<String>,
    /// Which wallet, where the configuration file has several [wallet.NAME]
    #[arg(long, global = true, value_name = "NAME")]
    pub wallet: Option<String>,
    /// With a marketplace of play money in this process; nothing of your own is touched
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// Print one JSON object, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to stderr (-vv: even more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What [`Offer`] says, for the commands that have it.
    #[arg(skip)]
    pub offer: Offer,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List providers and prices, or show one with its docs
    Providers(providers::Args),
    /// Say what a request would cost and what would pay for it
    Quote(quote::Args),
    /// Show what the wallet holds and what to do about it
    Balance(balance::Args),
    /// Show the limits and what is left of them
    Budget(budget::Args),
    /// Open a payment channel to a provider
    Open(open::Args),
    /// Pay for one request
    Chat(chat::Args),
    /// List channels and their accounting
    Channels(channels::Args),
    /// Open a page with the money, limits, channels and questions of a wallet
    Console(console::Args),
    /// Close a channel and get the rest back
    Close(close::Args),
    /// Get back everything that can come back now
    Refund(refund::Args),
    /// Find the money that any client of a wallet left in channels; needs no key
    Rescue(rescue::Args),
    /// Answer what waits for a person
    Approvals(approvals::Args),
    /// Show what was paid for, with the answers that are kept, and export it
    Receipts(receipts::Args),
    /// Read what was decided about money, and export it
    Audit(audit::Args),
    /// Serve MCP over HTTP to a fleet of agents
    Serve(serve::Args),
    /// Make, list and revoke agents of the fleet
    Agents(agents::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
    /// Put drain-mcp into an MCP client's configuration
    Install(install::Args),
    /// Take it out again, after telling what is still in channels
    Uninstall(install::RemoveArgs),
    /// Check the whole set-up and say what to do
    Doctor(doctor::Args),
    /// Watch it all work with play money
    Demo(demo::Args),
    /// Keep a marketplace of play money running
    Sandbox(sandbox::Args),
    /// Copy the records out, put a copy back, check them
    #[command(subcommand)]
    Journal(journal::Command),
    /// Carry commands between stdin and a Ledger on USB; drain-mcp starts it by itself
    #[command(hide = true)]
    LedgerPipe(ledger::PipeArgs),
    /// Make, import, export and use a wallet
    #[command(subcommand)]
    Wallet(wallet::Command),
}

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::HELP)
}

/// The program: reads the command line, runs the command, gives the exit code.
pub fn main() -> ExitCode {
    // Before any key is read, which is before anything else is.
    let unprotected = harden::no_core_dumps();
    harden::tls();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if matches!(cli.command, Some(Command::LedgerPipe(_))) {
        return ledger::pipe();
    }
    let output = Output { json: cli.global.json, play_money: false };
    for problem in unprotected {
        output.remark(&format!("warning: {problem}"));
    }
    let logging =
        LogConfig::read(&Sources::from_process()).and_then(|config| logging::start(&config, log_default(&cli)));
    // Until the end, which writes the last lines.
    let _log = match logging {
        Ok(log) => log,
        Err(error) => {
            output.failure(&error.into());
            return Exit::Usage.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&Failure::internal(format!("no threads: {error}")));
            return Exit::Failed.into();
        }
    };
    let system = actix::System::with_tokio_rt(|| runtime);
    let code = system.block_on(run(cli));
    // Dropping it would wait for a thread that reads stdin. Everything that counts was shut down in order.
    std::mem::forget(system);
    code
}

/// What is logged where `DRAIN_LOG` does not say: warnings, and of the fleet's server what it does with money.
fn log_default(cli: &Cli) -> &'static str {
    let serves = matches!(cli.command, Some(Command::Serve(_)));
    match cli.global.verbose.saturating_add(u8::from(serves)) {
        0 => "warn",
        1 => "warn,drain_mcp=info",
        2 => "warn,drain_mcp=debug",
        _ => "debug",
    }
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Tells what is wrong with the command line, or shows the help.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if error.use_stderr() && wants_json {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
        let failure = Failure::unspent(Code::InvalidArgument, first, "See drain-mcp --help.");
        Output { json: true, play_money: false }.failure(&failure);
    } else {
        // Nothing is left to be told when stdout or stderr is gone.
        let _ = error.print();
    }
    if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() }
}

async fn run(mut cli: Cli) -> ExitCode {
    let json = cli.global.json;
    cli.global.offer = match cli.offer.or_of(cli.command.as_ref()) {
        Ok(offer) => offer,
        Err(failure) => return ended(Err(failure), &cli.global),
    };
    match cli.command {
        Some(Command::Demo(mut args)) => {
            args.json = json;
            return demo::run(args).await;
        }
        Some(Command::Sandbox(mut args)) => {
            args.json = json;
            return sandbox::run(args).await;
        }
        // Before there is a configuration, since it tells what to write into it.
        Some(Command::Wallet(wallet::Command::Ledger(command))) => return ledger::run(command, json).await,
        // Over all wallets of the configuration.
        Some(Command::Serve(_)) => return ended(serve::run(&cli.global).await, &cli.global),
        Some(Command::Completions(args)) => return ended(completions::run(&args), &cli.global),
        Some(Command::Install(args)) => return ended(install::run(&args, &cli.global), &cli.global),
        Some(Command::Uninstall(args)) => return ended(install::uninstall(args, &cli.global).await, &cli.global),
        Some(Command::Agents(args)) => return ended(agents::run(args, &cli.global).await, &cli.global),
        // With a server it is a client of that, and needs nothing else.
        None => match relay::server(&cli.global).await {
            Ok(Some(server)) => return ended(relay::run(server, &cli.global).await, &cli.global),
            Ok(None) => {}
            Err(failure) => return ended(Err(failure), &cli.global),
        },
        _ => {}
    }
    let writes_keystore = matches!(&cli.command, Some(Command::Wallet(command)) if command.writes_keystore());
    let mut session = match Session::start(&cli.global, writes_keystore).await {
        Ok(session) => session,
        Err(failure) => {
            Output { json, play_money: cli.global.sandbox }.failure(&failure);
            return Exit::of(&failure).into();
        }
    };
    if let Some(command) = &cli.command {
        session.command = command.name();
    }
    let output = session.output;
    let reads = cli.command.as_ref().is_some_and(Command::only_reads);
    // doctor lists the warnings among its lines.
    if !matches!(cli.command, Some(Command::Doctor(_))) {
        session.warn();
    }
    let result = match cli.command {
        None => stdio::run(&mut session).await,
        Some(command) => command.run(&mut session).await,
    };
    let exit = match result {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            if reads && failure.code == Code::Cancelled { Exit::Interrupted } else { Exit::of(&failure) }
        }
    };
    exit.into()
}

/// The exit code of a command without a session.
fn ended(result: Result<Exit, Failure>, global: &Global) -> ExitCode {
    let exit = result.unwrap_or_else(|failure| {
        Output { json: global.json, play_money: global.sandbox }.failure(&failure);
        Exit::of(&failure)
    });
    exit.into()
}

impl Command {
    /// Its name in logs and in the record.
    const fn name(&self) -> &'static str {
        match self {
            Self::Providers(_) => "providers",
            Self::Quote(_) => "quote",
            Self::Balance(_) => "balance",
            Self::Budget(_) => "budget",
            Self::Open(_) => "open",
            Self::Chat(_) => "chat",
            Self::Channels(_) => "channels",
            Self::Console(_) => "console",
            Self::Close(_) => "close",
            Self::Refund(_) => "refund",
            Self::Rescue(_) => "rescue",
            Self::Approvals(_) => "approvals",
            Self::Receipts(_) => "receipts",
            Self::Audit(_) => "audit",
            Self::Doctor(_) => "doctor",
            Self::Serve(_) => "serve",
            Self::Agents(_) => "agents",
            Self::Completions(_) => "completions",
            Self::Install(_) => "install",
            Self::Uninstall(_) => "uninstall",
            Self::Demo(_) => "demo",
            Self::Sandbox(_) => "sandbox",
            Self::Journal(_) => "journal",
            Self::LedgerPipe(_) => "ledger-pipe",
            Self::Wallet(command) => command.name(),
        }
    }

    fn only_reads(&self) -> bool {
        matches!(
            self,
            Self::Providers(_)
                | Self::Quote(_)
                | Self::Balance(_)
                | Self::Budget(_)
                | Self::Channels(_)
                | Self::Receipts(_)
                | Self::Audit(_)
                | Self::Doctor(_)
        )
    }

    async fn run(self, session: &mut Session) -> Result<Exit, Failure> {
        match self {
            Self::Providers(args) => providers::run(args, session).await,
            Self::Quote(args) => quote::run(args, session).await,
            Self::Balance(args) => balance::run(args, session).await,
            Self::Budget(args) => budget::run(args, session).await,
            Self::Open(args) => open::run(args, session).await,
            Self::Chat(args) => chat::run(args, session).await,
            Self::Channels(args) => channels::run(args, session).await,
            Self::Console(args) => console::run(args, session).await,
            Self::Close(args) => close::run(args, session).await,
            Self::Refund(args) => refund::run(args, session).await,
            Self::Rescue(args) => rescue::run(args, session).await,
            Self::Approvals(args) => approvals::run(args, session).await,
            Self::Receipts(args) => receipts::run(args, session).await,
            Self::Audit(args) => audit::run(args, session).await,
            Self::Doctor(args) => doctor::run(args, session).await,
            Self::Journal(command) => journal::run(command, session).await,
            Self::Wallet(command) => wallet::run(command, session).await,
            // Handled before a session exists.
            Self::Serve(_)
            | Self::Agents(_)
            | Self::Completions(_)
            | Self::Install(_)
            | Self::Uninstall(_)
            | Self::Demo(_)
            | Self::Sandbox(_)
            | Self::LedgerPipe(_) => Ok(Exit::Ok),
        }
    }
}

/// What is not compiled in.
pub fn built_without(feature: &str) -> Failure {
    Failure::unspent(
        Code::InvalidArgument,
        format!("This drain-mcp was built without {feature}."),
        format!("Build it with --features {feature}."),
    )
}
