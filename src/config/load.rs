//! From layers to a checked [`Config`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use drain_protocol::Usdc;
use drain_signers::secret::Secret;

use super::chain;
use super::error::{Bad, ConfigError, quoted};
use super::file;
use super::keys::Key;
use super::sources::{Layers, Sources, others_can_look};
use super::values::{self, is_loopback};
use super::{
    ApprovalConfig, ChainConfig, Config, Keep, MarketplaceConfig, NotifyConfig, Password, PasswordFrom, RefundConfig,
    RequestConfig, SignerConfig,
};
use super::{journal, kms, ledger, serve, treasury, wallets};
use crate::operator;
use crate::policy::Limits;
use crate::policy::approvals::{Thresholds, Via};
use crate::policy::limits::Parties;
use crate::policy::refund::Settings;

/// The catalogue's path where the operator names a host only.
const DIRECTORY_PATH: &str = "/api/mcp/providers";

impl Config {
    /// Resolves defaults < file < environment < flags. Reads the configuration file and the files that hold secrets;
    /// contacts nobody.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let (mut layers, mut warnings) = sources.layers()?;
        let home = home(&mut layers)?;
        let parsed = file::find(&sources, &mut layers, &home)?;
        layers.layers.push(parsed.layer);
        warnings.extend(parsed.warnings);
        let wallet = wallets::choose(&mut layers, parsed.wallets)?;

        if layers.is_set(Key::ServerUrl) {
            warnings.push(format!(
                "{} counts for drain-mcp without a command only: this one works with the wallet that is configured here",
                Key::ServerUrl.spec().env
            ));
        }

        let journal = journal::settings(&mut layers)?;
        let chain = chain::resolve(&mut layers)?;
        let tempo = chain::tempo(&mut layers, &chain)?;
        let marketplace = marketplace(&mut layers)?;
        let treasury = treasury::settings(&mut layers)?;
        let signer = signer(&mut layers, &home)?;
        let device_wait = layers.or_table(Key::DeviceWait, values::wait)?;
        let device_wait = matches!(signer, SignerConfig::Ledger(_)).then_some(device_wait);
        let agent = layers.or_table(Key::Agent, values::name)?;
        let tools = layers.or_table(Key::Tools, values::tools)?;
        let limits = Arc::new(limits(&mut layers)?);
        let approvals = approvals(&mut layers)?;
        let asks = limits.approve.request.is_some() || limits.approve.deposit.is_some();
        if asks && approvals.via.contains(&Via::Terminal) && matches!(operator::is_set(&home), Ok(false)) {
            layers.warnings.push(
                "a person is asked on the terminal, but no operator's passphrase is set: an agent that can type there could set its own and say yes; set yours with drain-mcp approvals passphrase".into(),
            );
        }
        let notify = notify(&mut layers)?;
        let metrics = layers.or_table(Key::MetricsAddr, values::listen)?;
        if let Some(addr) = metrics.filter(|addr| !addr.ip().is_loopback()) {
            warnings.push(format!(
                "{}: whoever reaches {addr} reads balances, providers and agents' names; no password guards them",
                Key::MetricsAddr.spec().env
            ));
        }
        let refunds = RefundConfig {
            automatic: false,
            settings: Settings {
                idle: layers.or_table(Key::CloseIdle, values::idle)?,
                pol_in_usdc: layers.or_table(Key::PolUsdc, values::amount)?,
            },
        };
        let requests = requests(&mut layers)?;
        let serve = serve::settings(&mut layers)?;
        let play_money = play_money(&mut layers, &chain, tempo.as_ref(), &marketplace)?;
        warnings.append(&mut layers.warnings);
        Ok(Self {
            home,
            journal,
            chain,
            tempo,
            marketplace,
            wallet,
            signer,
            device_wait,
            treasury,
            agent,
            tools,
            limits,
            approvals,
            notify,
            metrics,
            refunds,
            requests,
            providers: parsed.providers,
            serve,
            play_money,
            warnings,
        })
    }
}

