//! The layer between the program and the disk (`power/layer.c`): its trace, and the disk that a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::World;
use crate::process_harness::Env;

/// Builds the layer once, with the C compiler that Rust needs for linking anyway.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/power/layer.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layer-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
        assert!(cc.status().expect("a C compiler").success());
        library
    })
}

/// A layer under the processes of a world.
pub struct Layer {
    files: tempfile::TempDir,
    home: PathBuf,
}

impl Layer {
    pub fn under(world: &World) -> Self {
        Self { files: tempfile::tempdir().unwrap(), home: world.home.path().to_owned() }
    }

    /// The environment of a process on this layer.
    pub fn env(&self, env: &Env) -> Env {
        env.clone()
            .with("LD_PRELOAD", library().display().to_string())
            .with("POWER_HOME", self.home.display().to_string())
            .with("POWER_TRACE", self.trace_file().display().to_string())
            .with("POWER_FAULT", self.fault_file().display().to_string())
    }

    fn trace_file(&self) -> PathBuf {
        self.files.path().join("trace")
    }

    fn fault_file(&self) -> PathBuf {
        self.files.path().join("fault")
    }

    /// From now on the disk fails: `full`, `readonly`, `denied`, `sync`, `broken` or `short`.
    pub fn fail(&self, how: &str) {
        // At once, so that no process reads a half of it.
        let new = self.files.path().join("new");
        fs::write(&new, how).unwrap();
        fs::rename(new, self.fault_file()).unwrap();
    }

    /// The disk works again.
    pub fn heal(&self) {
        fs::remove_file(self.fault_file()).unwrap();
    }

    /// What was recorded so far; the record begins anew with the next process.
    pub fn take_trace(&self) -> Vec<Record> {
        let trace = self.trace();
        let _ = fs::remove_file(self.trace_file());
        trace
    }

    /// What was recorded so far.
    pub fn trace(&self) -> Vec<Record> {
        let bytes = fs::read(self.trace_file()).unwrap_or_default();
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        // A record that a death cut is of something that was not yet answered to the program.
        while let Some((head, after)) = rest.split_at_checked(17) {
            let length = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
            let (path, data) = (length(1), length(5));
            let Some((body, after)) = after.split_at_checked(path + data) else { break };
            records.push(Record {
                kind: head[0],
                offset: u64::from_le_bytes(head[9..17].try_into().unwrap()),
                path: PathBuf::from(std::str::from_utf8(&body[..path]).unwrap()),
                data: body[path..].to_vec(),
            });
            rest = after;
        }
        records
    }

    /// What is on the disk now, taken as durable.
    pub fn disk(&self) -> Disk {
        let mut disk = Disk::default();
        let mut folders = vec![self.home.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !rebuilt(&path) {
                    let file = Contents { durable: fs::read(&path).unwrap(), linked: true, ..Contents::default() };
                    disk.files.insert(path, file);
                }
            }
            disk.folders.insert(folder, true);
        }
        disk
    }

    /// The home as it is after the power cut.
    pub fn restore(&self, image: &BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(&self.home).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        write(image, &self.home, &self.home);
    }

    /// The same in another folder.
    pub fn copy(&self, image: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) {
        write(image, &self.home, to);
    }
}

