//! What a person does on the page. What loosens anything needs the passphrase that the terminal asks for too: who sees the page
//! is the operator, and who may say yes knows it (M5).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use drain_protocol::text::one_line;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use crate::actors::Runtime;
use crate::api::{ChannelState, Progress};
use crate::config::Password;
use crate::error::{Code, Failure, Money};
use crate::policy::approvals::Verdict;

/// How actions are named in the record.
const TOOL: &str = "console";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    wallet: String,
    id: String,
    decision: Verdict,
    passphrase: Password,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Freeze {
    wallet: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unfreeze {
    wallet: String,
    passphrase: Password,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    wallet: String,
    intent: String,
}

/// What was done, or why not.
pub(super) struct Done(Result<String, Failure>);

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(text) => Json(json!({ "text": text })).into_response(),
            Err(failure) => {
                let message = failure.message.trim_end_matches('.');
                let text = format!("{message}. {} {}", failure.money.sentence(), failure.next);
                let status = match failure.money {
                    Money::NotSpent => StatusCode::CONFLICT,
                    _ => StatusCode::FAILED_DEPENDENCY,
                };
                (status, Json(json!({ "code": failure.code.as_str(), "text": text }))).into_response()
            }
        }
    }
}

impl Shared {
    fn runtime(&self, wallet: &str) -> Result<Runtime, Failure> {
        let unknown = || Failure::argument("wallet", format!("there is no wallet {}", one_line(wallet, 60)));
        Ok(self.state.wallet(wallet).ok_or_else(unknown)?.asked_by(TOOL))
    }
}

pub(super) async fn decide(State(shared): State<super::Console>, Json(asked): Json<Decide>) -> Done {
    let work = async {
        let decided = shared.runtime(&asked.wallet)?.decide(&asked.id, asked.decision, asked.passphrase).await?;
        Ok(format!("{} of {} USDC: {}", decided.id, decided.amount, decided.state))
    };
    shared.done(work).await
}

pub(super) async fn freeze(State(shared): State<super::Console>, Json(asked): Json<Freeze>) -> Done {
    let work = async {
        let reason = if asked.reason.trim().is_empty() { "the operator froze it" } else { asked.reason.trim() };
        shared.runtime(&asked.wallet)?.freeze(reason).await?;
        Ok("The wallet is frozen: nothing is paid, opened or approved. Closing goes on.".into())
    };
    shared.done(work).await
}

pub(super) async fn unfreeze(State(shared): State<super::Console>, Json(asked): Json<Unfreeze>) -> Done {
    let work = async {
        let lifted = shared.runtime(&asked.wallet)?.unfreeze_by(asked.passphrase).await?;
        Ok(if lifted { "The wallet pays again." } else { "The wallet was not frozen." }.into())
    };
    shared.done(work).await
}

pub(super) async fn close(State(shared): State<super::Console>, Json(asked): Json<Close>) -> Done {
    let work = async {
        let runtime = shared.runtime(&asked.wallet)?;
        let channels = runtime.channels(false).await?;
        let channel = channels.into_iter().find(|channel| channel.intent == asked.intent);
        let id = channel.as_ref().and_then(|channel| channel.channel_id.as_deref()?.parse().ok());
        let (Some(channel), Some(id)) = (channel, id) else {
            return Err(Failure::unspent(
                Code::UnknownChannel,
                "no channel that is not over has this name",
                "Look at the page again.",
            ));
        };
        let closed = match channel.state {
            ChannelState::Expired => runtime.close(id, Progress::none()).await?,
            _ => runtime.cooperative_close(id, Progress::none()).await?,
        };
        Ok(format!("Closed: {} USDC came back, {} were paid.", closed.refund, closed.paid))
    };
    shared.done(work).await
}

impl Shared {
    async fn done(&self, work: impl Future<Output = Result<String, Failure>>) -> Done {
        let done = work.await;
        self.state.changed();
        Done(done)
    }
}
