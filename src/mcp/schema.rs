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
    plain(&mut schema);
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

/// Without Rust's integer formats, which no JSON validator knows.
fn plain(schema: &mut Map<String, Value>) {
    let ours =
        schema.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint") || f.starts_with("int"));
    if ours {
        schema.remove("format");
    }
    for value in schema.values_mut() {
        descend(value);
    }
}

fn descend(value: &mut Value) {
    match value {
        Value::Object(map) => plain(map),
        Value::Array(items) => items.iter_mut().for_each(descend),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ProviderPage, WalletView};

    #[test]
    fn inlined_and_open_to_failures() {
        let schema = output_schema::<ProviderPage>();
        let text = serde_json::to_string(&schema).unwrap();
        assert!(!text.contains("$ref") && !text.contains("$defs") && !text.contains("uint"), "{text}");
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["anyOf"][0]["required"], json!(["providers", "matched", "age_seconds", "stale"]));
        assert_eq!(schema["properties"]["code"]["type"], "string");
        assert_eq!(output_schema::<WalletView>()["properties"]["usdc"]["type"], "string");
    }
}
