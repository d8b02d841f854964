//! Looks: at the machine, the chain and the marketplace, all at once.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drain_protocol::{Address, Deployment, Usdc, deployment};
use futures::future::join_all;

use super::super::signer::{find_address, no_signer};
use super::super::{kms, ledger};
use super::judge::{self, failed};
use super::report::{Line, Report};
use crate::actors::startup;
use crate::api::OpeningsFound;
use crate::chain::Chain;
use crate::config::{ChainConfig, Config, SignerConfig, shown_url};
use crate::error::Failure;
use crate::http_client::{HttpClient, UrlPolicy};
use crate::journal::{self, Journal};
use crate::marketplace::MarketplaceClient;

pub(super) async fn everything(config: &Config) -> Report {
    let (key, address) = key(config).await;
    let mut checks = vec![configuration(config), key, home(&config.home)];
    checks.extend(
        config.warnings.iter().map(|warning| Line::warn("config", warning.clone(), "See docs/configuration.md.")),
    );
    let (journal, chain, tempo, directory) = futures::join!(
        records(config, address),
        chain(config, address),
        over_tempo(config, address),
        directory(config)
    );
    checks.extend(journal);
    checks.extend(chain);
    checks.extend(tempo);
    checks.push(directory);
    Report::new(checks)
}

fn configuration(config: &Config) -> Line {
    Line::ok("config", format!("home {}, chain {}, {}", config.home.display(), config.chain.chain_id, config.limits))
}

async fn key(config: &Config) -> (Line, Option<Address>) {
    let found = find_address(config).await;
    let line = match (&config.signer, &found) {
        (_, Err(failure)) => failed("key", failure.clone()),
        (SignerConfig::AwsKms(settings), _) => kms::examine(settings).await,
        (SignerConfig::Ledger(settings), _) => ledger::examine(settings).await,
        (SignerConfig::None, _) => {
            let failure = no_signer();
            Line::warn("key", format!("{} Providers and docs can be read.", failure.message), failure.next)
        }
        (SignerConfig::Local(_), Ok(address)) => Line::ok("key", format!("private key of {}", shown(*address))),
        (SignerConfig::Keystore { path, password }, Ok(address)) => {
            let found = format!("keystore {} of {}", path.display(), shown(*address));
            match password {
                Some(_) => Line::ok("key", format!("{found}, password configured")),
                None => Line::warn(
                    "key",
                    format!("{found}, no password configured"),
                    "An MCP client cannot type it: set DRAIN_KEYSTORE_PASSWORD_FILE (chmod 600) or DRAIN_KEYSTORE_PASSWORD_COMMAND for the server.",
                ),
            }
        }
    };
    (line, found.ok().flatten())
}

fn shown(address: Option<Address>) -> String {
    address.map_or_else(|| "an account that it does not name".into(), |address| address.to_string())
}

fn home(folder: &Path) -> Line {
    match std::fs::metadata(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Line::ok("home", format!("{} is made when needed", folder.display()))
        }
        Err(e) => {
            Line::fail("home", format!("{}: {e}", folder.display()), "Correct DRAIN_HOME or the folder's permissions.")
        }
        Ok(meta) if !meta.is_dir() => {
            Line::fail("home", format!("{} is no folder", folder.display()), "Correct DRAIN_HOME.")
        }
        Ok(_) if others_can_read(folder) => Line::warn(
            "home",
            format!("{}: other users can look into it", folder.display()),
            format!("chmod 700 {}", folder.display()),
        ),
        Ok(_) => Line::ok("home", format!("{} is private", folder.display())),
    }
}

#[cfg(unix)]
fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_can_read(_: &Path) -> bool {
    false
}

/// The server that holds the journal, where one does.
#[cfg(feature = "postgres")]
async fn database(location: journal::Location) -> Option<Line> {
    let (server, schema) = location.server()?.clone();
    let name = server.to_string();
    let examined = tokio::task::spawn_blocking(move || journal::server::examine(&server, &schema)).await;
    Some(match examined {
        Err(e) => Line::fail("database", e.to_string(), "Report this."),
        Ok(Err(error)) => failed("database", error),
        Ok(Ok(examined)) => judge::database(&name, &examined),
    })
}

#[cfg(not(feature = "postgres"))]
async fn database(_: journal::Location) -> Option<Line> {
    None
}

/// Lock and journal of the wallet, and the server that holds it. Nothing is made where nothing is.
async fn records(config: &Config, address: Option<Address>) -> Vec<Line> {
    let Some(address) = address else { return Vec::new() };
    let location = startup::location(config, address);
    let mut lines = journal(location.clone()).await;
    // Asked when there is a schema.
    lines.extend(database(location).await);
    lines
}