pub(super) fn home(layers: &mut Layers) -> Result<PathBuf, ConfigError> {
    let spec = Key::Home.spec();
    let Some(raw) = layers.get(Key::Home)? else {
        return values::path(spec.default, layers.person.as_deref()).map_err(|_| {
            Bad::new("neither DRAIN_HOME nor HOME is set", "Set DRAIN_HOME to the folder for drain-mcp's records")
                .at(spec.env)
        });
    };
    let path = raw.parse(|text| values::path(text, layers.person.as_deref()))?;
    if path.is_absolute() {
        return Ok(path);
    }
    let absolute = std::path::absolute(&path).map_err(|e| {
        Bad::new(format!("{} is relative, and this folder is gone: {e}", path.display()), "Write the whole path")
            .at(&raw.name)
    })?;
    layers.warnings.push(format!(
        "{} is relative: started from another folder, drain-mcp would use other records (now {})",
        raw.name,
        absolute.display()
    ));
    Ok(absolute)
}

fn marketplace(layers: &mut Layers) -> Result<MarketplaceConfig, ConfigError> {
    let mut directory_url = layers.or_table(Key::DirectoryUrl, values::plain_url)?;
    if directory_url.path() == "/" {
        directory_url.set_path(DIRECTORY_PATH);
    }
    let base_url = match layers.get(Key::MarketplaceUrl)? {
        Some(raw) => raw.parse(values::plain_url)?,
        None => {
            let mut origin = directory_url.clone();
            origin.set_path("/");
            origin.set_query(None);
            origin.set_fragment(None);
            origin
        }
    };
    for (key, url) in [(Key::DirectoryUrl, &directory_url), (Key::MarketplaceUrl, &base_url)] {
        if url.scheme() == "http" && !is_loopback(url) {
            layers.warnings.push(format!(
                "{}: {} is not encrypted; who sits between can answer anything",
                key.spec().env,
                values::shown_url(url)
            ));
        }
    }
    Ok(MarketplaceConfig {
        directory_url,
        base_url,
        timeout: layers.or_table(Key::MarketplaceTimeout, values::wait)?,
        max_age: layers.or_table(Key::DirectoryMaxAge, values::age)?,
        telemetry: layers.or_table(Key::Telemetry, values::switch)?,
    })
}

