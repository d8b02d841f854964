//! `drain-mcp serve`: MCP over HTTP for a fleet of agents, until it is told to end.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;

use super::Global;
use super::exit::Exit;
use super::offer::Offer;
use super::output::Output;
use super::prompt::Tty;
use super::session::{Playground, hold_to_the_end, interrupted, sources};
use super::signer::{no_signer, signer_of};
use crate::actors::Runtime;
use crate::actors::standing::Standing;
use crate::config::{Config, Sources};
use crate::error::{Code, Failure};
use crate::http::{Serving, Wallet};

/// How long a start waits to hear who has a wallet.
const HEAR: Duration = Duration::from_secs(2);
/// Between two looks at a wallet that another process has.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `drain-mcp serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp agents add ann --budget 5     a token for an agent, with its client's configuration
  drain-mcp serve                         on 127.0.0.1:5858: /mcp, /metrics, /healthz, /readyz
  drain-mcp --sandbox serve               the same with play money
  drain-mcp serve --tools pay             no agent sets the allowance; agents add --tools narrows one agent's further

Agents are added and revoked while it runs. It speaks plain HTTP: put a proxy with TLS in front, and name its host in
DRAIN_ALLOWED_HOSTS. SIGTERM lets calls that run end (DRAIN_DRAIN_TIME); a second one ends at once.
docs/config.fleet.toml is a configuration with several wallets.")]
pub struct Args {
    /// What agents are given.
    #[command(flatten)]
    pub offer: Offer,
}

pub(super) async fn run(global: &Global) -> Result<Exit, Failure> {
    // It lives as long as the server.
    let (_playground, sources): (Option<Playground>, Sources) = sources(global).await?;
    let configs = match global.wallet {
        Some(_) => vec![Config::load(sources)?],
        None => Config::load_each(sources)?,
    };
    let play_money = configs.iter().any(|config| config.play_money);
    let output = Output { json: global.json, play_money };
    let mut warnings: Vec<&String> = configs.iter().flat_map(|config| &config.warnings).collect();
    warnings.dedup();
    for warning in warnings {
        output.remark(&format!("warning: {warning}"));
    }
    let Some(first) = configs.first() else { return Err(Failure::internal("no configuration")) };
    let (settings, home) = (first.serve.clone(), first.home.clone());
    let wallets = start(configs, output).await?;
    let served = serve(settings, &home, &wallets, output).await;
    for wallet in wallets {
        hold_to_the_end(wallet.runtime);
    }
    served
}

async fn serve(
    settings: crate::config::ServeConfig,
    home: &std::path::Path,
    wallets: &[Wallet],
    output: Output,
) -> Result<Exit, Failure> {
    let drain_time = settings.drain_time;
    // Whoever reads that it serves may tell it to end at once.
    let told_to_end = interrupted();
    let serving = Serving::start(settings, home, wallets.to_vec()).await?;
    output.remark(&format!("serving MCP on http://{}/mcp", serving.address()));
    match serving.agents() {
        Ok(0) => output.remark("no agent may call yet: drain-mcp agents add NAME --budget USDC"),
        Ok(count) => output.remark(&format!("agents: {count}")),
        Err(failure) => output.remark(&format!("warning: {}. {}", failure.message, failure.next)),
    }
    told_to_end.await;
    let told_again = interrupted();
    output.remark("ending: nothing new is begun; calls that run may end");
    let end = async {
        if !serving.drain().await {
            let seconds = drain_time.as_secs();
            output.remark(&format!("calls still ran after {seconds} s; what they had begun is in the journal"));
        }
        join_all(wallets.iter().map(|wallet| wallet.runtime.shutdown())).await;
        // Until then replicas pass on to this one, and are told that nothing was begun.
        let noticed = wallets.iter().map(|wallet| wallet.runtime.noticed_in()).max().unwrap_or_default();
        tokio::time::sleep(noticed).await;
        serving.close().await;
    };
    tokio::select! {
        () = end => Ok(Exit::Ok),
        // Everything that was signed or sent is in the journal.
        () = told_again => Ok(Exit::Interrupted),
    }
}

/// Starts a runtime for each wallet.
async fn start(configs: Vec<Config>, output: Output) -> Result<Vec<Wallet>, Failure> {
    let mut accounts = BTreeMap::new();
    let mut opened = Vec::new();
    for mut config in configs {
        let name = config.wallet.clone();
        // While agents are served, unspent money comes back by itself (M10).
        config.refunds.automatic = true;
        if !opened.is_empty() {
            // One process has one set of metrics.
            config.metrics = None;
        }
        let signer = signer_of(&mut config, Vec::new(), &mut Tty).await.map_err(|failure| of(&name, failure))?;
        let signer = signer.ok_or_else(|| of(&name, no_signer()))?;
        if let Some(other) = accounts.insert(signer.address(), name.clone()) {
            return Err(Failure::unspent(
                Code::InvalidConfig,
                format!("the wallets {other} and {name} are the same account {}", signer.address()),
                "Keep one of them.",
            ));
        }
        opened.push((name, config, signer));
    }
    let mut wallets = Vec::new();
    for (name, config, signer) in opened {
        let (address, limits) = (signer.address(), config.limits.clone());
        let runtime = Runtime::start(config, Some(signer)).await.map_err(|failure| of(&name, failure))?;
        output.remark(&format!("wallet {name}: {address}; {limits}"));
        wallets.push(Wallet { name, runtime });
    }
    for wallet in &wallets {
        heard(wallet, output).await?;
    }
    Ok(wallets)
}

/// Says who else has a wallet, and when that ends. A wallet that cannot be used at all is an error: whoever started us
/// starts us again.
async fn heard(wallet: &Wallet, output: Output) -> Result<(), Failure> {
    let look = async {
        while wallet.runtime.standing() == Standing::Looking {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Who has it may hang; it is looked for on and on.
    let _ = tokio::time::timeout(HEAR, look).await;
    let (name, runtime) = (wallet.name.clone(), wallet.runtime.clone());
    let who = match runtime.standing() {
        Standing::Held => {
            told_of_openings(name, runtime, output);
            return Ok(());
        }
        Standing::Without(failure) => return Err(of(&name, failure)),
        Standing::Away(url) => {
            let at = url.map_or_else(String::new, |url| format!(" at {url}"));
            output.remark(&format!("wallet {name}: another replica{at} has it; what its agents ask here is passed on"));
            tokio::spawn(async move {
                runtime.held().await;
                output.remark(&format!("wallet {name}: it is here now"));
                told_of_openings(name, runtime, output);
            });
            return Ok(());
        }
        Standing::Elsewhere(Some(pid)) => format!("process {pid}"),
        Standing::Elsewhere(None) | Standing::Looking => "another process".into(),
    };
    output.remark(&format!(
        "warning: {who} has the wallet {name}: its agents are not served, and /readyz says so, until that process ends"
    ));
    tokio::spawn(async move {
        while runtime.standing() != Standing::Held {
            tokio::time::sleep(LOOK).await;
        }
        output.remark(&format!("wallet {name}: it is here now, and its agents are served"));
        told_of_openings(name, runtime, output);
    });
    Ok(())
}

/// Beside the serving, and when the chain is read for something else anyway.
fn told_of_openings(name: String, runtime: Runtime, output: Output) {
    tokio::spawn(async move {
        if let Some(told) = runtime.unknown_openings().await {
            output.remark(&format!("warning: wallet {name}: {told}"));
        }
    });
}

fn of(wallet: &str, failure: Failure) -> Failure {
    Failure { message: format!("wallet {wallet}: {}", failure.message), ..failure }
}
