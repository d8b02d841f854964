//! What the page shows: one document, made anew at most every two seconds, however many look.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::Wallet;
use crate::actors::Runtime;
use crate::actors::standing::Standing;
use crate::api::{Overview, WalletView};

/// Between two looks at the record, and at what a wallet holds on chain.
const LOOK: Duration = Duration::from_secs(2);
const HOLDINGS: Duration = Duration::from_secs(30);
/// For the record of a wallet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The document that was made last.
pub(super) struct State {
    wallets: Vec<Watched>,
    last: Mutex<Option<Made>>,
    /// Counts what was done on the page.
    changes: AtomicU64,
}

struct Made {
    at: Instant,
    /// Of which change.
    after: u64,
    document: Box<RawValue>,
}

struct Watched {
    wallet: Wallet,
    held: Arc<Held>,
}

/// What a wallet holds on chain, as it was seen last.
#[derive(Default)]
struct Held {
    seen: std::sync::Mutex<Option<(Instant, WalletView)>>,
    looking: AtomicBool,
}

#[derive(Serialize)]
struct Document {
    version: &'static str,
    /// Unix seconds.
    now: u64,
    play_money: bool,
    wallets: Vec<One>,
}

#[derive(Serialize)]
struct One {
    name: String,
    standing: Stands,
    #[serde(flatten)]
    overview: Option<Overview>,
    usdc: Option<drain_protocol::Usdc>,
    pol: Option<String>,
    advice: Vec<String>,
}

/// Whether the wallet is here, and else where.
#[derive(Serialize)]
struct Stands {
    held: bool,
    text: String,
}

impl State {
    pub(super) fn new(wallets: Vec<Wallet>) -> Self {
        let wallets = wallets.into_iter().map(|wallet| Watched { wallet, held: Arc::default() });
        Self { wallets: wallets.collect(), last: Mutex::new(None), changes: AtomicU64::new(0) }
    }

    /// A wallet by its name.
    pub(super) fn wallet(&self, name: &str) -> Option<&Runtime> {
        self.wallets.iter().find(|watched| watched.wallet.name == name).map(|watched| &watched.wallet.runtime)
    }

    /// The document of now.
    pub(super) async fn now(&self) -> Result<Box<RawValue>, serde_json::Error> {
        // Held while it is made: who asks meanwhile is given the same.
        let mut last = self.last.lock().await;
        let after = self.changes.load(Ordering::SeqCst);
        if let Some(made) = last.as_ref().filter(|made| made.after == after && made.at.elapsed() < LOOK) {
            return Ok(made.document.clone());
        }
        let wallets = futures::future::join_all(self.wallets.iter().map(Watched::now)).await;
        let play_money = self.wallets.iter().any(|watched| watched.wallet.runtime.play_money());
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let document = Document { version: env!("CARGO_PKG_VERSION"), now, play_money, wallets };
        let document = serde_json::value::to_raw_value(&document)?;
        *last = Some(Made { at: Instant::now(), after, document: document.clone() });
        Ok(document)
    }

    /// Something was done: the next look is a new one.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Watched {
    async fn now(&self) -> One {
        let runtime = &self.wallet.runtime;
        let standing = stands(runtime);
        if !standing.held {
            return One { standing, ..self.nothing() };
        }
        // A process that has the wallet may stand still, and the page does not.
        let looked = tokio::time::timeout(PATIENCE, runtime.overview()).await;
        let why = match looked {
            Ok(Ok(overview)) => {
                let held = self.held(runtime);
                let (usdc, pol) = held.as_ref().map(|held| (held.usdc, held.pol.clone())).unzip();
                let advice = held.map(|held| held.advice).unwrap_or_default();
                return One { overview: Some(overview), usdc, pol, advice, standing, ..self.nothing() };
            }
            Ok(Err(failure)) => failure.message,
            Err(_) => format!("whoever has it did not answer within {} seconds", PATIENCE.as_secs()),
        };
        One { standing: Stands { held: false, text: why }, ..self.nothing() }
    }

    fn nothing(&self) -> One {
        let (name, standing) = (self.wallet.name.clone(), Stands { held: false, text: String::new() });
        One { name, standing, overview: None, usdc: None, pol: None, advice: Vec::new() }
    }

    /// What the wallet holds on chain, as it was seen last; looked at again beside the page from time to time.
    fn held(&self, runtime: &Runtime) -> Option<WalletView> {
        let seen = self.held.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let old = seen.as_ref().is_none_or(|(at, _)| at.elapsed() >= HOLDINGS);
        if old && !self.held.looking.swap(true, Ordering::SeqCst) {
            let (held, runtime) = (self.held.clone(), runtime.clone());
            tokio::spawn(async move {
                if let Ok(view) = runtime.balance().await {
                    *held.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), view));
                }
                held.looking.store(false, Ordering::SeqCst);
            });
        }
        seen.map(|(_, view)| view)
    }
}

fn stands(runtime: &Runtime) -> Stands {
    let away = |text: &str| Stands { held: false, text: text.to_owned() };
    match runtime.standing() {
        // Another process of this machine answers over its socket.
        Standing::Held | Standing::Elsewhere(_) => Stands { held: true, text: String::new() },
        Standing::Away(Some(url)) => away(&format!("the replica at {url} has it: look there")),
        Standing::Away(None) => away("another replica has it"),
        Standing::Looking => away("it is being looked for"),
        Standing::Without(failure) => away(&failure.message),
    }
}
