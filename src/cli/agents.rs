//! `drain-mcp agents`: who may call the fleet's server. Works while that runs.

use drain_protocol::Usdc;
use serde_json::{Value, json};

use super::Global;
use super::exit::Exit;
use super::offer::a_set;
use super::output::{Output, table};
use super::session::sources;
use crate::agents::Agent;
use crate::agents::book::{self, Book};
use crate::agents::token::Token;
use crate::config::{Config, Key, ServeConfig, Toolset, agent_parties};
use crate::error::Failure;

/// Arguments of `drain-mcp agents`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp agents add ann --budget 5
  drain-mcp agents add bob --wallet research --budget 2 --max-per-request 0.05 --allow-categories llm,search
  drain-mcp agents list
  drain-mcp agents revoke bob

An agent never gets more than its wallet's own limits allow (docs/configuration.md). Its token is shown once; what is kept
of it is a hash, in agents.toml in the home folder.")]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What a person does.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an agent and its token, and show the client's configuration once
    #[command(
        after_help = "Examples:\n  drain-mcp agents add ann --budget 5\n  drain-mcp agents add ann --budget 5 --json"
    )]
    Add(Add),
    /// List agents and what they may do
    #[command(after_help = "Examples:\n  drain-mcp agents list\n  drain-mcp agents list --json")]
    List,
    /// Take an agent's token away: its next request is refused and its sessions end
    #[command(after_help = "Examples:\n  drain-mcp agents revoke ann")]
    Revoke {
        /// The agent
        name: String,
    },
}

/// Arguments of `drain-mcp agents add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Its name, in budgets, records and metrics: letters, digits, dots, dashes, underscores
    pub name: String,
    /// The most USDC newly signed for it in any 24 hours
    #[arg(long, value_name = "USDC")]
    pub budget: Usdc,
    /// The most USDC that one of its requests may cost
    #[arg(long, value_name = "USDC")]
    pub max_per_request: Option<Usdc>,
    /// The most USDC that one of its channels may pay, and its highest deposit
    #[arg(long, value_name = "USDC")]
    pub max_per_channel: Option<Usdc>,
    /// The most USDC that one of its requests may lock by itself in a new channel, within DRAIN_AUTO_OPEN
    #[arg(long, value_name = "USDC")]
    pub auto_open: Option<Usdc>,
    /// Which tools it is given: read, pay or all; never more than the server gives
    #[arg(long, value_name = "SET", value_parser = a_set())]
    pub tools: Option<Toolset>,
    /// Let it pay these providers only: ids, wallets or hosts, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub allow_providers: Option<Vec<String>>,
    /// Never let it pay these providers
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub deny_providers: Option<Vec<String>>,
    /// Let it pay providers of these categories only
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub allow_categories: Option<Vec<String>>,
    /// Never let it pay providers of these categories
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub deny_categories: Option<Vec<String>>,
    /// Let it share channels with other agents of its wallet that have this too; budgets and records stay its own
    #[arg(long)]
    pub share_channels: bool,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let (_playground, sources) = sources(global).await?;
    let output = Output { json: global.json, play_money: global.sandbox };
    match args.command {
        Command::Add(add) => {
            let config = Config::load(sources)?;
            self::add(add, &config, Output { play_money: config.play_money, ..output })
        }
        Command::List => list(&Book::read(&Config::home(&sources)?)?, output),
        Command::Revoke { name } => {
            book::revoke(&Config::home(&sources)?, &name)?;
            output.answer(&json!({ "agent": name, "revoked": true }), || {
                format!("The token of {name} is no longer taken; a server that runs ends its sessions within a second.")
            })?;
            Ok(Exit::Ok)
        }
    }
}

