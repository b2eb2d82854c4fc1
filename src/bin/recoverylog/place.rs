//! Finds what the command line names: journals, a log, hints.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recoverylog::journal::{FragmentJournals, Journals};
use recoverylog::vfs::{FileSystem, OsFs};
use recoverylog::{Error, ErrorKind, FsmHints, JournalName, Result};

use crate::args::Args;

/// The most bytes of a file of hints; hints of 100,000 files have some 17 MB.
const HINTS_BYTES_MAX: u64 = 1 << 30;

/// Where journals live.
#[derive(Debug)]
pub(crate) struct Place {
    /// Checks the sum of each fragment that is read whole.
    pub(crate) checked: FragmentJournals,
    /// Hands bytes out as they are, unread where possible.
    pub(crate) plain: FragmentJournals,
}

impl Place {
    /// Opens what `--journals` names.
    pub(crate) fn open(args: &Args) -> Result<Self> {
        let url = args.journals.as_deref().ok_or_else(|| lacks("--journals", "./dir or file:///dir"))?;
        let root = folder_of(url)?;
        let root = root.canonicalize().unwrap_or(root);
        let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
        if fs.metadata(&root.join(".recoverylog")).is_ok() {
            let what = format!("{} is kept by a FileJournal", root.display());
            return Err(Error::new(ErrorKind::Invalid, what)
                .expected(
                    "a folder of fragments alone",
                    "a folder that also holds what is not a fragment yet",
                )
                .advise("seal the journal, and copy its fragments elsewhere"));
        }
        let open = || FragmentJournals::open(Arc::clone(&fs), &root);
        Ok(Self { checked: open()?, plain: open()?.verify_sums(false).file_chunks(true) })
    }

    /// Returns the logs that are stored here.
    pub(crate) fn logs(&self) -> Result<Vec<JournalName>> {
        self.plain.list()
    }
}

/// Reads what `--hints` names.
pub(crate) fn hints(args: &Args) -> Result<Option<FsmHints>> {
    let Some(path) = &args.hints else { return Ok(None) };
    if path.is_dir() {
        let what = format!("{} is a directory, and hints are read from a file", path.display());
        return Err(Error::new(ErrorKind::Invalid, what).advise("name one file of hints"));
    }
    let hints = FsmHints::decode(&read(path)?).map_err(Error::from).map_err(|error| {
        Error::new(error.kind(), format!("no hints in {}", path.display())).with_source(error)
    })?;
    if let (Some(named), Some(hinted)) = (&args.log, &hints.log)
        && named != hinted
    {
        return Err(Error::new(ErrorKind::Invalid, "--log and --hints name different logs")
            .expected(named, hinted)
            .advise("leave --log out to use the log of the hints"));
    }
    Ok(Some(hints))
}

/// Returns an error for an option that a command cannot do without.
pub(crate) fn lacks(option: &str, value: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{option} is lacking")).advise(format!("add {option} {value}"))
}

/// Reads a file that the operator names, which may be a pipe.
fn read(path: &Path) -> Result<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "a pipe is no file of the seam")]
    let file = std::fs::File::open(path);
    let failed = |error: std::io::Error| {
        let what = format!("reading {} failed", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(ErrorKind::Invalid, what).with_source(error),
            _ => Error::io(what, error),
        }
    };
    let mut bytes = Vec::new();
    let read =
        file.and_then(|file| file.take(HINTS_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if read as u64 > HINTS_BYTES_MAX {
        let what = format!("{} is too long to be hints", path.display());
        return Err(Error::new(ErrorKind::Invalid, what).expected("at most 1 GiB", "more"));
    }
    Ok(bytes)
}

/// Returns the folder that a URL names.
fn folder_of(url: &str) -> Result<PathBuf> {
    let invalid = |what: &str, actual: &str| {
        Error::new(ErrorKind::Invalid, format!("--journals {url}: {what}"))
            .expected("./dir or file:///dir", actual)
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.is_empty() { Err(invalid("no folder is named", "nothing")) } else { Ok(url.into()) };
    };
    if scheme != "file" {
        return Err(invalid("there are no journals of this kind", scheme));
    }
    if !rest.starts_with('/') {
        return Err(invalid("a file URL names no host, and an absolute path", rest));
    }
    if rest.contains(['?', '#']) {
        return Err(invalid("a file URL has no query and no fragment", rest));
    }
    percent_decoded(rest).ok_or_else(|| invalid("a percent sign is followed by two hexadecimal digits", rest))
}

fn percent_decoded(path: &str) -> Option<PathBuf> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? * 16 + digit()?) as u8);
    }
    if decoded.contains(&0) { None } else { Some(std::ffi::OsString::from_vec(decoded).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_path_or_has_the_scheme_file() {
        for (url, folder) in [
            ("./dir", "./dir"),
            ("dir", "dir"),
            ("/a b", "/a b"),
            ("file:///a/b", "/a/b"),
            ("file:///a%20b%25", "/a b%"),
        ] {
            assert_eq!(folder_of(url).unwrap(), Path::new(folder), "{url}");
        }
        for url in
            ["", "s3://bucket", "file://host/a", "file://a", "file:///a%2", "file:///a%00", "file:///a?b"]
        {
            assert_eq!(folder_of(url).unwrap_err().kind(), ErrorKind::Invalid, "{url}");
        }
    }
}
