#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::error::{Code, Failure};
use crate::mcp::answer::Fault;
use crate::mcp::samples;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mcp/tools.snap.json");

pub(in crate::mcp) fn listed_json(set: Toolset) -> Vec<Value> {
    listed(set).iter().map(|tool| serde_json::to_value(tool).unwrap()).collect()
}

pub(in crate::mcp) fn tokens(value: &impl Serialize) -> usize {
    tiktoken_rs::o200k_base_singleton().encode_ordinary(&serde_json::to_string(value).unwrap()).len()
}

/// Most tokens of the names, descriptions and input schemas of all tools.
const MOST: usize = 2_000;

#[test]
fn the_list_is_the_committed_one() {
    let tools = listed_json(Toolset::All);
    let now = serde_json::to_string_pretty(&tools).unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, &now).unwrap();
    }
    let before = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert!(now == before, "the tools changed; run again with UPDATE_SNAPSHOTS=1 and look at the difference");
}

/// What a model pays for before it does anything, counted by a real tokenizer (o200k_base).
#[test]
fn the_list_is_light() {
    let tools = listed_json(Toolset::All);
    let light = |tool: &Value| json!({ "name": tool["name"], "description": tool["description"], "inputSchema": tool["inputSchema"] });
    for tool in &tools {
        println!("{:5} {}", tokens(&light(tool)), tool["name"].as_str().unwrap());
    }
    let outputs: Vec<&Value> = tools.iter().map(|tool| &tool["outputSchema"]).collect();
    let sum = tokens(&tools.iter().map(light).collect::<Vec<_>>());
    println!(
        "{sum:5} names, descriptions and input schemas; output schemas {}; whole {}",
        tokens(&outputs),
        tokens(&tools)
    );
    assert!(sum < MOST, "{sum} tokens");
}

#[test]
fn names_and_arguments_are_upstreams_and_our_own() {
    let expected = [
        (
            "drain_providers",
            "onlineOnly model category protocol sort inputTokens outputTokens maxPrice maxLatencyMs \
             minQuality minScore limit page format",
            "",
        ),
        ("drain_provider_info", "provider", "provider"),
        (
            "drain_quote",
            "provider channelId model messages inputTokens maxTokens maxCost maxDeposit duration request",
            "",
        ),
        ("drain_balance", "", ""),
        ("drain_budget", "receipt", ""),
        ("drain_approve", "amount", ""),
        ("drain_open_channel", "provider amount duration cap", "provider amount"),
        (
            "drain_chat",
            "channelId provider model messages maxTokens temperature maxCost maxDeposit duration requestId",
            "model messages",
        ),
        ("pay_request", "url method headers body maxCost requestId", "url"),
        ("mpp_chat", "provider messages model maxTokens temperature", "provider messages"),
        ("mpp_request", "url body method", "url"),
        ("drain_channel_status", "channelId", "channelId"),
        ("drain_channels", "all", ""),
        ("drain_close_channel", "channelId", "channelId"),
        ("drain_cooperative_close", "channelId", "channelId"),
        ("drain_feedback", "providerId outcome reason protocol", "providerId outcome"),
    ];
    assert_eq!(ALL.len(), expected.len());
    for (name, arguments, required) in expected {
        let params = find(name).unwrap().params;
        let names: Vec<&str> = params.iter().map(|p| p.name).collect();
        assert_eq!(names, arguments.split_whitespace().collect::<Vec<_>>(), "{name}");
        let must: Vec<&str> = params.iter().filter(|p| p.required).map(|p| p.name).collect();
        assert_eq!(must, required.split_whitespace().collect::<Vec<_>>(), "{name}");
    }
    assert!(params_have("drain_provider_info", "providerId") && params_have("drain_open_channel", "providerId"));
}

fn params_have(tool: &str, alias: &str) -> bool {
    find(tool).unwrap().params.iter().any(|p| p.aliases.contains(&alias))
}

#[test]
fn all_is_said_of_each() {
    for tool in listed_json(Toolset::All) {
        let name = &tool["name"];
        assert!(tool["title"].is_string() && tool["description"].is_string(), "{name}");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
        }
        for schema in [&tool["inputSchema"], &tool["outputSchema"]] {
            assert_eq!(schema["type"], "object", "{name}");
            let text = schema.to_string();
            assert!(
                !text.contains("$ref") && !text.contains("$defs") && !text.contains("\"format\":\""),
                "{name} {text}"
            );
            assert!(!text.contains("additionalProperties"), "{name}");
        }
    }
    for tool in ALL.iter().filter(|tool| tool.effect.moves_money()) {
        assert!(!tool.hints.read_only, "{}", tool.name);
    }
}

