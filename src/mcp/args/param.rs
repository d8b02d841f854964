//! What an argument is: the one source of its schema and of the names that are accepted.

use serde_json::{Map, Value, json};

/// One argument of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name, as upstream spells it.
    pub name: &'static str,
    /// Names that mean the same.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub kind: Kind,
    /// Whether the schema asks for it.
    pub required: bool,
    /// For the model that fills it in.
    pub about: &'static str,
}

/// What an argument holds, as the schema says it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// One of a few words.
    OneOf(&'static [&'static str]),
    /// True or false.
    Flag,
    /// A whole number.
    Count,
    /// Any number.
    Number,
    /// A conversation.
    Messages,
    /// A conversation that another tool's schema describes: a list of tools is read at every turn.
    MessagesBriefly,
    /// Texts by their names.
    Map,
    /// A JSON object.
    Object,
}

impl Param {
    /// An argument that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: false, about }
    }

    /// An argument that must be given.
    pub const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, aliases: &[], kind, required: true, about }
    }

    /// Also found under other names.
    pub const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Count => json!({ "type": "integer", "minimum": 1 }),
            Kind::Number => json!({ "type": "number" }),
            Kind::MessagesBriefly => json!({ "type": "array", "items": { "type": "object" } }),
            Kind::Map | Kind::Object => json!({ "type": "object" }),
            Kind::Messages => json!({
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "role": { "type": "string", "enum": ["system", "user", "assistant"] },
                        "content": { "type": "string" }
                    },
                    "required": ["role", "content"]
                }
            }),
        };
        if let (Value::Object(schema), false) = (&mut schema, self.about.is_empty()) {
            schema.insert("description".into(), self.about.into());
        }
        schema
    }
}

/// The input schema of a tool with these arguments. Other properties are allowed.
pub fn input_schema(params: &[Param]) -> Map<String, Value> {
    let properties: Map<String, Value> = params.iter().map(|p| (p.name.to_owned(), p.schema())).collect();
    let required: Vec<&str> = params.iter().filter(|p| p.required).map(|p| p.name).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}