fn add(add: Add, config: &Config, output: Output) -> Result<Exit, Failure> {
    let parties = agent_parties(
        [("--allow-providers", add.allow_providers), ("--deny-providers", add.deny_providers)],
        [("--allow-categories", add.allow_categories), ("--deny-categories", add.deny_categories)],
    )?;
    let name = add.name;
    let mut made = None;
    let token = book::add(&config.home, &name, |token_sha256, created_at| {
        let agent = Agent {
            wallet: config.wallet.clone(),
            token_sha256,
            created_at,
            budget: add.budget,
            max_per_request: add.max_per_request,
            max_per_channel: add.max_per_channel,
            auto_open: add.auto_open,
            tools: add.tools,
            allow_providers: parties.allow_providers,
            deny_providers: parties.deny_providers,
            allow_categories: parties.allow_categories,
            deny_categories: parties.deny_categories,
            share_channels: add.share_channels,
        };
        made = Some(agent.clone());
        agent
    })?;
    let limits = made.map(|agent| agent.limits(&config.limits)).unwrap_or_else(|| config.limits.as_ref().clone());
    if limits.per_agent < add.budget {
        output.remark(&format!(
            "note: {} USDC a day is what the wallet's limits leave of that budget (DRAIN_MAX_PER_AGENT)",
            limits.per_agent
        ));
    }
    if config.serve.public_name().is_none() && !config.serve.listen.ip().is_loopback() {
        output.remark(&format!(
            "note: put https and the name of the proxy that speaks TLS in place of http://{}; DRAIN_ALLOWED_HOSTS names it",
            config.serve.listen
        ));
    }
    let [http, stdio] = clients(&config.serve, &token);
    let value = json!({
        "agent": name,
        "wallet": config.wallet,
        "budget": limits.per_agent,
        "max_per_request": limits.per_request,
        "max_per_channel": limits.per_channel,
        "token": token.expose(),
        "client": { "http": http, "stdio": stdio },
    });
    output.answer(&value, || {
        format!(
            "{name} may spend {} USDC in any 24 hours from the wallet {}: at most {} a request and {} a channel.\n\
             Its token is shown this once:\n\n  {}\n\n\
             For an MCP client that speaks HTTP:\n\n  {http}\n\n\
             For one that starts a program, with drain-mcp installed there:\n\n  {stdio}",
            limits.per_agent,
            config.wallet,
            limits.per_request,
            limits.per_channel,
            token.expose(),
        )
    })?;
    Ok(Exit::Ok)
}

/// What an MCP client's configuration says: of one that speaks HTTP, and of one that starts a program.
fn clients(serve: &ServeConfig, token: &Token) -> [Value; 2] {
    let server = match serve.public_name() {
        // Whoever has a name has a proxy with TLS.
        Some(host) => format!("https://{host}"),
        None => format!("http://{}", serve.listen),
    };
    let authorization = format!("Bearer {}", token.expose());
    let http = json!({ "type": "http", "url": format!("{server}/mcp"), "headers": { "Authorization": authorization } });
    let variables = json!({ Key::ServerUrl.spec().env: server, Key::AgentToken.spec().env: token.expose() });
    let stdio = json!({ "command": "drain-mcp", "env": variables });
    [http, stdio].map(|server| json!({ "mcpServers": { "drain": server } }))
}

fn list(book: &Book, output: Output) -> Result<Exit, Failure> {
    let all: Vec<Value> = book.agents().map(|(name, agent)| shown(name, agent)).collect();
    output.answer(&json!({ "agents": all }), || {
        let row = |(name, agent): (&str, &Agent)| {
            [name.to_owned(), agent.wallet.clone(), agent.budget.to_string(), agent.created_at.clone(), narrowed(agent)]
        };
        let rows: Vec<_> = book.agents().map(row).collect();
        if rows.is_empty() {
            return "There are no agents. Add one: drain-mcp agents add NAME --budget USDC".into();
        }
        table(["AGENT", "WALLET", "USDC A DAY", "SINCE", "FURTHER"], &rows)
    })?;
    Ok(Exit::Ok)
}

/// Everything but the hash.
fn shown(name: &str, agent: &Agent) -> Value {
    let mut value = serde_json::to_value(agent).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("token_sha256");
        object.insert("agent".into(), name.into());
    }
    value
}

fn narrowed(agent: &Agent) -> String {
    let amount = |name: &str, amount: Option<Usdc>| amount.map(|amount| format!("{name} {amount}"));
    let names = |name: &str, names: &[String]| (!names.is_empty()).then(|| format!("{name} {}", names.join(",")));
    let all = [
        amount("at most a request", agent.max_per_request),
        amount("at most a channel", agent.max_per_channel),
        amount("opens by itself with", agent.auto_open),
        agent.tools.map(|set| format!("tools {set}")),
        names("only", agent.allow_providers.as_deref().unwrap_or_default()),
        names("not", &agent.deny_providers),
        names("only categories", agent.allow_categories.as_deref().unwrap_or_default()),
        names("not categories", &agent.deny_categories),
        agent.share_channels.then(|| "shares channels".to_owned()),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
