//! `drain-mcp wallet export`: the private key, on a terminal, for a person who asks twice.

use std::path::Path;

use alloy::signers::local::PrivateKeySigner;
use drain_protocol::Address;
use drain_signers::keystore;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

use super::super::exit::Exit;
use super::super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::super::session::Session;
use super::super::signer::{failed, no_signer};
use crate::config::SignerConfig;
use crate::error::{Code, Failure};

/// What a person types who means it.
const CONFIRMATION: &str = "show my key";

/// Arguments of `drain-mcp wallet export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet export

The key appears on the terminal alone, never in a pipe or file. Who sees it has the money. The keystore itself can be
copied as it is: geth and other wallets read it with its password.")]
pub struct Args {}

pub(super) fn run(_: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let path = match &session.config()?.signer {
        SignerConfig::None => return Err(no_signer()),
        SignerConfig::Local(_) => {
            return Err(Failure::unspent(
                Code::InvalidArgument,
                "The key comes from DRAIN_PRIVATE_KEY or a file that you named: there is nothing to export.",
                "Read it where you set it. DRAIN_SIGNER=keystore exports the keystore instead.",
            ));
        }
        SignerConfig::AwsKms(_) => {
            return Err(Failure::unspent(
                Code::InvalidArgument,
                "The key is in AWS KMS, which gives it to nobody: there is nothing to export.",
                "To move the money elsewhere, close the channels and use drain-mcp wallet send.",
            ));
        }
        SignerConfig::Ledger(_) => {
            return Err(Failure::unspent(
                Code::InvalidArgument,
                "The key is in a Ledger, which gives it to nobody: there is nothing to export.",
                "Its recovery words are its backup.",
            ));
        }
        SignerConfig::Keystore { path, .. } => path.clone(),
    };
    let address = export(&path, &mut Tty)?;
    session.output.answer(&json!({ "address": address.to_string(), "shown": true }), || {
        format!("That was the key of {address}.")
    })?;
    Ok(Exit::Ok)
}

fn export(path: &Path, terminal: &mut dyn Terminal) -> Result<Address, Failure> {
    need_terminal(terminal, "Showing a private key")?;
    keystore::address_of(path).map_err(|e| failed(&e))?;
    let ask = format!("Who sees the key has the money. Type \"{CONFIRMATION}\" to see it: ");
    if terminal.line(&ask).map_err(terminal_failed)? != CONFIRMATION {
        return Err(Failure::unspent(Code::Cancelled, "Not confirmed; nothing was shown.", "Run the command again."));
    }
    // Always typed, even where a password is configured: it proves that the owner is here.
    let password = terminal.secret(&format!("Password of {}: ", path.display())).map_err(terminal_failed)?;
    // Our own backend has no way out for a key; it says what is wrong with the file or the password.
    let address = drain_signers::Backend::address(&keystore::open(path, &password).map_err(|e| failed(&e))?);
    let signer = PrivateKeySigner::decrypt_keystore(path, password.as_str())
        .map_err(|_| Failure::internal("the keystore opens for signing but not for export"))?;
    let mut bytes = signer.to_bytes();
    let key = Zeroizing::new(alloy::hex::encode_prefixed(bytes));
    bytes.0.zeroize();
    let line = Zeroizing::new(format!("\n{}\n", key.as_str()));
    terminal.show(&line).map_err(terminal_failed)?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::super::super::prompt::Script;
    use super::*;
    use drain_signers::Secret;

    const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    #[test]
    fn the_key_appears_on_a_terminal_for_who_means_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.json");
        keystore::create(&path, &Secret::parse(KEY).unwrap(), "pw").unwrap();
        let mut script = Script::of([CONFIRMATION, "pw"]);
        export(&path, &mut script).unwrap();
        assert!(script.seen.contains(KEY));
        for mut refused in [
            Script { absent: true, ..Script::of([CONFIRMATION, "pw"]) },
            Script::of(["yes", "pw"]),
            Script::of([CONFIRMATION, "no"]),
        ] {
            let failure = export(&path, &mut refused).err().unwrap();
            assert!(!refused.seen.contains(&KEY[2..]) && !failure.message.contains(&KEY[2..]));
        }
    }
}
