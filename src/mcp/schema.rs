//! Output schemas, made from the types that are sent.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of what a tool gives: the fields of `T`, or those of a failure.
///
/// Some clients check a failure's data against the schema too, so both are allowed; the protocol wants an object at
/// the root.
pub(super) fn output_schema<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = match schema.to_value() {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    schema.remove("title");
    schema.remove("description");
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let about = property.as_object_mut().and_then(|property| property.remove("description"));
        plain(property);
        if let (Some(property), Some(about)) = (property.as_object_mut(), about) {
            property.insert("description".into(), about);
        }
    }
    let success = schema.remove("required").unwrap_or_else(|| json!([]));
    schema.insert("type".into(), "object".into());
    if let Some(properties) = schema.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
        for (name, kind) in [("code", "string"), ("message", "string"), ("money", "object"), ("retry", "string")] {
            properties.entry(name).or_insert_with(|| json!({ "type": kind }));
        }
        properties.entry("next").or_insert_with(|| json!({ "type": "string" }));
    }
    schema.insert(
        "anyOf".into(),
        json!([{ "required": success }, { "required": ["code", "message", "money", "retry", "next"] }]),
    );
    schema
}

/// The same for what gives one of two things.
pub(super) fn output_schema_or<A: JsonSchema, B: JsonSchema>() -> Map<String, Value> {
    let (mut one, mut other) = (output_schema::<A>(), output_schema::<B>());
    let more = other.remove("properties").unwrap_or_default();
    let success = other.get("anyOf").and_then(|any| any.get(0)).cloned();
    if let (Some(properties), Value::Object(more)) = (one.get_mut("properties").and_then(Value::as_object_mut), more) {
        for (name, property) in more {
            properties.entry(name).or_insert(property);
        }
    }
    if let Some(any) = one.get_mut("anyOf").and_then(Value::as_array_mut) {
        any.extend(success);
    }
    one
}

/// Without Rust's integer formats, which no JSON validator knows, and without descriptions of what is nested: they
/// would be said again in every tool that shows a channel.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, value| !(matches!(key.as_str(), "format" | "description") && value.is_string()));
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::{ProviderPage, WalletView};

    #[test]
    fn inlined_and_open_to_failures() {
        let schema = output_schema::<ProviderPage>();
        let text = serde_json::to_string(&schema).unwrap();
        assert!(!text.contains("$ref") && !text.contains("$defs") && !text.contains("uint"), "{text}");
        assert_eq!(schema["type"], "object");
        assert_eq!(
            schema["anyOf"][0]["required"],
            json!(["providers", "matched", "page", "next_page", "age_seconds", "stale"])
        );
        assert_eq!(schema["properties"]["code"]["type"], "string");
        assert_eq!(output_schema::<WalletView>()["properties"]["usdc"]["type"], "string");
    }
}