async fn journal(location: journal::Location) -> Vec<Line> {
    if !location.is_made() {
        return vec![Line::ok("journal", "none yet; made when the wallet is first used")];
    }
    let opened = tokio::task::spawn_blocking(move || match journal::take(&location)? {
        Some(hold) => Journal::open(hold).map(Some),
        None => Ok(None),
    });
    match opened.await {
        Err(e) => vec![Line::fail("journal", e.to_string(), "Report this.")],
        Ok(Err(error)) => vec![failed("journal", error)],
        Ok(Ok(None)) => {
            vec![Line::ok("lock", "another drain-mcp has this wallet now; commands and MCP clients share it")]
        }
        Ok(Ok(Some((journal, _lock)))) => match futures::try_join!(journal.channels(false), journal.notice()) {
            Ok((open, notice)) => {
                let found = format!("readable and of this version; {} channels not over", open.len());
                let notice = notice.map(|notice| Line::warn("journal", notice, "Run drain-mcp channels recover."));
                [Line::ok("lock", "free"), Line::ok("journal", found)].into_iter().chain(notice).collect()
            }
            Err(error) => vec![failed("journal", error)],
        },
    }
}

async fn chain(config: &Config, address: Option<Address>) -> Vec<Line> {
    let single = |url: &reqwest::Url| ChainConfig { rpc_urls: vec![url.clone()], ..config.chain.clone() };
    let seen = join_all(config.chain.rpc_urls.iter().map(|url| endpoint(shown_url(url), single(url)))).await;
    let reachable = seen.iter().filter(|(_, reachable)| *reachable).count();
    let mut lines: Vec<Line> = seen.into_iter().map(|(line, _)| line).collect();
    lines.extend(judge::endpoints(reachable, config.chain.rpc_urls.len()));
    if reachable == 0 {
        return lines;
    }
    let chain = match Chain::new(&config.chain) {
        Ok(chain) => chain,
        Err(error) => return lines.into_iter().chain([failed("rpc", error)]).collect(),
    };
    let contracts = join_all(config.chain.deployments.iter().map(|on| contract(&chain, on))).await;
    lines.extend(contracts.into_iter().flatten());
    if config.chain.deployments.is_empty() {
        lines.push(Line::warn(
            "contract",
            format!("no channel contract is known on chain {}", config.chain.chain_id),
            "Set DRAIN_CONTRACT to your own deployment; until then providers can only be looked at.",
        ));
    }
    if let Some(address) = address {
        lines.extend(money(config, &chain, address).await);
    }
    lines
}

/// Tempo's chain, where requests are paid over it too.
async fn over_tempo(config: &Config, address: Option<Address>) -> Vec<Line> {
    let Some(tempo) = &config.tempo else { return Vec::new() };
    let seen = join_all(
        tempo
            .rpc_urls
            .iter()
            .map(|url| endpoint(shown_url(url), ChainConfig { rpc_urls: vec![url.clone()], ..tempo.clone() })),
    );
    let mut lines: Vec<Line> = seen.await.into_iter().map(|(line, _)| line).collect();
    let (Some(address), Ok(chain)) = (address, Chain::new(tempo)) else { return lines };
    let tokens = drain_protocol::tempo::tokens(tempo.chain_id);
    let held = join_all(tokens.iter().map(|token| chain.usdc_balance(*token, address))).await;
    // A token may not be on a test chain.
    let known: Vec<(Address, Usdc)> =
        tokens.iter().zip(&held).filter_map(|(token, held)| Some((*token, held.clone().ok()?))).collect();
    lines.push(match held.into_iter().find_map(Result::err) {
        Some(error) if known.is_empty() => failed("tempo", error),
        _ => judge::over_tempo(tempo.chain_id, &known),
    });
    lines
}

async fn endpoint(host: String, config: ChainConfig) -> (Line, bool) {
    let started = Instant::now();
    let head = match Chain::new(&config) {
        Ok(chain) => chain.head().await.map(|head| (head.number, head.timestamp)),
        Err(error) => Err(error),
    };
    let reachable = head.is_ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    (judge::endpoint(&host, head, started.elapsed(), now), reachable)
}

async fn contract(chain: &Chain, on: &Deployment) -> Vec<Line> {
    let (verified, owner, fee) = futures::join!(chain.verify_deployment(on), chain.owner(on), chain.fee(on));
    judge::contract(on, verified, owner, fee)
}