fn signer(layers: &mut Layers, home: &Path) -> Result<SignerConfig, ConfigError> {
    let key = layers.get(Key::PrivateKey)?;
    let keystore = layers.get(Key::Keystore)?;
    let (kms, kms_settings) = kms::settings(layers)?;
    let (ledger, ledger_settings) = ledger::settings(layers)?.unzip();
    // As the treasury it funds the key that signs, and is not that key.
    let is_treasury = treasury::is_ledger(layers)?;
    let ledger = ledger.filter(|_| !is_treasury);
    let default_path = home.join("keystore.json");
    let wish = layers.get(Key::Signer)?;
    let kind = match &wish {
        Some(raw) => raw.parse(signer_kind)?,
        None => match (&key, &keystore, &kms, &ledger) {
            (None, None, Some(kms), None) => built(Wish::AwsKms).map_err(|bad| bad.at(&kms.name))?,
            (None, None, None, Some(ledger)) => built(Wish::Ledger).map_err(|bad| bad.at(&ledger.name))?,
            _ if [&key, &keystore, &kms, &ledger].into_iter().flatten().count() > 1 => {
                let mut set = [&key, &keystore, &kms, &ledger].into_iter().flatten().map(|raw| raw.name.clone());
                let first = set.next().unwrap_or_default();
                return Err(Bad::new(
                    format!("{} is set too", set.collect::<Vec<_>>().join(" and ")),
                    "Set DRAIN_SIGNER to local, keystore, ledger or aws-kms, or keep one of them",
                )
                .at(first));
            }
            (Some(key), ..) => {
                if default_path.exists() {
                    layers.warnings.push(format!(
                        "{} is set and counts; the keystore {} is not used",
                        key.name,
                        default_path.display()
                    ));
                }
                Wish::Local
            }
            (None, Some(_), ..) => Wish::Keystore,
            _ if default_path.exists() => Wish::Keystore,
            _ => Wish::None,
        },
    };
    match kind {
        Wish::None => Ok(SignerConfig::None),
        Wish::Local => {
            let Some(raw) = key else {
                let at = wish.map_or_else(|| Key::Signer.spec().env.to_string(), |raw| raw.name);
                return Err(Bad::new(
                    "it says local, but no key is set",
                    "Set DRAIN_PRIVATE_KEY or DRAIN_PRIVATE_KEY_FILE",
                )
                .at(at));
            };
            // The signer's error tells what is wrong without any of the text.
            raw.parse(|text| {
                Secret::parse(text).map_err(|e| Bad::new(e.to_string(), "A wallet's export shows the key in this form"))
            })
            .map(SignerConfig::Local)
        }
        Wish::Keystore => {
            let path = match keystore {
                Some(raw) => raw.parse(|text| values::path(text, layers.person.as_deref()))?,
                None => default_path,
            };
            if others_can_look(&path) {
                layers.warnings.push(format!(
                    "the keystore {} can be read by other users, who can try passwords on it (chmod 600 it)",
                    path.display()
                ));
            }
            Ok(SignerConfig::Keystore { path, password: password(layers)? })
        }
        Wish::AwsKms => {
            if kms.is_none() {
                let at = wish.map_or_else(|| Key::Signer.spec().env.to_string(), |raw| raw.name);
                return Err(Bad::new(
                    "it says aws-kms, but no key is set",
                    "Set DRAIN_KMS_KEY_ID to the key's id or ARN",
                )
                .at(at));
            }
            Ok(SignerConfig::AwsKms(kms_settings))
        }
        Wish::Ledger if is_treasury => Err(Bad::new(
            "the Ledger is the treasury (DRAIN_TREASURY=ledger), which funds another key",
            "Set DRAIN_SIGNER to keystore, aws-kms or local, or take DRAIN_TREASURY away",
        )
        .at(Key::Signer.spec().env)),
        Wish::Ledger => ledger_settings.map(SignerConfig::Ledger).ok_or_else(|| {
            let at = wish.map_or_else(|| Key::Signer.spec().env.to_string(), |raw| raw.name);
            Bad::new(
                "it says ledger, but no account is set",
                "Set DRAIN_LEDGER_ADDRESS; drain-mcp wallet ledger list shows the device's accounts",
            )
            .at(at)
        }),
    }
}

/// From the strongest source; within one, a password and a command contradict each other.
fn password(layers: &mut Layers) -> Result<Option<PasswordFrom>, ConfigError> {
    let given = layers.ranked(Key::KeystorePassword)?;
    let command = layers.ranked(Key::KeystorePasswordCommand)?;
    Ok(match (given, command) {
        (Some((rank, given)), Some((other, command))) if rank == other => {
            return Err(Bad::new(format!("{} is set too", command.name), "Keep one of the two").at(given.name.clone()));
        }
        (Some((rank, given)), command) if command.as_ref().is_none_or(|(other, _)| rank < *other) => {
            Some(PasswordFrom::Given(Password::new(&given.text)))
        }
        (_, command) => command.map(|(_, command)| PasswordFrom::Command(command.text.to_string())),
    })
}

#[derive(Debug)]
enum Wish {
    None,
    Local,
    Keystore,
    AwsKms,
    Ledger,
}

