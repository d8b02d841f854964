//! Where the journal may lie: not on a network file system, whose locks and syncs do not hold what they promise.

use std::path::Path;

use super::JournalError;

/// File systems whose files another machine may write too, by `f_type` of `statfs`; numbers of the kernel's
/// `linux/magic.h` and of the file systems' own headers.
#[cfg(target_os = "linux")]
const NETWORK: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x0073_7745, "Coda"),
    (0x564C, "NCP"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x2003_0528, "OrangeFS"),
];

#[cfg(target_os = "linux")]
fn network(magic: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Refuses a folder on a network file system.
#[cfg(target_os = "linux")]
pub(super) fn check(folder: &Path) -> Result<(), JournalError> {
    let Ok(found) = rustix::fs::statfs(folder) else { return Ok(()) };
    // The field is signed on some machines; the numbers are 32 bits wide on all.
    let magic = found.f_type as u64 & 0xFFFF_FFFF;
    match network(magic) {
        Some(kind) => Err(JournalError::NetworkDisk { path: folder.into(), kind }),
        None => Ok(()),
    }
}

/// Not told apart here.
#[cfg(not(target_os = "linux"))]
pub(super) fn check(_: &Path) -> Result<(), JournalError> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn network_file_systems_are_known_and_local_ones_are_not_taken_for_them() {
        for (magic, kind) in
            [(0x6969, "NFS"), (0xFF53_4D42, "CIFS"), (0x517B, "SMB"), (0x0102_1997, "9P"), (0x5346_414F, "AFS")]
        {
            assert_eq!(network(magic), Some(kind));
        }
        // ext4, XFS, btrfs, ZFS, tmpfs, overlayfs, F2FS, bcachefs.
        for magic in [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x794C_7630, 0xF2F5_2010, 0xCA45_1A4E]
        {
            assert_eq!(network(magic), None, "{magic:#x}");
        }
        check(tempfile::tempdir().unwrap().path()).unwrap();
        let failure = Failure::from(JournalError::NetworkDisk { path: "/net/home".into(), kind: "NFS" });
        assert!(failure.message.contains("/net/home") && failure.message.contains("NFS"), "{failure:?}");
        assert!(failure.next.contains("DRAIN_HOME"), "{failure:?}");
    }
}
