//! config.toml: the same keys in sections, as a layer. What it does not know it reports, with what may have been meant.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use drain_protocol::Address;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ListedProvider;
use super::error::{Bad, ConfigError, quoted};
use super::keys::Key;
use super::load::home;
use super::nearest::nearest;
use super::sources::{Layer, Layers, Raw, Sources};
use super::{values, wallets};

/// Nobody writes a larger one.
const MAX_FILE: u64 = 1024 * 1024;

const PROVIDER_KEYS: [&str; 4] = ["id", "api_url", "wallet", "category"];

/// What a file says.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) layer: Layer,
    /// Tables [wallet.NAME], each with the keys of [signer].
    pub(super) wallets: BTreeMap<String, Layer>,
    pub(super) providers: Vec<ListedProvider>,
    pub(super) warnings: Vec<String>,
}

/// Reads the file of a configuration.
pub(super) fn find(sources: &Sources, layers: &mut Layers, home: &Path) -> Result<Parsed, ConfigError> {
    match (&sources.file, layers.get(Key::ConfigFile)?) {
        (Some(path), _) => read(path, Some("--config")),
        (None, Some(raw)) => read(&raw.parse(|text| values::path(text, layers.person.as_deref()))?, Some(&raw.name)),
        (None, None) => read(&home.join("config.toml"), None),
    }
}

/// The wallets that it names.
pub(super) fn wallet_names(sources: &Sources) -> Result<Vec<String>, ConfigError> {
    let mut layers = sources.layers()?.0;
    let home = home(&mut layers)?;
    Ok(find(sources, &mut layers, &home)?.wallets.into_keys().collect())
}

/// Reads a file. A missing one is an error only where it was named.
pub(super) fn read(path: &Path, named_by: Option<&str>) -> Result<Parsed, ConfigError> {
    let shown = path.display().to_string();
    let failed =
        |problem: String| Bad::new(problem, "Name a TOML file that this user can read").at(named_by.unwrap_or(&shown));
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named_by.is_none() => return Ok(Parsed::default()),
        Err(e) => return Err(failed(format!("{shown} cannot be read: {e}"))),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => {
            return Err(failed(format!("{shown} is not a configuration file")));
        }
        Ok(_) => {}
    }
    let unreadable = |e: std::io::Error| failed(format!("{shown} cannot be read: {e}"));
    let file = File::open(path).map_err(unreadable)?;
    if others_can_write(&file).map_err(unreadable)? {
        return Err(Bad::new(
            format!("others can write {shown}, and it decides what is paid and what is run"),
            "Make it your own: chown it to this user, and chmod go-w it",
        )
        .at(named_by.unwrap_or(&shown)));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text, &shown)
}

/// Whether anybody but this user and root can write it: who does raises limits and names commands (M5).
#[cfg(unix)]
fn others_can_write(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata()?;
    Ok(![0, rustix::process::geteuid().as_raw()].contains(&meta.uid()) || meta.mode() & 0o022 != 0)
}

#[cfg(not(unix))]
fn others_can_write(_: &File) -> std::io::Result<bool> {
    Ok(false)
}

/// Parses a file's text; `shown` is its name in errors.
pub(super) fn parse(text: &str, shown: &str) -> Result<Parsed, ConfigError> {
    let table = DeTable::parse(text).map_err(|e| {
        // The error's own Display repeats the line, which may hold credentials.
        let line = e.span().map(|span| line_of(text, span.start)).unwrap_or(1);
        Bad::new(format!("line {line} is not TOML: {}", e.message()), "Compare with docs/config.maximal.toml").at(shown)
    })?;
    Reader { text, shown, parsed: Parsed::default() }.read(table.get_ref())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// A value, or the path of a file that holds one.
struct Entry {
    key: Key,
    is_value: bool,
    raw: Raw,
}

impl Entry {
    fn put(self, layer: &mut Layer) {
        let map = if self.is_value { &mut layer.values } else { &mut layer.files };
        map.insert(self.key, self.raw);
    }
}

struct Reader<'a> {
    text: &'a str,
    shown: &'a str,
    parsed: Parsed,
}