/// What needs a feature of the build, or how to get it.
fn built(wish: Wish) -> Result<Wish, Bad> {
    let missing = match wish {
        Wish::AwsKms if !cfg!(feature = "aws") => "aws",
        Wish::Ledger if !cfg!(feature = "ledger") => "ledger",
        _ => return Ok(wish),
    };
    Err(Bad::new(
        format!("this drain-mcp was built without {missing}"),
        format!("Build with --features {missing}, or set DRAIN_SIGNER to local or keystore"),
    ))
}

fn signer_kind(text: &str) -> Result<Wish, Bad> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Ok(Wish::None),
        "local" => Ok(Wish::Local),
        "keystore" => Ok(Wish::Keystore),
        "ledger" => built(Wish::Ledger),
        "aws-kms" | "aws_kms" | "aws" | "kms" => built(Wish::AwsKms),
        _ => {
            Err(Bad::new(format!("{} is not a signer", quoted(text)), "Write local, keystore, ledger, aws-kms or none"))
        }
    }
}

fn limits(layers: &mut Layers) -> Result<Limits, ConfigError> {
    let limits = Limits {
        per_request: layers.or_table(Key::MaxPerRequest, values::amount)?,
        per_channel: layers.or_table(Key::MaxPerChannel, values::amount)?,
        per_payment: layers.or_table(Key::MaxPerPayment, values::amount)?,
        pay_hosts: hosts(layers, Key::PayHosts)?.unwrap_or_default(),
        per_hour: layers.or_table(Key::MaxPerHour, values::amount)?,
        per_day: layers.or_table(Key::MaxPerDay, values::amount)?,
        per_provider: layers.or_table(Key::MaxPerProvider, values::amount)?,
        per_agent: layers.or_table(Key::MaxPerAgent, values::amount)?,
        newcomers: layers.or_table(Key::MaxNewcomers, values::amount)?,
        locked: layers.or_table(Key::MaxLocked, values::amount)?,
        open_channels: layers.or_table(Key::MaxOpenChannels, |text| values::number(text, 0, 100_000))?,
        opens_per_hour: layers.or_table(Key::MaxOpensPerHour, |text| values::number(text, 0, 100_000))?,
        unlimited_allowance: layers.or_table(Key::UnlimitedAllowance, values::switch)?,
        session_fee: layers.or_table(Key::MaxSessionFee, values::amount)?,
        max_duration: layers.or_table(Key::MaxDuration, values::channel_duration)?,
        gas_per_transaction: layers.or_table(Key::MaxGasPerTransaction, values::pol)?,
        gas_per_day: layers.or_table(Key::MaxGasPerDay, values::pol)?,
        parties: Parties {
            allow_providers: names(layers, Key::AllowProviders)?,
            deny_providers: names(layers, Key::DenyProviders)?.unwrap_or_default(),
            allow_categories: names(layers, Key::AllowCategories)?,
            deny_categories: names(layers, Key::DenyCategories)?.unwrap_or_default(),
        },
        frozen: layers.or_table(Key::Freeze, values::switch)?,
        auto_open: layers.or_table(Key::AutoOpen, values::threshold)?.filter(|amount| !amount.is_zero()),
        approve: Thresholds {
            request: layers.or_table(Key::ApproveRequestsAbove, values::threshold)?,
            deposit: layers.or_table(Key::ApproveDepositsAbove, values::threshold)?,
        },
    };
    if limits.per_channel > limits.locked {
        layers.warnings.push(format!(
            "the limit of one channel ({} USDC) is above that of all open channels ({} USDC): the lower one counts",
            limits.per_channel, limits.locked
        ));
    }
    if limits.unlimited_allowance {
        layers.warnings.push("the allowance is unlimited: the channel contract may take all USDC of the wallet".into());
    }
    if limits.session_fee > Usdc::new(10_000) {
        layers.warnings.push(format!(
            "the session fee of V1 is 0.01 USDC; up to {} USDC is allowed here, and no more than 0.01 is ever signed",
            limits.session_fee
        ));
    }
    Ok(limits)
}

