//! Which key signs, and where its secret comes from.

use super::*;

#[test]
fn secrets_from_files() {
    let folder = home(&[
        ("key", &format!("\u{feff}{}\r\n", &KEY[2..])),
        ("empty", "\n"),
        ("urls", "https://a.example/KEY1\nhttps://b.example/KEY2\n"),
    ]);
    let config = ok(&[("DRAIN_PRIVATE_KEY_FILE", &path(&folder, "key"))]);
    let SignerConfig::Local(secret) = &config.signer else { panic!() };
    assert_eq!(secret.address().to_string(), ADDRESS);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(ok(&[("DRAIN_RPC_URL_FILE", &path(&folder, "urls"))]).chain.rpc_urls.len(), 2);

    let both = error(&[("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_PRIVATE_KEY_FILE", &path(&folder, "key"))]);
    assert!(both.contains("DRAIN_PRIVATE_KEY_FILE") && !both.contains(&KEY[2..]), "{both}");
    for bad in ["empty", "missing"] {
        assert!(
            error(&[("DRAIN_KEYSTORE_PASSWORD_FILE", &path(&folder, bad)), ("DRAIN_SIGNER", "keystore")])
                .contains("DRAIN_KEYSTORE_PASSWORD_FILE")
        );
    }
    // A stronger layer is no conflict.
    std::fs::write(
        folder.path().join("config.toml"),
        format!("[signer]\nprivate_key_file = {:?}\n", path(&folder, "empty")),
    )
    .unwrap();
    let home = folder.path().display().to_string();
    assert!(matches!(ok(&[("DRAIN_HOME", &home), ("DRAIN_PRIVATE_KEY", KEY)]).signer, SignerConfig::Local(_)));
}

/// A raw key or password that others can read is refused, an encrypted one is warned of.
#[test]
#[cfg(unix)]
fn m12_loose_file_modes() {
    let folder = home(&[("key", KEY), ("pw", "hunter2"), ("k.json", "{}")]);
    let (key, pw, store) = (path(&folder, "key"), path(&folder, "pw"), path(&folder, "k.json"));
    let with_key = [("DRAIN_PRIVATE_KEY_FILE", key.as_str())];
    let with_password = [("DRAIN_KEYSTORE", store.as_str()), ("DRAIN_KEYSTORE_PASSWORD_FILE", pw.as_str())];
    for loose in [0o640, 0o620, 0o604, 0o644, 0o444] {
        mode(Path::new(&key), loose);
        mode(Path::new(&pw), loose);
        for (pairs, name) in [(&with_key[..], &key), (&with_password[..], &pw)] {
            let found = error(pairs);
            let said = found.contains("chmod 600") && found.contains(name.as_str()) && found.contains("_FILE: ");
            assert!(said && !found.contains("hunter2") && !found.contains(&KEY[2..]), "{loose:o}: {found}");
        }
    }
    for tight in [0o600, 0o400] {
        mode(Path::new(&key), tight);
        mode(Path::new(&pw), tight);
        assert_eq!(ok(&with_key).warnings, Vec::<String>::new());
        assert_eq!(ok(&with_password).warnings, Vec::<String>::new());
    }
    mode(Path::new(&store), 0o644);
    let warned = ok(&with_password).warnings;
    assert!(warned.len() == 1 && warned[0].contains("chmod 600") && warned[0].contains(&store), "{warned:?}");
    // A raw key has no place in config.toml at all, whatever its mode.
    let folder = home(&[("config.toml", &format!("[signer]\nprivate_key = \"{KEY}\"\n"))]);
    let found = error(&[("DRAIN_HOME", &folder.path().display().to_string())]);
    assert!(found.contains("secrets do not belong") && !found.contains(&KEY[2..]), "{found}");
}

