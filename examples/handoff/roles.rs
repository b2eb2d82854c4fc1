//! What the processes do that the example starts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use recoverylog::hint_store::HintStore;
use recoverylog::journal::{Journal, Journals, random_author};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::replica::{Replica, Standby};
use recoverylog::vfs::{FileKind, FileSystem, OsFs};
use recoverylog::{Deadline, Error, ErrorKind, FsmHints, JournalName, Result};
#[cfg(target_os = "linux")]
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::cli::Role;
use crate::database::Database;
use crate::input::{Input, read};
use crate::shared::Shared;
use crate::worker::{pause, timed};

/// What a process reports, a line each.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Report {
    /// It writes, or follows the log.
    Ready,
    /// So many files are acknowledged: the barrier after the last of them has resolved.
    Acknowledged { files: usize },
    /// The database is open in the directory of the new primary.
    TookOver(TookOver),
    /// The database holds so many files, each as it should be.
    Checked { files: usize, took: Duration },
    /// Everything is loaded, and closed.
    Loaded { ops: i64, log_bytes: u64 },
    /// The log was restored, and holds everything.
    Restored(Restored),
    /// It failed.
    Failed { kind: String, what: String },
}

/// A hand-off.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct TookOver {
    /// From the order to a directory that is usable.
    pub(crate) promoted: Duration,
    /// From there to a database that is open.
    pub(crate) opened: Duration,
    /// Bytes by which the standby was behind the head of the journal when the order came.
    pub(crate) lag_bytes: u64,
    /// The most that was seen before.
    pub(crate) lag_bytes_max: u64,
}

/// A restore.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Restored {
    /// Bytes of the log that were read.
    pub(crate) log_bytes: u64,
    /// Files, and bytes of them.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) played: Duration,
    pub(crate) compared: Duration,
    pub(crate) checked: Duration,
}

/// What the processes share.
struct Place {
    root: PathBuf,
    input: Input,
    log: JournalName,
    journals: Arc<dyn Journals>,
    hints: Arc<dyn HintStore>,
    fs: Arc<dyn FileSystem>,
}

