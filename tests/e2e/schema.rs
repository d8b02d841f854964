//! The part of JSON Schema that our output schemas use: enough to say that a value fits.

use serde_json::Value;

/// Panics with the place where `value` does not fit `schema`.
pub fn fits(schema: &Value, value: &Value) {
    if let Err(problem) = check(schema, schema, value, "$") {
        panic!("{problem}\nin {value}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.strip_prefix('#').unwrap_or_else(|| panic!("{name} is not local"));
        let target = root.pointer(pointer).unwrap_or_else(|| panic!("{name} is not there"));
        return check(root, target, value, place);
    }
    for any in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[any].as_array() {
            let problems: Vec<String> =
                choices.iter().filter_map(|choice| check(root, choice, value, place).err()).collect();
            if problems.len() == choices.len() {
                return Err(format!("{place} fits none of {any}: {problems:?}"));
            }
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name, value)) {
        return Err(format!("{place} is not {types:?}: {value}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{place} is not one of {words:?}: {value}"));
    }
    if let (Some(constant), true) = (schema.get("const"), schema.get("const") != Some(value)) {
        return Err(format!("{place} is not {constant}: {value}"));
    }
    if let Some(fields) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{place} lacks {name}"));
            }
        }
        for (name, value) in fields {
            if let Some(schema) = schema["properties"].get(name) {
                check(root, schema, value, &format!("{place}.{name}"))?;
            } else if schema["additionalProperties"] == false {
                return Err(format!("{place}.{name} is not allowed"));
            }
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            check(root, schema, item, &format!("{place}[{index}]"))?;
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the type {other} is not known here"),
    }
}
