//! What a tool call gives back, and its form on the wire.

use rmcp::model::{CallToolResult, ContentBlock};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::render;
use crate::error::{Code, Failure, Money, Retry, told};

/// The first line of everything that a runtime with play money says.
pub const PLAY_MONEY: &str = "PLAY MONEY (sandbox): nothing here has any value.";

/// The good outcome of a call: a short text for the reader, the same as data, and what is too large for either.
#[derive(Debug)]
pub struct Answer {
    text: String,
    data: Map<String, Value>,
    attachments: Vec<ContentBlock>,
    last_line: Option<String>,
    notes: Vec<String>,
}

impl Answer {
    /// An answer with `data` as its structured content. `untrusted` names the fields of it whose text is a provider's.
    pub fn new<T: Serialize>(data: &T, untrusted: &[&str], text: impl Into<String>) -> Result<Self, Failure> {
        let Ok(Value::Object(mut data)) = serde_json::to_value(data) else {
            return Err(Failure::internal("The outcome could not be written as JSON."));
        };
        if !untrusted.is_empty() {
            data.insert("untrusted".into(), json!(untrusted));
        }
        Ok(Self { text: text.into(), data, attachments: Vec::new(), last_line: None, notes: Vec::new() })
    }

    /// With an image, a sound or a resource beside the text.
    pub fn attach(mut self, block: ContentBlock) -> Self {
        self.attachments.push(block);
        self
    }

    /// With a line that comes after everything else.
    pub fn ending_with(mut self, line: String) -> Self {
        self.last_line = Some(line);
        self
    }

    /// With remarks about the call itself.
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// The text alone, as a resource shows it.
    pub fn into_text(self, play_money: bool) -> String {
        let mut text = marked(play_money, self.text);
        for note in &self.notes {
            text.push_str("\nNote: ");
            text.push_str(note);
        }
        text
    }

    /// The result on the wire.
    pub fn into_result(mut self, play_money: bool) -> CallToolResult {
        let mut data = std::mem::take(&mut self.data);
        let attachments = std::mem::take(&mut self.attachments);
        let last_line = self.last_line.take();
        let mut text = self.into_text(play_money);
        let mut content = Vec::with_capacity(attachments.len() + 2);
        match last_line {
            Some(line) if attachments.is_empty() => {
                text.push('\n');
                text.push_str(&line);
                content.push(ContentBlock::text(text));
            }
            line => {
                content.push(ContentBlock::text(text));
                content.extend(attachments);
                content.extend(line.map(ContentBlock::text));
            }
        }
        let mut result = CallToolResult::success(content);
        mark_data(&mut data, play_money);
        result.structured_content = Some(Value::Object(data));
        result
    }
}

/// The bad outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub failure: Failure,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self { failure }
    }
}

impl Fault {
    /// A call that panicked. `moves_money` says whether that kind of call can.
    pub fn crashed(what: &str, moves_money: bool) -> Self {
        let failure = Failure::internal(format!("{what} broke off by a fault of drain-mcp; the server goes on."));
        Self::maybe_unknown(failure, moves_money)
    }

    /// A call whose caller waits no more.
    pub fn cancelled(what: &str, moves_money: bool) -> Self {
        let failure = Failure::unspent(
            Code::Cancelled,
            format!("{what} was cancelled: it is not waited for. What was already sent is still settled."),
            "Call drain_channels to see where things stand; an answer that was paid for is kept by its receipt: drain_budget.",
        );
        Self::maybe_unknown(failure, moves_money)
    }

    /// A call that took longer than anybody waits.
    pub fn outlasted(what: &str, moves_money: bool) -> Self {
        let failure = Failure::unspent(
            Code::Cancelled,
            format!(
                "{what} took longer than DRAIN_CALL_TIME and is not waited for any more. What was already sent is still settled."
            ),
            "Call drain_channels to see where things stand; an answer that was paid for is kept by its receipt: drain_budget.",
        );
        Self::maybe_unknown(failure, moves_money)
    }

    fn maybe_unknown(mut failure: Failure, moves_money: bool) -> Self {
        if moves_money && failure.code == Code::Internal {
            failure.next = "Look with drain_channels and drain_balance before any other paid call, and report this \
                            fault."
                .into();
        }
        if moves_money {
            failure.money = Money::Unknown;
        }
        Self { failure }
    }

    /// Whether the same call may be made again.
    pub const fn retry(&self) -> Retry {
        self.failure.code.retry()
    }

    /// The failure as data: `code`, `message`, `money`, `retry`, `next`.
    pub fn data(&self) -> Map<String, Value> {
        let money = serde_json::to_value(&self.failure.money).unwrap_or(Value::Null);
        let mut data = Map::new();
        data.insert("code".into(), json!(self.failure.code.as_str()));
        data.insert("message".into(), json!(self.failure.message));
        data.insert("money".into(), money);
        data.insert("retry".into(), json!(self.retry()));
        data.insert("next".into(), json!(self.failure.next));
        data
    }

    /// The failure as text.
    pub fn text(&self, play_money: bool) -> String {
        told(&self.failure);
        marked(play_money, render::fault(self))
    }

    /// The result on the wire. Its data fits each tool's output schema: clients check it against that although the
    /// protocol does not ask for it.
    pub fn into_result(self, play_money: bool) -> CallToolResult {
        let mut data = self.data();
        mark_data(&mut data, play_money);
        let mut result = CallToolResult::error(vec![ContentBlock::text(self.text(play_money))]);
        result.structured_content = Some(Value::Object(data));
        result
    }
}

fn marked(play_money: bool, text: String) -> String {
    if play_money { format!("{PLAY_MONEY}\n{text}") } else { text }
}

fn mark_data(data: &mut Map<String, Value>, play_money: bool) {
    if play_money {
        data.insert("play_money".into(), Value::Bool(true));
    }
}
