//! `drain-mcp wallet`: the key and the money on it. Only a person does these things; no MCP tool reaches them (M5).

mod backup;
mod create;
mod export;
mod freeze;
mod fund;
mod import;
mod send;
mod sweep;
mod unfreeze;

use std::path::{Path, PathBuf};

use drain_protocol::{Address, deployment};
use drain_signers::{Secret, SignerError, keystore};
use serde_json::json;

use super::balance;
use super::exit::Exit;
use super::password::resolve;
use super::prompt::{Terminal, new_password};
use super::session::{Needs, Session};
use super::signer::{failed, find_address, no_signer};
use crate::config::{Config, Password, SignerConfig};
use crate::error::{Code, Failure};

/// The wallet's commands.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  drain-mcp wallet new
  drain-mcp wallet balance
  drain-mcp wallet send --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --amount all --token usdc

Use a wallet of its own for drain-mcp, with $1-5 of native USDC on Polygon and about 0.10 POL for gas.")]
pub enum Command {
    /// Make a wallet: a recovery phrase, shown once, and an encrypted keystore
    New(create::Args),
    /// Take over a wallet from its recovery phrase or private key
    Import(import::Args),
    /// Show the private key on the terminal
    Export(export::Args),
    /// Show the wallet's address
    Address(AddressArgs),
    /// Show what the wallet holds and what to do about it
    Balance(balance::Args),
    /// Send USDC or POL from the wallet
    Send(send::Args),
    /// Say whether the key's backup is confirmed, and confirm it
    Backup(backup::Args),
    /// Send USDC and POL from the treasury's Ledger to the wallet
    Fund(fund::Args),
    /// Send what the wallet does not need back to the treasury
    Sweep(sweep::Args),
    /// Ask the marketplace's gas station for a little POL
    Gas(GasArgs),
    /// Look at a Ledger device
    #[command(subcommand)]
    Ledger(super::ledger::Command),
    /// Stop all paying at once
    Freeze(freeze::Args),
    /// Let a frozen wallet pay again (asks you first)
    Unfreeze(unfreeze::Args),
}

/// Arguments of `drain-mcp wallet address`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet address
  drain-mcp wallet address --json | jq -r .address")]
pub struct AddressArgs {}

/// Arguments of `drain-mcp wallet gas`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet gas

The gas station gives a little POL to wallets with at least 5 USDC and no POL. It learns the wallet's address.")]
pub struct GasArgs {}

impl Command {
    /// Its name in logs and in the record.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::New(_) => "wallet new",
            Self::Import(_) => "wallet import",
            Self::Export(_) => "wallet export",
            Self::Address(_) => "wallet address",
            Self::Balance(_) => "wallet balance",
            Self::Send(_) => "wallet send",
            Self::Backup(_) => "wallet backup",
            Self::Fund(_) => "wallet fund",
            Self::Sweep(_) => "wallet sweep",
            Self::Gas(_) => "wallet gas",
            Self::Ledger(_) => "wallet ledger",
            Self::Freeze(_) => "wallet freeze",
            Self::Unfreeze(_) => "wallet unfreeze",
        }
    }

    /// Whether it writes a keystore: that one counts then, whatever key is configured.
    pub(super) const fn writes_keystore(&self) -> bool {
        matches!(self, Self::New(_) | Self::Import(_))
    }
}

pub(super) async fn run(command: Command, session: &mut Session) -> Result<Exit, Failure> {
    match command {
        Command::New(args) => create::run(&args, session).await,
        Command::Import(args) => import::run(&args, session).await,
        Command::Export(args) => export::run(&args, session),
        Command::Address(_) => address(session).await,
        Command::Balance(args) => balance::run(args, session).await,
        Command::Send(args) => send::run(args, session).await,
        Command::Backup(_) => backup::run(session),
        Command::Fund(args) => fund::run(args, session).await,
        Command::Sweep(_) => sweep::run(session).await,
        Command::Gas(_) => gas(session).await,
        // Handled before a session exists.
        Command::Ledger(_) => Ok(Exit::Ok),
        Command::Freeze(args) => freeze::run(args, session).await,
        Command::Unfreeze(_) => unfreeze::run(session).await,
    }
}

