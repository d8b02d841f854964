//! A streamed answer: server-sent events, and the cost in comments after the end (protocol.md section 5.5).

use serde_json::Value;

use crate::chat::{Usage, content_text};
use crate::headers::{self, CostHeaders};
use crate::shape;
use crate::text::one_line;

/// What a part of the stream brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SseItem {
    /// More of the answer; the provider's own text.
    Text(String),
    /// The answer is complete. The cost follows: read on.
    Done,
    /// The provider failed midway; sanitised and bounded.
    Error(String),
}

/// Why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// More bytes than the caller allows. What came before is kept for [`SseReader::finish`].
    #[error("the streamed answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

/// What a stream brought in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEnd {
    /// True when `[DONE]` came.
    pub done: bool,
    /// From comments such as `: X-DRAIN-Cost: 8250`; the last of each counts.
    pub costs: CostHeaders,
    /// True when the stream ended within a line, so that its last number may have been cut short. Every provider seen
    /// ends its last comment with a newline.
    pub unterminated: bool,
    /// Tokens, when the provider sent them.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// All text, as it came.
    pub text: String,
}

/// Reads a stream piece by piece, wherever it is cut. Memory is bounded by the limit.
#[derive(Debug)]
pub struct SseReader {
    limit_bytes: usize,
    seen: usize,
    /// The line that is not finished.
    line: Vec<u8>,
    after_cr: bool,
    /// `data:` lines of the event that is not finished.
    data: Vec<String>,
    /// Comments about cost: name in lower case, value.
    comments: Vec<(String, String)>,
    end: SseEnd,
}

/// Names that comments may set; anything else is chatter.
const COSTS: [&str; 4] = [headers::COST, headers::TOTAL, headers::REMAINING, headers::CHANNEL];

impl SseReader {
    /// A reader that takes at most so many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            seen: 0,
            line: Vec::new(),
            after_cr: false,
            data: Vec::new(),
            comments: Vec::new(),
            end: SseEnd::default(),
        }
    }

    /// Takes the next bytes and gives what they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseItem>, SseError> {
        let mut items = Vec::new();
        for &byte in bytes {
            if self.seen == self.limit_bytes {
                return Err(SseError::TooLarge { limit_bytes: self.limit_bytes });
            }
            self.seen += 1;
            match byte {
                // The second half of a CRLF.
                b'\n' if self.after_cr => {}
                b'\n' | b'\r' => self.end_line(&mut items),
                byte => self.line.push(byte),
            }
            self.after_cr = byte == b'\r';
        }
        Ok(items)
    }

    fn end_line(&mut self, items: &mut Vec<SseItem>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(&line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.event(&data, true, items);
        } else if let Some(comment) = line.strip_prefix(':') {
            self.comment(comment);
        } else if let Some(data) = line.strip_prefix("data:") {
            self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
        }
    }

    fn comment(&mut self, comment: &str) {
        let Some((name, value)) = comment.split_once(':') else { return };
        let name = name.trim();
        if let Some(known) = COSTS.iter().find(|known| name.eq_ignore_ascii_case(known)) {
            self.comments.retain(|(name, _)| name != known);
            self.comments.push(((*known).to_owned(), value.trim().to_owned()));
        }
    }

    /// `whole`: the event ended with a blank line, so that text which is not JSON is text and not a torn chunk.
    fn event(&mut self, data: &[String], whole: bool, items: &mut Vec<SseItem>) {
        let text = match data {
            [] => return,
            [line] => line.clone(),
            lines => lines.join("\n"),
        };
        if text.trim() == "[DONE]" {
            self.end.done = true;
            items.push(SseItem::Done);
        } else if let Ok(chunk) = serde_json::from_str::<Value>(&text) {
            self.chunk(&chunk, items);
        } else if data.len() > 1 {
            // A provider that ends its events with a single newline.
            for line in data {
                self.event(std::slice::from_ref(line), whole, items);
            }
        } else if whole && !text.trim().is_empty() && !text.trim_start().starts_with(['{', '[']) {
            self.text(text, items);
        }
    }

    fn chunk(&mut self, chunk: &Value, items: &mut Vec<SseItem>) {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let said = shape::error_text(chunk).unwrap_or_else(|| one_line(&error.to_string(), 300));
            items.push(SseItem::Error(said));
        }
        if let Some(usage) = chunk.get("usage").and_then(Usage::read) {
            self.end.usage = Some(usage);
        }
        let Some(choice) = chunk.get("choices").and_then(|choices| choices.get(0)) else { return };
        if let Some(reason) = shape::line(choice, "finish_reason", 60) {
            self.end.finish_reason = Some(reason);
        }
        let part = choice.get("delta").or_else(|| choice.get("message")).and_then(|part| part.get("content"));
        if let Some(text) = part.or_else(|| choice.get("text")).and_then(content_text) {
            self.text(text, items);
        }
    }

    fn text(&mut self, text: String, items: &mut Vec<SseItem>) {
        if !text.is_empty() {
            self.end.text.push_str(&text);
            items.push(SseItem::Text(text));
        }
    }

    /// The stream has ended, here or by a cut connection. A last line without its end is read, too.
    pub fn finish(mut self) -> SseEnd {
        let mut items = Vec::new();
        if !self.line.is_empty() {
            self.end.unterminated = true;
            self.end_line(&mut items);
        }
        let data = std::mem::take(&mut self.data);
        self.event(&data, false, &mut items);
        let comments = std::mem::take(&mut self.comments);
        self.end.costs =
            CostHeaders::read(|name| comments.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()));
        self.end
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
