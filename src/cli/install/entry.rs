//! One server's entry in a client's file: what it says, whose it is, and what of it may be shown.

use std::path::Path;

use serde_json::{Map, Value, json};

/// The name under which clients list this server.
pub const NAME: &str = "drain";

/// What stands under the name.
pub type Entry = Map<String, Value>;

/// In this order; whatever else an entry has comes after.
const ORDER: [&str; 4] = ["type", "command", "args", "env"];

/// An entry that starts `program` with these arguments and variables. Clients that know other kinds of servers are told
/// that it is a program.
pub fn entry(program: &str, args: &[String], env: &[(String, String)], typed: bool) -> Entry {
    let mut entry = Entry::new();
    if typed {
        entry.insert("type".into(), "stdio".into());
    }
    entry.insert("command".into(), program.into());
    entry.insert("args".into(), json!(args));
    if !env.is_empty() {
        entry.insert("env".into(), env.iter().map(|(name, value)| (name.clone(), json!(value))).collect());
    }
    entry
}

/// Whether an entry starts this program. Another one of the same name is somebody else's.
pub fn is_ours(entry: &Entry) -> bool {
    let command = entry.get("command").and_then(Value::as_str).unwrap_or_default();
    Path::new(command).file_name().is_some_and(|name| name == "drain-mcp")
}

/// The new entry, with what a person added to the old one: variables, and fields that only the client knows.
pub fn merged(old: &Entry, new: &Entry) -> Entry {
    let mut merged = old.clone();
    merged.remove("args");
    for (name, value) in new {
        match (merged.get_mut(name).and_then(Value::as_object_mut), value.as_object()) {
            (Some(old), Some(new)) => old.extend(new.clone()),
            _ => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    merged
}

/// Fields in the order in which people read them.
pub fn ordered(entry: &Entry) -> Vec<(&str, &Value)> {
    let known = ORDER.iter().filter_map(|name| entry.get_key_value(*name));
    let others = entry.iter().filter(|(name, _)| !ORDER.contains(&name.as_str()));
    known.chain(others).map(|(name, value)| (name.as_str(), value)).collect()
}

/// The entry for a terminal: what a person or a client put there may be a secret (M12), so values are shown of `open` variables
/// only, and arguments where they are ours.
pub fn shown(entry: &Entry, open: &[(String, String)], ours: bool) -> Entry {
    let hidden = || Value::from("...");
    let show = |(name, value): (&String, &Value)| {
        let value = match (name.as_str(), value) {
            ("type" | "command", value) => value.clone(),
            ("args", value) if ours || value.as_array().is_some_and(Vec::is_empty) => value.clone(),
            ("env", Value::Object(env)) => {
                let known = |name: &str, value: &Value| open.iter().any(|(n, v)| n == name && *v == *value);
                let one = |(name, value): (&String, &Value)| {
                    (name.clone(), if known(name, value) { value.clone() } else { hidden() })
                };
                env.iter().map(one).collect()
            }
            _ => hidden(),
        };
        (name.clone(), value)
    };
    entry.iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Entry {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn m12_nothing_that_a_person_wrote_is_shown() {
        let old = of(json!({
            "command": "npx", "args": ["--key", "hush"], "headers": { "a": "hush" }, "disabled": "hush",
            "env": { "DRAIN_PRIVATE_KEY": "hush", "DRAIN_SERVER_URL": "https://a" },
        }));
        let open = [("DRAIN_SERVER_URL".to_owned(), "https://a".to_owned())];
        let text = Value::from(shown(&old, &open, false)).to_string();
        assert!(!text.contains("hush") && text.contains("npx") && text.contains("DRAIN_PRIVATE_KEY"), "{text}");
        assert!(text.contains("https://a"), "{text}");
    }

    #[test]
    fn what_a_person_added_stays() {
        let old =
            of(json!({ "command": "/old/drain-mcp", "args": ["--sandbox"], "env": { "A": "1" }, "disabled": true }));
        let new = entry("/new/drain-mcp", &[], &[("B".into(), "2".into())], false);
        let merged = Value::from(merged(&old, &new));
        let wanted =
            json!({ "command": "/new/drain-mcp", "args": [], "env": { "A": "1", "B": "2" }, "disabled": true });
        assert_eq!(merged, wanted);
        assert!(is_ours(&old) && !is_ours(&of(json!({ "command": "npx" }))) && !is_ours(&of(json!({}))));
    }
}
