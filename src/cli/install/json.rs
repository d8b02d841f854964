//! A client's JSON file: an entry is spliced in and out, and not a byte beside it changes.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp, Value as Node};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::entry::{Entry, NAME, ordered};

/// Comments and a comma after the last one are what clients allow; nothing else beside JSON.
const ALLOWED: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// What stands under our name; an error says why the file cannot be used.
pub fn find(text: &str, servers: &str) -> Result<Option<Entry>, String> {
    let Some(root) = parse(text)? else { return Ok(None) };
    let Some(held) = held(&root, servers)? else { return Ok(None) };
    let Some(property) = one(held, NAME)? else { return Ok(None) };
    match Value::from(property.value.clone()) {
        Value::Object(entry) => Ok(Some(entry)),
        _ => Err(format!("\"{NAME}\" in \"{servers}\" is no object")),
    }
}

/// The text with the entry, in place of the one that is there.
pub fn insert(text: &str, servers: &str, entry: &Entry) -> Result<String, String> {
    let style = Style::of(text);
    let Some(root) = parse(text)? else {
        let outer = Map::from_iter([(NAME.to_owned(), Value::Object(entry.clone()))]);
        let inner = style.value(&Value::Object(outer), &style.unit);
        return Ok(format!("{{{0}{1}\"{servers}\": {inner}{0}}}{0}", style.line, style.unit));
    };
    let object = held(&root, servers)?;
    let result = match object {
        Some(object) => match one(object, NAME)? {
            Some(property) => {
                let value = property.value.range();
                let written = style.value(&Value::Object(entry.clone()), indent_at(text, property.range.start));
                splice(text, vec![(value.start..value.end, written)])
            }
            None => append(text, object, &style, NAME, &Value::Object(entry.clone())),
        },
        None => {
            let inner = Map::from_iter([(NAME.to_owned(), Value::Object(entry.clone()))]);
            append(text, &root, &style, servers, &Value::Object(inner))
        }
    };
    let mut wanted = Value::from(Node::Object(root.clone()));
    if let Some(root) = wanted.as_object_mut() {
        let servers = root.entry(servers).or_insert_with(|| Value::Object(Map::new()));
        if let Some(servers) = servers.as_object_mut() {
            servers.insert(NAME.into(), Value::Object(entry.clone()));
        }
    }
    proven(result, &wanted)
}

/// The text without our entry.
pub fn remove(text: &str, servers: &str) -> Result<String, String> {
    let Some(root) = parse(text)? else { return Ok(text.to_owned()) };
    let Some(object) = held(&root, servers)? else { return Ok(text.to_owned()) };
    let Some(at) = object.properties.iter().position(|property| property.name.as_str() == NAME) else {
        return Ok(text.to_owned());
    };
    let property = &object.properties[at];
    let before = at.checked_sub(1).map(|at| &object.properties[at]);
    let mut cut = blank_before(text, property.range.start)..property.range.end;
    let mut comma_before = None;
    match (comma_after(text, property.range.end), before) {
        (Some(comma), _) => cut.end = comma + 1,
        (None, Some(before)) => {
            let comma = comma_after(text, before.range.end).ok_or("a comma is missing")?;
            comma_before = Some(comma..comma + 1);
        }
        (None, None) => {
            // An object that holds nothing, not even a comment, is written in one word.
            let inside = object.range.start + 1..object.range.end - 1;
            let rest = [&text[inside.start..cut.start], &text[cut.end..inside.end]];
            if rest.iter().all(|part| part.trim().is_empty()) {
                cut = inside;
            }
        }
    }
    let mut wanted = Value::from(Node::Object(root.clone()));
    if let Some(servers) = wanted.get_mut(servers).and_then(Value::as_object_mut) {
        servers.remove(NAME);
    }
    let cuts = comma_before.into_iter().chain([cut]);
    proven(splice(text, cuts.map(|cut| (cut, String::new())).collect()), &wanted)
}

/// The root object; `None` of a file that is empty.
fn parse(text: &str) -> Result<Option<Object<'_>>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ALLOWED).map_err(|error| {
        format!("line {}, column {}: {}", error.line_display(), error.column_display(), error.kind())
    })?;
    match parsed.value {
        Some(Node::Object(root)) => Ok(Some(root)),
        _ => Err("line 1: it is no JSON object".into()),
    }
}

/// The object of the servers, where there is one.
fn held<'a, 'b>(root: &'b Object<'a>, servers: &str) -> Result<Option<&'b Object<'a>>, String> {
    match one(root, servers)?.map(|property| &property.value) {
        None => Ok(None),
        Some(Node::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("\"{servers}\" is no object")),
    }
}

