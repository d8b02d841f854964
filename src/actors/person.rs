//! Asking a person (M5): what the call that waits is told, and how an answer reaches it.

use std::time::Duration;

use tokio::sync::watch;

use super::services::{Purse, Services};
use crate::api::{ApprovalView, Progress};
use crate::error::{Code, Failure};
use crate::journal::{Approval, ApprovalId, ApprovalState, JournalError};
use crate::metrics;
use crate::notify::EventKind;
use crate::policy::approvals::{ApprovalKind, Subject, Verdict, Via};

/// Asks, or finds the question that was asked before.
pub(super) async fn question(services: &Services, purse: &Purse, subject: Subject) -> Result<Approval, JournalError> {
    let valid = services.config.approvals.valid.as_secs();
    purse.journal.ask_person(subject, valid, services.clock.moment()).await
}

/// Waits for a person's answer as long as the operator says. No answer in time is no leave: the question stays open, and
/// the same call later finds it answered.
pub(super) async fn answered(
    services: &Services,
    purse: &Purse,
    approval: Approval,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut decisions = purse.decisions.subscribe();
    let id = approval.id;
    let Some(verdict) = verdict(&approval) else {
        services.tell(
            Some(purse),
            EventKind::ApprovalWaiting,
            id.to_string(),
            format!("{} (drain-mcp approvals approve {id})", approval.subject),
        );
        progress.say(format!("waiting for a person: {} (drain-mcp approvals approve {id})", approval.subject));
        let wait = services.config.approvals.wait;
        let decided = tokio::time::timeout(wait, decision(services, purse, &approval, progress, &mut decisions)).await;
        return decided.unwrap_or_else(|_| Err(needed(&approval)));
    };
    verdict
}

/// The answer that the question has already.
fn verdict(approval: &Approval) -> Option<Result<(), Failure>> {
    match approval.state {
        ApprovalState::Waiting => None,
        ApprovalState::Approved => Some(Ok(())),
        ApprovalState::Denied => Some(Err(denied(approval))),
        ApprovalState::Used | ApprovalState::Expired => Some(Err(needed(approval))),
    }
}

/// The person at the MCP client, where the operator lets that count, or one at a terminal: whoever is first.
async fn decision(
    services: &Services,
    purse: &Purse,
    approval: &Approval,
    progress: &Progress,
    decisions: &mut watch::Receiver<()>,
) -> Result<(), Failure> {
    let asked = async {
        if services.config.approvals.via.contains(&Via::Elicitation) {
            progress.ask(approval.id.to_string(), approval.subject.to_string()).await
        } else {
            None
        }
    };
    tokio::pin!(asked);
    let mut open = true;
    loop {
        // Read first: an answer may have come before this listened.
        let now = purse.journal.approval(approval.id, services.clock.moment()).await?;
        if let Some(verdict) = now.as_ref().and_then(verdict) {
            return verdict;
        }
        tokio::select! {
            answer = &mut asked, if open => {
                open = false;
                let Some(verdict) = answer else { continue };
                // Refused where somebody at a terminal was quicker: that answer counts.
                if let Err(failure) = decide(services, purse, approval.id, verdict, Via::Elicitation).await {
                    tracing::warn!(%failure, "an answer at the client was not taken");
                }
            }
            changed = decisions.changed() => {
                if changed.is_err() {
                    return Err(needed(approval));
                }
            }
        }
    }
}

/// Records an answer and tells everybody who waits.
pub(super) async fn decide(
    services: &Services,
    purse: &Purse,
    id: ApprovalId,
    verdict: Verdict,
    via: Via,
) -> Result<Approval, Failure> {
    let approval = purse.journal.decide(id, verdict, via, services.clock.moment()).await?;
    metrics::approval(via, verdict, Duration::from_secs(approval.waited));
    purse.decisions.send_replace(());
    Ok(approval)
}

/// What an agent is told that has to wait; it names what a person types.
pub(super) fn needed(approval: &Approval) -> Failure {
    let id = approval.id;
    Failure::unspent(
        Code::ApprovalNeeded,
        format!("A person must approve this first: {} (question {id})", approval.subject),
        format!("A person types: drain-mcp approvals approve {id}. Then make the same call again."),
    )
}

fn denied(approval: &Approval) -> Failure {
    Failure::unspent(
        Code::ApprovalDenied,
        format!("A person said no: {} (question {})", approval.subject, approval.id),
        "Do without it, or use another provider; asking again is answered no until the question expires.",
    )
}

/// A question for people.
pub(super) fn view(approval: &Approval) -> ApprovalView {
    let subject = &approval.subject;
    ApprovalView {
        id: approval.id.to_string(),
        kind: match subject.kind {
            ApprovalKind::Request => "request".into(),
            ApprovalKind::Deposit => "deposit".into(),
        },
        what: subject.to_string(),
        agent: subject.agent.clone(),
        provider_id: subject.provider_id.clone(),
        amount: subject.amount,
        state: approval.state.as_str().into(),
        expires_in: approval.expires_in,
    }
}
