//! `/readyz`: whether agents would be served, with each part and why not. Holds no secret, and nothing that was spent.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Shared, Wallet};
use crate::actors::standing::Standing;
use crate::error::Failure;

/// How long what was found is told without looking again: who asks often causes no more writes and calls than this.
const TOLD: Duration = Duration::from_secs(2);
/// An endpoint that answered within this time is not asked.
const RECENT: Duration = Duration::from_secs(15);

/// What was found last.
pub(super) struct Health {
    wallets: Vec<Wallet>,
    last: Mutex<Option<(Instant, Vec<WalletHealth>)>>,
    /// When an endpoint last answered, for each wallet: each has connections of its own.
    answered: Mutex<Vec<Option<Instant>>>,
}

/// One part.
#[derive(Clone, Debug, Serialize)]
struct Part {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Part {
    const GOOD: Self = Self { ok: true, reason: None };

    fn bad(reason: impl Into<String>) -> Self {
        Self { ok: false, reason: Some(reason.into()) }
    }
}

impl From<Result<(), Failure>> for Part {
    fn from(found: Result<(), Failure>) -> Self {
        found.map_or_else(|failure| Self::bad(failure.message), |()| Self::GOOD)
    }
}

#[derive(Clone, Debug, Serialize)]
struct WalletHealth {
    wallet: String,
    lock: Part,
    journal: Part,
    rpc: Part,
}

impl WalletHealth {
    const fn ok(&self) -> bool {
        self.lock.ok && self.journal.ok && self.rpc.ok
    }
}

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    draining: bool,
    agents: Part,
    wallets: Vec<WalletHealth>,
}

impl Health {
    pub(super) fn new(wallets: Vec<Wallet>) -> Self {
        let answered = Mutex::new(vec![None; wallets.len()]);
        Self { wallets, last: Mutex::new(None), answered }
    }

    async fn wallets(&self) -> Vec<WalletHealth> {
        // Held while looking: who asks meanwhile is told the same.
        let mut last = self.last.lock().await;
        if let Some((_, found)) = last.as_ref().filter(|(at, _)| at.elapsed() < TOLD) {
            return found.clone();
        }
        let looks = self.wallets.iter().enumerate().map(|(n, wallet)| self.look(n, wallet));
        let found = futures::future::join_all(looks).await;
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn look(&self, n: usize, wallet: &Wallet) -> WalletHealth {
        let standing = wallet.runtime.standing();
        let away = matches!(standing, Standing::Away(_));
        let lock = match standing {
            // What its agents ask is passed on.
            Standing::Held | Standing::Away(Some(_)) => Part::GOOD,
            Standing::Away(None) => Part::bad("another replica has it and serves no agents, or not yet"),
            Standing::Looking => Part::bad("it is being looked for: another process may be about to let it go"),
            Standing::Elsewhere(Some(pid)) => Part::bad(format!("process {pid} has it")),
            Standing::Elsewhere(None) => Part::bad("another process has it"),
            Standing::Without(failure) => Part::bad(failure.message),
        };
        let journal = async {
            if away {
                return Part::GOOD;
            }
            if lock.ok { wallet.runtime.prove_journal().await.into() } else { Part::bad("it is not open here") }
        };
        let (journal, rpc) = futures::join!(journal, self.rpc(n, wallet));
        WalletHealth { wallet: wallet.name.clone(), lock, journal, rpc }
    }

    async fn rpc(&self, n: usize, wallet: &Wallet) -> Part {
        let recent = self.answered.lock().await.get(n).copied().flatten();
        if recent.is_some_and(|at| at.elapsed() < RECENT) {
            return Part::GOOD;
        }
        let found = wallet.runtime.prove_chain().await;
        if found.is_ok()
            && let Some(at) = self.answered.lock().await.get_mut(n)
        {
            *at = Some(Instant::now());
        }
        // Which endpoints there are, and what they say, is for doctor.
        found.map_or_else(|_| Part::bad("no RPC endpoint answers"), |()| Part::GOOD)
    }
}

pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let draining = shared.ending.is_cancelled();
    let agents = shared.fleet.refresh().map(drop).into();
    let wallets = if draining { Vec::new() } else { shared.health.wallets().await };
    // It may have begun to end meanwhile.
    let draining = shared.ending.is_cancelled();
    let found = Ready {
        ready: !draining && Part::ok(&agents) && wallets.iter().all(WalletHealth::ok),
        draining,
        agents,
        wallets,
    };
    let status = if found.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CACHE_CONTROL, "no-store")], Json(found)).into_response()
}

impl Part {
    const fn ok(&self) -> bool {
        self.ok
    }
}
