//! From the configuration to a signer, asking for a password where one is missing.

use std::sync::Arc;

use drain_protocol::demand::Protocol;
use drain_protocol::{Address, Asset};
use drain_signers::{LocalBackend, Policy, SharedBackend, Signer, SignerError, keystore};

use super::password::resolve;
use super::prompt::{Terminal, terminal_failed};
use super::{kms, ledger};
use crate::config::{Config, Password, SignerConfig};
use crate::error::{Code, Failure};
use crate::payment::is_built;

/// What to do where a password is needed and cannot be typed.
pub(super) const NO_PASSWORD: &str = "Set DRAIN_KEYSTORE_PASSWORD_FILE to a file that holds it (chmod 600), \
    DRAIN_KEYSTORE_PASSWORD_COMMAND to a command of the system's keyring, or DRAIN_KEYSTORE_PASSWORD.";

/// How a signer's failure reads on the command line.
pub fn failed(error: &SignerError) -> Failure {
    let next = match error {
        SignerError::KeystoreMissing { .. } => "Make a wallet with drain-mcp wallet new, or correct DRAIN_KEYSTORE.",
        SignerError::WrongPassword { .. } => {
            "Type the password again, or correct DRAIN_KEYSTORE_PASSWORD (or its _FILE or _COMMAND)."
        }
        SignerError::Service(_) => "Correct it and try again; docs/signers.md has the whole set-up.",
        _ => "Correct it and try again.",
    };
    Failure::unspent(Code::from(error), format!("{error}."), next)
}

/// What the signer may sign: channels on the configured contracts, payments of single requests as large as one may be where
/// this build makes them, and transfers to `recipients` alone.
fn policy(Config { chain, tempo, limits, .. }: &Config, recipients: Vec<Address>) -> Policy {
    let mut assets = Vec::new();
    if is_built(Protocol::Mpp) || is_built(Protocol::X402V2) {
        assets.extend(chain.deployments.first().map(|on| Asset::usdc(chain.chain_id, on.usdc)));
    }
    Policy {
        recipients,
        unlimited_allowance: limits.unlimited_allowance,
        assets,
        tempo: tempo.as_ref().filter(|_| is_built(Protocol::MppTempo)).map(|chain| chain.chain_id),
        max_transfer: limits.per_payment.min(limits.per_request),
        ..Policy::new(chain.chain_id, chain.deployments.clone())
    }
}

/// The signer of a configuration; `None` where no key is configured. Takes the key out of the configuration.
pub async fn signer_of(
    config: &mut Config,
    recipients: Vec<Address>,
    terminal: &mut (dyn Terminal + Send),
) -> Result<Option<Signer>, Failure> {
    open(take(config, recipients), terminal).await
}

/// A key that is not open yet, and what it may sign.
pub(super) struct Closed {
    signer: SignerConfig,
    policy: Policy,
}

/// Takes the key out of the configuration: no second copy stays behind.
pub(super) fn take(config: &mut Config, recipients: Vec<Address>) -> Closed {
    // The operator's own account can always be sent to.
    let treasury = config.treasury.as_ref().map(|treasury| treasury.address);
    let recipients = recipients.into_iter().chain(treasury).collect();
    let policy = policy(config, recipients);
    Closed { signer: std::mem::replace(&mut config.signer, SignerConfig::None), policy }
}

/// Opens it. A keystore takes half a second of computing: it runs on a thread that may block.
pub(super) async fn open(
    Closed { signer, policy }: Closed,
    terminal: &mut (dyn Terminal + Send),
) -> Result<Option<Signer>, Failure> {
    let backend: SharedBackend = match signer {
        SignerConfig::None => return Ok(None),
        SignerConfig::Local(secret) => Arc::new(LocalBackend::new(secret)),
        SignerConfig::AwsKms(settings) => kms::backend(settings).await?,
        SignerConfig::Ledger(settings) => ledger::backend(settings)?,
        SignerConfig::Keystore { path, password } => {
            // Before the person types: a missing or damaged file is said first.
            keystore::address_of(&path).map_err(|e| failed(&e))?;
            let password = match password {
                Some(from) => resolve(from).await?,
                None => ask_password(&path, terminal)?,
            };
            let opened = tokio::task::spawn_blocking(move || keystore::open(&path, password.expose())).await;
            let opened = opened.map_err(|e| Failure::internal(format!("opening the keystore failed: {e}")))?;
            Arc::new(opened.map_err(|e| failed(&e))?)
        }
    };
    Ok(Some(Signer::from_shared(backend, policy)))
}

