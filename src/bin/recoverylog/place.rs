//! Finds what the command line names: journals, a log, hints.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::hint_store::Candidate;
use recoverylog::journal::{FileJournals, FragmentJournals, Journals};
use recoverylog::vfs::{FileSystem, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, FsmHints, JournalName, Result};

use crate::args::Args;
use crate::output::Output;
use crate::remote::{HintsAt, JournalsAt};

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
        let root = match at(args)? {
            JournalsAt::Folder(_) => root_of(args)?,
            #[cfg(feature = "gazette")]
            JournalsAt::Gazette(url) => {
                let journals = args.remote.journals(url)?;
                return Ok(Self { checked: Arc::clone(&journals), plain: journals });
            }
        };
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
        let root = match at(args)? {
            JournalsAt::Folder(_) => root_of(args)?,
            #[cfg(feature = "gazette")]
            JournalsAt::Gazette(url) => return args.remote.journals(url),
        };
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

fn at(args: &Args) -> Result<&JournalsAt> {
    args.journals.as_ref().ok_or_else(|| lacks("--journals", "./dir, file:///dir or gazette://host:port"))
}

/// Returns the folder that `--journals` names.
pub(crate) fn root_of(args: &Args) -> Result<PathBuf> {
    match at(args)? {
        JournalsAt::Folder(root) => Ok(root.canonicalize().unwrap_or_else(|_| root.clone())),
        #[cfg(feature = "gazette")]
        JournalsAt::Gazette(_) => {
            Err(Error::new(ErrorKind::Invalid, "the journals of a cluster lie in no folder"))
        }
    }
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
        let Some(named) = &args.hints else { return Ok(None) };
        let Some(path) = named.file() else { return Self::of_store(args, named).map(Some) };
        let hints = FsmHints::decode(&read(path, "hints", HINTS_BYTES_MAX)?).map_err(Error::from).map_err(
            |error| Error::new(error.kind(), format!("no hints in {}", path.display())).with_source(error),
        )?;
        if let (Some(log), Some(hinted)) = (&args.log, &hints.log)
            && log != hinted
        {
            return Err(Error::new(ErrorKind::Invalid, "--log and --hints name different logs")
                .expected(log, hinted)
                .advise("leave --log out to use the log of the hints"));
        }
        Ok(Some(Self { sets: vec![hints], unreadable: Vec::new() }))
    }

    /// Reads the hint sets of a store.
    fn of_store(args: &Args, named: &HintsAt) -> Result<Self> {
        let store = named.store(args)?;
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
            let what = format!("{named} holds hints of several logs");
            return Err(Error::new(ErrorKind::Invalid, what).advise("add --log NAME"));
        }
        if sets.is_empty() {
            let what = format!("{named} holds no hints");
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
    pub(crate) fn candidates(
        args: &Args,
        snapshots: Option<&HintsAt>,
    ) -> Result<(JournalName, Vec<Candidate>)> {
        let mut found = Vec::new();
        let deadline = Deadline::after(Duration::from_secs(30));
        let sorts = args.log.clone().map_or_else(|| JournalName::new("none"), Ok)?;
        let file = args.hints.as_ref().filter(|named| named.file().is_some());
        let stores = args.hints.as_ref().filter(|named| named.file().is_none());
        for named in stores.into_iter().chain(snapshots) {
            found.extend(named.store(args)?.candidates(&sorts, deadline)?);
        }
        if let (Some(named), Some(hints)) = (file, file.map(|_| Self::read(args)).transpose()?.flatten()) {
            let name = named.to_string();
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

/// Reads a file that the operator names, which may be a pipe, and is to be `what`.
pub(crate) fn read(path: &Path, what: &str, bytes_max: u64) -> Result<Vec<u8>> {
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
        let what = format!("{} is too long to be {what}", path.display());
        Error::new(ErrorKind::Invalid, what).expected(format_args!("at most {bytes_max} bytes"), actual)
    };
    let file = file.map_err(failed)?;
    // A pipe has no length.
    let len = file.metadata().map_err(failed)?.len();
    if len > bytes_max {
        return Err(too_long(format!("{len} bytes")));
    }
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if read as u64 > bytes_max {
        return Err(too_long("more".into()));
    }
    Ok(bytes)
}
