//! Money between the operator's treasury and the wallet, as the wallet does it; and who is told when a refill is due.

use drain_protocol::{Address, Usdc};

use super::Local;
use crate::actors::wallet::{Fund, Sweep, ask_wallet};
use crate::api::{Progress, Swept};
use crate::error::{Code, Failure};
use crate::notify::EventKind;
use crate::policy::{Caller, Pol};

impl Local {
    /// Sends USDC and POL from the treasury, whose runtime this is, to the wallet that software uses.
    pub(in crate::actors) async fn fund(
        &self,
        to: Address,
        usdc: Usdc,
        pol: Pol,
        caller: Caller,
        progress: Progress,
    ) -> Result<Vec<String>, Failure> {
        let wallet = self.wallet().await?;
        ask_wallet(&wallet, |reply| Fund { to, usdc, pol, caller, progress, reply }).await
    }

    /// Sends back to the treasury what the wallet does not need.
    pub(super) async fn sweep(&self, caller: Caller, progress: Progress) -> Result<Swept, Failure> {
        let wallet = self.wallet().await?;
        ask_wallet(&wallet, |reply| Sweep { caller, progress, reply }).await
    }

    /// A wallet that is short of money asks for a refill, where there is a treasury.
    pub(super) fn asking_for_refill(&self, failure: Failure) -> Failure {
        let short = matches!(failure.code, Code::InsufficientUsdc | Code::InsufficientGas);
        let Some(treasury) = self.services.config.treasury.as_ref().filter(|_| short) else { return failure };
        let failure = Failure { next: format!("{} Then call again.", treasury.refill()), ..failure };
        self.services.tell(
            self.purse().ok(),
            EventKind::RefillNeeded,
            failure.code.as_str(),
            format!("{} {}", failure.message, failure.next),
        );
        failure
    }
}
