//! Whether a Ledger is on USB, and whether this user may open it. Linux only: elsewhere nothing is known.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Ledger's USB vendor.
const VENDOR: &str = "2c97";

/// What lets the person at the machine open the device. For a file in `/etc/udev/rules.d`.
pub const UDEV_RULE: &str = r#"SUBSYSTEMS=="usb", ATTRS{idVendor}=="2c97", TAG+="uaccess", MODE="0660""#;

/// A Ledger on USB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbDevice {
    /// Its device file.
    pub node: PathBuf,
    /// Whether this process may open it.
    pub allowed: bool,
}

/// The Ledgers that the kernel lists.
pub fn devices() -> Vec<UsbDevice> {
    let Ok(entries) = std::fs::read_dir("/sys/bus/usb/devices") else { return Vec::new() };
    entries.flatten().filter_map(|entry| device(&entry.path())).collect()
}

fn device(folder: &Path) -> Option<UsbDevice> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
    if read("idVendor")? != VENDOR {
        return None;
    }
    let (bus, number) = (read("busnum")?.parse::<u32>().ok()?, read("devnum")?.parse::<u32>().ok()?);
    let node = PathBuf::from(format!("/dev/bus/usb/{bus:03}/{number:03}"));
    let refused = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&node)
        .is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    Some(UsbDevice { node, allowed: !refused })
}
