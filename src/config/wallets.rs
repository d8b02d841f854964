//! Several wallets in one configuration: tables `[wallet.NAME]` in place of `[signer]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::{Bad, ConfigError, quoted};
use super::file;
use super::keys::Key;
use super::load::home;
use super::sources::{Layer, Layers, Sources};
use super::{Config, values};

/// The wallet of a configuration that names none.
pub const DEFAULT: &str = "default";

/// What a configuration file may hold of them.
pub(super) const MOST: usize = 32;

/// What says which key signs.
pub(super) fn is_signer(key: Key) -> bool {
    let spec = key.spec();
    spec.toml.into_iter().chain(spec.toml_file).any(|name| name.starts_with("signer."))
}

/// Takes the table of the wallet that is meant into the layers; its name.
pub(super) fn choose(layers: &mut Layers, mut tables: BTreeMap<String, Layer>) -> Result<String, ConfigError> {
    let wish = layers.get(Key::Wallet)?;
    let names = tables.keys().cloned().collect::<Vec<_>>().join(", ");
    let named = wish.as_ref().map(|raw| raw.parse(values::name)).transpose()?;
    let (Some(first), many) = (tables.keys().next().cloned(), tables.len() > 1) else {
        return match (wish, named) {
            (Some(raw), Some(name)) if name != DEFAULT => Err(Bad::new(
                format!("there is no wallet {}: the configuration has one, without a name", quoted(&name)),
                "Leave it away, or say default; several wallets are tables [wallet.NAME] of the configuration file",
            )
            .at(&raw.name)),
            _ => Ok(DEFAULT.into()),
        };
    };
    // Flags alone come from a command of ours, and mean the wallet that it names.
    if let Some(other) = layers.layers.iter().skip(1).find_map(signer_of) {
        return Err(Bad::new(
            format!("the configuration file names its wallets ({names}), and this says another key"),
            "Take it away, or move it into a table [wallet.NAME] of the configuration file",
        )
        .at(other));
    }
    let name = match (wish, named) {
        (Some(raw), Some(name)) if !tables.contains_key(&name) => {
            return Err(Bad::new(
                format!("there is no wallet {}", quoted(&name)),
                format!("Use one of the configuration file: {names}"),
            )
            .at(&raw.name));
        }
        (_, Some(name)) => name,
        _ if many => {
            return Err(Bad::new(
                format!("the configuration has several wallets: {names}"),
                "Say which one is meant: --wallet NAME, or DRAIN_WALLET",
            )
            .at("wallet"));
        }
        _ => first,
    };
    layers.layers.extend(tables.remove(&name));
    Ok(name)
}

/// Where a layer says which key signs.
fn signer_of(layer: &Layer) -> Option<String> {
    layer.values.iter().chain(&layer.files).find(|(key, _)| is_signer(**key)).map(|(_, raw)| raw.name.clone())
}

impl Config {
    /// Where records live, whatever else is configured.
    pub fn home(sources: &Sources) -> Result<PathBuf, ConfigError> {
        home(&mut sources.layers()?.0)
    }

