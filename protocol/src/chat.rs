//! The paid call: request, answer, and token counts from above (protocol.md sections 5.5, 6.1, 7).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::shape::{self, ShapeError};
use crate::text::one_line;

/// Output tokens that a provider wants covered before it works, whatever `max_tokens` says (protocol.md section 6.1).
pub const PREAUTH_OUTPUT_TOKENS: u32 = 50;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions.
    System,
    /// The caller.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One message. Field order is that of the wire, on which the providers' count of characters does not depend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// The body of `POST /v1/chat/completions`. What is `None` or false is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatRequest {
    /// The provider's name of the model.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Output tokens at most; always sent to providers that bill by token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Most providers drop it (protocol.md section 5.5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Number>,
    /// Answer as server-sent events.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
}

/// Why a value is not a conversation. Indices count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessagesError {
    /// Not a JSON array.
    #[error("messages must be an array of objects with role and content")]
    NotAnArray,
    /// No message.
    #[error("messages is empty; send at least one message")]
    Empty,
    /// An element that is no object.
    #[error("messages[{index}] is not an object with role and content")]
    NotAnObject {
        /// Which message.
        index: usize,
    },
    /// A key that would be dropped, or change the count of characters.
    #[error("messages[{index}] has the key \"{key}\"; only role and content are sent")]
    UnknownKey {
        /// Which message.
        index: usize,
        /// The key, sanitised.
        key: String,
    },
    /// No role, or another.
    #[error("messages[{index}].role must be \"system\", \"user\" or \"assistant\"")]
    Role {
        /// Which message.
        index: usize,
    },
    /// No content, or not a text.
    #[error("messages[{index}].content must be a string")]
    Content {
        /// Which message.
        index: usize,
    },
    /// More than the caller's limit.
    #[error("the messages are longer than {max_bytes} bytes")]
    TooLong {
        /// The limit, in bytes of UTF-8 JSON.
        max_bytes: usize,
    },
}

/// Reads a conversation strictly. `max_bytes` bounds the messages as the JSON that will be sent, in bytes.
pub fn parse_messages(value: &Value, max_bytes: usize) -> Result<Vec<Message>, MessagesError> {
    let items = value.as_array().ok_or(MessagesError::NotAnArray)?;
    if items.is_empty() {
        return Err(MessagesError::Empty);
    }
    let mut bytes: usize = 2;
    let mut messages = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let object = item.as_object().ok_or(MessagesError::NotAnObject { index })?;
        if let Some(key) = object.keys().find(|key| !matches!(key.as_str(), "role" | "content")) {
            return Err(MessagesError::UnknownKey { index, key: one_line(key, 40) });
        }
        let role = match object.get("role").and_then(Value::as_str) {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            _ => return Err(MessagesError::Role { index }),
        };
        let content = object.get("content").and_then(Value::as_str).ok_or(MessagesError::Content { index })?;
        bytes = bytes.saturating_add(usize::from(index > 0) + COMPACT_KEYS as usize + role.as_str().len());
        bytes = bytes.saturating_add(content.chars().map(|c| escaped(c).unwrap_or(c.len_utf8())).sum());
        if bytes > max_bytes {
            return Err(MessagesError::TooLong { max_bytes });
        }
        messages.push(Message { role, content: content.to_owned() });
    }
    Ok(messages)
}

/// `{"role":"","content":""}`
const COMPACT_KEYS: u64 = 24;
/// `{"role": "", "content": ""}`
const PYTHON_KEYS: u64 = 27;

/// Characters that a JSON string needs for one that every writer escapes.
fn escaped(c: char) -> Option<usize> {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => Some(2),
        c if c < ' ' => Some(6),
        _ => None,
    }
}

fn count(messages: &[Message], keys: u64, separator: u64, width: impl Fn(char) -> usize) -> u64 {
    let texts: u64 = messages
        .iter()
        .map(|m| keys + m.role.as_str().len() as u64 + m.content.chars().map(|c| width(c) as u64).sum::<u64>())
        .sum();
    2 + texts + separator * (messages.len() as u64).saturating_sub(1)
}

