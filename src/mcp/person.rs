//! The person at the client (elicitation). Clients of the older protocol are asked while the call waits; those of the
//! newer one get the question as the call's result, and make the same call again with the answer.
//!
//! Whether such an answer counts is the operator's to say (`DRAIN_APPROVALS_VIA`); the runtime asks only then.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema,
    InputRequest, InputRequests, InputRequiredResult, ProtocolVersion,
};
use rmcp::service::{ElicitationMode, RequestContext};
use rmcp::{Peer, RoleServer};
use serde_json::Value;

use crate::api::Question;
use crate::policy::approvals::Verdict;

/// The one request of an answer that needs a person, and the one field of its form.
const APPROVE: &str = "approve";
/// The longest that a client is waited for; the call itself waits less, as the operator says.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// How the person of a call is asked.
#[derive(Debug)]
pub(super) enum Person {
    /// The client shows no forms.
    Nobody,
    /// While the call waits.
    During(Peer<RoleServer>),
    /// Between two calls; the second one brings the answer and the name of its question.
    Between(Option<(String, Verdict)>),
}

impl Person {
    /// Of a call. `params` may hold the answer to an earlier question.
    pub(super) fn of(context: &RequestContext<RoleServer>, params: &CallToolRequestParams) -> Self {
        let newer = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        if !newer {
            let asks = context.peer.supported_elicitation_modes().contains(&ElicitationMode::Form);
            return if asks { Self::During(context.peer.clone()) } else { Self::Nobody };
        }
        let elicitation = context.meta.client_capabilities().and_then(|capabilities| capabilities.elicitation);
        // A client that names neither form nor URL means forms.
        if !elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none()) {
            return Self::Nobody;
        }
        let answer = params.input_responses.as_ref().and_then(|answers| answers.get(APPROVE)).cloned();
        Self::Between(params.request_state.clone().zip(answer.map(verdict_of)))
    }

    /// Takes a question to the person. `Some` is what the call answers instead of going on.
    pub(super) fn ask(&self, question: Question) -> Option<InputRequiredResult> {
        match self {
            // Dropping the question answers nothing: other ways stay open.
            Self::Nobody => None,
            Self::During(peer) => {
                let peer = peer.clone();
                tokio::spawn(async move {
                    let asked = peer.create_elicitation_with_timeout(form(&question.text), Some(PATIENCE)).await;
                    // A client that fails has not answered.
                    if let Ok(result) = asked {
                        let _ = question.reply.send(verdict(result));
                    }
                });
                None
            }
            Self::Between(Some((id, verdict))) if *id == question.id => {
                let _ = question.reply.send(*verdict);
                None
            }
            Self::Between(_) => {
                let request = InputRequest::Elicitation(ElicitRequest::new(form(&question.text)));
                let requests = InputRequests::from([(APPROVE.to_owned(), request)]);
                Some(InputRequiredResult::new(Some(requests), Some(question.id)))
            }
        }
    }
}

/// Yes only where the form says so; declining, cancelling and anything odd is no.
fn verdict(result: ElicitResult) -> Verdict {
    let yes = result.content.as_ref().and_then(|content| content.get(APPROVE)) == Some(&Value::Bool(true));
    if result.action == ElicitationAction::Accept && yes { Verdict::Approve } else { Verdict::Deny }
}

fn verdict_of(answer: Value) -> Verdict {
    serde_json::from_value(answer).map_or(Verdict::Deny, verdict)
}

fn form(text: &str) -> ElicitRequestParams {
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("Approve this payment? {text}"),
        requested_schema: ElicitationSchema::builder().required_bool(APPROVE).build_unchecked(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn m5_only_a_clear_yes_is_one() {
        assert_eq!(verdict_of(json!({ "action": "accept", "content": { "approve": true } })), Verdict::Approve);
        for no in [
            json!({ "action": "accept", "content": { "approve": false } }),
            json!({ "action": "accept", "content": { "approve": "true" } }),
            json!({ "action": "accept" }),
            json!({ "action": "decline", "content": { "approve": true } }),
            json!({ "action": "cancel" }),
            json!({ "approve": true }),
            json!(true),
        ] {
            assert_eq!(verdict_of(no.clone()), Verdict::Deny, "{no}");
        }
    }
}
