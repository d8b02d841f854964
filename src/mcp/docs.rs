//! `docs/tools.md`, written from what clients are told. Nothing but its test needs it.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Kind;
use super::tools::{Definition, tests};
use super::{prompts, tools};
use crate::api::Effect;
use crate::config::Toolset;

const HEAD: &str = "# Tools

<!-- Written from src/mcp/tools and src/mcp/prompts.rs: UPDATE_DOCS=1 cargo test --locked --lib mcp::docs -->

What an MCP client is offered. Amounts are USDC as decimal text (`\"0.05\"`), durations `90m`, `4h`, `7d` or seconds. Where a tool
takes a provider it takes the id, the short id that `drain_providers` shows (`@` and the id's end, which means one provider or is
refused), or a wallet that one listing alone has; never a name, since a name is its provider's choice.

## Which tools are offered

`--tools read|pay|all` (`DRAIN_TOOLS`) says it for a server, `drain-mcp agents add NAME --tools read` for one agent of a fleet;
of both the smaller set counts. `--read-only` is `--tools read`. What is not offered is not listed, and refused when it is called.

| set | for | tools |
|---|---|---|
";

const SETS: [(Toolset, &str); 3] = [
    (Toolset::Read, "looking: nothing is signed, sent or locked"),
    (Toolset::Pay, "and opening, paying, closing, within the limits"),
    (Toolset::All, "and what is seldom needed; the default"),
];

fn page() -> String {
    let mut page = String::from(HEAD);
    for (set, meaning) in SETS {
        let own = tools::ALL.iter().filter(|tool| tool.set() == set).map(|tool| format!("`{}`", tool.name));
        writeln!(page, "| {set} | {meaning} | {} |", own.collect::<Vec<_>>().join(", ")).unwrap();
    }
    weights(&mut page);
    for tool in tools::ALL {
        about_tool(&mut page, tool);
    }
    page.push_str("\n## Prompts\n\nWhat a person picks at a client. They add no right: each step is a tool call within the limits.\n\n");
    page.push_str("| prompt | what for | fills in | needs the set |\n|---|---|---|---|\n");
    for prompt in &prompts::ALL {
        let name = |argument: &prompts::Argument| {
            format!("`{}`{}", argument.name, if argument.required { "" } else { " (optional)" })
        };
        let params: Vec<String> = prompt.arguments.iter().map(name).collect();
        writeln!(page, "| `{}` | {} | {} | {} |", prompt.name, prompt.about, params.join(", "), prompt.set).unwrap();
    }
    page
}

fn weights(page: &mut String) {
    let light = |tool: &Value| json!({ "name": tool["name"], "description": tool["description"], "inputSchema": tool["inputSchema"] });
    page.push_str("\nWhat a list weighs, in tokens of o200k_base:\n\n");
    page.push_str("| set | names, descriptions, input schemas | output schemas | the whole answer to tools/list |\n|---|---|---|---|\n");
    for (set, _) in SETS {
        let tools = tests::listed_json(set);
        let outputs: Vec<&Value> = tools.iter().map(|tool| &tool["outputSchema"]).collect();
        let lights: Vec<Value> = tools.iter().map(light).collect();
        let [light, output, whole] = [tests::tokens(&lights), tests::tokens(&outputs), tests::tokens(&tools)];
        writeln!(page, "| {set} | {light} | {output} | {whole} |").unwrap();
    }
}

fn about_tool(page: &mut String, tool: &Definition) {
    let does = match tool.effect {
        Effect::Repeatable => "Looks, and may be called again at any time.",
        Effect::Pays => "Pays: a second call is a second payment.",
        Effect::Joins => "Sends transactions; the same call again joins what is on its way.",
        Effect::Tells => "Tells the marketplace; moves no money.",
    };
    writeln!(page, "\n## {}\n\n{}\n\n{does} Set: {}.", tool.name, tool.about, tool.set()).unwrap();
    if tool.params.is_empty() {
        page.push_str("\nNo arguments.\n");
        return;
    }
    page.push_str("\n| argument | holds | meaning |\n|---|---|---|\n");
    for param in tool.params {
        let mut names = vec![format!("`{}`", param.name)];
        names.extend(param.aliases.iter().map(|alias| format!("`{alias}`")));
        let required = if param.required { ", required" } else { "" };
        writeln!(page, "| {} | {}{required} | {} |", names.join(" or "), kind(param.kind), param.about).unwrap();
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::OneOf(words) => words.join(", "),
        Kind::Flag => "true or false".into(),
        Kind::Count => "a whole number from 1".into(),
        Kind::Number => "a number".into(),
        Kind::Messages | Kind::MessagesBriefly => "a list of `role` and `content`".into(),
        Kind::Map => "an object of texts".into(),
        Kind::Object => "a JSON object, or a text".into(),
    }
}

#[test]
fn docs_tools_is_what_clients_are_told() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tools.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/tools.md is not what clients are told: UPDATE_DOCS=1 cargo test --lib mcp::docs"
    );
}