fn approvals(layers: &mut Layers) -> Result<ApprovalConfig, ConfigError> {
    Ok(ApprovalConfig {
        via: layers.or_table(Key::ApprovalsVia, values::ways)?,
        wait: layers.or_table(Key::ApprovalWait, values::age)?,
        valid: layers.or_table(Key::ApprovalValid, values::wait)?,
    })
}

fn notify(layers: &mut Layers) -> Result<NotifyConfig, ConfigError> {
    let command = layers.get(Key::NotifyCommand)?.map(|raw| raw.text.to_string());
    let webhook = layers.get(Key::NotifyWebhook)?.map(|raw| raw.parse(values::webhook)).transpose()?;
    Ok(NotifyConfig { command, webhook })
}

/// Several names, in lower case; `None` where nothing is set.
fn names(layers: &mut Layers, key: Key) -> Result<Option<Vec<String>>, ConfigError> {
    layers.get(key)?.map(|raw| values::names(&raw.items()).map_err(|bad| bad.at(&raw.name))).transpose()
}

/// Several hosts; `None` where nothing is set.
fn hosts(layers: &mut Layers, key: Key) -> Result<Option<Vec<String>>, ConfigError> {
    layers.get(key)?.map(|raw| values::hosts(&raw.items()).map_err(|bad| bad.at(&raw.name))).transpose()
}

fn requests(layers: &mut Layers) -> Result<RequestConfig, ConfigError> {
    Ok(RequestConfig {
        default_max_tokens: layers.or_table(Key::DefaultMaxTokens, |text| values::number(text, 1, 10_000_000))?,
        default_max_cost: layers.or_table(Key::DefaultMaxCost, values::amount)?,
        timeout: layers.or_table(Key::RequestTimeout, values::wait)?,
        stream: layers.or_table(Key::Stream, values::switch)?,
        max_answer_bytes: layers.or_table(Key::MaxAnswerBytes, |text| values::number(text, 1_024, 1 << 30))?,
        max_request_bytes: layers.or_table(Key::MaxRequestBytes, |text| values::number(text, 1_024, 1 << 30))?,
        queue: layers.or_table(Key::Queue, |text| values::number(text, 1, 10_000))?,
        request_id_time: layers.or_table(Key::RequestIdTime, values::days)?,
        keep: Keep {
            time: layers.or_table(Key::KeepAnswers, values::kept)?,
            bytes: layers.or_table(Key::AnswersMaxBytes, |text| values::number(text, 0, 1 << 40))?,
        },
        price_tolerance_percent: layers.or_table(Key::PriceTolerance, |text| values::number(text, 0, 1_000))?,
        allow_insecure: layers.or_table(Key::AllowInsecure, values::switch)?,
        default_duration: layers.or_table(Key::DefaultDuration, values::channel_duration)?,
    })
}

/// The mark says that nothing has any value. A node of one's own may serve the real chain, so it takes a marketplace on
/// this machine too, as the sandbox has: together they are nobody's real set-up.
fn play_money(
    layers: &mut Layers,
    chain: &ChainConfig,
    tempo: Option<&ChainConfig>,
    marketplace: &MarketplaceConfig,
) -> Result<bool, ConfigError> {
    let Some(raw) = layers.get(Key::PlayMoney)? else { return Ok(false) };
    let wished = raw.parse(values::switch)?;
    let tempo = tempo.into_iter().flat_map(|tempo| &tempo.rpc_urls);
    let here = chain.rpc_urls.iter().chain(tempo).chain([&marketplace.directory_url]).all(is_loopback);
    if wished && !here {
        return Err(Bad::new(
            "it is on, but an RPC endpoint or the directory is not on this machine: money may be real",
            "Unset it, or set DRAIN_RPC_URL and DRAIN_DIRECTORY_URL to the sandbox, and DRAIN_TEMPO_RPC_URL to nothing",
        )
        .at(raw.name));
    }
    Ok(wished)
}