fn ask_password(path: &std::path::Path, terminal: &mut dyn Terminal) -> Result<Password, Failure> {
    if !terminal.present() {
        return Err(Failure::unspent(
            Code::SignerFailed,
            format!("The keystore {} needs its password, and nobody is here to type it.", path.display()),
            NO_PASSWORD,
        ));
    }
    let typed = terminal.secret(&format!("Password of {}: ", path.display())).map_err(terminal_failed)?;
    Ok(Password::new(&typed))
}

/// The account of a configuration, without a password where the file says it.
pub fn address_of(config: &Config) -> Result<Option<Address>, Failure> {
    match &config.signer {
        SignerConfig::None => Ok(None),
        SignerConfig::Local(secret) => Ok(Some(secret.address())),
        SignerConfig::Keystore { path, .. } => keystore::address_of(path).map_err(|e| failed(&e)),
        SignerConfig::AwsKms(settings) => Ok(settings.address),
        SignerConfig::Ledger(settings) => Ok(Some(settings.address)),
    }
}

/// The same; a service that knows it is asked where the configuration does not name it.
pub async fn find_address(config: &Config) -> Result<Option<Address>, Failure> {
    match &config.signer {
        SignerConfig::AwsKms(settings) => kms::backend(settings.clone()).await.map(|backend| Some(backend.address())),
        _ => address_of(config),
    }
}

/// What to do without a key.
pub fn no_signer() -> Failure {
    Failure::unspent(
        Code::NoSigner,
        "No wallet is configured.",
        "Make one with drain-mcp wallet new, or set DRAIN_PRIVATE_KEY; then send it $1-5 of native USDC on Polygon and about 0.10 POL.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::prompt::Script;
    use super::*;
    use crate::config::Sources;
    use drain_signers::Secret;

    const KEY: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    const ADDRESS: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::load(Sources::from_pairs([("HOME", "/nonexistent")].into_iter().chain(pairs.iter().copied()))).unwrap()
    }

    #[tokio::test]
    async fn from_key_keystore_or_nothing() {
        let mut nobody = Script { absent: true, ..Script::default() };
        assert!(signer_of(&mut config(&[]), vec![], &mut nobody).await.unwrap().is_none());

        let mut local = config(&[("DRAIN_PRIVATE_KEY", KEY)]);
        assert_eq!(address_of(&local).unwrap().unwrap().to_string(), ADDRESS);
        let signer = signer_of(&mut local, vec![Address::repeat_byte(7)], &mut nobody).await.unwrap().unwrap();
        assert_eq!(signer.address().to_string(), ADDRESS);
        assert_eq!(signer.policy().recipients, [Address::repeat_byte(7)]);
        assert!(matches!(local.signer, SignerConfig::None));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.json");
        let shown = path.display().to_string();
        let missing = signer_of(&mut config(&[("DRAIN_KEYSTORE", &shown)]), vec![], &mut nobody).await.unwrap_err();
        assert!(missing.next.contains("wallet new"), "{missing:?}");
        keystore::create(&path, &Secret::parse(KEY).unwrap(), "pw").unwrap();
        let locked = signer_of(&mut config(&[("DRAIN_KEYSTORE", &shown)]), vec![], &mut nobody).await.unwrap_err();
        assert!(locked.next.contains("DRAIN_KEYSTORE_PASSWORD_FILE"), "{locked:?}");
        let typed = signer_of(&mut config(&[("DRAIN_KEYSTORE", &shown)]), vec![], &mut Script::of(["pw"])).await;
        assert_eq!(typed.unwrap().unwrap().address().to_string(), ADDRESS);
        let given = [("DRAIN_KEYSTORE", shown.as_str()), ("DRAIN_KEYSTORE_PASSWORD", "no")];
        let wrong = signer_of(&mut config(&given), vec![], &mut nobody).await.unwrap_err();
        assert_eq!(wrong.code, Code::SignerFailed);
    }
}
