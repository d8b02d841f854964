//! Where values come from: three layers, each a map from keys to texts, asked from the strongest to the weakest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

use super::error::{Bad, ConfigError};
use super::keys::{Key, Kind};
use super::nearest::nearest;
use super::values;

/// A file with a secret has less than this.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// What a configuration is made from. Holds secrets: not `Debug`.
#[derive(Clone, Default)]
pub struct Sources {
    /// The environment; only `HOME` and names that begin with `DRAIN` matter.
    pub env: BTreeMap<String, String>,
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// What flags say: the key, the value, and the flag's name for errors.
    pub flags: Vec<(Key, String, &'static str)>,
    /// Variables whose value is not UTF-8.
    unreadable: BTreeSet<String>,
}

impl Sources {
    /// From the environment of this process.
    pub fn from_process() -> Self {
        let mut sources = Self::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            if name != "HOME" && !name.starts_with("DRAIN") {
                continue;
            }
            match value.into_string() {
                Ok(value) => drop(sources.env.insert(name, value)),
                Err(_) => drop(sources.unreadable.insert(name)),
            }
        }
        sources
    }

    /// From given variables, for tests and the sandbox.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut sources = Self::default();
        sources.env.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        sources
    }

    pub(super) fn person_home(&self) -> Option<&Path> {
        self.env.get("HOME").filter(|home| !home.is_empty()).map(Path::new)
    }

    /// The environment as a layer, and what is odd about it.
    pub(super) fn environment(&self) -> Result<(Layer, Vec<String>), ConfigError> {
        let mut layer = Layer::default();
        let mut known = BTreeSet::from(["HOME".to_string()]);
        for key in Key::ALL {
            let spec = key.spec();
            for name in std::iter::once(&spec.env).chain(spec.aliases) {
                known.insert((*name).to_string());
                let Some(found) = self.variable(name)? else { continue };
                if let Some(other) = layer.values.get(key).filter(|other| other.text != found.text) {
                    return Err(Bad::new(
                        format!("{} and {name} are both set and differ", other.name),
                        "Keep one of them",
                    )
                    .at(*name));
                }
                layer.values.insert(*key, found);
            }
            if let Some(name) = spec.env_file() {
                if let Some(found) = self.variable(&name)? {
                    layer.files.insert(*key, found);
                }
                known.insert(name);
            }
        }
        if cfg!(debug_assertions) {
            known.insert(crate::points::VARIABLE.to_string());
            known.insert(crate::error::VARIABLE.to_string());
        }
        let unknown = self.env.keys().filter(|name| !known.contains(*name)).map(|name| {
            match nearest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("the variable {name} is not known; did you mean {meant}?"),
                None => format!("the variable {name} is not known and has no effect"),
            }
        });
        Ok((layer, unknown.collect()))
    }

    /// Flags and environment, and what is odd about the environment.
    pub(super) fn layers(&self) -> Result<(Layers, Vec<String>), ConfigError> {
        let (environment, warnings) = self.environment()?;
        let person = self.person_home().map(Path::to_path_buf);
        Ok((Layers { layers: vec![self.flag_layer(), environment], person, warnings: Vec::new() }, warnings))
    }

    /// What flags say, as a layer.
    pub(super) fn flag_layer(&self) -> Layer {
        let values = self.flags.iter().map(|(key, text, name)| (*key, Raw::new(text, *name)));
        Layer { values: values.collect(), files: BTreeMap::new() }
    }

    /// A variable that is set; an empty one is not.
    pub(super) fn variable(&self, name: &str) -> Result<Option<Raw>, ConfigError> {
        if self.unreadable.contains(name) {
            return Err(Bad::new("its value is not UTF-8 text", "Set it anew").at(name));
        }
        let text = self.env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
        Ok(text.map(|text| Raw::new(text, name)))
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.env.values_mut().for_each(Zeroize::zeroize);
    }
}

/// A text and where it was set. Erased on drop.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) text: Zeroizing<String>,
    pub(super) name: String,
    /// True for a list of the file: each line is an item.
    listed: bool,
}

impl Raw {
    pub(super) fn new(text: &str, name: impl Into<String>) -> Self {
        Self { text: Zeroizing::new(text.trim().to_string()), name: name.into(), listed: false }
    }

    /// A list: one item a line.
    pub(super) fn list(lines: &str, name: impl Into<String>) -> Self {
        Self { listed: true, ..Self::new(lines, name) }
    }