impl Reader<'_> {
    fn read(mut self, root: &DeTable<'_>) -> Result<Parsed, ConfigError> {
        for (name, value) in root {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("providers", DeValue::Array(entries)) => {
                    for entry in entries.iter() {
                        self.provider(entry)?;
                    }
                }
                ("providers", _) => {
                    return Err(Bad::new("this is not a list", "Write each provider as [[providers]]")
                        .at(self.place("providers", value)));
                }
                ("wallet", DeValue::Table(tables)) => {
                    for (name, table) in tables {
                        self.wallet(name.get_ref(), table)?;
                    }
                }
                ("wallet", _) => return Err(self.no_wallet("wallet", value)),
                (section, DeValue::Table(keys)) if sections().any(|known| known == section) => {
                    for (key, value) in keys {
                        let name = format!("{section}.{}", key.get_ref());
                        if let Some(entry) = self.entry(&name, &name, value)? {
                            entry.put(&mut self.parsed.layer);
                        }
                    }
                }
                (other, _) => self.unknown(other, value, sections().chain(["providers", "wallet"]).chain(toml_names())),
            }
        }
        Ok(self.parsed)
    }

    /// A wallet's table: the keys of [signer].
    fn wallet(&mut self, name: &str, table: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let DeValue::Table(keys) = table.get_ref() else { return Err(self.no_wallet(name, table)) };
        let place = self.place(&format!("wallet.{}", quoted(name)), table);
        let known = values::name(name).map_err(|bad| bad.at(&place))?;
        let mut layer = Layer::default();
        for (key, value) in keys {
            let (name, shown) = (format!("signer.{}", key.get_ref()), format!("wallet.{known}.{}", key.get_ref()));
            if let Some(entry) = self.entry(&name, &shown, value)? {
                entry.put(&mut layer);
            }
        }
        if self.parsed.wallets.len() >= wallets::MOST {
            return Err(Bad::new(
                format!("these are more than {} wallets", wallets::MOST),
                "Run several drain-mcp serve",
            )
            .at(place));
        }
        self.parsed.wallets.insert(known, layer);
        Ok(())
    }

    fn no_wallet(&self, name: &str, value: &Spanned<DeValue<'_>>) -> ConfigError {
        Bad::new("this is not a wallet", "Write each wallet as [wallet.NAME], with the keys of [signer]")
            .at(self.place(&quoted(name), value))
    }

    /// A value of the table of keys by its `name`; in errors it is `shown`.
    fn entry(&mut self, name: &str, shown: &str, value: &Spanned<DeValue<'_>>) -> Result<Option<Entry>, ConfigError> {
        let by = |pick: fn(Key) -> Option<&'static str>| Key::ALL.iter().copied().find(|key| pick(*key) == Some(name));
        let is_value = by(|key| key.spec().toml);
        let Some(key) = is_value.or_else(|| by(|key| key.spec().toml_file)) else {
            if name.ends_with("private_key") || name.ends_with("password") || name.ends_with("phrase") {
                return Err(Bad::new(
                    "secrets do not belong in the configuration file",
                    "Put it in a file of its own (chmod 600) and name that with signer.private_key_file or signer.keystore_password_file",
                )
                .at(self.place(shown, value)));
            }
            self.unknown(shown, value, toml_names());
            return Ok(None);
        };
        let lists = [
            Key::RpcUrls,
            Key::TempoUrls,
            Key::Contract,
            Key::AllowProviders,
            Key::DenyProviders,
            Key::PayHosts,
            Key::AllowCategories,
            Key::DenyCategories,
            Key::ApprovalsVia,
            Key::AllowedHosts,
            Key::AllowedOrigins,
        ];
        let list = lists.contains(&key) && is_value.is_some();
        let place = self.place(shown, value);
        let raw = match value.get_ref() {
            DeValue::Array(items) if list => {
                let items: Option<Vec<String>> = items.iter().map(|item| scalar(item.get_ref())).collect();
                items.map(|items| listed(&items, &place)).transpose()?
            }
            other => scalar(other).map(|text| Raw::new(&text, place.clone())),
        };
        let raw = raw.ok_or_else(|| {
            let wanted = if list { "one value or a list of texts" } else { "one value" };
            Bad::new(format!("this is {}", article(value.get_ref().type_str())), format!("Write {wanted}")).at(&place)
        })?;
        if raw.text.is_empty() && list {
            return Err(nothing(&place));
        }
        if raw.text.is_empty() {
            return Ok(None);
        }
        Ok(Some(Entry { key, is_value: is_value.is_some(), raw }))
    }

    fn provider(&mut self, entry: &Spanned<DeValue<'_>>) -> Result<(), ConfigError> {
        let place = self.place("providers", entry);
        let DeValue::Table(table) = entry.get_ref() else {
            return Err(Bad::new("this is not a provider", "Write each provider as [[providers]]").at(place));
        };
        for (key, value) in table {
            if !PROVIDER_KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown(key.get_ref(), value, PROVIDER_KEYS);
            }
        }
        let field = |name: &str| {
            let text =
                table.iter().find(|(key, _)| key.get_ref() == name).and_then(|(_, value)| scalar(value.get_ref()));
            text.map(|text| Raw::new(&text, format!("{name} of {place}"))).filter(|raw| !raw.text.is_empty())
        };
        let needed = |name: &str| {
            field(name).ok_or_else(|| {
                Bad::new(format!("{name} is missing"), "A provider needs id, api_url and wallet").at(&place)
            })
        };
        let id = needed("id")?.text.to_string();
        if self.parsed.providers.iter().any(|other| other.id == id) {
            return Err(Bad::new(
                format!("the id {} is listed twice", quoted(&id)),
                "Give each provider an id of its own",
            )
            .at(place));
        }
        let api_url = needed("api_url")?.parse(values::plain_url)?;
        let wallet = needed("wallet")?;
        let (wallet, warning): (Address, _) = wallet
            .parse(values::address)
            .map(|(address, warning)| (address, warning.map(|w| format!("{}: {w}", wallet.name))))?;
        self.parsed.warnings.extend(warning);
        let category = field("category").map_or_else(|| "llm".into(), |raw| raw.text.to_string());
        self.parsed.providers.push(ListedProvider { id, api_url, wallet, category });
        Ok(())
    }

    fn unknown<'k>(&mut self, name: &str, value: &Spanned<DeValue<'_>>, known: impl IntoIterator<Item = &'k str>) {
        let hint = match nearest(name, known) {
            Some(meant) => format!("; did you mean {meant}?"),
            None => " and has no effect".into(),
        };
        let place = self.place(&quoted(name), value);
        self.parsed.warnings.push(format!("{place} is not known{hint}"));
    }

    fn place(&self, name: &str, value: &Spanned<DeValue<'_>>) -> String {
        format!("{name} ({}, line {})", self.shown, line_of(self.text, value.span().start))
    }
}

/// Names of values and of files with values.
pub(super) fn toml_names() -> impl Iterator<Item = &'static str> {
    Key::ALL.iter().flat_map(|key| key.spec().toml.into_iter().chain(key.spec().toml_file))
}

fn sections() -> impl Iterator<Item = &'static str> {
    toml_names().filter_map(|name| name.split_once('.')).map(|(section, _)| section)
}

/// The text of a single value; numbers as they were written, so that no float touches money.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_string()),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// A list item by item. An empty one would count as unset, and so lift the limit that it was meant to set.
fn listed(items: &[String], place: &str) -> Result<Raw, ConfigError> {
    let items: Vec<&str> = items.iter().map(|item| item.trim()).collect();
    if items.is_empty() || items.contains(&"") {
        return Err(nothing(place));
    }
    if items.iter().any(|item| item.contains(['\n', '\r'])) {
        return Err(Bad::new("an item holds a line break", "Write each item on one line").at(place));
    }
    Ok(Raw::list(&items.join("\n"), place))
}

fn nothing(place: &str) -> ConfigError {
    Bad::new("it is empty, or one of its items is", "Write at least one item, or remove the key").at(place)
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}
