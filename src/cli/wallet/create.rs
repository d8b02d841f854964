//! `drain-mcp wallet new`. Nothing is written before the phrase's backup is confirmed: a key that is lost takes its
//! deposits with it.

use std::path::{Path, PathBuf};

use drain_protocol::Address;
use drain_signers::phrase::{Phrase, key_from_phrase, new_phrase};
use serde_json::json;

use super::super::exit::Exit;
use super::super::prompt::{Terminal, Tty, terminal_failed};
use super::super::session::Session;
use super::super::signer::failed;
use crate::config::Password;
use crate::error::{Code, Failure};

/// Arguments of `drain-mcp wallet new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  drain-mcp wallet new
  DRAIN_KEYSTORE_PASSWORD_FILE=pw drain-mcp wallet new --yes --show-phrase --json    without a person

The twelve words are shown once. Write them on paper: they open the wallet without the keystore and its password.
Then send the wallet $1-5 of native USDC on Polygon and about 0.10 POL.")]
pub struct Args {
    /// Do not ask for words of the phrase
    #[arg(long)]
    pub yes: bool,
    /// Print the phrase to stdout although it is no terminal
    #[arg(long)]
    pub show_phrase: bool,
}

/// A wallet that was made.
struct Made {
    address: Address,
    path: PathBuf,
    phrase: Phrase,
    shown: bool,
}

pub(super) async fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let (path, password) = super::target(session.config()?).await?;
    let made = make(&path, password, args, &mut Tty)?;
    super::shadowed(session);
    // Where it was not shown on the terminal, it is part of the answer, if that was asked for.
    let print = args.show_phrase && !made.shown;
    let mut object =
        json!({ "address": made.address.to_string(), "keystore": made.path, "phrase_shown": made.shown || print });
    if print {
        object["phrase"] = made.phrase.words().into();
    }
    session.output.answer(&object, || {
        let phrase = if print { format!("Recovery phrase: {}\n", made.phrase.words()) } else { String::new() };
        format!("{phrase}Wallet {} in {}\n\n{}", made.address, made.path.display(), super::funding(made.address))
    })?;
    if !made.shown && !print {
        session.output.remark("warning: the recovery phrase was not shown (no terminal, no --show-phrase): the keystore and its password are the only way to this wallet. Back both up before you fund it.");
    }
    Ok(Exit::Ok)
}

fn make(path: &Path, given: Option<Password>, args: &Args, terminal: &mut dyn Terminal) -> Result<Made, Failure> {
    super::need_free(path)?;
    if !terminal.present() && !args.yes {
        return Err(Failure::unspent(
            Code::InvalidArgument,
            "Nobody is here to write the recovery phrase down.",
            "Run it on a terminal, or with --yes (and --show-phrase) and DRAIN_KEYSTORE_PASSWORD_FILE.",
        ));
    }
    let password = super::password(given, terminal)?;
    let phrase = new_phrase().map_err(|e| failed(&e))?;
    let secret = key_from_phrase(phrase.words(), 0).map_err(|e| failed(&e))?;
    let address = secret.address();
    let shown = terminal.present();
    if shown {
        show(&phrase, terminal).map_err(terminal_failed)?;
        if !args.yes {
            confirm(&phrase, address, terminal)?;
        }
    }
    super::store(path, &secret, &password)?;
    if shown && !args.yes {
        remember(path, terminal)?;
    }
    Ok(Made { address, path: path.into(), phrase, shown })
}

/// The person has typed words of the phrase back. A folder that takes no mark is said: the wallet is made.
fn remember(path: &Path, terminal: &mut dyn Terminal) -> Result<(), Failure> {
    match super::backup::confirmed(path) {
        Ok(()) => Ok(()),
        Err(e) => terminal.show(&format!("The confirmed backup could not be noted ({e}).")).map_err(terminal_failed),
    }
}