    /// The items: those of a list as they are; else what commas and blanks separate.
    pub(super) fn items(&self) -> Vec<&str> {
        if self.listed { self.text.lines().collect() } else { values::words(&self.text).collect() }
    }

    /// Parses the text; an error says where it was set.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Bad>) -> Result<T, ConfigError> {
        parse(&self.text).map_err(|bad| bad.at(&self.name))
    }
}

/// One source: values, and files that hold values.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) values: BTreeMap<Key, Raw>,
    pub(super) files: BTreeMap<Key, Raw>,
}

/// All layers, the strongest first.
pub(super) struct Layers {
    pub(super) layers: Vec<Layer>,
    pub(super) person: Option<PathBuf>,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// The strongest value of a key.
    pub(super) fn get(&mut self, key: Key) -> Result<Option<Raw>, ConfigError> {
        Ok(self.ranked(key)?.map(|(_, raw)| raw))
    }

    /// Whether any layer says it; reads no file.
    pub(super) fn is_set(&self, key: Key) -> bool {
        self.layers.iter().any(|layer| layer.values.contains_key(&key) || layer.files.contains_key(&key))
    }

    /// The same with the index of its layer.
    pub(super) fn ranked(&mut self, key: Key) -> Result<Option<(usize, Raw)>, ConfigError> {
        for (rank, layer) in self.layers.iter().enumerate() {
            match (layer.values.get(&key), layer.files.get(&key)) {
                (Some(value), Some(file)) => {
                    return Err(Bad::new(format!("{} is set too", file.name), "Keep one of the two").at(&value.name));
                }
                (Some(value), None) => return Ok(Some((rank, value.clone()))),
                (None, Some(file)) => {
                    return Ok(Some((rank, read_secret_file(file, self.person.as_deref(), key.spec().kind)?)));
                }
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// A parsed value; without one, the table's own text is parsed. For defaults that are plain values.
    pub(super) fn or_table<T>(
        &mut self,
        key: Key,
        parse: impl FnOnce(&str) -> Result<T, Bad>,
    ) -> Result<T, ConfigError> {
        let spec = key.spec();
        self.get(key)?.unwrap_or_else(|| Raw::new(spec.default, spec.env)).parse(parse)
    }
}

/// A file that holds one value. A secret that other users can read is refused: it may be theirs already.
fn read_secret_file(named: &Raw, person: Option<&Path>, kind: Kind) -> Result<Raw, ConfigError> {
    let path = named.parse(|text| values::path(text, person))?;
    let failed = |problem: String, fix: &str| Bad::new(problem, fix).at(&named.name);
    // Where there is no such file, the text may be the secret itself (M12).
    let unreadable = |e: std::io::Error| {
        failed(format!("the file that it names cannot be read: {e}"), "Name a file that this user can read")
    };
    let file = File::open(&path).map_err(unreadable)?;
    if kind == Kind::Secret && file.metadata().is_ok_and(|meta| is_loose(&meta)) {
        return Err(failed(
            format!("other users of this machine can read {}", path.display()),
            "chmod 600 it; in a container, mount it with mode 0400",
        ));
    }
    // Filled once and never grown, so that no copy of a secret is left behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRET_FILE as usize + 1));
    file.take(MAX_SECRET_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_SECRET_FILE {
        return Err(failed(
            format!("{} is too large", path.display()),
            "Name a file that holds the value and nothing else",
        ));
    }
    if text.trim().is_empty() {
        return Err(failed(
            format!("{} is empty", path.display()),
            "Name a file that holds the value and nothing else",
        ));
    }
    Ok(Raw::new(text.trim_matches('\u{feff}'), &named.name))
}

/// Whether others than the owner can look into a file of ours.
pub(super) fn others_can_look(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| is_loose(&meta))
}

/// A pipe is read by one process alone. Where root owns the file, a group may read it: that is how orchestrators hand
/// secrets to a process that is not root.
#[cfg(unix)]
pub(super) fn is_loose(meta: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let handed = meta.uid() == 0 && !rustix::process::geteuid().is_root();
    meta.is_file() && meta.mode() & if handed { 0o037 } else { 0o077 } != 0
}

#[cfg(not(unix))]
pub(super) fn is_loose(_: &Metadata) -> bool {
    false
}
