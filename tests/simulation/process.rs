//! A process of the shard: a standby, or a writer that may long have lost its role.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::player::PlayOptions;
use recoverylog::recorded_fs::RecordedFsOptions;
use recoverylog::recorder::{Barrier, PendingHints};
use recoverylog::replica::{Primary, ReplicaOptions, Standby};
use recoverylog::vfs::{File, FileSystem, MemoryFs, OpenMode};
use recoverylog::{Deadline, Error, FsmHints, RecordedFs, Recorder, RecorderOptions, Replica};

use super::net::Net;
use super::oracle::Point;
use super::planted::Planted;
use super::port::{Port, PortHints, Ports};
use super::seed::Random;
use super::tree::Tree;

/// The recorded directory of every process, on a machine of its own.
pub(crate) const ROOT: &str = "/data";

/// A file system that records.
pub(crate) type Fs = RecordedFs<Arc<dyn FileSystem>>;

/// What a process does.
pub(crate) enum Life {
    /// The scheduler is inside of one of its calls.
    Busy,
    Standby(Box<Standby>),
    Primary(Primary),
}

pub(crate) struct Process {
    pub(crate) id: u64,
    pub(crate) port: Arc<Port>,
    pub(crate) local: MemoryFs,
    pub(crate) life: Life,
    pub(crate) asleep: bool,
    /// It gives up an append of unknown fate after one attempt.
    pub(crate) impatient: bool,
    /// Claims of the register that were made before it began to record.
    pub(crate) claims_before: usize,
    pub(crate) author: u32,
    /// What it waits for, and the point up to which that vouches.
    pub(crate) barriers: Vec<(Barrier, Point)>,
    pub(crate) hinting: Vec<PendingHints>,
    /// Hints that it can publish.
    pub(crate) in_hand: Vec<FsmHints>,
    pub(crate) failure: Option<Error>,
}

pub(crate) fn play_options() -> PlayOptions {
    PlayOptions {
        parallelism: 1,
        step_deadline: Duration::from_secs(30),
        sync: false,
        ..PlayOptions::default()
    }
}

/// Describes the shard as one process has it.
pub(crate) fn replica(port: &Arc<Port>, net: &Net, local: &MemoryFs, impatient: bool) -> Replica {
    let resolve = if impatient { Duration::ZERO } else { Duration::from_secs(3600) };
    let recorder = RecorderOptions::default()
        .clock(Arc::clone(&net.clock) as Arc<dyn recoverylog::Clock>)
        .extensions(net.planted != Planted::NoDigest)
        .resolve_max(resolve);
    let options = ReplicaOptions {
        play: play_options(),
        recorder,
        recorded_fs: RecordedFsOptions::default().sync_max(Duration::ZERO),
        // The scheduler says when hints are taken, and when they arrive.
        publish_bytes: u64::MAX,
        publish_every: Duration::MAX,
        ..ReplicaOptions::default()
    };
    let (journals, hints) = (Arc::new(Ports(Arc::clone(port))), Arc::new(PortHints(Arc::clone(port))));
    Replica::new(journals, net.log.clone(), hints, Arc::new(local.clone())).options(options)
}

impl Process {
    pub(crate) fn fs(&self) -> Option<&Fs> {
        match &self.life {
            Life::Primary(primary) => Some(primary.fs()),
            _ => None,
        }
    }

    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.fs().map(Fs::recorder)
    }

    /// Returns the point that everything recorded so far leads to.
    pub(crate) fn point(&self) -> Option<Point> {
        let point = |recorder: &Recorder| recorder.with_fsm(|fsm| (fsm.next_seq_no(), fsm.next_checksum()));
        self.recorder().map(point)
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::read(&self.local, Path::new(ROOT))
    }

    /// Does one thing to its files; returns what.
    pub(crate) fn work(&self, random: &mut Random) -> Option<String> {
        let fs = self.fs()?;
        let (one, other) = (file(random), file(random));
        let (path, to) = (Path::new(ROOT).join(&one), Path::new(ROOT).join(&other));
        let draw = random.below(12);
        // Each draw is one step of the log, so that whatever a log ends with is a state that was seen.
        if !matches!(draw, 7..10) && fs.metadata(&path).is_err() {
            let created = fs.open_recorded(&path, OpenMode::CreateNew);
            return Some(format!("create {one}{}", if created.is_ok() { "" } else { ": refused" }));
        }
        let opened = || fs.open_recorded(&path, OpenMode::ReadWrite);
        let (what, done) = match draw {
            0..5 => {
                let len = if random.one_in(20) { 40_000 } else { 1 + random.below(200) };
                let content = vec![b'a' + random.below(26) as u8; len as usize];
                let offset = random.below(100);
                let written = opened().and_then(|file| file.write_at(&content, offset)).map(drop);
                (format!("write {len} bytes to {one} at {offset}"), written)
            }
            5..7 => {
                let content = vec![b'A' + random.below(26) as u8; random.below(80) as usize];
                (format!("append to {one}"), opened().and_then(|file| file.append(&content)).map(drop))
            }
            7 => (format!("remove {one}"), fs.remove_file(&path)),
            8 => (format!("rename {one} to {other}"), fs.rename(&path, &to)),
            9 => (format!("link {one} at {other}"), fs.hard_link(&path, &to)),
            10 => {
                let len = random.below(60);
                (format!("set the length of {one} to {len}"), opened().and_then(|file| file.set_len(len)))
            }
            _ => (format!("open {one}, truncating"), fs.open_recorded(&path, OpenMode::Truncate).map(drop)),
        };
        let outcome = if done.is_ok() { "" } else { ": refused" };
        Some(format!("{what}{outcome}"))
    }

    /// Checks that a recorder that failed says so on each call, and no call changes anything.
    pub(crate) fn check_sticky(&self) -> Result<(), String> {
        let (Some(recorder), Some(failure)) = (self.recorder(), &self.failure) else { return Ok(()) };
        let outcomes = [
            recorder.barrier().map(drop),
            recorder.no_op(),
            recorder.take_hints().map(drop),
            recorder.create(&recoverylog::LogPath::from_bytes(b"/later")).map(drop),
        ];
        let said = |outcome: &Result<(), Error>| {
            outcome.as_ref().is_err_and(|error| error.to_string() == failure.to_string())
        };
        if outcomes.iter().all(said) && recorder.failure().is_some() {
            return Ok(());
        }
        Err(format!("a recorder that failed with {failure} goes on: {outcomes:?}"))
    }

    /// Publishes late what was taken long ago.
    pub(crate) fn take_in_hand(&mut self, random: &mut Random) -> Option<FsmHints> {
        let count = self.in_hand.len() as u64;
        (count > 0).then(|| self.in_hand.remove(random.below(count) as usize))
    }
}

fn file(random: &mut Random) -> String {
    format!("f{}", random.below(5))
}

/// Returns a deadline that no simulated wait reaches.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}
