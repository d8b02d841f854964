//! A Ledger device, from its settings; `drain-mcp wallet ledger`; and the hidden process that reaches one on USB.

use std::process::ExitCode;

use drain_signers::{LedgerSettings, SharedBackend};

use super::doctor::Line;
use super::exit::Exit;
use super::output::Output;
use crate::error::Failure;

/// Commands of `drain-mcp wallet ledger`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  drain-mcp wallet ledger list

The device must be connected and unlocked, with its Ethereum app open. docs/signers.md has the whole set-up.")]
pub enum Command {
    /// Show the device's accounts and what to set for one of them
    List(ListArgs),
}

/// Arguments of `drain-mcp wallet ledger list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet ledger list
  drain-mcp wallet ledger list --count 10
  drain-mcp wallet ledger list --pick 2
  drain-mcp wallet ledger list --json | jq -r '.accounts[0].address'

It asks for no press and signs nothing.")]
pub struct ListArgs {
    /// Accounts of each kind of path
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub count: u32,
    /// The number of the account to use, instead of a question
    #[arg(long)]
    pub pick: Option<usize>,
    /// Host and port of an emulator in place of USB
    #[arg(long, env = "DRAIN_LEDGER_EMULATOR", value_name = "HOST:PORT")]
    pub emulator: Option<String>,
}

/// Arguments of the hidden process.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp ledger-pipe

Not for people: frames in, frames out.")]
pub struct PipeArgs {}

#[cfg(feature = "ledger")]
mod with_device {
    use std::sync::Arc;

    use drain_protocol::Address;
    use drain_signers::SignerError;
    use drain_signers::ledger::{Connect, HdPath, LedgerBackend, accounts, usb};
    use serde_json::json;

    use super::super::prompt::{Terminal, Tty, terminal_failed};
    use super::super::signer::failed;
    use super::*;
    use crate::error::Code;

    /// The same program as a child, or an emulator.
    fn connect(emulator: Option<String>) -> Result<Connect, Failure> {
        if let Some(address) = emulator {
            return Ok(Connect::Tcp(address));
        }
        let program = std::env::current_exe()
            .map_err(|e| Failure::internal(format!("the path of this program is not known: {e}")))?;
        Ok(Connect::Child { program, args: vec!["ledger-pipe".into()] })
    }

    pub fn backend(settings: LedgerSettings) -> Result<SharedBackend, Failure> {
        let LedgerSettings { path, address, emulator, patience } = settings;
        Ok(Arc::new(LedgerBackend::new(connect(emulator)?, path, address, patience)))
    }

    pub async fn examine(settings: &LedgerSettings) -> Line {
        let backend = match backend(settings.clone()) {
            Ok(backend) => backend,
            Err(failure) => return Line::fail("key", failure.message, failure.next),
        };
        let ways = backend.capabilities();
        let found = format!(
            "{} account {} at {}; each signature is a press, {} at a time, waited for up to {} s; shows what is signed with Raw messages on",
            ways.kind,
            settings.address,
            settings.path,
            ways.concurrency,
            settings.patience.as_secs(),
        );
        let listed = match connect(settings.emulator.clone()) {
            Ok(connect) => accounts(&connect, std::slice::from_ref(&settings.path)).await,
            Err(failure) => return Line::fail("key", failure.message, failure.next),
        };
        match listed {
            Ok(there) if there == [settings.address] => Line::ok("key", format!("{found}; the device is connected")),
            Ok(there) => Line::fail(
                "key",
                format!("{found}; the connected device has {} there", shown(&there)),
                "Connect the right device, or correct DRAIN_LEDGER_ADDRESS or DRAIN_LEDGER_PATH.",
            ),
            Err(error) => Line::warn("key", format!("{found}; now: {error}"), remedy(settings)),
        }
    }

    /// Nothing is wrong with a set-up whose device lies in a drawer.
    fn remedy(settings: &LedgerSettings) -> String {
        let mut text = "The device is needed when something is signed.".to_owned();
        if cfg!(target_os = "linux") && settings.emulator.is_none() {
            text.push_str(&format!(
                " On Linux this user may open it with this line in /etc/udev/rules.d/20-ledger.rules: {} \
                 then: sudo udevadm control --reload && sudo udevadm trigger",
                usb::UDEV_RULE
            ));
        }
        text
    }

    fn shown(accounts: &[Address]) -> String {
        accounts.first().map_or_else(|| "no account".into(), Address::to_string)
    }

