//! The page about the supply chain says what is true, and so does the source about who is started.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_crate_of_the_signing_path_has_its_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        std::fs::read_to_string(root.join("signers/Cargo.toml")).unwrap().parse().expect("a manifest");
    let linked: BTreeSet<String> = manifest["dependencies"].as_table().unwrap().keys().cloned().collect();
    let page = std::fs::read_to_string(root.join("docs/supply-chain.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named: BTreeSet<String> = rows
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|names| names.split(',').map(|name| name.trim().to_owned()))
        .filter(|name| !name.starts_with("---"))
        .collect();
    assert_eq!(named, linked);
}

#[test]
fn every_build_is_locked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["README.md", ".ci/run", "docs/supply-chain.md"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        for line in text.lines() {
            let builds = ["cargo build", "cargo run", "cargo test", "cargo install", "cargo clippy", "cargo bench"];
            if builds.iter().any(|command| line.contains(command)) {
                assert!(line.contains("--locked"), "{file}: {line}");
            }
        }
    }
}

/// Who starts a process, and with which environment: every place is known, and each clears it (M12).
#[test]
fn m12_every_child_gets_a_cleared_environment() {
    fn look(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "signers/src"] {
        look(&root.join(folder), &mut sources);
    }
    let mut starts: Vec<&str> = Vec::new();
    for (path, text) in &sources {
        let path = path.strip_prefix(root.to_str().unwrap()).unwrap().trim_start_matches('/');
        if text.contains("Command::new(") && !path.ends_with("tests.rs") {
            assert_eq!(text.matches("Command::new(").count(), text.matches("env_clear()").count(), "{path}");
            starts.push(path);
        }
    }
    starts.sort_unstable();
    let known = ["signers/src/ledger/transport.rs", "src/child.rs", "src/cli/console.rs", "src/cli/demo/agent.rs"];
    assert_eq!(starts, known);
}
