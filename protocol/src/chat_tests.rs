#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn message(role: Role, content: &str) -> Message {
    Message { role, content: content.into() }
}

#[test]
fn a_request_leaves_out_what_is_not_said() {
    let mut request = ChatRequest {
        model: "sim-small".into(),
        messages: vec![message(Role::User, "Hi")],
        max_tokens: None,
        temperature: None,
        stream: false,
    };
    let plain = r#"{"model":"sim-small","messages":[{"role":"user","content":"Hi"}]}"#;
    assert_eq!(serde_json::to_string(&request).unwrap(), plain);
    request.max_tokens = Some(60);
    request.temperature = Some(Number::from_f64(0.5).unwrap());
    request.stream = true;
    let full = r#"{"model":"sim-small","messages":[{"role":"user","content":"Hi"}],"max_tokens":60,"temperature":0.5,"stream":true}"#;
    assert_eq!(serde_json::to_string(&request).unwrap(), full);
}

#[test]
fn reads_a_conversation() {
    let value = json!([{"role": "system", "content": "Be brief."}, {"content": "Hi", "role": "user"}]);
    let messages = parse_messages(&value, 1_000).unwrap();
    assert_eq!(messages, [message(Role::System, "Be brief."), message(Role::User, "Hi")]);
}

#[test]
fn says_what_is_wrong_with_a_conversation() {
    let ok = json!({"role": "user", "content": "Hi"});
    for (value, wrong) in [
        (json!("Hi"), MessagesError::NotAnArray),
        (json!([]), MessagesError::Empty),
        (json!([ok, "Hi"]), MessagesError::NotAnObject { index: 1 }),
        (json!([{"role": "tool", "content": "Hi"}]), MessagesError::Role { index: 0 }),
        (json!([{"content": "Hi"}]), MessagesError::Role { index: 0 }),
        (json!([{"role": "User", "content": "Hi"}]), MessagesError::Role { index: 0 }),
        (json!([{"role": "user"}]), MessagesError::Content { index: 0 }),
        (json!([{"role": "user", "content": null}]), MessagesError::Content { index: 0 }),
        (json!([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]), MessagesError::Content { index: 0 }),
        (
            json!([{"role": "user", "content": "Hi", "na\u{202E}me\n": "x"}]),
            MessagesError::UnknownKey { index: 0, key: "name".into() },
        ),
    ] {
        assert_eq!(parse_messages(&value, 1_000), Err(wrong), "{value}");
    }
}

#[test]
fn the_limit_is_that_of_the_json_sent() {
    let value = json!([{"role": "user", "content": "é\n\""}, {"role": "assistant", "content": ""}]);
    let bytes = serde_json::to_string(&parse_messages(&value, 1_000).unwrap()).unwrap().len();
    assert!(parse_messages(&value, bytes).is_ok());
    assert_eq!(parse_messages(&value, bytes - 1), Err(MessagesError::TooLong { max_bytes: bytes - 1 }));
}

#[test]
fn counts_as_javascript_and_python_do() {
    // Lengths by node 20 and CPython 3: JSON.stringify(m).length, len(json.dumps(m)).
    for (content, javascript, python) in [
        ("Hello", 35, 38),
        ("é", 31, 39),
        ("😀", 32, 45),
        ("\u{1}\u{7f}\n", 39, 47),
        ("\u{2028}/\u{8}\u{c}\t\\", 40, 48),
    ] {
        let messages = [message(Role::User, content)];
        assert_eq!((json_chars(&messages), python_json_chars(&messages)), (javascript, python), "{content:?}");
    }
    assert_eq!((json_chars(&[]), python_json_chars(&[])), (2, 2));
}

#[test]
fn tokens_from_above_cover_bytes() {
    let cjk = [message(Role::User, &"世".repeat(100))];
    assert_eq!(input_tokens_upper(&cjk), 4 + 300 + 16 + 16);
    // Control characters are six characters of JSON each, but more than bytes + 32 only in the Python count.
    let control = [message(Role::User, &"\u{1}".repeat(1_000))];
    assert_eq!(preauth_input_tokens(&control), (6_000u64 + 4 + 27 + 2).div_ceil(4));
    assert!(input_tokens_upper(&control) >= preauth_input_tokens(&control));
}

