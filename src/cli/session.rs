//! What commands share: the configuration, the runtime for one piece of work, and what Ctrl-C does.

use drain_protocol::Address;

use super::Global;
use super::output::Output;
use super::prompt::Tty;
use super::signer::{address_of, no_signer, signer_of};
use crate::actors::{Runtime, startup};
use crate::api::Progress;
use crate::config::{Config, Key, SignerConfig, Sources, Toolset};
use crate::error::{Code, Failure, Money};

/// What a piece of work needs and risks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Reads the directory; with what the journal knows of it, where the wallet is at hand without asking anybody.
    Nothing,
    /// Reads what belongs to the wallet.
    Wallet,
    /// Signs and sends.
    Money,
}

/// One run of the command line.
pub struct Session {
    /// Where answers go.
    pub output: Output,
    /// Which command this is, for logs and the record.
    pub command: &'static str,
    config: Option<Config>,
    sandbox: Option<Playground>,
}

impl Session {
    /// Loads the configuration; with `--sandbox` that of a sandbox which lives as long as the session. A command that
    /// writes a keystore takes its path and password from there, whatever key is configured.
    pub async fn start(global: &Global, writes_keystore: bool) -> Result<Self, Failure> {
        let (sandbox, mut sources) = sources(global).await?;
        if writes_keystore {
            sources.flags.push((Key::Signer, "keystore".into(), "drain-mcp wallet"));
        }
        let config = Config::load(sources)?;
        let output = Output { json: global.json, play_money: config.play_money };
        Ok(Self { output, command: "stdio", config: Some(config), sandbox })
    }

    /// Loads what a process would that somebody starts with these flags and, beside ours, these variables.
    pub async fn start_as(global: &Global, env: Vec<(String, String)>) -> Result<Self, Failure> {
        let (sandbox, mut sources) = sources(global).await?;
        sources.env.extend(env);
        let config = Config::load(sources)?;
        let output = Output { json: global.json, play_money: config.play_money };
        Ok(Self { output, command: "stdio", config: Some(config), sandbox })
    }

    /// Says what is odd about the configuration, once.
    pub fn warn(&self) {
        for warning in self.config.iter().flat_map(|config| &config.warnings) {
            self.output.remark(&format!("warning: {warning}"));
        }
    }

    /// The configuration, until a runtime takes it.
    pub fn config(&mut self) -> Result<&mut Config, Failure> {
        self.config.as_mut().ok_or_else(|| Failure::internal("the configuration was used twice"))
    }

    /// Takes the configuration for a runtime.
    pub fn take_config(&mut self) -> Result<Config, Failure> {
        self.config.take().ok_or_else(|| Failure::internal("the configuration was used twice"))
    }

