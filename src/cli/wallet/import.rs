//! `drain-mcp wallet import`: a wallet that exists already.

use std::path::Path;

use drain_protocol::Address;
use drain_signers::Secret;
use drain_signers::phrase::key_from_phrase;
use serde_json::json;

use super::super::exit::Exit;
use super::super::prompt::{Terminal, Tty, piped_secret, terminal_failed};
use super::super::session::Session;
use super::super::signer::failed;
use crate::config::Password;
use crate::error::Failure;

/// Arguments of `drain-mcp wallet import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet import                  asks for the phrase or key without showing it
  drain-mcp wallet import --index 2        the phrase's third account
  DRAIN_KEYSTORE_PASSWORD_FILE=pw drain-mcp wallet import --json < key.txt

Channels that this wallet opened elsewhere are shown and closed at expiry, but not paid from.")]
pub struct Args {
    /// Which account of a recovery phrase
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..0x8000_0000))]
    pub index: u32,
}

pub(super) async fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let (path, password) = super::target(session.config()?).await?;
    let address = import(&path, password, args.index, &mut Tty)?;
    super::shadowed(session);
    session.output.answer(&json!({ "address": address.to_string(), "keystore": path }), || {
        format!("Wallet {address} in {}\n\n{}", path.display(), super::funding(address))
    })?;
    Ok(Exit::Ok)
}

fn import(path: &Path, given: Option<Password>, index: u32, terminal: &mut dyn Terminal) -> Result<Address, Failure> {
    super::need_free(path)?;
    let text = if terminal.present() {
        terminal.secret("Recovery phrase or private key (not shown): ").map_err(terminal_failed)?
    } else {
        piped_secret().map_err(terminal_failed)?
    };
    let secret = read(&text, index)?;
    drop(text);
    let password = super::password(given, terminal)?;
    super::store(path, &secret, &password)?;
    // Who imports a key has it already. A folder that takes no mark asks again before it is funded.
    let _ = super::backup::confirmed(path);
    Ok(secret.address())
}

/// Several words are a phrase, one is a key.
fn read(text: &str, index: u32) -> Result<Secret, Failure> {
    let found =
        if text.split_whitespace().nth(1).is_some() { key_from_phrase(text, index) } else { Secret::parse(text) };
    found.map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::super::super::prompt::Script;
    use super::*;

    const PHRASE: &str = "test test test test test test test test test test test junk";

    #[test]
    fn phrases_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let address = import(&path, None, 1, &mut Script::of([PHRASE, "pw", "pw"])).unwrap();
        assert_eq!(address.to_string(), "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
        let key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
        let other = folder.path().join("b.json");
        let mut script = Script::of([key]);
        assert_eq!(import(&other, Some(Password::new("pw")), 0, &mut script).unwrap(), address);
        assert!(!script.seen.contains(&key[2..]));
        for bad in ["", "0x12", "test test", "not a phrase of twelve words"] {
            let failure = read(bad, 0).err().unwrap();
            assert!(bad.is_empty() || !failure.message.contains(bad), "{failure:?}");
        }
    }
}