/// UTF-16 units of compact `JSON.stringify(messages)`, which TypeScript providers count (protocol.md section 6.1).
pub fn json_chars(messages: &[Message]) -> u64 {
    count(messages, COMPACT_KEYS, 1, |c| escaped(c).unwrap_or(c.len_utf16()))
}

/// Characters of Python's `json.dumps(messages)`: blanks after separators, everything beyond printable ASCII as `\uXXXX`.
pub fn python_json_chars(messages: &[Message]) -> u64 {
    let width = |c: char| escaped(c).unwrap_or(if matches!(c, ' '..='~') { 1 } else { 6 * c.len_utf16() });
    count(messages, PYTHON_KEYS, 2, width)
}

/// Input tokens that a provider counts before it works: a quarter of the longer count of characters, rounded up.
pub fn preauth_input_tokens(messages: &[Message]) -> u64 {
    json_chars(messages).max(python_json_chars(messages)).div_ceil(4)
}

/// Input tokens from above. A byte-level tokeniser never makes more tokens than bytes; 16 per message and 16 per
/// request leave room for the model's own marks.
pub fn input_tokens_upper(messages: &[Message]) -> u64 {
    let bytes: u64 = messages.iter().map(|m| (m.role.as_str().len() + m.content.len()) as u64 + 16).sum();
    preauth_input_tokens(messages).max(bytes + 16)
}

/// Tokens that a provider says it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Input tokens.
    pub prompt_tokens: u64,
    /// Output tokens.
    pub completion_tokens: u64,
}

/// Above this a count of tokens is garbage.
const MAX_TOKENS: u64 = 1_000_000_000_000;

impl Usage {
    /// Reads a `usage` object; `None` unless both counts are whole and possible.
    pub fn read(value: &Value) -> Option<Self> {
        let tokens = |key: &str| value.get(key).and_then(shape::whole).filter(|tokens| *tokens <= MAX_TOKENS);
        Some(Self { prompt_tokens: tokens("prompt_tokens")?, completion_tokens: tokens("completion_tokens")? })
    }
}

/// A paid answer. `content` is the provider's own text: sanitise it where it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAnswer {
    /// The provider's id of the answer, or empty.
    pub id: String,
    /// The model that answered, or empty.
    pub model: String,
    /// The answer's text; the whole JSON text when it has no content where it should be.
    pub content: String,
    /// Why the model stopped: `stop`, `length`.
    pub finish_reason: Option<String>,
    /// Tokens, when both counts are sensible.
    pub usage: Option<Usage>,
    /// The answer as it came.
    pub raw: Value,
}

/// Text of a `content`: a string, or an array of strings and of parts with `text`.
pub(crate) fn content_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts
                .iter()
                .filter_map(|part| part.as_str().or_else(|| part.get("text").and_then(Value::as_str)))
                .collect();
            (!texts.is_empty()).then(|| texts.concat())
        }
        _ => None,
    }
}

impl ChatAnswer {
    /// Reads a 200 body (protocol.md section 5.5). The answer is paid for, so only a body that is not JSON is an error,
    /// and then the caller still has its text.
    pub fn parse(body: &[u8]) -> Result<Self, ShapeError> {
        let raw = shape::json("the answer", body)?;
        let choice = raw.get("choices").and_then(|choices| choices.get(0));
        let content = choice
            .and_then(|choice| {
                let message = choice.get("message").and_then(|message| message.get("content"));
                message.and_then(content_text).or_else(|| choice.get("text").and_then(content_text))
            })
            .unwrap_or_else(|| raw.to_string());
        Ok(Self {
            id: shape::line(&raw, "id", 200).unwrap_or_default(),
            model: shape::line(&raw, "model", 200).unwrap_or_default(),
            content,
            finish_reason: choice.and_then(|choice| shape::line(choice, "finish_reason", 60)),
            usage: raw.get("usage").and_then(Usage::read),
            raw,
        })
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