    pub async fn list(args: &ListArgs, output: Output) -> Result<(), Failure> {
        let paths: Vec<HdPath> =
            (0..args.count).map(HdPath::ledger_live).chain((0..args.count).map(HdPath::legacy)).collect();
        let found = accounts(&connect(args.emulator.clone())?, &paths).await.map_err(|error| failure(&error))?;
        let all: Vec<(HdPath, Address)> = paths.into_iter().zip(found).collect();
        let table = table(&all, args.count as usize);
        let pick = match args.pick {
            None if !output.json && Tty.present() => {
                output.remark(&table);
                ask(&mut Tty, all.len())?
            }
            pick => pick,
        };
        let chosen = match pick {
            None => None,
            Some(number) => Some(number.checked_sub(1).and_then(|n| all.get(n)).ok_or_else(|| not_there(all.len()))?),
        };
        let object = |(path, address): &(HdPath, Address)| json!({ "path": path.to_string(), "address": address });
        let value = json!({
            "accounts": all.iter().map(object).collect::<Vec<_>>(),
            "chosen": chosen.map(object),
        });
        output.answer(&value, || match chosen {
            Some(chosen) => lines(chosen, args.emulator.as_deref()),
            None => format!("{table}\n\nTo use one: drain-mcp wallet ledger list --pick NUMBER shows what to set."),
        })
    }

    fn failure(error: &SignerError) -> Failure {
        let next =
            "Then run it again; on Linux drain-mcp doctor prints the udev rule. docs/signers.md has the whole set-up.";
        Failure { next: next.into(), ..failed(error) }
    }

    fn not_there(count: usize) -> Failure {
        Failure::unspent(
            Code::InvalidArgument,
            format!("There is no such account in the list of {count}."),
            "Give a number of the list; --count makes it longer.",
        )
    }

    fn table(all: &[(HdPath, Address)], live: usize) -> String {
        let mut text = String::from("Accounts as Ledger Live numbers them:");
        for (n, (path, address)) in all.iter().enumerate() {
            if n == live {
                text.push_str("\nAccounts as older wallets number them (legacy):");
            }
            text.push_str(&format!("\n{:>4}  {address}  {path}", n + 1));
        }
        text
    }

    /// Enter picks none.
    fn ask(terminal: &mut dyn Terminal, count: usize) -> Result<Option<usize>, Failure> {
        let typed = terminal.line("Which one signs? (number, Enter for none) ").map_err(terminal_failed)?;
        match typed.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| not_there(count)),
        }
    }

    fn lines((path, address): &(HdPath, Address), emulator: Option<&str>) -> String {
        let mut text = format!(
            "Set these, in the MCP client's configuration or the environment:\n  DRAIN_SIGNER=ledger\n  DRAIN_LEDGER_ADDRESS={address}\n  DRAIN_LEDGER_PATH=\"{path}\""
        );
        if let Some(emulator) = emulator {
            text.push_str(&format!("\n  DRAIN_LEDGER_EMULATOR={emulator}"));
        }
        text
    }
}

#[cfg(feature = "ledger")]
pub(super) use with_device::{backend, examine};

/// Runs `drain-mcp wallet ledger`.
#[cfg(feature = "ledger")]
pub(super) async fn run(Command::List(args): Command, json: bool) -> ExitCode {
    let output = Output { json, play_money: false };
    match with_device::list(&args, output).await {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            output.failure(&failure);
            Exit::of(&failure).into()
        }
    }
}

/// The process that carries commands to a device on USB. Reads no configuration, holds no key.
#[cfg(feature = "ledger")]
pub(super) fn pipe() -> ExitCode {
    match drain_signers::ledger::pipe::serve() {
        Ok(()) => Exit::Ok.into(),
        Err(_) => Exit::Failed.into(),
    }
}

#[cfg(not(feature = "ledger"))]
pub(super) fn backend(_: LedgerSettings) -> Result<SharedBackend, Failure> {
    Err(super::built_without("ledger"))
}

#[cfg(not(feature = "ledger"))]
pub(super) async fn examine(_: &LedgerSettings) -> Line {
    let failure = super::built_without("ledger");
    Line::fail("key", failure.message, failure.next)
}

/// Says what is missing.
#[cfg(not(feature = "ledger"))]
pub(super) async fn run(_: Command, json: bool) -> ExitCode {
    let failure = super::built_without("ledger");
    Output { json, play_money: false }.failure(&failure);
    Exit::of(&failure).into()
}

#[cfg(not(feature = "ledger"))]
pub(super) fn pipe() -> ExitCode {
    Exit::Usage.into()
}
