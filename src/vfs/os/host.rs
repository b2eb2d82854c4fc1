//! What the operating system says of the machine and its file systems.
//!
//! *Invariants.* Two equal boot identities mean one boot.
//!
//! *Does not* guess: what a system cannot say is `Unsupported`.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
use rustix::fs::{self, Mode, OFlags};
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
use rustix::io::retry_on_intr;

/// Returns an identity of this boot.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn boot_id() -> io::Result<[u8; 16]> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| fs::openat(fs::CWD, PATH, flags, Mode::empty()))?;
    let mut text = [0; 64];
    let read = retry_on_intr(|| rustix::io::pread(&fd, &mut text, 0))?;
    parse_uuid(text.get(..read).unwrap_or_default())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{PATH} holds no UUID")))
}

/// Returns an identity of this boot.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn boot_id() -> io::Result<[u8; 16]> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells whether a name lies on a file system of another machine.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn is_network(dir: impl AsFd, name: &OsStr) -> io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| fs::openat(&dir, name, flags, Mode::empty()))?;
    Ok(is_network_magic(fs::fstatfs(fd)?.f_type))
}

/// Tells whether a name lies on a file system of another machine.
#[cfg(target_vendor = "apple")]
pub(super) fn is_network(dir: impl AsFd, name: &OsStr) -> io::Result<bool> {
    /// `MNT_LOCAL` of `sys/mount.h`.
    const LOCAL: u32 = 0x1000;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| fs::openat(&dir, name, flags, Mode::empty()))?;
    Ok(fs::fstatfs(fd)?.f_flags & LOCAL == 0)
}

/// Tells whether a name lies on a file system of another machine.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn is_network(_dir: impl AsFd, _name: &OsStr) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells whether a file system of this type lives on another machine, or is shared with one.
///
/// The numbers are those of `linux/magic.h` and of the file systems' own headers.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_network_magic<T: TryInto<i64>>(magic: T) -> bool {
    const NETWORK: [u32; 22] = [
        0x0000_6969, // NFS
        0x0000_517b, // SMB
        0xfe53_4d42, // SMB 2
        0xff53_4d42, // CIFS
        0x0000_564c, // NCP
        0x5346_414f, // AFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x1983_0326, // BeeGFS
        0xaad7_aaea, // PanFS
        0x2003_0528, // OrangeFS
        0xbeef_dead, // SNFS
        0x786f_4256, // VirtualBox shared folders
        0xbacb_acbc, // VMware shared folders
        0x7c7c_6673, // Parallels shared folders
        0x6163_6673, // ACFS
    ];
    // Signed or not, and 32 or 64 bits wide, depending on the machine.
    magic.try_into().is_ok_and(|magic| NETWORK.contains(&(magic as u32)))
}

/// Reads a UUID in its usual form, with dashes or without.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = text.trim_ascii().iter().filter(|byte| **byte != b'-');
    let mut digit = || char::from(*digits.next()?).to_digit(16);
    let mut id = [0; 16];
    for byte in &mut id {
        *byte = (digit()? << 4 | digit()?) as u8;
    }
    digits.next().is_none().then_some(id)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_boot_is_known_and_stays() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), [0; 16]);
    }

    #[test]
    fn a_uuid_is_sixteen_bytes_in_hex() {
        let parsed = parse_uuid(b"00112233-4455-6677-8899-aabbccddeeff\n").unwrap();
        assert_eq!(parsed[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(parsed[15], 0xff);
        for bad in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeeff0", "0011223-4455-6677-8899-aabbccddeeffx"]
        {
            assert_eq!(parse_uuid(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn file_systems_are_known_by_their_magic_however_wide_it_is() {
        for local in [0xef53_u64, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x6573_5546, 0x794c_7630] {
            assert!(!is_network_magic(local), "{local:x}");
        }
        assert!(is_network_magic(0x6969_i64) && is_network_magic(0xff53_4d42_u64));
        assert!(is_network_magic(0xff53_4d42_u32 as i32), "a 32-bit system gives a negative number");
    }
}
