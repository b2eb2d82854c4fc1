//! Checks of arguments, and refusals, that all file systems share.
//!
//! *Invariants.* A path that passes [`confined`] consists of normal components only.
//!
//! *Does not* look at any file system: symbolic links are refused where a path is walked.

use std::io;
use std::path::{Component, Path};

/// The most bytes that are mapped at once.
const MAPPED_BYTES_MAX: usize = 1 << 30;

/// Returns the number of bytes in `words` words to be mapped.
///
/// # Errors
/// `InvalidInput` for none, and for more than 1 GiB.
pub(super) fn mapped_bytes(words: usize) -> io::Result<u64> {
    match words.checked_mul(size_of::<u64>()) {
        Some(bytes @ 1..=MAPPED_BYTES_MAX) => Ok(bytes as u64),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("cannot map {words} words"))),
    }
}

/// Returns `path` without leading `.`, empty for the directory itself.
///
/// # Errors
/// `InvalidInput` for an absolute path and for one with a `..` anywhere.
pub(super) fn confined(path: &Path) -> io::Result<&Path> {
    let path = path.strip_prefix(".").unwrap_or(path).components().as_path();
    if path.components().all(|component| matches!(component, Component::Normal(_))) {
        return Ok(path);
    }
    let what = format!("path {} leads out of its directory", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// Returns the error for a symbolic link that is not followed.
pub(super) fn symlink_refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a symbolic link is not followed")
}

/// Returns the error for something that is opened and is no regular file.
pub(super) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Returns the error for a change through a handle that was opened for reading.
pub(super) fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the handle was opened for reading")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside_pass() {
        for (given, expected) in
            [("", ""), (".", ""), ("./a", "a"), ("a/./b//c/", "a/b/c"), ("a", "a"), ("...", "...")]
        {
            assert_eq!(confined(Path::new(given)).unwrap(), Path::new(expected), "{given}");
        }
        for given in ["/", "/a", "..", "a/..", "a/../b", "../a", "./..", "a/.."] {
            assert_eq!(
                confined(Path::new(given)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{given}"
            );
        }
    }
}