#[test]
fn a_password_comes_from_a_command() {
    let folder = home(&[("pw", "hunter2"), ("command", "echo 'a b'\n")]);
    let keystore = ("DRAIN_KEYSTORE", "/k");
    let from = |pairs: &[(&str, &str)]| match ok(pairs).signer {
        SignerConfig::Keystore { password, .. } => password,
        other => panic!("{other:?}"),
    };
    let command = ("DRAIN_KEYSTORE_PASSWORD_COMMAND", "secret-tool lookup service drain-mcp");
    assert!(matches!(from(&[keystore, command]), Some(PasswordFrom::Command(line)) if line == command.1));
    let in_file = ("DRAIN_KEYSTORE_PASSWORD_COMMAND_FILE", path(&folder, "command"));
    assert!(
        matches!(from(&[keystore, (in_file.0, &in_file.1)]), Some(PasswordFrom::Command(line)) if line == "echo 'a b'")
    );
    assert!(from(&[keystore]).is_none());
    let shown = format!("{:?}", ok(&[keystore, command]));
    assert!(shown.contains("[command]") && !shown.contains("secret-tool"), "{shown}");
    // Within one source they contradict each other; the environment counts before the file.
    let file = path(&folder, "pw");
    for other in [("DRAIN_KEYSTORE_PASSWORD", "hunter2"), ("DRAIN_KEYSTORE_PASSWORD_FILE", file.as_str())] {
        let both = error(&[keystore, command, other]);
        assert!(both.contains(command.0) && both.contains(other.0) && !both.contains("hunter2"), "{both}");
    }
    std::fs::write(folder.path().join("config.toml"), "[signer]\nkeystore_password_command = \"false\"\n").unwrap();
    let home = folder.path().display().to_string();
    let given = from(&[keystore, ("DRAIN_HOME", &home), ("DRAIN_KEYSTORE_PASSWORD", "hunter2")]);
    assert!(matches!(given, Some(PasswordFrom::Given(_))));
    assert!(matches!(from(&[keystore, ("DRAIN_HOME", &home)]), Some(PasswordFrom::Command(line)) if line == "false"));
}

#[test]
fn the_signer_is_inferred() {
    assert!(matches!(ok(&[("DRAIN_PRIVATE_KEY", &format!(" {KEY}\n"))]).signer, SignerConfig::Local(_)));
    assert!(matches!(ok(&[("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_SIGNER", "none")]).signer, SignerConfig::None));
    assert!(error(&[("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_KEYSTORE", "/k")]).contains("DRAIN_SIGNER"));
    assert!(matches!(
        ok(&[("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_KEYSTORE", "/k"), ("DRAIN_SIGNER", "keystore")]).signer,
        SignerConfig::Keystore { .. }
    ));

    let folder = home(&[("keystore.json", "{}"), ("pw", "hunter2\n")]);
    let home = folder.path().display().to_string();
    let config = ok(&[("DRAIN_HOME", &home), ("DRAIN_KEYSTORE_PASSWORD_FILE", &path(&folder, "pw"))]);
    let SignerConfig::Keystore { password: Some(PasswordFrom::Given(password)), .. } = &config.signer else { panic!() };
    assert_eq!(password.expose(), "hunter2");
    let config = ok(&[("DRAIN_HOME", &home), ("DRAIN_PRIVATE_KEY", KEY)]);
    assert!(matches!(config.signer, SignerConfig::Local(_)) && config.warnings.len() == 1);
    let aws = error(&[("DRAIN_SIGNER", "aws-kms")]);
    assert!(aws.contains(if cfg!(feature = "aws") { "DRAIN_KMS_KEY_ID" } else { "--features aws" }), "{aws}");
}

#[test]
fn a_key_in_kms() {
    const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    for (key, other) in [("DRAIN_PRIVATE_KEY", KEY), ("DRAIN_KEYSTORE", "/k")] {
        let both = error(&[("DRAIN_KMS_KEY_ID", ARN), (key, other)]);
        assert!(both.starts_with(key) && both.contains("DRAIN_KMS_KEY_ID is set too"), "{both}");
    }
    // A region that the key is not in would be asked in vain.
    assert!(error(&[("DRAIN_KMS_KEY_ID", ARN), ("DRAIN_KMS_REGION", "us-east-1")]).contains("ARN names"));
    if !cfg!(feature = "aws") {
        let without = error(&[("DRAIN_KMS_KEY_ID", ARN)]);
        assert!(without.starts_with("DRAIN_KMS_KEY_ID") && without.contains("Build with --features aws"), "{without}");
        return;
    }
    let config = ok(&[
        ("DRAIN_KMS_KEY_ID", ARN),
        ("DRAIN_KMS_ADDRESS", ADDRESS),
        ("DRAIN_KMS_REGION", "eu-central-1"),
        ("DRAIN_KMS_ENDPOINT", "http://127.0.0.1:9/"),
        ("DRAIN_KMS_CONCURRENCY", "3"),
        ("DRAIN_KMS_TIMEOUT", "2500ms"),
    ]);
    let SignerConfig::AwsKms(kms) = config.signer else { panic!() };
    assert_eq!((kms.key.as_str(), kms.region.as_deref()), (ARN, Some("eu-central-1")));
    assert_eq!((kms.endpoint.as_deref(), kms.concurrency), (Some("http://127.0.0.1:9"), 3));
    assert_eq!((kms.limit, kms.address.unwrap().to_string().as_str()), (Duration::from_millis(2_500), ADDRESS));
    // Named, it counts whatever else is set.
    let named = [("DRAIN_SIGNER", "aws-kms"), ("DRAIN_KMS_KEY_ID", "1234"), ("DRAIN_PRIVATE_KEY", KEY)];
    assert!(matches!(ok(&named).signer, SignerConfig::AwsKms(_)));
}
