//! Codex's TOML file: the entry is a table of its own at the end, and not a line beside it changes.

use toml::{Table, Value};

use super::entry::{Entry, NAME};

const SERVERS: &str = "mcp_servers";

/// What stands under our name; an error says why the file cannot be used.
pub fn find(text: &str) -> Result<Option<Entry>, String> {
    let root = parse(text)?;
    let Some(servers) = root.get(SERVERS) else { return Ok(None) };
    let servers = servers.as_table().ok_or(format!("{SERVERS} is no table"))?;
    let Some(found) = servers.get(NAME) else { return Ok(None) };
    match serde_json::to_value(found) {
        Ok(serde_json::Value::Object(entry)) => Ok(Some(entry)),
        _ => Err(format!("{SERVERS}.{NAME} is no table")),
    }
}

/// The text with the entry, in place of the one that is there.
pub fn insert(text: &str, entry: &Entry) -> Result<String, String> {
    let text = remove(text)?;
    let line = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let block = alone(entry)?.replace('\n', line);
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { line };
    let gap = if text.trim().is_empty() { "" } else { line };
    let result = format!("{text}{end}{gap}{block}");
    let mut wanted = parse(&text)?;
    let value = Value::try_from(entry).map_err(|error| error.to_string())?;
    let servers = wanted.entry(SERVERS).or_insert_with(|| Table::new().into());
    servers.as_table_mut().ok_or(format!("{SERVERS} is no table"))?.insert(NAME.into(), value);
    proven(result, &wanted)
}

/// The text without our table, and without those within it.
pub fn remove(text: &str) -> Result<String, String> {
    let mut wanted = parse(text)?;
    let Some(servers) = wanted.get_mut(SERVERS).and_then(Value::as_table_mut) else { return Ok(text.to_owned()) };
    if servers.remove(NAME).is_none() {
        return Ok(text.to_owned());
    }
    let only = servers.is_empty();
    let mut kept = String::new();
    let mut waiting = String::new();
    let mut within = false;
    for line in text.split_inclusive('\n') {
        let header = line.trim_start().strip_prefix('[').map(|rest| rest.replace(' ', ""));
        if let Some(header) = header {
            let ours = [format!("{SERVERS}.{NAME}]"), format!("{SERVERS}.{NAME}.")];
            let begins = ours.iter().any(|ours| header.starts_with(ours.as_str()));
            match (begins, within) {
                // The blank line that sets the table apart goes with it.
                (true, false) => kept.truncate(kept.trim_end_matches(['\r', '\n']).len() + first_line(&kept)),
                (true, true) => waiting.clear(),
                (false, _) => kept.push_str(&std::mem::take(&mut waiting)),
            }
            within = begins;
        }
        match (within, line.trim()) {
            (false, _) => kept.push_str(line),
            // Blank lines and comments at the end belong to what follows.
            (true, rest) if rest.is_empty() || rest.starts_with('#') => waiting.push_str(line),
            (true, _) => waiting.clear(),
        }
    }
    kept.push_str(&waiting);
    if only && !parse(&kept)?.contains_key(SERVERS) {
        wanted.remove(SERVERS);
    }
    proven(kept, &wanted)
}

/// An entry as a file that holds it alone would show it.
pub fn alone(entry: &Entry) -> Result<String, String> {
    let outer = serde_json::json!({ SERVERS: { NAME: entry } });
    toml::to_string(&outer).map_err(|error| error.to_string())
}

/// How long the line end is that the last line keeps.
fn first_line(text: &str) -> usize {
    let blanks = &text[text.trim_end_matches(['\r', '\n']).len()..];
    blanks.find('\n').map_or(blanks.len(), |at| at + 1)
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        // The error's own Display repeats the line, which may hold a secret.
        let line = error.span().map_or(1, |span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
        format!("line {line}: {}", error.message())
    })
}

/// A result is used only where it reads as what was wanted and nothing else.
fn proven(result: String, wanted: &Table) -> Result<String, String> {
    if parse(&result)? == *wanted {
        Ok(result)
    } else {
        Err("it is written in a way that cannot be changed safely".into())
    }
}
