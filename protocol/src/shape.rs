//! Reading JSON of others: one error for "this is not the answer that the protocol describes", and tolerant accessors.

use serde_json::Value;

use crate::text::one_line;

/// An answer that does not have the documented form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} could not be read: {reason}")]
pub struct ShapeError {
    /// Which answer, for people: "the price list".
    pub what: &'static str,
    /// What is wrong with it; sanitised and bounded.
    pub reason: String,
}

impl ShapeError {
    pub(crate) fn new(what: &'static str, reason: impl AsRef<str>) -> Self {
        Self { what, reason: one_line(reason.as_ref(), 300) }
    }
}

/// Parses JSON text; nesting is bounded by serde_json (128).
pub(crate) fn json(what: &'static str, bytes: &[u8]) -> Result<Value, ShapeError> {
    // A byte order mark is no JSON, but harmless.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ShapeError::new(what, "it is empty"));
    }
    serde_json::from_slice(bytes).map_err(|e| ShapeError::new(what, format!("it is not JSON ({e})")))
}

/// The text of a string or number field.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A string field on one line, sanitised and bounded; `None` when absent, of another type or blank.
pub(crate) fn line(object: &Value, key: &str, max: usize) -> Option<String> {
    let text = one_line(object.get(key)?.as_str()?, max);
    (!text.is_empty()).then_some(text)
}

/// A whole number from a JSON number (also `300.0`) or a string of digits.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            // Below 2^53 a float holds integers exactly.
            let float = number.as_f64()?;
            (float >= 0.0 && float < 9_007_199_254_740_992.0 && float.fract() == 0.0).then_some(float as u64)
        }),
        Value::String(text) => {
            let text = text.trim();
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
        }
        _ => None,
    }
}

/// The text of the `error` of a JSON answer: a string, or an object's `message`.
pub(crate) fn error_text(object: &Value) -> Option<String> {
    match object.get("error")? {
        Value::String(text) => Some(one_line(text, 300)),
        Value::Object(error) => error.get("message").and_then(Value::as_str).map(|text| one_line(text, 300)),
        _ => None,
    }
}
