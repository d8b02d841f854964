//! What the page shows: one document, made anew at most every two seconds, however many look.

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
/// For the chain's answer; the page does not wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The document that was made last.
pub(super) struct State {
    wallets: Vec<Watched>,
    last: Mutex<Option<(Instant, Box<RawValue>)>>,
}

struct Watched {
    wallet: Wallet,
    held: Mutex<Option<(Instant, WalletView)>>,
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
        let wallets = wallets.into_iter().map(|wallet| Watched { wallet, held: Mutex::new(None) });
        Self { wallets: wallets.collect(), last: Mutex::new(None) }
    }

    /// A wallet by its name.
    pub(super) fn wallet(&self, name: &str) -> Option<&Runtime> {
        self.wallets.iter().find(|watched| watched.wallet.name == name).map(|watched| &watched.wallet.runtime)
    }

    /// The document of now.
    pub(super) async fn now(&self) -> Result<Box<RawValue>, serde_json::Error> {
        // Held while it is made: who asks meanwhile is given the same.
        let mut last = self.last.lock().await;
        if let Some((_, document)) = last.as_ref().filter(|(at, _)| at.elapsed() < LOOK) {
            return Ok(document.clone());
        }
        let wallets = futures::future::join_all(self.wallets.iter().map(Watched::now)).await;
        let play_money = self.wallets.iter().any(|watched| watched.wallet.runtime.play_money());
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let document = Document { version: env!("CARGO_PKG_VERSION"), now, play_money, wallets };
        let document = serde_json::value::to_raw_value(&document)?;
        *last = Some((Instant::now(), document.clone()));
        Ok(document)
    }

    /// Something was done: the next look is a new one.
    pub(super) async fn changed(&self) {
        *self.last.lock().await = None;
    }
}

impl Watched {
    async fn now(&self) -> One {
        let runtime = &self.wallet.runtime;
        let standing = stands(runtime);
        let (overview, held) = match standing.held {
            true => futures::join!(runtime.overview(), self.held()),
            false => return One { standing, ..self.nothing() },
        };
        let overview = match overview {
            Ok(overview) => Some(overview),
            Err(failure) => {
                let standing = Stands { held: false, text: failure.message };
                return One { standing, ..self.nothing() };
            }
        };
        let (usdc, pol) = held.as_ref().map(|held| (held.usdc, held.pol.clone())).unzip();
        let advice = held.map(|held| held.advice).unwrap_or_default();
        One { overview, usdc, pol, advice, standing, ..self.nothing() }
    }

    fn nothing(&self) -> One {
        let (name, standing) = (self.wallet.name.clone(), Stands { held: false, text: String::new() });
        One { name, standing, overview: None, usdc: None, pol: None, advice: Vec::new() }
    }

    /// What the wallet holds on chain, as it was seen not long ago.
    async fn held(&self) -> Option<WalletView> {
        let mut held = self.held.lock().await;
        if held.as_ref().is_none_or(|(at, _)| at.elapsed() >= HOLDINGS)
            && let Ok(Ok(view)) = tokio::time::timeout(PATIENCE, self.wallet.runtime.balance()).await
        {
            *held = Some((Instant::now(), view));
        }
        held.as_ref().map(|(_, view)| view.clone())
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
