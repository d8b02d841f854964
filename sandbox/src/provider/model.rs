//! The "model": a small deterministic function of the last user message, and honest token counts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::provider::faults::Usage;

/// Characters per token: the rule of thumb that providers estimate with, here the definition.
const CHARACTERS_PER_TOKEN: usize = 4;
/// Tokens for a message besides its content. Together never above the estimate from the JSON of the messages.
const TOKENS_PER_MESSAGE: u64 = 4;
/// The longest text that "write N words" gives.
const MOST_WORDS: usize = 20_000;

/// An answer with its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) usage: Usage,
    /// OpenAI's `finish_reason`.
    pub(crate) finish: &'static str,
}

/// Tokens of a text.
pub(crate) fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(CHARACTERS_PER_TOKEN) as u64
}

/// Length in UTF-16 units divided by four, rounded up: `Math.ceil(text.length / 4)` of the templates.
pub(crate) fn estimate(text: &str) -> u64 {
    text.encode_utf16().count().div_ceil(4) as u64
}

/// Length of the messages as the provider's language serialises them, divided by four, rounded up.
pub(crate) fn estimate_messages(messages: &Value, python: bool) -> u64 {
    if python { (python_length(messages) as u64).div_ceil(4) } else { estimate(&messages.to_string()) }
}

/// Length of Python's `json.dumps`: blanks after commas and colons, everything outside ASCII as \uXXXX.
fn python_length(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(python_length).sum::<usize>() + 2 * items.len().saturating_sub(1),
        Value::Object(fields) => {
            let inner: usize = fields.iter().map(|(name, value)| text_length(name) + 2 + python_length(value)).sum();
            2 + inner + 2 * fields.len().saturating_sub(1)
        }
        Value::String(text) => text_length(text),
        other => other.to_string().len(),
    }
}

fn text_length(text: &str) -> usize {
    let escaped = Value::from(text).to_string();
    escaped.chars().map(|c| if c.is_ascii() && c != '\u{7f}' { 1 } else { 6 * c.len_utf16() }).sum()
}

/// A message's text: a string, or the text parts of a list.
fn content(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<_> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// Content of the last message with role "user".
pub(crate) fn last_user_message(messages: &Value) -> Option<String> {
    let messages = messages.as_array()?;
    messages.iter().rev().find(|message| message.get("role").and_then(Value::as_str) == Some("user")).map(content)
}

/// Input tokens of a conversation.
pub(crate) fn prompt_tokens(messages: &Value) -> u64 {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().map(|message| tokens(&content(message)) + TOKENS_PER_MESSAGE).sum()
}

/// Answers the last user message in at most `max_tokens` tokens.
pub(crate) fn answer(messages: &Value, max_tokens: Option<u64>) -> Answer {
    let asked = last_user_message(messages).unwrap_or_default();
    cut(&text_about(&asked), prompt_tokens(messages), max_tokens)
}

/// Cuts a text to `max_tokens` and counts.
pub(crate) fn cut(text: &str, prompt: u64, max_tokens: Option<u64>) -> Answer {
    let limit = max_tokens.map(|most| usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(CHARACTERS_PER_TOKEN));
    let kept: String = text.chars().take(limit.unwrap_or(usize::MAX)).collect();
    let finish = if kept.len() < text.len() { "length" } else { "stop" };
    let usage = Usage { prompt, completion: tokens(&kept) };
    Answer { text: kept, usage, finish }
}

fn text_about(asked: &str) -> String {
    if let Some(count) = words_wanted(asked) {
        return words(count);
    }
    let all: Vec<&str> = asked.split_whitespace().collect();
    let start = all.iter().take(12).copied().collect::<Vec<_>>().join(" ");
    let more = if all.len() > 12 { " ..." } else { "" };
    let mut text = format!("[sandbox model, not an AI] Your message has {} words", all.len());
    if !all.is_empty() {
        text.push_str(&format!(" and begins: \"{start}{more}\""));
    }
    text.push('.');
    let mut counts = BTreeMap::<String, usize>::new();
    for word in &all {
        let word: String = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        if word.chars().count() > 3 {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if !ranked.is_empty() {
        let keys: Vec<_> = ranked.into_iter().take(5).map(|(word, _)| word).collect();
        text.push_str(&format!(" Key words: {}.", keys.join(", ")));
    }
    text
}

/// The N of "write N words".
fn words_wanted(asked: &str) -> Option<usize> {
    let lower = asked.to_lowercase();
    let mut after = lower.split("write ").nth(1)?.split_whitespace();
    let count = after.next()?.parse::<usize>().ok()?;
    after.next()?.starts_with("word").then(|| count.min(MOST_WORDS))
}

fn words(count: usize) -> String {
    const WORDS: [&str; 8] = ["channel", "deposit", "voucher", "provider", "refund", "expiry", "claim", "nonce"];
    (0..count).map(|index| WORDS[(index * 5 + index / 8) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn estimates_as_the_templates_do() {
        let hello = json!([{"role": "user", "content": "Hello"}]);
        assert_eq!(hello.to_string().len(), 35);
        assert_eq!(estimate_messages(&hello, false), 9);
        // json.dumps: [{"role": "user", "content": "Hello"}] is 38 long.
        assert_eq!(python_length(&hello), 38);
        // One astral character is two UTF-16 units, and \ud83d\ude00 in Python.
        assert_eq!(estimate("😀😀😀"), 2);
        assert_eq!(text_length("😀"), 14);
    }

    #[test]
    fn respects_max_tokens_and_counts_honestly() {
        let messages = json!([{"role": "user", "content": "please write 100 words"}]);
        let whole = answer(&messages, None);
        assert_eq!(whole.text.split(' ').count(), 100);
        assert_eq!((whole.usage.completion, whole.finish), (tokens(&whole.text), "stop"));
        let short = answer(&messages, Some(5));
        assert_eq!((short.usage.completion, short.text.len(), short.finish), (5, 20, "length"));
        assert!(short.usage.prompt <= estimate_messages(&messages, false));
        assert_eq!(answer(&messages, None), whole);
    }
}
