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
            ((0.0..9_007_199_254_740_992.0).contains(&float) && float.fract() == 0.0).then_some(float as u64)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys that the parsers of this crate look for, so that arbitrary JSON reaches into them.
    const KEYS: [&str; 36] = [
        "providers",
        "models",
        "id",
        "modelId",
        "name",
        "apiUrl",
        "providerAddress",
        "chainId",
        "pricing",
        "status",
        "online",
        "isOnline",
        "lastChecked",
        "lastCheckedAt",
        "protocol",
        "_meta",
        "contract",
        "inputPer1kTokens",
        "outputPer1kTokens",
        "error",
        "message",
        "code",
        "required",
        "provided",
        "choices",
        "content",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "finalAmount",
        "signature",
        "channelId",
        "channels",
        "closeCalldata",
        "feeWallet",
        "success",
    ];

    /// Arbitrary JSON, often with keys that matter.
    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let key = || prop_oneof![9 => prop::sample::select(&KEYS[..]).prop_map(String::from), 1 => any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9.eE+-]{0,12}".prop_map(Value::from),
            "0x[0-9a-fA-F]{40}".prop_map(Value::from),
            "0x[0-9a-f]{64}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(key(), inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// A good text with some bytes replaced, and cut somewhere.
    pub(crate) fn mutated(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        (edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(edits, end, cut)| {
            let mut bytes = good.as_bytes().to_vec();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
    }

    #[test]
    fn reads_whole_numbers_of_every_writer() {
        let read = |text: &str| whole(&serde_json::from_str(text).unwrap_or(Value::Null));
        for (text, number) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("\" 5 \"", Some(5)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("5.5", None),
            ("-5", None),
            ("\"-5\"", None),
            ("\"\"", None),
            ("null", None),
            ("[5]", None),
        ] {
            assert_eq!(read(text), number, "{text}");
        }
    }

    #[test]
    fn says_what_and_why_in_bounds() {
        let long = ShapeError::new("the price list", "x\n".repeat(1_000));
        assert!(long.to_string().starts_with("the price list could not be read: x x"));
        assert_eq!(long.reason.chars().count(), 300);
        assert!(json("x", b" \n").is_err());
        assert!(json("x", "[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(json("x", b"\xef\xbb\xbf{}"), Ok(Value::Object(Default::default())));
    }
}