/// The part of JSON Schema that our schemas use.
fn fits(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match &schema["type"] {
        Value::String(wanted) if wanted != kind => return Err(format!("{at}: {kind}, not {wanted}")),
        Value::Array(any) if !any.contains(&json!(kind)) => return Err(format!("{at}: {kind}, not {any:?}")),
        _ => {}
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if value.get(name).is_none() {
            return Err(format!("{at}: lacks {name}"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            fits(schema, value, &format!("{at}.{name}"))?;
        }
    }
    for (key, value) in
        schema["items"].as_object().map(|_| value.as_array()).into_iter().flatten().flatten().enumerate()
    {
        fits(&schema["items"], value, &format!("{at}[{key}]"))?;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{at}: {value} is none of {words:?}"));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(any) = schema[key].as_array() {
            let wrong: Vec<String> = any.iter().filter_map(|schema| fits(schema, value, at).err()).collect();
            if wrong.len() == any.len() {
                return Err(wrong.join("; "));
            }
        }
    }
    Ok(())
}

fn schema_of(name: &str) -> Value {
    Value::Object((find(name).unwrap().output)())
}

#[test]
fn every_failure_fits_every_schema() {
    for tool in ALL {
        for code in Code::ALL {
            let fault = Fault::from(Failure::unspent(*code, "m", "n"));
            fits(&schema_of(tool.name), &Value::Object(fault.data()), tool.name).unwrap();
        }
        let fault = Fault::crashed(tool.name, tool.effect.moves_money());
        fits(&schema_of(tool.name), &Value::Object(fault.data()), tool.name).unwrap();
        assert!(fits(&schema_of(tool.name), &json!({}), tool.name).is_err());
    }
}

#[test]
fn every_answer_fits_its_schema() {
    fn plain<T: Serialize>(value: &T) -> Answer {
        Answer::new(value, &["docs"], "text").unwrap()
    }
    let query = crate::api::ProviderQuery::default();
    let channels = json!({ "channels": [samples::channel()] });
    for (name, answer) in [
        ("drain_providers", providers::show(&samples::page(), &query, false).unwrap()),
        ("drain_providers", providers::show(&samples::page(), &query, true).unwrap()),
        ("drain_provider_info", plain(&samples::details())),
        ("drain_quote", plain(&samples::quote())),
        ("drain_balance", balance::show(&samples::wallet()).unwrap()),
        ("drain_budget", budget::show(samples::budget(), &[samples::receipt()]).unwrap()),
        ("drain_approve", plain(&samples::approved())),
        ("drain_open_channel", plain(&samples::opened())),
        ("drain_quote", pay_request::quoted(samples::demanded()).unwrap()),
        ("pay_request", pay_request::answered(samples::bought("hello"), |text| text).unwrap()),
        ("pay_request", pay_request::answered(samples::bought(&"long ".repeat(9_000)), |text| text).unwrap()),
        ("pay_request", pay_request::answered(samples::demanded(), |text| text).unwrap()),
        ("mpp_chat", pay_request::answered(samples::bought("hello"), |text| text).unwrap()),
        ("mpp_request", pay_request::answered(samples::bought("hello"), |text| text).unwrap()),
        ("drain_chat", chat::answered(samples::paid("hello")).unwrap()),
        ("drain_chat", chat::answered(samples::paid(&"long ".repeat(9_000))).unwrap()),
        ("drain_chat", chat::read_first("docs").unwrap()),
        ("drain_channel_status", plain(&samples::channel())),
        ("drain_channels", plain(&channels)),
        ("drain_cooperative_close", plain(&samples::closed())),
        ("drain_close_channel", plain(&samples::closed())),
        ("drain_feedback", plain(&json!({ "sent": true }))),
    ] {
        let data = answer.into_result(true).structured_content.unwrap();
        fits(&schema_of(name), &data, name).unwrap();
        assert_eq!(data["play_money"], true);
    }
}

#[test]
fn an_unknown_tool_is_told_what_exists() {
    for (name, part) in
        [("drain_chats", "drain_chat is meant"), ("mpp_chats", "mpp_chat is meant"), ("x", "drain_providers, ")]
    {
        assert!(unknown(name, Toolset::All).message.contains(part), "{}", unknown(name, Toolset::All).message);
    }
}

#[test]
fn a_set_hides_what_is_beyond_it() {
    let names = |set| listed(set).iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>();
    let (read, pay, all) = (names(Toolset::Read), names(Toolset::Pay), names(Toolset::All));
    assert!(read.iter().all(|name| pay.contains(name)) && pay.iter().all(|name| all.contains(name)));
    for tool in ALL {
        let reads = read.iter().any(|name| name == tool.name);
        assert_eq!(reads, tool.hints.read_only && tool.effect == Effect::Repeatable, "{}", tool.name);
        assert!(pay.iter().any(|name| name == tool.name) || tool.set() == Toolset::All);
        assert_eq!(offered(tool.name, Toolset::Read).is_ok(), reads, "{}", tool.name);
    }
    assert!(!pay.contains(&"drain_approve".to_owned()) && pay.contains(&"drain_close_channel".to_owned()));
    let hidden = offered("drain_chat", Toolset::Read).unwrap_err().message;
    assert!(hidden.contains("\"read\"") && hidden.contains("DRAIN_TOOLS"), "{hidden}");
    assert!(!offered("drain_chats", Toolset::Read).unwrap_err().message.contains("drain_chat is meant"));
}