/// The property of this name. Which one of two a client takes is its own affair.
fn one<'a, 'b>(object: &'b Object<'a>, name: &str) -> Result<Option<&'b ObjectProp<'a>>, String> {
    let mut all = object.properties.iter().filter(|property| property.name.as_str() == name);
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(format!("\"{name}\" stands there twice")),
        (found, None) => Ok(found),
    }
}

/// A property after the last one. A comment behind that one stays with it.
fn append(text: &str, object: &Object<'_>, style: &Style, name: &str, value: &Value) -> String {
    let close = object.range.end - 1;
    let at = blank_before(text, close);
    let Some(last) = object.properties.last() else {
        let outer = indent_at(text, object.range.start);
        let inner = format!("{outer}{}", style.unit);
        let member = format!("{}{inner}\"{name}\": {}", style.line, style.value(value, &inner));
        let end = if text[at..close].contains('\n') { String::new() } else { format!("{}{outer}", style.line) };
        return splice(text, vec![(at..at, format!("{member}{end}"))]);
    };
    let first = object.properties.first().unwrap_or(last);
    let own_lines = text[object.range.start..first.range.start].contains('\n');
    let member = if own_lines {
        let indent = indent_at(text, last.range.start);
        format!("{}{indent}\"{name}\": {}", style.line, style.value(value, indent))
    } else {
        let blank = if text[object.range.start + 1..first.range.start].is_empty() { "" } else { " " };
        format!("{blank}\"{name}\":{blank}{value}")
    };
    match comma_after(text, last.range.end) {
        Some(_) => splice(text, vec![(at..at, format!("{member},"))]),
        None => splice(text, vec![(last.range.end..last.range.end, ",".into()), (at..at, member)]),
    }
}

/// Where the blanks before a place begin.
fn blank_before(text: &str, place: usize) -> usize {
    text[..place].trim_end().len()
}

/// The blanks that the line of this place begins with.
fn indent_at(text: &str, place: usize) -> &str {
    let line = text[..place].rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[line..];
    &rest[..rest.len() - rest.trim_start_matches([' ', '\t']).len()]
}

/// The comma that follows a value, comments in between.
fn comma_after(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        let rest = &rest[blank..];
        at += blank;
        at += match rest {
            _ if rest.starts_with(',') => return Some(at),
            _ if rest.starts_with("//") => rest.find('\n')?,
            _ if rest.starts_with("/*") => rest.find("*/")? + 2,
            _ => return None,
        };
    }
}

/// Parts in order, each replaced.
fn splice(text: &str, parts: Vec<(Range<usize>, String)>) -> String {
    let mut result = text.to_owned();
    for (range, part) in parts.into_iter().rev() {
        result.replace_range(range, &part);
    }
    result
}

/// A result is used only where it reads as what was wanted and nothing else.
fn proven(result: String, wanted: &Value) -> Result<String, String> {
    let read = parse(&result)?.map(|root| Value::from(Node::Object(root)));
    if read.as_ref() == Some(wanted) {
        Ok(result)
    } else {
        Err("it is written in a way that cannot be changed safely".into())
    }
}

/// How the file is written.
struct Style {
    line: &'static str,
    unit: String,
}

impl Style {
    fn of(text: &str) -> Self {
        let line = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let indented = text.lines().find(|line| line.starts_with([' ', '\t']) && line.trim_start().starts_with('"'));
        let unit = indented.map_or("  ", |line| indent_at(line, 0)).to_owned();
        Self { line, unit }
    }

    /// A value that begins on a line of this indent; an entry's fields in their order.
    fn value(&self, value: &Value, indent: &str) -> String {
        let Value::Object(map) = value else { return value.to_string() };
        if map.is_empty() {
            return "{}".into();
        }
        let inner = format!("{indent}{}", self.unit);
        let one =
            |(name, value): (&str, &Value)| format!("{inner}{}: {}", Value::from(name), self.value(value, &inner));
        let members: Vec<String> = ordered(map).into_iter().map(one).collect();
        format!("{{{0}{1}{0}{indent}}}", self.line, members.join(&format!(",{}", self.line)))
    }
}

/// An entry as a file that holds it alone would show it.
pub fn alone(entry: &Entry) -> String {
    let outer = Map::from_iter([(NAME.to_owned(), Value::Object(entry.clone()))]);
    let text = Style { line: "\n", unit: "  ".into() }.value(&Value::Object(outer), "");
    text.lines()
        .filter(|line| line.starts_with(' '))
        .map(|line| line.get(2..).unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}
