//! config.toml, its examples and the page; and that nothing secret is ever shown.

use super::*;

#[test]
fn what_is_not_known_is_reported() {
    let text = "[limits]\nloked = 3\n[limit]\nlocked = 3\n[what]\nx = 1\n[[providers]]\nid = \"a\"\napi_url = \"https://a.example\"\nwallet = \"0x70997970C51812dc3A010C7d01b50e0d17dc79C8\"\ncategroy = \"llm\"\n";
    let parsed = file::parse(text, "config.toml").unwrap();
    let all = parsed.warnings.join("\n");
    assert_eq!(parsed.warnings.len(), 4, "{all}");
    for part in ["limits.locked?", "line 2", "\"limit\"", "did you mean limits?", "\"what\"", "category?"] {
        assert!(all.contains(part), "{part} in {all}");
    }
    let warnings =
        ok(&[("DRAIN_MAX_LOKED", "1"), ("DRAIN_MPP_MAX_DEPOSITS", "1"), ("DRAIN_FOO_BAR_BAZ_QUX", "1")]).warnings;
    let warnings = warnings.join("\n");
    for part in ["did you mean DRAIN_MAX_LOCKED?", "did you mean DRAIN_MPP_MAX_DEPOSIT?"] {
        assert!(warnings.contains(part), "{warnings}");
    }
}

#[test]
fn files_that_are_wrong() {
    for (text, part) in [
        ("[limits\n", "line 1"),
        ("[limits]\nlocked = [1]\n", "limits.locked"),
        ("[limits]\n\nlocked = \"x\"\n", "line 3"),
        ("[limits]\nlocked = 0.0000001\n", "six decimals"),
        ("[signer]\nprivate_key = \"0xSECRETSECRET\"\n", "signer.private_key_file"),
        ("[signer]\nkeystore_password = \"SECRETSECRET\"\n", "secrets do not belong"),
        ("providers = 3\n", "[[providers]]"),
        ("[[providers]]\nid = \"a\"\n", "api_url is missing"),
        ("[[providers]]\nid = \"a\"\napi_url = \"ftp://x\"\nwallet=\"0x1\"\n", "api_url of providers"),
        ("[[providers]]\nid = \"a\"\napi_url = \"https://u:SECRETSECRET@x\"\nwallet=\"0x1\"\n", "api_url of providers"),
        ("[chain]\nrpc_urls = [\"https://a.example/SECRETSECRET\", 3, {}]\n", "chain.rpc_urls"),
        ("[chain]\nrpc_urls = \"https://a.example/SECRETSECRET\" x\n", "line 2"),
    ] {
        let folder = home(&[("config.toml", text)]);
        let found = error(&[("DRAIN_HOME", &folder.path().display().to_string())]);
        assert!(found.contains(part), "{text}: {found}");
        assert!(!found.contains("SECRETSECRET"), "{found}");
    }
}

/// M12: neither Debug nor an error repeats a secret or a URL's credentials.
#[test]
fn m12_nothing_secret_is_shown() {
    let folder = home(&[]);
    let config = ok(&[
        ("DRAIN_PRIVATE_KEY", KEY),
        ("DRAIN_KEYSTORE_PASSWORD", "hunter2"),
        ("DRAIN_KEYSTORE", &path(&folder, "k")),
        ("DRAIN_SIGNER", "keystore"),
        ("DRAIN_RPC_URL", "https://user:hunter2@rpc.example/v2/hunter2?key=hunter2"),
        ("DRAIN_DIRECTORY_URL", "https://dir.example/x?token=hunter2"),
    ]);
    for shown in [format!("{config:?}"), format!("{config:#?}"), format!("{:?}", config.warnings)] {
        assert!(!shown.contains("hunter2") && !shown.contains(&KEY[2..]), "{shown}");
    }
    let almost = &KEY[..60];
    for bad in [
        vec![("DRAIN_PRIVATE_KEY", almost)],
        vec![("DRAIN_RPC_URL", "https://hunter2@:99999999/hunter2")],
        vec![("DRAIN_RPC_URL", "hunter2://host/hunter2")],
        vec![("DRAIN_CONTRACT", KEY)],
        vec![("DRAIN_DIRECTORY_URL", "https://u:hunter2@dir.example")],
        vec![
            ("DRAIN_KEYSTORE_PASSWORD", "hunter2"),
            ("DRAIN_KEYSTORE_PASSWORD_FILE", "/x"),
            ("DRAIN_SIGNER", "keystore"),
        ],
    ] {
        let found = load(&bad).unwrap_err();
        let shown = format!("{found} {found:?} {:?}", crate::error::Failure::from(found.clone()));
        assert!(!shown.contains("hunter2") && !shown.contains(&almost[2..]), "{shown}");
    }
}

#[test]
fn the_examples_parse_and_the_maximal_one_names_every_key() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for name in ["config.minimal.toml", "config.maximal.toml"] {
        let mut sources = Sources::from_pairs([("HOME", "/nonexistent")]);
        sources.file = Some(docs.join(name));
        let config = Config::load(sources).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
    }
    // Its keys are files of another machine.
    let fleet = file::parse(&std::fs::read_to_string(docs.join("config.fleet.toml")).unwrap(), "fleet").unwrap();
    assert_eq!((fleet.warnings, fleet.wallets.len()), (vec![], 2));
    let maximal = std::fs::read_to_string(docs.join("config.maximal.toml")).unwrap();
    // Commented-out keys are alternatives: with the mark removed they are keys of their section all the same.
    let mut section = String::new();
    let mut named = Vec::new();
    for line in maximal.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap().to_string();
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push(format!("{section}.{key}"));
        }
    }
    for name in file::toml_names() {
        assert!(named.iter().any(|n| n == name), "{name} is missing in config.maximal.toml");
    }
    // Values that are set there are the defaults, so that copying the file changes nothing.
    let mut sources = Sources::from_pairs([("HOME", "/nonexistent"), ("DRAIN_SIGNER", "none")]);
    sources.file = Some(docs.join("config.maximal.toml"));
    let mut config = Config::load(sources).unwrap();
    config.providers.clear();
    assert_eq!(format!("{config:?}"), format!("{:?}", ok(&[])));
}

