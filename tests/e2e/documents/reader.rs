//! Documents as a reader who types sees them: the lines of their shell blocks, and the commands that sentences name.

use std::path::Path;

/// A document.
pub struct Page {
    /// Its path in the repository.
    pub name: String,
    /// The lines of its shell blocks, in order.
    pub lines: Vec<Line>,
    /// What stands between backticks in its text.
    pub quoted: Vec<String>,
}

/// A line of a shell block.
pub struct Line {
    /// The heading that it stands under.
    pub section: String,
    /// As it is written; several where they end with a backslash.
    pub text: String,
    /// Without its comment.
    pub command: String,
}

/// Every document of the repository, by name.
pub fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    look(root, &mut names);
    names.sort();
    let read = |name: String| {
        let text = std::fs::read_to_string(root.join(&name)).unwrap();
        page(name, &text)
    };
    names.into_iter().map(read).collect()
}

fn look(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            look(&path, names);
        } else if name.ends_with(".md") {
            let inside = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
            names.push(inside.display().to_string());
        }
    }
}

fn page(name: String, text: &str) -> Page {
    let mut page = Page { name, lines: Vec::new(), quoted: Vec::new() };
    let (mut section, mut around) = (String::new(), String::new());
    let mut block: Option<bool> = None;
    let mut open = String::new();
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (block, fence) {
            (None, Some(kind)) => block = Some(["sh", "bash", "console"].contains(&kind.trim())),
            (Some(_), Some(_)) => block = None,
            (Some(true), None) => {
                open.push_str(line.trim().trim_start_matches("$ "));
                if open.ends_with('\\') {
                    open.pop();
                    continue;
                }
                let text = std::mem::take(&mut open);
                let command = uncommented(&text).trim().to_owned();
                if !command.is_empty() {
                    page.lines.push(Line { section: section.clone(), text, command });
                }
            }
            (Some(false), None) => {}
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    section = heading.to_owned();
                }
                around.push_str(line);
                // A paragraph's quotation may go on in its next line; one that is never closed ends with the paragraph.
                around.push_str(if line.is_empty() { "\n\n" } else { " " });
            }
        }
    }
    for paragraph in around.split("\n\n") {
        page.quoted.extend(paragraph.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    page
}

/// A line without what a shell takes for a comment.
fn uncommented(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            None if c == '#' && before.is_whitespace() => return &line[..at],
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

/// The words of each call of our program in a line: from its name to the end of the simple command.
pub fn invocations(line: &str) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let (mut ours, mut before) = (false, None::<String>);
    for word in words(uncommented(line)) {
        // The first word, or the first one of the command that another one runs.
        let first = before.as_deref().is_none_or(|before| before == "--" || before == "env" || before.contains('='));
        match &word {
            None => ours = false,
            Some(name) if first && name == "drain-mcp" => {
                ours = true;
                found.push(vec![name.clone()]);
            }
            Some(word) if ours => found.last_mut().expect("begun").push(word.clone()),
            Some(_) => {}
        }
        before = word;
    }
    found
}

/// Words as a shell splits them; `None` where a simple command ends.
fn words(line: &str) -> Vec<Option<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take().map(Some)),
            (None, '|' | ';' | '&' | '(' | ')' | '>' | '<') => {
                words.extend(word.take().map(Some));
                words.push(None);
            }
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.map(Some));
    words
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    let calls = invocations("ID=$(drain-mcp open sim-llm 1 --json | grep x) # drain-mcp no");
    assert_eq!(calls, [["drain-mcp", "open", "sim-llm", "1", "--json"]]);
    let calls = invocations("install -o drain-mcp drain-mcp; A=1 drain-mcp chat $ID \"Say # 'it'\" && drain-mcp x");
    assert_eq!(calls[0], ["drain-mcp", "chat", "$ID", "Say # 'it'"]);
    assert_eq!(calls[1], ["drain-mcp", "x"]);
    let calls = invocations("sudo -u drain-mcp env A=1 drain-mcp agents; kubectl -n drain-mcp exec x -- drain-mcp y");
    assert_eq!(calls[0], ["drain-mcp", "agents"]);
    assert_eq!(calls[1], ["drain-mcp", "y"]);
    let text = "## One\n\n```sh\n$ a \\\n  b   # c\n\n# d\n```\n\nIt is `drain-mcp\nx` and `y`.\n";
    let page = page("p".into(), text);
    assert_eq!(page.lines.len(), 1);
    assert_eq!((page.lines[0].section.as_str(), page.lines[0].command.as_str()), ("One", "a b"));
    assert_eq!(page.quoted, ["drain-mcp x", "y"]);
}