/// Does what a role has to do, and ends with the exit code of what went wrong.
pub(crate) fn run(role: Role, root: &Path) -> ExitCode {
    let run = || {
        end_with_parent()?;
        let place = Place::open(root)?;
        match role {
            Role::Primary => place.primary(),
            Role::Successor => place.successor(),
            Role::Restorer => place.restorer(),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody listens any more, the exit code is all there is to tell.
            drop(report(&Report::Failed { kind: error.kind().to_string(), what: error.to_string() }));
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Sees to it that no process is left over, not even a stopped one, where the one that tells the story is killed.
#[cfg(target_os = "linux")]
fn end_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Error::io("asking for a signal", error.into()))
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> Result<()> {
    Ok(())
}

pub(crate) fn report(report: &Report) -> Result<()> {
    let write = || {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, report)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    write().map_err(|error| Error::io("nobody listens", error))
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(crate) fn wrong(what: String) -> Error {
    Error::new(ErrorKind::DataLoss, what)
}

impl Place {
    fn open(root: &Path) -> Result<Self> {
        let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
        let input =
            Input::load(&root.join("input")).map_err(|e| Error::io("reading the list of files", e))?;
        let shared = Shared::load(root).map_err(|error| wrong(format!("where journals are: {error}")))?;
        Ok(Self {
            root: root.to_owned(),
            input,
            log: shared.log()?,
            journals: shared.journals(root)?,
            hints: shared.hints(root)?,
            fs,
        })
    }

    fn standby(&self, directory: &str) -> Result<Standby> {
        let (journals, hints) = (Arc::clone(&self.journals), Arc::clone(&self.hints));
        let shard = Replica::new(journals, self.log.clone(), hints, Arc::clone(&self.fs));
        shard.standby(&self.root.join(directory))
    }

    /// Loads until it is lost.
    fn primary(&self) -> Result<()> {
        let primary = self.standby("first")?.promote(random_author()?, soon())?;
        let mut database = Database::open(&primary, true)?;
        report(&Report::Ready)?;
        database.load(&self.input, 0)?;
        // It is there to be lost while it writes.
        loop {
            pause();
            database.load(&self.input, self.input.files().len().saturating_sub(1))?;
        }
    }

    /// Follows the log, takes it over when told, and loads the rest.
    fn successor(&self) -> Result<()> {
        let standby = self.standby("second")?;
        standby.wait_for_tail(soon())?;
        report(&Report::Ready)?;
        let journal = self.journals.open(&self.log)?;
        let (acknowledged, lag_bytes, lag_bytes_max) = follow(&standby, &*journal)?;

        let (promoted, primary) = timed(|| standby.promote(random_author()?, soon()))?;
        let (opened, mut database) = timed(|| Database::open(&primary, false))?;
        report(&Report::TookOver(TookOver { promoted, opened, lag_bytes, lag_bytes_max }))?;
        let (took, files) = timed(|| database.check(&self.input))?;
        if files < acknowledged {
            return Err(wrong(format!("{acknowledged} files were acknowledged, {files} are there")));
        }
        report(&Report::Checked { files, took })?;
        database.load(&self.input, files)?;
        drop(database);
        let end = primary.barrier()?.wait(soon())?;
        primary.close(soon())?;
        report(&Report::Loaded { ops: end.next_seq_no.get() - 1, log_bytes: end.offset.get() })
    }

    /// Restores the log, and compares it with what was loaded and what the last primary has left.
    fn restorer(&self) -> Result<()> {
        let directory = self.root.join("restored");
        let mut candidates = self.hints.candidates(&self.log, soon())?.into_iter();
        let hints =
            candidates.next().map_or_else(|| Ok(FsmHints::empty(self.log.clone())), |best| best.hints)?;
        let player =
            Player::new(&*self.journals, &hints, Arc::clone(&self.fs), &directory, PlayOptions::default())?;
        let log_bytes = player.plan().bytes();
        let (played, result) = timed(|| player.restore())?;
        if let Some(warning) = result.warnings.first() {
            return Err(wrong(format!("a warning: {warning:?}")));
        }
        let (compared, (files, bytes)) = timed(|| self.compare(&directory))?;
        let (checked, keys) = timed(|| Database::open_plain(&self.fs, &directory)?.check(&self.input))?;
        if keys != self.input.files().len() {
            return Err(wrong(format!("{} files were loaded, {keys} are there", self.input.files().len())));
        }
        report(&Report::Restored(Restored { log_bytes, files, bytes, played, compared, checked }))
    }

    /// Compares a directory with that of the last primary; returns the number of files, and of bytes.
    fn compare(&self, directory: &Path) -> Result<(usize, u64)> {
        let failed = |error| Error::io("comparing directories", error);
        let list = |directory: &Path| -> io::Result<Vec<PathBuf>> {
            let mut files = Vec::new();
            list_files(&*self.fs, directory, Path::new(""), &mut files)?;
            files.sort();
            Ok(files)
        };
        let last = self.root.join("second");
        let (ours, theirs) = (list(directory).map_err(failed)?, list(&last).map_err(failed)?);
        if ours != theirs {
            return Err(wrong(format!("files {theirs:?} were recorded, {ours:?} are there")));
        }
        let mut bytes = 0;
        for name in &ours {
            let content = read(&directory.join(name)).map_err(failed)?;
            if content != read(&last.join(name)).map_err(failed)? {
                return Err(wrong(format!("{} is not what was recorded", name.display())));
            }
            bytes += content.len() as u64;
        }
        Ok((ours.len(), bytes))
    }
}

/// Lists the files below `root` that are recorded: not what the engine keeps beside its data.
fn list_files(
    fs: &dyn FileSystem,
    root: &Path,
    directory: &Path,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs.read_dir(&root.join(directory))? {
        let path = directory.join(&entry.name);
        match entry.kind {
            FileKind::Directory => list_files(fs, root, &path, files)?,
            _ if entry.name == "LOCK" || entry.name.as_encoded_bytes().starts_with(b"LOG") => {}
            _ => files.push(path),
        }
    }
    Ok(())
}

/// Waits for the order to take over. Returns the number of acknowledged files that comes with it, by how many bytes the
/// standby is behind, and by how many it was at most.
fn follow(standby: &Standby, journal: &dyn Journal) -> Result<(usize, u64, u64)> {
    let orders = orders()?;
    let mut lag_max = 0;
    loop {
        let order = orders.recv_timeout(Duration::from_millis(50));
        let applied = standby.status();
        if let Some(failure) = applied.failure {
            return Err(failure);
        }
        let lag =
            applied.position.map(|at| Ok::<_, Error>(journal.head(soon())?.offset.bytes_since(at.offset)));
        let lag = lag.transpose()?.unwrap_or(0);
        match order {
            Ok(acknowledged) => return Ok((acknowledged, lag, lag_max)),
            Err(RecvTimeoutError::Timeout) => lag_max = lag_max.max(lag),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Unavailable, "nobody gives orders any more"));
            }
        }
    }
}

/// Listens for the number of acknowledged files, on standard input.
fn orders() -> Result<Receiver<usize>> {
    let (sender, orders) = mpsc::channel();
    let listen = move || {
        for line in io::stdin().lines().map_while(io::Result::ok) {
            // Whoever waits for an order takes the first.
            if line.trim().parse().is_ok_and(|acknowledged| sender.send(acknowledged).is_err()) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("orders".into()).spawn(listen);
    thread.map_err(|error| Error::io("starting a thread", error))?;
    Ok(orders)
}
