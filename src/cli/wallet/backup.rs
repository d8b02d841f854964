//! Whether a person has the wallet's key a second time: only the opener of a channel can close it, so a key that is lost
//! takes its deposits with it (design section 8). A file beside the keystore remembers the person's word.

use std::path::{Path, PathBuf};

use drain_signers::keystore;
use serde_json::json;

use super::super::exit::Exit;
use super::super::prompt::{Terminal, Tty, need_terminal, terminal_failed};
use super::super::session::Session;
use super::super::signer::failed;
use crate::config::SignerConfig;
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp wallet backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet backup

Says whether the wallet's backup is confirmed, and lets a person at a terminal confirm it. drain-mcp wallet new does so when
two words of the phrase are typed back.")]
pub struct Args {}

/// What the person types.
const WORDS: &str = "I have the phrase";

fn mark(keystore: &Path) -> PathBuf {
    let mut name = keystore.file_name().unwrap_or_default().to_os_string();
    name.push(".backed-up");
    keystore.with_file_name(name)
}

/// Remembers a person's word. Only what is written is confirmed.
pub(super) fn confirmed(keystore: &Path) -> std::io::Result<()> {
    std::fs::write(mark(keystore), "A person has the recovery phrase or the key.\n")
}

fn is_confirmed(keystore: &Path) -> bool {
    mark(keystore).exists()
}

/// Refuses to fund a keystore whose backup nobody confirmed. A key from the environment is the person's already, and AWS
/// keeps the one in KMS.
pub(super) fn need(signer: &SignerConfig) -> Result<(), Failure> {
    match signer {
        SignerConfig::Keystore { path, .. } if !is_confirmed(path) => Err(Failure::unspent(
            Code::NotAllowed,
            format!(
                "Nobody has confirmed a backup of {}: were it lost, what is in its channels would be too.",
                path.display()
            ),
            "A person runs drain-mcp wallet backup first.",
        )),
        _ => Ok(()),
    }
}

pub(super) fn run(session: &mut Session) -> Result<Exit, Failure> {
    let SignerConfig::Keystore { path, .. } = &session.config()?.signer else {
        session.output.answer(&json!({ "needed": false }), || {
            "The wallet's key is not in a keystore: its backup is where the key comes from.".into()
        })?;
        return Ok(Exit::Ok);
    };
    let path = path.clone();
    if !is_confirmed(&path) {
        need_terminal(&Tty, "Confirming a backup")?;
        ask(&path, &mut Tty)?;
    }
    session.output.answer(&json!({ "confirmed": true, "keystore": path }), || {
        format!("The backup of {} is confirmed.", path.display())
    })?;
    Ok(Exit::Ok)
}

fn ask(path: &Path, terminal: &mut dyn Terminal) -> Result<(), Failure> {
    let address = keystore::address_of(path).map_err(|e| failed(&e))?;
    let whose = address.map_or_else(|| path.display().to_string(), |address| address.to_string());
    terminal
        .show(&format!(
            "\nThe recovery phrase (or the private key) of {whose} must be on paper, or in another safe place.\n\
             Who loses the keystore without it loses what is in the wallet and in its channels."
        ))
        .map_err(terminal_failed)?;
    let typed = terminal.line(&format!("Type \"{WORDS}\" to confirm: ")).map_err(terminal_failed)?;
    if !typed.trim().eq_ignore_ascii_case(WORDS) {
        return Err(Failure::unspent(
            Code::Cancelled,
            "Not confirmed.",
            "drain-mcp wallet export shows the key to write down.",
        ));
    }
    confirmed(path).map_err(|e| {
        Failure::unspent(
            Code::InvalidConfig,
            format!("{} cannot be written: {e}.", mark(path).display()),
            "Correct the folder's rights.",
        )
    })
}

#[cfg(test)]
mod tests {
    use drain_signers::Secret;

    use super::super::super::prompt::Script;
    use super::*;

    const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    #[test]
    fn nothing_is_funded_before_a_person_confirmed_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystore.json");
        keystore::create(&path, &Secret::parse(KEY).unwrap(), "pw").unwrap();
        let signer = SignerConfig::Keystore { path: path.clone(), password: None };
        assert_eq!(need(&signer).unwrap_err().code, Code::NotAllowed);
        assert_eq!(ask(&path, &mut Script::of(["yes"])).unwrap_err().code, Code::Cancelled);
        assert!(need(&signer).is_err());
        let mut person = Script::of(["i have the phrase"]);
        ask(&path, &mut person).unwrap();
        assert!(person.seen.contains("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"));
        need(&signer).unwrap();
        need(&SignerConfig::None).unwrap();
    }
}
