//! Pages for readers: what the skill names exists, and both languages of a page say the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use super::tools;
use crate::config::{Key, Toolset};
use crate::error::Code;

const SKILLS: [&str; 2] = ["skill/SKILL.md", "skill/SKILL.zh-CN.md"];
/// Each page and the same page in Chinese.
const PAIRS: [[&str; 2]; 2] = [SKILLS, ["README.md", "README.zh-CN.md"]];

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The front matter and what follows it.
fn halves(text: &str) -> (&str, &str) {
    text.strip_prefix("---\n").and_then(|text| text.split_once("\n---\n")).expect("front matter")
}

/// A field at the margin: its first line and the indented ones that follow.
fn field(front: &str, name: &str) -> String {
    let mut lines = front.lines().skip_while(|line| !line.starts_with(&format!("{name}:")));
    let first = lines.next().unwrap_or_else(|| panic!("no field {name}"));
    let rest = lines.take_while(|line| line.starts_with(' ')).map(str::trim);
    let value = first[name.len() + 1..].trim().trim_end_matches(">-");
    std::iter::once(value).chain(rest).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The fenced blocks without the fence, their comments left out, and the text around them.
fn blocks(text: &str) -> (Vec<String>, String) {
    let mut parts = text.split("```");
    let (mut code, mut around) = (Vec::new(), parts.next().unwrap_or_default().to_owned());
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let bare = |line: &str| match line.split_once("# ") {
            Some((before, _)) if before.is_empty() || before.ends_with(' ') => before.trim_end().to_owned(),
            _ => line.to_owned(),
        };
        code.push(block.lines().map(bare).filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n"));
        around.push_str(after);
    }
    (code, around)
}

/// What stands between backticks.
fn quoted(around: &str) -> BTreeSet<&str> {
    around.split('`').skip(1).step_by(2).collect()
}

fn is_parameter(name: &str) -> bool {
    let mut tools = tools::listed(Toolset::All).into_iter().filter_map(|tool| tools::find(&tool.name));
    tools.any(|tool| tool.params.iter().any(|param| param.name == name))
}

fn is_variable(name: &str) -> bool {
    Key::ALL.iter().map(|key| key.spec()).any(|spec| spec.env == name || spec.env_file().as_deref() == Some(name))
}

#[test]
fn the_front_matter_has_what_platforms_read() {
    for name in SKILLS {
        let text = page(name);
        assert!(text.lines().count() < 250, "{name} is too long");
        let (front, _) = halves(&text);
        assert_eq!(field(front, "name"), "drain-mcp");
        assert_eq!(field(front, "license"), "MIT");
        assert_eq!(field(front, "version"), env!("CARGO_PKG_VERSION"));
        assert_eq!(field(front, "always"), "false");
        assert!(field(front, "homepage").starts_with("https://"));
        // The limits of the format.
        for (part, most) in [("description", 1_024), ("compatibility", 500)] {
            let text = field(front, part);
            assert!(text.chars().count() <= most && text.chars().count() > 60, "{name} {part}");
            assert!(!text.contains(['<', '>']), "{name} {part}");
        }
        let metadata = field(front, "metadata");
        assert!(metadata.contains("primaryEnv: DRAIN_PRIVATE_KEY") && metadata.contains("anyEnv:"), "{metadata}");
        assert!(metadata.contains("always: false"), "{metadata}");
    }
}

#[test]
fn the_skill_names_what_exists() {
    for name in SKILLS {
        let text = page(name);
        let (_, body) = halves(&text);
        let (code, around) = blocks(body);
        for variable in text.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|w| w.starts_with("DRAIN_")) {
            assert!(is_variable(variable), "{name}: no variable {variable}");
        }
        let quoted = quoted(&around);
        let plain = |word: &&&str| word.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        for word in quoted.iter().filter(plain).filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())) {
            let code = Code::ALL.iter().any(|code| code.as_str() == *word);
            assert!(
                code || tools::find(word).is_some() || is_parameter(word),
                "{name}: {word} is no tool, argument or code"
            );
        }
        for tool in tools::listed(Toolset::All) {
            assert!(quoted.contains(&*tool.name), "{name} does not name {}", tool.name);
        }
        let calls = code.iter().filter_map(|block| block.strip_prefix("json\n"));
        for call in calls.map(|block| serde_json::from_str::<serde_json::Value>(block).expect(block)) {
            let Some(tool) = call["name"].as_str() else { continue };
            let tool = tools::find(tool).unwrap_or_else(|| panic!("{name}: no tool {tool}"));
            let arguments = call["arguments"].as_object().unwrap();
            for argument in arguments.keys() {
                assert!(tool.params.iter().any(|param| param.name == argument), "{name}: {} {argument}", tool.name);
            }
            for param in tool.params.iter().filter(|param| param.required) {
                assert!(arguments.contains_key(param.name), "{name}: {} needs {}", tool.name, param.name);
            }
        }
    }
}

#[test]
fn both_languages_say_the_same() {
    for [english, chinese] in PAIRS {
        let (one, other) = (page(english), page(chinese));
        let ((code, around), (same_code, same_around)) = (blocks(&one), blocks(&other));
        assert_eq!(same_code, code, "{chinese}: the blocks");
        let shape = |around: &str| -> Vec<String> {
            let marks = around.lines().filter_map(|line| line.split_whitespace().next());
            let kept = marks.filter(|mark| mark.starts_with('#') || ["|", "-"].contains(mark) || mark.ends_with('.'));
            kept.filter(|mark| !mark.contains(char::is_alphabetic)).map(str::to_owned).collect()
        };
        assert_eq!(shape(&same_around), shape(&around), "{chinese}: headings, rows and items");
        assert_eq!(quoted(&same_around), quoted(&around), "{chinese}: what is named");
        assert!(other.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count() > 1_000, "{chinese}");
    }
}