#[test]
fn the_page_is_written_from_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, docs::markdown()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == docs::markdown(), "the page is old: run UPDATE_DOCS=1 cargo test --lib config");
    assert!(Key::ALL.iter().filter(|key| key.spec().kind == Kind::Secret).count() == 6);
}

/// Who writes this file raises limits and names commands (M5).
#[test]
fn m5_a_file_that_others_can_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = home(&[("config.toml", "[requests]\nqueue = 7\n")]);
    let file = folder.path().join("config.toml");
    let at = [("DRAIN_HOME", folder.path().display().to_string())];
    for (mode, taken) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        match Config::load(Sources::from_pairs(at.clone())) {
            Ok(config) => assert!(taken && config.requests.queue == 7, "{mode:o}"),
            Err(error) => assert!(!taken && error.to_string().contains("chmod go-w"), "{mode:o}: {error}"),
        }
    }
}

/// M12: a secret in the variable beside its own is not repeated.
#[test]
fn m12_a_secret_in_the_wrong_variable_is_not_shown() {
    let bare = &KEY[2..];
    let phrase = "test test test test test test test test test test test junk";
    let url = "https://rpc.example/v2/hunter2";
    for bad in [
        ("DRAIN_PRIVATE_KEY_FILE", KEY),
        ("DRAIN_PRIVATE_KEY_FILE", phrase),
        ("DRAIN_KEYSTORE_PASSWORD_FILE", "hunter2"),
        ("DRAIN_RPC_URL_FILE", url),
        ("DRAIN_KEYSTORE", KEY),
        ("DRAIN_KEYSTORE", bare),
        ("DRAIN_SIGNER", KEY),
        ("DRAIN_SIGNER", bare),
        ("DRAIN_AGENT", bare),
        ("DRAIN_RPC_URL", bare),
        ("DRAIN_CONFIG", bare),
        ("DRAIN_HOME", bare),
        ("DRAIN_CHAIN_ID", bare),
        ("DRAIN_MAX_LOCKED", bare),
        ("DRAIN_CONTRACT", bare),
    ] {
        let signer = ("DRAIN_SIGNER", "keystore");
        let more = if bad.0.contains("PASSWORD") { vec![bad, signer] } else { vec![bad] };
        let found = load(&more).err().unwrap_or_else(|| panic!("{bad:?} was taken"));
        let shown = format!("{found} {found:?}");
        assert!(found.name.starts_with("DRAIN_"), "{shown}");
        for secret in [&bare[..20], "hunter2", "test test"] {
            assert!(!shown.contains(secret), "{bad:?}: {shown}");
        }
    }
}

/// M5: a list limits what it says, item by item, or it is an error.
#[test]
fn m5_a_list_is_taken_as_it_is_written() {
    let parties = |text: &str| {
        let folder = home(&[("config.toml", &format!("[limits]\n{text}\n"))]);
        load(&[("DRAIN_HOME", &folder.path().display().to_string())]).map(|config| config.limits.parties.clone())
    };
    let found = parties("deny_categories = [\"Web Scraping\", \"a,b\"]\nallow_providers = \"c, d\"").unwrap();
    assert_eq!(found.deny_categories, ["web scraping", "a,b"]);
    assert_eq!(found.allow_providers, Some(vec!["c".into(), "d".into()]));
    for empty in ["[]", "[\"\"]", "[\"llm\", \" \"]", "\"\"", "[\"a\\nb\"]"] {
        for name in ["allow_providers", "allow_categories", "deny_categories"] {
            let found = parties(&format!("{name} = {empty}")).unwrap_err().to_string();
            assert!(found.contains(name) && found.contains("line 2"), "{empty}: {found}");
        }
    }
}

/// M5: before a person set one, an agent that types on a terminal could.
#[test]
fn m5_a_missing_passphrase_is_warned_of() {
    let folder = home(&[]);
    let at = folder.path().display().to_string();
    let warned = |more: &[(&str, &str)]| {
        let pairs: Vec<(&str, &str)> = [("DRAIN_HOME", at.as_str())].iter().chain(more).copied().collect();
        ok(&pairs).warnings.iter().any(|warning| warning.contains("drain-mcp approvals passphrase"))
    };
    assert!(!warned(&[]));
    assert!(warned(&[("DRAIN_APPROVE_REQUESTS_ABOVE", "0.1")]) && warned(&[("DRAIN_APPROVE_DEPOSITS_ABOVE", "0")]));
    assert!(!warned(&[("DRAIN_APPROVE_DEPOSITS_ABOVE", "1"), ("DRAIN_APPROVALS_VIA", "elicitation")]));
    crate::operator::set(folder.path(), "correct horse").unwrap();
    assert!(!warned(&[("DRAIN_APPROVE_DEPOSITS_ABOVE", "1")]));
}
