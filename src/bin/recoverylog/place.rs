//! Finds what the command line names: journals, a log, hints.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::hint_store::{Candidate, DirectoryHints, HintStore};
use recoverylog::journal::{FileJournals, FragmentJournals, Journals};
use recoverylog::vfs::{FileSystem, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, FsmHints, JournalName, Result};

use crate::args::Args;
use crate::output::Output;

/// The most bytes of a file of hints; hints of 100,000 files have some 17 MB.
const HINTS_BYTES_MAX: u64 = 1 << 30;

/// Where journals live.
#[derive(Debug)]
pub(crate) struct Place {
    /// Checks the sum of each fragment that is read whole.
    pub(crate) checked: Arc<dyn Journals>,
    /// Hands bytes out as they are, unread where possible.
    pub(crate) plain: Arc<dyn Journals>,
}

impl Place {
    /// Opens what `--journals` names.
    pub(crate) fn open(args: &Args) -> Result<Self> {
        let root = root_of(args)?;
        let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
        if fs.metadata(&root.join(".recoverylog")).is_ok() {
            // A FileJournal keeps what is no fragment yet.
            let journals: Arc<dyn Journals> = Arc::new(FileJournals::read_only_on(fs, &root)?);
            return Ok(Self { checked: Arc::clone(&journals), plain: journals });
        }
        let open = || FragmentJournals::open(Arc::clone(&fs), &root);
        let plain = open()?.verify_sums(false).file_chunks(true);
        Ok(Self { checked: Arc::new(open()?), plain: Arc::new(plain) })
    }

    /// Opens what `--journals` names to append to it, or to prune it.
    pub(crate) fn open_to_append(args: &Args) -> Result<Arc<dyn Journals>> {
        let root = root_of(args)?;
        if OsFs::new().metadata(&root.join(".recoverylog")).is_err() {
            let what = format!("{} holds no file journals: nothing can be changed there", root.display());
            return Err(Error::new(ErrorKind::Invalid, what)
                .advise("a store of fragments is for its owner to change; restore the directory, and record it in a journal of your own"));
        }
        Ok(Arc::new(FileJournals::open(&root)?))
    }

    /// Returns the logs that are stored here.
    pub(crate) fn logs(&self) -> Result<Vec<JournalName>> {
        self.plain.list()
    }
}

/// Returns the folder that `--journals` names.
pub(crate) fn root_of(args: &Args) -> Result<PathBuf> {
    let url = args.journals.as_deref().ok_or_else(|| lacks("--journals", "./dir or file:///dir"))?;
    let root = folder_of(url)?;
    Ok(root.canonicalize().unwrap_or(root))
}

/// What `--hints` names.
#[derive(Debug)]
pub(crate) struct Hints {
    /// Sets of one log, the best first.
    pub(crate) sets: Vec<FsmHints>,
    /// Why others of the same place cannot be read.
    pub(crate) unreadable: Vec<Error>,
}

impl Hints {
    /// Reads what `--hints` names, if anything is named.
    pub(crate) fn read(args: &Args) -> Result<Option<Self>> {
        let Some(path) = &args.hints else { return Ok(None) };
        if path.is_dir() {
            return Self::of_directory(args, path).map(Some);
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
        Ok(Some(Self { sets: vec![hints], unreadable: Vec::new() }))
    }

    /// Reads a directory of hint sets.
    fn of_directory(args: &Args, path: &Path) -> Result<Self> {
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let store = DirectoryHints::open_existing(Arc::new(OsFs::new()), &resolved)?;
        // Where no log is named, all sets must be of one, and any name sorts them by age.
        let sorts = args.log.clone().map_or_else(|| JournalName::new("none"), Ok)?;
        let candidates = store.candidates(&sorts, Deadline::after(Duration::from_secs(30)))?;
        let (mut sets, mut unreadable) = (Vec::new(), Vec::new());
        for candidate in candidates {
            match candidate.hints {
                Ok(hints) => sets.push(hints),
                Err(error) => unreadable.push(error),
            }
        }
        let stored = sets.len();
        let log = args.log.clone().or_else(|| sets.first().and_then(|hints| hints.log.clone()));
        sets.retain(|hints| hints.log == log);
        if args.log.is_none() && sets.len() < stored {
            let what = format!("{} holds hints of several logs", path.display());
            return Err(Error::new(ErrorKind::Invalid, what).advise("add --log NAME"));
        }
        if sets.is_empty() {
            let what = format!("{} holds no hints", path.display());
            let what = log.map_or(what.clone(), |log| format!("{what} of {log}"));
            let error = match unreadable.first() {
                Some(error) => Error::new(ErrorKind::Corrupt, what).with_source(error.clone()),
                None => Error::new(ErrorKind::Invalid, what),
            };
            return Err(error.advise("leave --hints out to use the whole log"));
        }
        Ok(Self { sets, unreadable })
    }

    /// Returns the sets of one log that `--hints` and `snapshots` name, and that log.
    pub(crate) fn candidates(args: &Args, snapshots: Option<&Path>) -> Result<(JournalName, Vec<Candidate>)> {
        let mut found = Vec::new();
        let deadline = Deadline::after(Duration::from_secs(30));
        let sorts = args.log.clone().map_or_else(|| JournalName::new("none"), Ok)?;
        let directory = args.hints.as_deref().filter(|path| path.is_dir());
        for path in directory.into_iter().chain(snapshots) {
            let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let store = DirectoryHints::open_existing(Arc::new(OsFs::new()), &resolved)?;
            found.extend(store.candidates(&sorts, deadline)?);
        }
        if directory.is_none()
            && let (Some(hints), Some(path)) = (Self::read(args)?, &args.hints)
        {
            let name = path.display().to_string();
            found.extend(hints.sets.into_iter().map(|set| Candidate::new(name.clone(), Ok(set))));
        }
        let mut logs: Vec<_> = found.iter().filter_map(|set| set.hints.as_ref().ok()?.log.clone()).collect();
        logs.sort();
        logs.dedup();
        match (&args.log, logs.as_slice()) {
            (Some(log), _) | (None, [log]) => Ok((log.clone(), found)),
            (None, []) => Err(lacks("--log", "NAME")),
            (None, _) => {
                Err(Error::new(ErrorKind::Invalid, "there are hints of several logs")
                    .advise("add --log NAME"))
            }
        }
    }

    /// Returns the best set, and tells which ones cannot be read.
    pub(crate) fn best(self, output: &Output) -> Result<FsmHints> {
        for error in &self.unreadable {
            output.warn(format_args!("a hint set is passed over: {error}"));
        }
        let best = self.sets.into_iter().next();
        best.ok_or_else(|| Error::new(ErrorKind::Invalid, "there are no hints"))
    }
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
    let too_long = |actual: String| {
        let what = format!("{} is too long to be hints", path.display());
        Error::new(ErrorKind::Invalid, what).expected(format_args!("at most {HINTS_BYTES_MAX} bytes"), actual)
    };
    let file = file.map_err(failed)?;
    // A pipe has no length.
    let len = file.metadata().map_err(failed)?.len();
    if len > HINTS_BYTES_MAX {
        return Err(too_long(format!("{len} bytes")));
    }
    let mut bytes = Vec::new();
    let read = file.take(HINTS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > HINTS_BYTES_MAX {
        return Err(too_long("more".into()));
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