async fn address(session: &mut Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    if matches!(config.signer, SignerConfig::None) {
        return Err(no_signer());
    }
    let address = find_address(config).await?.ok_or_else(|| {
        Failure::unspent(
            Code::SignerFailed,
            "The keystore does not say its address.",
            "drain-mcp balance opens it and shows the address.",
        )
    })?;
    session.output.answer(&json!({ "address": address.to_string() }), || address.to_string())?;
    Ok(Exit::Ok)
}

async fn gas(session: &mut Session) -> Result<Exit, Failure> {
    let answer = session.run(Needs::Wallet, async |runtime, _| runtime.request_gas().await).await?;
    session.output.answer(&json!({ "gas_station": answer }), || format!("The gas station sends POL: {answer}"))?;
    Ok(Exit::Ok)
}

/// What to send to a wallet.
fn funding(address: Address) -> String {
    format!(
        "Send to {address}:\n  $1-5 of native USDC on Polygon ({}) and about 0.10 POL for gas.\n\
         Use this wallet for nothing else and keep less than $50 on it. Bridged USDC.e ({}) does not count.\n\
         With 5 USDC and no POL, drain-mcp wallet gas asks the marketplace's gas station.",
        deployment::POLYGON_USDC,
        deployment::POLYGON_USDC_E
    )
}

/// Where a new key goes and with which password, if one is configured.
async fn target(config: &mut Config) -> Result<(PathBuf, Option<Password>), Failure> {
    let (path, from) = match &mut config.signer {
        SignerConfig::Keystore { path, password } => (path.clone(), password.take()),
        _ => (config.home.join("keystore.json"), None),
    };
    let password = match from {
        Some(from) => Some(resolve(from).await?),
        None => None,
    };
    Ok((path, password))
}

/// Refuses before a person types anything: a keystore is never overwritten.
fn need_free(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(failed(&SignerError::KeystoreExists { path: path.into() }));
    }
    Ok(())
}

/// The configured password, or one that the person types twice.
fn password(given: Option<Password>, terminal: &mut dyn Terminal) -> Result<Password, Failure> {
    match given {
        Some(password) => Ok(password),
        None if terminal.present() => {
            new_password(terminal, "New password for the keystore").map(|typed| Password::new(&typed))
        }
        None => Err(Failure::unspent(
            Code::InvalidArgument,
            "The keystore needs a password, and nobody is here to type it.",
            super::signer::NO_PASSWORD,
        )),
    }
}

/// Writes the keystore into a folder that only its owner reads.
fn store(path: &Path, secret: &Secret, password: &Password) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        private_folder(folder).map_err(|e| {
            Failure::unspent(
                Code::SignerFailed,
                format!("The folder {} cannot be made: {e}.", folder.display()),
                "Correct DRAIN_HOME or DRAIN_KEYSTORE.",
            )
        })?;
    }
    keystore::create(path, secret, password.expose()).map_err(|e| failed(&e))
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// A key that the environment names counts before the keystore that was just written.
fn shadowed(session: &Session) {
    let set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let keys = ["DRAIN_PRIVATE_KEY", "DRAIN_PRIVATE_KEY_FILE", "DRAIN_KMS_KEY_ID", "DRAIN_LEDGER_ADDRESS"];
    // A treasury funds the key, and is not it.
    let signs = |name: &&&str| **name != "DRAIN_LEDGER_ADDRESS" || !set(&"DRAIN_TREASURY");
    if let Some(name) = keys.iter().filter(signs).find(|name| set(name))
        && !session.plays()
    {
        session.output.remark(&format!(
            "warning: {name} is set and counts before this keystore; unset it, or set DRAIN_SIGNER=keystore"
        ));
    }
}
