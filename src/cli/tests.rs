//! The command line as a whole: it is well-formed, and its help teaches.

use clap::{CommandFactory, Parser};

use super::{Cli, Command};

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

/// Every command's help, those within `wallet` too, shows an example that begins with the program's name.
#[test]
fn every_help_holds_an_example() {
    fn check(command: &mut clap::Command, path: &str) {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:\n") && help.contains("\n  drain-mcp"), "{path}:\n{help}");
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" {
                let path = format!("{path} {}", sub.get_name());
                check(sub, &path);
            }
        }
    }
    check(&mut Cli::command(), "drain-mcp");
}

/// Examples are commands that parse.
#[test]
fn the_examples_parse() {
    fn examples(command: &mut clap::Command, found: &mut Vec<String>) {
        let help = command.render_long_help().to_string();
        let lines = help.lines().filter_map(|line| line.strip_prefix("  drain-mcp"));
        found.extend(lines.map(|line| {
            // What explains a command stands after three blanks or more; a pipe or a file after it is not ours.
            let line = line.split(" | ").next().and_then(|line| line.split(" > ").next()).unwrap_or_default();
            line.split("   ").next().unwrap_or_default().to_string()
        }));
        for sub in command.get_subcommands_mut() {
            if sub.get_name() != "help" {
                examples(sub, found);
            }
        }
    }
    let mut found = Vec::new();
    examples(&mut Cli::command(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    let channel = format!("0x{}", "ab".repeat(32));
    for example in found {
        let line = example.replace("0xCHANNEL", &channel);
        let words = words(&line);
        let parsed = Cli::try_parse_from(std::iter::once("drain-mcp".to_string()).chain(words));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

/// Words as a shell splits them, quotes included.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn bad_input_is_refused_before_anything_starts() {
    let channel = format!("0x{}", "ab".repeat(32));
    for line in [
        vec!["open", "p", "-1"],
        vec!["open", "p", "abc"],
        vec!["open", "p", "1e3"],
        vec!["open", "p", "0.0000001"],
        vec!["open", "p", ""],
        vec!["open", "p", "115792089237316195423570985008687907853269984665640564039457584007913129639936"],
        vec!["open", "p", "1", "--duration", "0"],
        vec!["open", "p", "1", "--duration", "-1h"],
        vec!["open", "p", "1", "--duration", "1h1h"],
        vec!["chat", "0x12", "--model", "m", "hi"],
        vec!["chat", &channel, "--model", "m", "hi", "--max-tokens", "-5"],
        vec!["chat", &channel, "hi"],
        vec!["close"],
        vec!["close", "--all", &channel],
        vec!["nonsense"],
        vec!["wallet", "send", "--amount", "1"],
    ] {
        let parsed = Cli::try_parse_from(std::iter::once("drain-mcp").chain(line.iter().copied()));
        assert!(parsed.is_err(), "{line:?}");
    }
    let parsed = Cli::try_parse_from(["drain-mcp", "open", "p", "1", "--duration", "1.5h"]).unwrap();
    assert!(matches!(parsed.command, Some(Command::Open(args)) if args.duration.is_some_and(|d| d.seconds() == 5_400)));
}
