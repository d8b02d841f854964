//! The configuration file, and the environment: a line of the input each, after the file.
#![no_main]

use std::cell::RefCell;
use std::io::{Seek, Write};

use drain_mcp::config::{Config, Sources};
use libfuzzer_sys::fuzz_target;

/// What separates the file from the environment.
const END: &str = "\n---\n";

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().expect("a file"));
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (file, environment) = text.split_once(END).unwrap_or((&text, ""));
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    // Another file's content is not the input.
    let pairs = pairs.filter(|(name, _)| name.starts_with("DRAIN_") && !name.ends_with("_FILE"));
    FILE.with_borrow_mut(|kept| {
        kept.as_file().set_len(0).expect("empty");
        kept.rewind().expect("the start");
        kept.write_all(file.as_bytes()).expect("the input");
        let mut sources = Sources::from_pairs([("HOME", "/nonexistent")].into_iter().chain(pairs));
        sources.file = Some(kept.path().to_owned());
        if let Err(error) = Config::load(sources) {
            assert!(!error.to_string().is_empty());
        }
    });
});