async fn money(config: &Config, chain: &Chain, address: Address) -> Vec<Line> {
    let chain_id = config.chain.chain_id;
    let token = config.chain.deployments.first().map(|on| on.usdc).or(deployment::usdc(chain_id));
    let Some(token) = token else { return Vec::new() };
    let (held, bridged) = futures::join!(
        async { futures::try_join!(chain.usdc_balance(token, address), chain.native_balance(address)) },
        async {
            match chain_id {
                deployment::POLYGON => {
                    chain.usdc_balance(deployment::POLYGON_USDC_E, address).await.unwrap_or_default()
                }
                _ => Usdc::ZERO,
            }
        }
    );
    let (usdc, pol_wei) = match held {
        Ok(held) => held,
        Err(error) => return vec![failed("usdc", error)],
    };
    let mut lines = judge::wallet(&judge::Holdings { address, chain_id, usdc, pol_wei, bridged });
    let limits = &config.limits;
    for on in &config.chain.deployments {
        lines.push(match chain.allowance(on.usdc, address, on.contract()).await {
            Ok(allowance) => judge::allowance(on, allowance, limits.locked, limits.unlimited_allowance),
            Err(error) => failed("allowance", error),
        });
    }
    lines.push(match openings(config, chain, address).await {
        Ok(found) => judge::openings(&found),
        Err(failure) => Line::warn("openings", failure.message, "Look again later."),
    });
    lines
}

/// Whether the record knows every channel that the contracts count; read beside who has the wallet.
async fn openings(config: &Config, chain: &Chain, address: Address) -> Result<Vec<OpeningsFound>, Failure> {
    let location = startup::location(config, address);
    let chain_id = config.chain.chain_id;
    let mut found = Vec::new();
    for on in &config.chain.deployments {
        let (location, contract) = (location.clone(), on.contract());
        let known = tokio::task::spawn_blocking(move || {
            journal::backup::known_openings(&location, chain_id, contract, address)
        });
        let known = known.await.map_err(|e| Failure::internal(e.to_string()))??;
        let last = chain.finalized_number().await?;
        found.push(OpeningsFound {
            contract,
            generation: on.generation,
            on_chain: chain.opened_count_at(on, address, last.into()).await?,
            known: known.recorded.saturating_add(known.opening),
        });
    }
    Ok(found)
}

async fn directory(config: &Config) -> Line {
    let policy = UrlPolicy::new(&config.marketplace.directory_url, config.requests.allow_insecure);
    let client = MarketplaceClient::new(HttpClient::new(policy), &config.marketplace);
    let host = shown_url(&config.marketplace.directory_url);
    match client.catalogue().await {
        Err(error) => failed("directory", error.into_marketplace_failure()),
        Ok(found) if found.listings.is_empty() => Line::warn(
            "directory",
            format!("{host}: it lists nobody"),
            "Look again later, or correct DRAIN_DIRECTORY_URL.",
        ),
        Ok(found) => {
            let known = |contract| config.chain.deployments.iter().any(|on| on.contract() == contract);
            let text = format!("{host}: {} providers, {} entries left out", found.listings.len(), found.skipped);
            match found.contract {
                Some(other) if !known(other) => Line::warn(
                    "directory",
                    format!("{text}; it names the contract {other}, which is not known here"),
                    "Nothing is ever sent there. Make sure that DRAIN_CHAIN_ID and DRAIN_DIRECTORY_URL belong together.",
                ),
                _ => Line::ok("directory", text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;
    use crate::config::Sources;

    fn line<'a>(report: &'a Report, check: &str) -> &'a Line {
        report.checks.iter().find(|line| line.check == check).unwrap_or_else(|| panic!("{check} in {report:?}"))
    }

    #[cfg(feature = "sandbox")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sound_set_up_has_no_failures() {
        crate::cli::harden::tls();
        let sandbox = drain_sandbox::Sandbox::start(drain_sandbox::SandboxConfig::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut pairs = sandbox.env();
        pairs.push(("DRAIN_HOME".into(), folder.path().display().to_string()));
        let report = everything(&Config::load(Sources::from_pairs(pairs)).unwrap()).await;
        assert!(report.ok, "{}", report.text());
        for check in [
            "key",
            "home",
            "journal",
            "rpc",
            "contract",
            "owner",
            "fee",
            "usdc",
            "gas",
            "allowance",
            "openings",
            "directory",
        ] {
            line(&report, check);
        }
        assert_eq!(line(&report, "usdc").status, Status::Warn, "100 USDC is much");
        assert_eq!(line(&report, "directory").status, Status::Ok);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_down_is_said_with_its_remedy() {
        crate::cli::harden::tls();
        // Nothing listens there.
        let dead = "http://127.0.0.1:9";
        let pairs = [
            ("HOME", "/nonexistent"),
            ("DRAIN_RPC_URL", dead),
            ("DRAIN_DIRECTORY_URL", dead),
            ("DRAIN_RPC_TIMEOUT", "1s"),
        ];
        let report = everything(&Config::load(Sources::from_pairs(pairs)).unwrap()).await;
        assert!(!report.ok);
        assert_eq!(line(&report, "key").status, Status::Warn);
        assert_eq!(line(&report, "rpc").status, Status::Fail);
        assert_eq!(line(&report, "directory").status, Status::Fail);
        assert!(
            report
                .checks
                .iter()
                .all(|line| line.status == Status::Ok || line.fix.as_ref().is_some_and(|fix| !fix.is_empty()))
        );
    }
}