fn show(phrase: &Phrase, terminal: &mut dyn Terminal) -> std::io::Result<()> {
    terminal.show("\nYour recovery phrase. Write it on paper, in order; it is shown once and kept nowhere:\n")?;
    for (index, word) in phrase.words().split(' ').enumerate() {
        terminal.show(&format!("  {:>2}. {word}", index + 1))?;
    }
    terminal.show("\nWho has these words has the money. Nobody from drain-mcp or the marketplace ever asks for them.\n")
}

/// Two words back, at places that differ from wallet to wallet.
fn confirm(phrase: &Phrase, address: Address, terminal: &mut dyn Terminal) -> Result<(), Failure> {
    let words: Vec<&str> = phrase.words().split(' ').collect();
    let first = usize::from(address[0]) % words.len();
    let second = (first + 1 + usize::from(address[1]) % (words.len() - 1)) % words.len();
    for place in [first, second] {
        let mut tries = 0;
        loop {
            let typed = terminal.line(&format!("Word {} of the phrase: ", place + 1)).map_err(terminal_failed)?;
            if words.get(place).is_some_and(|word| word.eq_ignore_ascii_case(&typed)) {
                break;
            }
            tries += 1;
            if tries == 3 {
                return Err(Failure::unspent(
                    Code::Cancelled,
                    "The phrase was not confirmed; no wallet was made.",
                    "Run drain-mcp wallet new again: it makes another phrase. Throw this one away.",
                ));
            }
            terminal.show("That is another word.").map_err(terminal_failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::prompt::Script;
    use super::*;
    use drain_signers::keystore;

    /// A person who copies from the screen.
    struct Person {
        script: Script,
        careful: bool,
    }

    impl Terminal for Person {
        fn present(&self) -> bool {
            true
        }

        fn show(&mut self, text: &str) -> std::io::Result<()> {
            self.script.show(text)
        }

        fn line(&mut self, prompt: &str) -> std::io::Result<String> {
            let place: String = prompt.chars().filter(char::is_ascii_digit).collect();
            let shown =
                self.script.seen.lines().find_map(|l| l.trim().strip_prefix(&format!("{place}. ")).map(str::to_string));
            Ok(if self.careful { shown.unwrap() } else { "nonsense".into() })
        }

        fn secret(&mut self, prompt: &str) -> std::io::Result<zeroize::Zeroizing<String>> {
            self.script.secret(prompt)
        }
    }

    const ASK: Args = Args { yes: false, show_phrase: false };

    #[test]
    fn a_wallet_is_made_after_its_backup_is_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("home/keystore.json");
        let mut person = Person { script: Script::of(["pw", "pw"]), careful: true };
        let made = make(&path, None, &ASK, &mut person).unwrap();
        assert!(made.shown);
        assert_eq!(drain_signers::Backend::address(&keystore::open(&path, "pw").unwrap()), made.address);
        assert_eq!(key_from_phrase(made.phrase.words(), 0).unwrap().address(), made.address);
        // The file holds no word of it, and is never overwritten.
        let again = make(&path, None, &ASK, &mut person).err().unwrap();
        assert!(again.message.contains("exists already"), "{again:?}");
    }

    #[test]
    fn without_confirmation_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystore.json");
        let mut person = Person { script: Script::of(["pw", "pw"]), careful: false };
        assert_eq!(make(&path, None, &ASK, &mut person).err().unwrap().code, Code::Cancelled);
        assert!(!path.exists());
    }

    #[test]
    fn without_a_terminal_it_takes_a_word_and_a_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keystore.json");
        let mut nobody = Script { absent: true, ..Script::default() };
        let yes = Args { yes: true, show_phrase: true };
        assert!(make(&path, Some(Password::new("pw")), &ASK, &mut nobody).is_err());
        assert!(make(&path, None, &yes, &mut nobody).is_err());
        let made = make(&path, Some(Password::new("pw")), &yes, &mut nobody).unwrap();
        assert!(!made.shown && nobody.seen.is_empty());
    }
}
