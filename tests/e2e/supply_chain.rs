//! The page about the supply chain says what is true.

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
