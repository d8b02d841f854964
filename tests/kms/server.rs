//! The AWS KMS of the tests: `server.py` beside this file, which `.ci/run` starts. Its URL is `DRAIN_TEST_KMS`.
//!
//! Faults belong to one key, and every test makes keys of its own: tests run beside each other.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

/// A key that the server holds.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub arn: String,
}

/// Where the server is.
pub fn url() -> String {
    std::env::var("DRAIN_TEST_KMS").expect("DRAIN_TEST_KMS is the URL that tests/kms/server.py prints; see .ci/run")
}

impl Key {
    /// A key: of a known value (`private`), of another kind (`spec`), in another state (`state`).
    pub fn new(wish: Value) -> Self {
        let made = request("POST", "/drain/key", Some(&wish));
        let field = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: field("id"), arn: field("arn") }
    }

    /// The next `times` requests of this action go wrong; -1: all of them.
    pub fn fault(&self, action: &str, kind: &str, times: i32) {
        let fault = json!({ "key": self.id, "action": action, "kind": kind, "times": times });
        request("POST", "/drain/fault", Some(&fault));
    }

    /// No faults any more.
    pub fn mend(&self) {
        request("POST", "/drain/mend", Some(&json!({ "key": self.id })));
    }

    pub fn state(&self, state: &str) {
        request("POST", "/drain/state", Some(&json!({ "key": self.id, "state": state })));
    }

    /// The requests that came for this key: action, headers, body.
    pub fn seen(&self) -> Vec<Value> {
        request("GET", &format!("/drain/seen?key={}", self.id), None).as_array().unwrap().clone()
    }

    /// How many of one action.
    pub fn asked(&self, action: &str) -> usize {
        self.seen().iter().filter(|request| request["action"] == action).count()
    }

    /// How many requests were under way at once, at most.
    pub fn peak(&self) -> u64 {
        request("GET", &format!("/drain/peak?key={}", self.id), None).as_u64().unwrap()
    }
}

fn request(method: &str, path: &str, body: Option<&Value>) -> Value {
    let url = url();
    let host = url.strip_prefix("http://").unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(host).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}