const ANSWER: &str = r#"{"id":"sim-1","object":"chat.completion","created":1,"model":"sim-small","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;

#[test]
fn reads_an_answer() {
    let answer = ChatAnswer::parse(ANSWER.as_bytes()).unwrap();
    assert_eq!((answer.id.as_str(), answer.model.as_str(), answer.content.as_str()), ("sim-1", "sim-small", "Hello"));
    assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    assert_eq!(answer.usage, Some(Usage { prompt_tokens: 9, completion_tokens: 2 }));
}

#[test]
fn never_loses_a_paid_answer() {
    for (body, content) in [
        (r#"{"choices":[{"message":{"content":"x"}}]}"#, "x"),
        (r#"{"choices":[{"message":{"content":""}}]}"#, ""),
        (r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},"b",{"image":1}]}}]}"#, "ab"),
        (r#"{"choices":[{"text":"old"}]}"#, "old"),
        (r#"{"choices":[{"message":{"content":null}}]}"#, r#"{"choices":[{"message":{"content":null}}]}"#),
        (r#"{"choices":[]}"#, r#"{"choices":[]}"#),
        (r#"{"result":[1,2]}"#, r#"{"result":[1,2]}"#),
        ("[1]", "[1]"),
        (r#""text""#, r#""text""#),
    ] {
        let answer = ChatAnswer::parse(body.as_bytes()).unwrap();
        assert_eq!((answer.content.as_str(), answer.usage), (content, None), "{body}");
    }
    assert!(ChatAnswer::parse(b"").is_err());
    assert!(ChatAnswer::parse(b"<html>").is_err());
}

#[test]
fn garbage_usage_is_none() {
    for usage in [
        json!(null),
        json!({}),
        json!({"prompt_tokens": 1}),
        json!({"prompt_tokens": -1, "completion_tokens": 1}),
        json!({"prompt_tokens": 1.5, "completion_tokens": 1}),
        json!({"prompt_tokens": 1, "completion_tokens": 1_000_000_000_001u64}),
        json!({"prompt_tokens": "x", "completion_tokens": 1}),
        json!([1, 2]),
    ] {
        assert_eq!(Usage::read(&usage), None, "{usage}");
    }
    let float = json!({"prompt_tokens": 3.0, "completion_tokens": "4"});
    assert_eq!(Usage::read(&float), Some(Usage { prompt_tokens: 3, completion_tokens: 4 }));
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant)]
}

proptest! {
    #[test]
    fn the_count_is_that_of_a_json_writer(texts in prop::collection::vec((role(), any::<String>()), 0..4)) {
        let messages: Vec<Message> = texts.into_iter().map(|(role, content)| Message { role, content }).collect();
        let written = serde_json::to_string(&messages).unwrap();
        prop_assert_eq!(json_chars(&messages), written.encode_utf16().count() as u64);
        prop_assert!(python_json_chars(&messages) >= json_chars(&messages));
        prop_assert!(input_tokens_upper(&messages) >= preauth_input_tokens(&messages));
        if !messages.is_empty() {
            let value = serde_json::to_value(&messages).unwrap();
            prop_assert_eq!(parse_messages(&value, written.len()), Ok(messages));
            prop_assert!(parse_messages(&value, written.len() - 1).is_err());
        }
    }

    #[test]
    fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), value in crate::shape::tests::any_json()) {
        let _ = ChatAnswer::parse(&bytes);
        let answer = ChatAnswer::parse(value.to_string().as_bytes());
        prop_assert!(answer.is_ok());
        let _ = parse_messages(&value, 1_000);
        let _ = parse_messages(&json!([value.clone(), {"role": value, "content": "x"}]), 1_000);
    }

    #[test]
    fn no_mutated_answer_panics(bytes in crate::shape::tests::mutated(ANSWER)) {
        let _ = ChatAnswer::parse(&bytes);
    }
}
