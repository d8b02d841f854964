//! What a client is told where the server did not answer: what happened to the money, and what to do (M15).

use axum::body::Bytes;
use serde_json::Value;

use super::link::{Refusal, Why};
use super::message::{self, Request};
use crate::api::Effect;
use crate::error::{Code, Failure};
use crate::mcp::answer::Fault;
use crate::mcp::tools;

/// JSON-RPC's code for what is nobody's fault here.
const INTERNAL: i32 = -32_603;

/// The answer to a request that failed: a tool's result where it called one, so that the agent reads it.
pub(super) fn answer(request: &Request, failure: Failure) -> Bytes {
    let fault = Fault::from(failure);
    if request.method == "tools/call"
        && let Ok(mut result) = serde_json::to_value(fault.clone().into_result(false))
    {
        if let (None, Some(fields)) = (&request.version, result.as_object_mut()) {
            // Only the stateless revision knows it.
            fields.remove("resultType");
        }
        return message::result(&request.id, &result);
    }
    message::error(Some(&request.id), INTERNAL, &fault.text(false), Some(Value::Object(fault.data())))
}

/// The connection broke off after the request may have arrived. It is not sent again.
pub(super) fn lost(request: &Request, server: &str, why: &str) -> Failure {
    effect(request.tool())
        .lost(&format!("the connection to drain-mcp serve at {server} ended before it answered ({why})"))
}

fn effect(tool: Option<&str>) -> Effect {
    // A newer server's tool may pay.
    tool.map_or(Effect::Repeatable, |name| tools::find(name).map_or(Effect::Pays, |tool| tool.effect))
}

/// The server did not take the request: nothing was begun.
pub(super) fn refused(refusal: &Refusal, server: &str) -> Failure {
    const CHECK: &str =
        "Have a person check DRAIN_SERVER_URL with the server's operator, and start the MCP client anew.";
    let unspent = Failure::unspent;
    match &refusal.why {
        Why::Unreachable(cause) => unspent(
            Code::ServerUnavailable,
            format!("drain-mcp serve at {server} cannot be reached, and the call was not sent: {cause}."),
            "Call again. If it stays so, ask the operator: does drain-mcp serve run there, and is DRAIN_SERVER_URL its address?",
        ),
        Why::NotNow(text) => unspent(
            Code::ServerUnavailable,
            format!("drain-mcp serve at {server} does not take the call now: {text}"),
            "Call again. If it stays so, tell the operator what it says.",
        ),
        Why::Token => unspent(
            Code::TokenRefused,
            format!("drain-mcp serve at {server} does not take this agent's token: it is wrong, or was revoked."),
            "Ask the operator for a token (drain-mcp agents add NAME), set it as DRAIN_AGENT_TOKEN, and start the MCP client anew.",
        ),
        Why::Name(text) => unspent(
            Code::InvalidConfig,
            format!("drain-mcp serve at {server} refuses the call: {text}"),
            "Ask the operator to name this host in DRAIN_ALLOWED_HOSTS of the server, or correct DRAIN_SERVER_URL.",
        ),
        Why::TooLarge => too_large(),
        Why::NoSession => unspent(
            Code::ServerUnavailable,
            format!("drain-mcp serve at {server} ended each session as soon as it was begun."),
            "Call again. If it stays so, tell the operator.",
        ),
        Why::NoGreeting => unspent(
            Code::ServerUnavailable,
            "The MCP client has not begun a session with the server (initialize), or that failed; the call was not sent.".into(),
            "Have the MCP client connect again.",
        ),
        Why::OtherRevision => unspent(
            Code::ServerUnavailable,
            format!("drain-mcp serve at {server} is another version now and speaks another revision of MCP."),
            "Have a person start the MCP client anew.",
        ),
        Why::Elsewhere => unspent(
            Code::InvalidConfig,
            format!("{server} redirects to another address, and the token is not shown there."),
            CHECK,
        ),
        Why::NoServer(status) => unspent(
            Code::InvalidConfig,
            format!("{server} does not answer as drain-mcp serve does (HTTP {status})."),
            CHECK,
        ),
    }
}

/// More than is sent.
pub(super) fn too_large() -> Failure {
    Failure::unspent(
        Code::InvalidArgument,
        "The request is larger than the server takes (DRAIN_MAX_BODY_BYTES), and was not sent.",
        "Send less: shorten the conversation, or leave attachments away.",
    )
}

/// More at once than are sent.
pub(super) fn busy(most: usize) -> Failure {
    Failure::unspent(
        Code::Busy,
        format!("{most} calls are under way (DRAIN_MAX_AGENT_REQUESTS), and this one was not sent."),
        "Wait for the others, then call again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Money;

    #[test]
    fn m15_what_may_have_moved_money_is_never_called_unspent() {
        for tool in [
            "drain_chat",
            "drain_open_channel",
            "drain_approve",
            "drain_close_channel",
            "drain_cooperative_close",
            "new",
        ] {
            assert_eq!(effect(Some(tool)).lost("x").money, Money::Unknown, "{tool}");
        }
        for tool in ["drain_balance", "drain_channels", "drain_channel_status", "drain_providers", "drain_feedback"] {
            assert_eq!(effect(Some(tool)).lost("x").money, Money::NotSpent, "{tool}");
        }
        assert_eq!(effect(None).lost("x").money, Money::NotSpent);
        for tool in tools::listed(crate::config::Toolset::All) {
            let moves = tools::find(&tool.name).is_some_and(|tool| tool.effect.moves_money());
            assert_eq!(effect(Some(&tool.name)).lost("x").money == Money::Unknown, moves, "{}", tool.name);
        }
    }
}