fn write(image: &BTreeMap<PathBuf, Vec<u8>>, home: &Path, to: &Path) {
    for (path, bytes) in image {
        let path = to.join(path.strip_prefix(home).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// SQLite's shared memory: no file in truth, and made anew after a crash.
fn rebuilt(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-shm")
}

/// One thing that was done; the letters are those of `layer.c`.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: u8,
    pub offset: u64,
    pub path: PathBuf,
    pub data: Vec<u8>,
}

/// What of the unsynced the power cut leaves.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Nothing.
    Strict,
    /// Of each file the first writes, the last of them torn; of the folders' entries some. By this seed.
    Torn(u64),
}

#[derive(Clone, Debug, Default)]
struct Contents {
    durable: Vec<u8>,
    pending: Vec<(u64, Option<Vec<u8>>)>,
    /// Its entry in the folder is durable.
    linked: bool,
    unlinked: bool,
    /// What had this name before a rename that is not durable.
    before: Option<Box<Contents>>,
}

fn apply(bytes: &mut Vec<u8>, offset: u64, data: Option<&[u8]>) {
    let offset = usize::try_from(offset).unwrap();
    match data {
        None => bytes.resize(offset, 0),
        Some(data) => {
            if bytes.len() < offset + data.len() {
                bytes.resize(offset + data.len(), 0);
            }
            bytes[offset..offset + data.len()].copy_from_slice(data);
        }
    }
}

/// Files below home, with what is durable of them.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<PathBuf, Contents>,
    folders: BTreeMap<PathBuf, bool>,
}

impl Disk {
    pub fn take(&mut self, record: &Record) {
        if rebuilt(&record.path) {
            return;
        }
        let file = || self.files.contains_key(&record.path);
        match record.kind {
            b'D' => drop(self.folders.insert(record.path.clone(), false)),
            b'C' if !file() => drop(self.files.insert(record.path.clone(), Contents::default())),
            b'W' => {
                let file = self.files.entry(record.path.clone()).or_default();
                file.pending.push((record.offset, Some(record.data.clone())));
            }
            b'T' => self.files.entry(record.path.clone()).or_default().pending.push((record.offset, None)),
            b'U' => {
                if let Some(file) = self.files.get_mut(&record.path) {
                    file.unlinked = true;
                }
            }
            b'R' => {
                let to = PathBuf::from(std::str::from_utf8(&record.data).unwrap());
                if let Some(mut file) = self.files.remove(&record.path) {
                    file.before = self.files.remove(&to).map(Box::new);
                    file.linked = false;
                    self.files.insert(to, file);
                }
            }
            b'F' if self.folders.contains_key(&record.path) => self.sync_folder(&record.path),
            b'F' => {
                if let Some(file) = self.files.get_mut(&record.path) {
                    for (offset, data) in file.pending.drain(..) {
                        apply(&mut file.durable, offset, data.as_deref());
                    }
                }
            }
            _ => {}
        }
    }

    fn sync_folder(&mut self, folder: &Path) {
        self.files.retain(|path, file| path.parent() != Some(folder) || !file.unlinked);
        for (path, file) in &mut self.files {
            if path.parent() == Some(folder) {
                file.linked = true;
                file.before = None;
            }
        }
        for (path, linked) in &mut self.folders {
            *linked |= path.parent() == Some(folder);
        }
    }

    /// What a power cut leaves.
    pub fn after(&self, cut: Cut) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut seed = match cut {
            Cut::Strict => 0,
            Cut::Torn(seed) => seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        };
        let mut below = move |most: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % (most as u64 + 1)).unwrap()
        };
        let lost: BTreeSet<&PathBuf> =
            self.folders.iter().filter(|(_, linked)| !**linked).map(|(path, _)| path).collect();
        let mut image = BTreeMap::new();
        for (path, file) in &self.files {
            if path.ancestors().any(|folder| lost.iter().any(|lost| lost.as_path() == folder)) {
                continue;
            }
            let mut file = file;
            let kept = file.linked || below(1) == 1;
            if !kept {
                match &file.before {
                    Some(before) => file = before,
                    None => continue,
                }
            }
            if file.unlinked && below(1) == 1 {
                continue;
            }
            let mut bytes = file.durable.clone();
            let kept = below(file.pending.len());
            for (place, (offset, data)) in file.pending.iter().take(kept).enumerate() {
                let data = data.as_deref().map(|data| {
                    let whole = place + 1 < kept || data.len() <= 512;
                    if whole { data } else { &data[..512 * below(data.len() / 512)] }
                });
                apply(&mut bytes, *offset, data);
            }
            image.insert(path.clone(), bytes);
        }
        image
    }
}