    /// A configuration for each wallet that is configured, by name: what the fleet's server runs.
    pub fn load_each(sources: Sources) -> Result<Vec<Self>, ConfigError> {
        let names = file::wallet_names(&sources)?;
        if names.is_empty() {
            return Ok(vec![Self::load(sources)?]);
        }
        let one = |name: String| {
            let mut sources = sources.clone();
            sources.flags.push((Key::Wallet, name, "wallet"));
            Self::load(sources)
        };
        names.into_iter().map(one).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::SignerConfig;
    use super::*;

    const KEYS: [&str; 2] = [
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    ];

    fn sources(home: &Path, text: &str, more: &[(&str, &str)]) -> Sources {
        for (n, key) in KEYS.iter().enumerate() {
            let path = home.join(format!("key{n}"));
            std::fs::write(&path, key).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = text.replace("HOME", &home.display().to_string());
        std::fs::write(home.join("config.toml"), text).unwrap();
        let shown = home.display().to_string();
        let pairs = [("DRAIN_HOME", shown.as_str())].into_iter().chain(more.iter().copied());
        Sources::from_pairs(pairs)
    }

    const TWO: &str =
        "[wallet.trading]\nprivate_key_file = \"HOME/key0\"\n[wallet.research]\nprivate_key_file = \"HOME/key1\"\n";

    #[test]
    fn each_table_is_a_wallet_of_its_own() {
        let home = tempfile::tempdir().unwrap();
        let each = Config::load_each(sources(home.path(), TWO, &[])).unwrap();
        let names: Vec<&str> = each.iter().map(|config| config.wallet.as_str()).collect();
        assert_eq!(names, ["research", "trading"]);
        let addresses: Vec<_> = each
            .iter()
            .map(|config| match &config.signer {
                SignerConfig::Local(secret) => secret.address().to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_ne!(addresses[0], addresses[1]);
        assert_eq!(addresses[1], "0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
        assert!(each.iter().all(|config| config.warnings.is_empty()), "{:?}", each[0].warnings);

        let plain = Config::load_each(sources(home.path(), "", &[("DRAIN_PRIVATE_KEY", KEYS[0])])).unwrap();
        assert_eq!((plain.len(), plain[0].wallet.as_str()), (1, DEFAULT));
    }

    #[test]
    fn a_command_says_which_wallet_where_there_are_several() {
        let home = tempfile::tempdir().unwrap();
        let error = |more: &[(&str, &str)]| Config::load(sources(home.path(), TWO, more)).unwrap_err().to_string();
        assert!(error(&[]).contains("--wallet"), "{}", error(&[]));
        assert!(error(&[("DRAIN_WALLET", "other")]).contains("research, trading"));
        let one = Config::load(sources(home.path(), TWO, &[("DRAIN_WALLET", "trading")])).unwrap();
        assert_eq!(one.wallet, "trading");
        let only = "[wallet.one]\nprivate_key_file = \"HOME/key0\"\n";
        assert_eq!(Config::load(sources(home.path(), only, &[])).unwrap().wallet, "one");
        assert!(Config::load(sources(home.path(), "", &[("DRAIN_WALLET", "other")])).is_err());
        assert_eq!(Config::load(sources(home.path(), "", &[("DRAIN_WALLET", DEFAULT)])).unwrap().wallet, DEFAULT);
    }

    /// One key too many would pay for whom nobody meant.
    #[test]
    fn no_other_key_is_named_beside_the_tables() {
        let home = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("DRAIN_PRIVATE_KEY", KEYS[0]),
            ("DRAIN_PRIVATE_KEY_FILE", "/k"),
            ("DRAIN_KEYSTORE", "/k"),
            ("DRAIN_SIGNER", "none"),
            ("DRAIN_KEYSTORE_PASSWORD", "pw"),
        ] {
            let refused = Config::load_each(sources(home.path(), TWO, &[(name, value)])).unwrap_err();
            assert_eq!(refused.name, name);
            assert!(!refused.to_string().contains(KEYS[0]), "{refused}");
        }
        let both = format!("{TWO}[signer]\nkind = \"none\"\n");
        assert!(Config::load_each(sources(home.path(), &both, &[])).unwrap_err().name.contains("signer.kind"));
    }

    #[test]
    fn tables_that_make_no_sense_are_said() {
        let home = tempfile::tempdir().unwrap();
        let refused = |text: &str| Config::load_each(sources(home.path(), text, &[])).unwrap_err().to_string();
        assert!(refused("[wallet]\nkind = \"local\"\n").contains("[wallet.NAME]"));
        assert!(refused("wallet = 1\n").contains("[wallet.NAME]"));
        assert!(refused("[wallet.\"a b\"]\nkind = \"none\"\n").contains("a b"));
        assert!(refused("[wallet.a]\nprivate_key = \"x\"\n").contains("secrets"));
        let misspelt = "[wallet.a]\nkind = \"none\"\nkeystor = \"/k\"\n";
        let each = Config::load_each(sources(home.path(), misspelt, &[])).unwrap();
        assert!(each[0].warnings.iter().any(|warning| warning.contains("keystor")), "{:?}", each[0].warnings);
    }
}
