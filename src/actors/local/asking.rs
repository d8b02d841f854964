//! What a person is asked and answers, and what the operator is told of (M5).

use std::time::Duration;

use drain_protocol::text::one_line;

use super::Local;
use crate::actors::person;
use crate::api::ApprovalView;
use crate::config::Password;
use crate::error::{Code, Failure};
use crate::journal::Approval;
use crate::notify::EventKind;
use crate::operator;
use crate::policy::Caller;
use crate::policy::approvals::{Verdict, Via};

/// The pause after a wrong passphrase.
const WRONG: Duration = Duration::from_secs(1);
/// Longest reason that is kept.
const MOST_REASON: usize = 200;

impl Local {
    /// Why the wallet is frozen, if it is.
    pub(in crate::actors) async fn frozen(&self) -> Result<Option<String>, Failure> {
        Ok(self.purse()?.journal.frozen().await?.map(|frozen| frozen.reason))
    }

    /// Freezes the wallet: it only tightens, so anybody may. False where the operator had frozen it before.
    pub(super) async fn freeze(&self, reason: &str) -> Result<bool, Failure> {
        let (reason, at) = (one_line(reason, MOST_REASON), self.services.clock.now());
        let frozen = self.purse()?.journal.freeze(reason.clone(), at).await?;
        self.services.tell(self.purse().ok(), EventKind::Alarm, Code::WalletFrozen.as_str(), reason);
        Ok(frozen)
    }

    /// A person lifts every freeze.
    pub(in crate::actors) async fn unfreeze(&self) -> Result<bool, Failure> {
        Ok(self.purse()?.journal.unfreeze().await?)
    }

    /// Questions that wait for a person, and answers that were not used yet; to an agent of the fleet its own.
    pub(super) async fn approvals(&self, caller: &Caller) -> Result<Vec<ApprovalView>, Failure> {
        let asked = self.purse()?.journal.approvals(self.services.clock.moment()).await?;
        let sees = |asked: &&Approval| caller.member().is_none_or(|agent| asked.subject.agent == agent);
        Ok(asked.iter().filter(sees).map(person::view).collect())
    }

    /// A person at a terminal answers a question, and shows by the passphrase to be the operator.
    pub(super) async fn decide(
        &self,
        id: &str,
        verdict: Verdict,
        passphrase: Password,
    ) -> Result<ApprovalView, Failure> {
        let purse = self.purse()?;
        if !self.services.config.approvals.via.contains(&Via::Terminal) {
            return Err(Failure::unspent(
                Code::NotAllowed,
                "answers from a terminal do not count here",
                "Answer where the operator wants it, or add terminal to DRAIN_APPROVALS_VIA.",
            ));
        }
        let id = id.trim().parse().map_err(|()| Failure::argument("id", "a question is named like a3"))?;
        self.verify(passphrase).await?;
        Ok(person::view(&person::decide(&self.services, purse, id, verdict, Via::Terminal).await?))
    }

    /// That this is the operator's passphrase. One try at a time, and a pause after a wrong one: nobody finds it by trying.
    pub(super) async fn verify(&self, passphrase: Password) -> Result<(), Failure> {
        static TRY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _try = TRY.lock().await;
        let home = self.services.config.home.clone();
        // Slow by design: beside the actors.
        let verified = tokio::task::spawn_blocking(move || operator::verify(&home, passphrase.expose())).await;
        let verified = verified.map_err(|error| Failure::internal(error.to_string()))?;
        if verified.is_err() {
            tracing::warn!("a wrong passphrase of the operator's");
            tokio::time::sleep(WRONG).await;
        }
        verified
    }

    /// Tells the operator of a failure that a person should know of.
    pub(super) fn noted<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &result {
            let purse = self.purse().ok();
            match failure.code {
                Code::LimitReached => {
                    let variable = failure.message.split([' ', ':', '(', ')']).find(|word| word.starts_with("DRAIN_"));
                    let subject = variable.unwrap_or(failure.code.as_str());
                    self.services.tell(purse, EventKind::CapReached, subject, &failure.message);
                }
                Code::ContractFrozen | Code::WalletFrozen | Code::ProviderOffence | Code::JournalFailed => {
                    self.services.tell(purse, EventKind::Alarm, failure.code.as_str(), &failure.message);
                }
                _ => {}
            }
        }
        result.map_err(|failure| self.asking_for_refill(failure))
    }
}