    /// Runs one piece of work on a runtime and shuts that down in order.
    pub async fn run<T>(
        &mut self,
        needs: Needs,
        work: impl AsyncFnOnce(Runtime, Progress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.run_towards(needs, Vec::new(), work).await
    }

    /// The same, with a signer that may also send to `recipients`.
    pub async fn run_towards<T>(
        &mut self,
        needs: Needs,
        recipients: Vec<Address>,
        work: impl AsyncFnOnce(Runtime, Progress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut config = self.take_config()?;
        let runtime = match needs {
            Needs::Nothing => match at_hand(&config) {
                None => Runtime::start(config, None).await?,
                Some(wallet) if startup::is_held(&config, wallet) => {
                    Runtime::locked(config, wallet, holder_left()).await?
                }
                Some(_) => {
                    let signer = signer_of(&mut config, recipients, &mut Tty).await?;
                    Runtime::start(config, signer).await?
                }
            },
            _ => match shared_without_password(&config, &recipients) {
                Some(wallet) => Runtime::locked(config, wallet, holder_left()).await?,
                None => {
                    let signer = signer_of(&mut config, recipients, &mut Tty).await?.ok_or_else(no_signer)?;
                    Runtime::start(config, Some(signer)).await?
                }
            },
        };
        let runtime = runtime.asked_by(self.command);
        let reporter = self.output.reporter();
        let result = tokio::select! {
            result = work(runtime.clone(), reporter.progress.clone()) => result,
            () = interrupted() => Err(cancelled(needs)),
        };
        // Everything that was signed or sent is in the journal; a second Ctrl-C need not wait for the orderly end.
        tokio::select! {
            _ = runtime.shutdown() => {}
            () = interrupted() => {}
        }
        hold_to_the_end(runtime);
        reporter.finish().await;
        result
    }

    /// Whether this session plays.
    pub fn plays(&self) -> bool {
        self.sandbox.is_some()
    }
}

/// The wallet, where its password would have to be typed and a process that needs none from us has it. Who sends to
/// `recipients` needs the key.
fn shared_without_password(config: &Config, recipients: &[Address]) -> Option<Address> {
    let typed = matches!(&config.signer, SignerConfig::Keystore { password: None, .. });
    let wallet = address_of(config).ok().flatten().filter(|_| typed && recipients.is_empty())?;
    startup::is_held(config, wallet).then_some(wallet)
}

/// The wallet of this configuration, where it has records and nobody has to type or press anything to read them.
fn at_hand(config: &Config) -> Option<Address> {
    let wallet = address_of(config).ok().flatten().filter(|wallet| startup::folder(config, *wallet).exists())?;
    let ready = matches!(&config.signer, SignerConfig::Local(_) | SignerConfig::Keystore { password: Some(_), .. });
    (ready || startup::is_held(config, wallet)).then_some(wallet)
}

/// The process that had the wallet ended in the moment in which it was to be used.
fn holder_left() -> Failure {
    Failure::unspent(Code::SignerFailed, "The process that had the wallet has just ended.", "Run the command again.")
}

/// The wallet's lock goes with the process: a transaction of the wallet's may still be at work, and no other runtime is to
/// begin before that has ended with us.
pub(super) fn hold_to_the_end(runtime: Runtime) {
    std::mem::forget(runtime);
}

/// What the configuration is made from; with `--sandbox` that of a sandbox, which lives as long as it is held.
pub(super) async fn sources(global: &Global) -> Result<(Option<Playground>, Sources), Failure> {
    let (sandbox, mut sources) = if global.sandbox {
        let playground = Playground::start().await?;
        let sources = playground.sources();
        (Some(playground), sources)
    } else {
        (None, Sources::from_process())
    };
    apply(global, &mut sources);
    Ok((sandbox, sources))
}

/// Flags as the strongest source.
fn apply(global: &Global, sources: &mut Sources) {
    sources.file.clone_from(&global.config);
    if let Some(home) = &global.home {
        sources.flags.push((Key::Home, home.display().to_string(), "--home"));
    }
    if let Some(chain) = &global.chain {
        sources.flags.push((Key::ChainId, chain.clone(), "--chain"));
    }
    if let Some(wallet) = &global.wallet {
        sources.flags.push((Key::Wallet, wallet.clone(), "--wallet"));
    }
    if global.offer.read_only {
        sources.flags.push((Key::Tools, Toolset::Read.to_string(), "--read-only"));
    } else if let Some(tools) = global.offer.tools {
        sources.flags.push((Key::Tools, tools.to_string(), "--tools"));
    }
}

/// Ctrl-C, or the system's wish that we end. It is listened for from this call on, before the first look at what is given.
pub fn interrupted() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let listeners = {
        use tokio::signal::unix::{SignalKind, signal};
        [SignalKind::interrupt(), SignalKind::terminate()].map(signal)
    };
    async move {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = listeners;
            tokio::select! {
                () = heard(interrupt.ok()) => {}
                () = heard(terminate.ok()) => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A signal came. One that cannot be listened for never does.
#[cfg(unix)]
async fn heard(listener: Option<tokio::signal::unix::Signal>) {
    match listener {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn cancelled(needs: Needs) -> Failure {
    let failure = Failure::unspent(Code::Cancelled, "Interrupted.", "Run the command again.");
    if needs != Needs::Money {
        return failure;
    }
    let next = "The journal holds whatever was signed or sent. Look with drain-mcp channels before you repeat it.";
    Failure { message: "Interrupted while money may have been moving.".into(), next: next.into(), ..failure }
        .with_money(Money::Unknown)
}

/// A sandbox within this process.
pub(super) struct Playground {
    #[cfg(feature = "sandbox")]
    sandbox: drain_sandbox::Sandbox,
    /// Its chain ends with this process, so its records do too.
    #[cfg(feature = "sandbox")]
    home: tempfile::TempDir,
}

#[cfg(feature = "sandbox")]
impl Playground {
    async fn start() -> Result<Self, Failure> {
        Ok(Self { sandbox: super::sandbox::start().await?, home: super::sandbox::home()? })
    }

    /// Nothing of the person's own environment: play money never meets a real key.
    fn sources(&self) -> Sources {
        let own = [
            ("DRAIN_HOME", self.home.path().display().to_string()),
            ("DRAIN_PLAY_MONEY", "on".into()),
            ("DRAIN_POLL_INTERVAL", "200ms".into()),
        ];
        let own = own.map(|(name, value)| (name.to_string(), value));
        Sources::from_pairs(self.sandbox.env().into_iter().chain(own))
    }
}

#[cfg(not(feature = "sandbox"))]
impl Playground {
    async fn start() -> Result<Self, Failure> {
        Err(super::built_without("sandbox"))
    }

    fn sources(&self) -> Sources {
        Sources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn an_interrupted_payment_is_never_called_unspent() {
        assert_eq!(Exit::of(&cancelled(Needs::Money)), Exit::Pending);
        assert_eq!(cancelled(Needs::Wallet).money, Money::NotSpent);
    }

    #[cfg(feature = "sandbox")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_sandbox_configures_itself() {
        let global = Global { sandbox: true, ..Global::default() };
        let mut session = Session::start(&global, false).await.unwrap();
        assert!(session.output.play_money && session.plays());
        let config = session.config().unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        assert!(config.chain.rpc_urls.iter().all(crate::config::is_loopback));
        // A folder that nobody else could make before, with a configuration in it.
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&config.home).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }
}
