//! A shard that is written to at random, and what its tree ought to be.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{Append, Journal, Journals, MemoryJournals, random_author};
use recoverylog::live::HintBudget;
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::MemoryFs;
use recoverylog::{Deadline, Fnode, FsmHints, JournalName, LogPath, Recorder, RecorderOptions};

use super::random::Random;

pub(crate) const PAGE: u64 = 64;
/// Paths of which a file that is renamed to one becomes a property.
const PROPERTIES: [&str; 2] = ["/IDENTITY", "/d/VERSION"];

/// Paths and contents; several paths of one number are one file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Model {
    pub(crate) links: BTreeMap<String, Fnode>,
    pub(crate) contents: BTreeMap<Fnode, Vec<u8>>,
    pub(crate) properties: BTreeMap<String, Vec<u8>>,
}

impl Model {
    fn unlink(&mut self, path: &str) {
        if let Some(fnode) = self.links.remove(path)
            && !self.links.values().any(|other| *other == fnode)
        {
            self.contents.remove(&fnode);
        }
    }
}

/// A hint set, and whose it is.
pub(crate) struct Taken {
    pub(crate) hints: FsmHints,
    /// Sets of one recorder have one number.
    pub(crate) recorder: usize,
    /// Its budget leaves room for every gap, however small.
    pub(crate) is_exact: bool,
}

pub(crate) struct Shard {
    pub(crate) random: Random,
    pub(crate) journals: MemoryJournals,
    pub(crate) log: JournalName,
    /// Every log that was ever written, the present one last.
    pub(crate) logs: Vec<JournalName>,
    pub(crate) model: Model,
    pub(crate) sets: Vec<Taken>,
    recorders: usize,
    is_exact: bool,
}

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

pub(crate) fn options() -> PlayOptions {
    PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() }
}

fn name(number: usize) -> JournalName {
    JournalName::new(&format!("acme/orders-{number}")).unwrap()
}

impl Shard {
    pub(crate) fn new(random: Random) -> Self {
        let (journals, log) = (MemoryJournals::new(), name(0));
        let logs = vec![log.clone()];
        let (model, sets) = Default::default();
        Self { random, journals, log, logs, model, sets, recorders: 0, is_exact: false }
    }

    pub(crate) fn work(&mut self) {
        for _ in 0..=self.random.below(4) {
            self.term();
        }
    }

    /// One writer takes over, and records for a while.
    pub(crate) fn term(&mut self) {
        let recorder = self.take_over();
        for _ in 0..10 + self.random.below(120) {
            self.step(&recorder);
            if self.random.one_in(40) {
                // The next append finds it where it was to begin, and moves.
                let junk = vec![b'#'; self.random.below(100) as usize + 1];
                self.journals.journal(&self.log).append(Append::new(junk), soon()).unwrap();
            }
            if self.random.one_in(25) {
                self.take_hints(&recorder);
            }
        }
        self.take_hints(&recorder);
        recorder.barrier().unwrap().wait(soon()).unwrap();
    }

    /// Plays by one of the sets, or by none, and records on, perhaps in another log.
    fn take_over(&mut self) -> Recorder {
        let choice = self.random.below(self.sets.len() as u64 + 1) as usize;
        let of_log = |taken: &&Taken| taken.hints.log.as_ref() == Some(&self.log);
        let chosen = self.sets.get(choice).filter(of_log).or_else(|| self.sets.iter().rev().find(of_log));
        let hints = chosen.map_or_else(|| FsmHints::empty(self.log.clone()), |taken| taken.hints.clone());
        let fs = Arc::new(MemoryFs::new());
        let player = Player::new(&self.journals, &hints, fs, Path::new("/data"), options()).unwrap();
        let author = random_author().unwrap();
        let played = player.follow().unwrap().promote(author, soon()).unwrap();
        let mut head = played.position;
        if !self.sets.is_empty() && self.random.one_in(5) {
            self.log = name(self.logs.len());
            self.logs.push(self.log.clone());
            // An offset of 0 is none that a hint has to be told by.
            let first = self.journals.journal(&self.log);
            first.append(Append::new("foreign"), soon()).unwrap();
            head = first.head(soon()).unwrap().offset;
        }
        self.recorders += 1;
        let budget = HintBudget {
            seek_bytes: [0, 0, 200, 64 << 10][self.random.below(4) as usize],
            extra_bytes: [0, 0, 1_000, 3_000, 256 << 10][self.random.below(5) as usize],
        };
        let joins = self.random.one_in(4);
        self.is_exact = !joins && budget.seek_bytes == 0 && budget.extra_bytes == 256 << 10;
        let extents_max = if joins { 2 + self.random.below(12) as usize } else { 1 << 18 };
        let properties = PROPERTIES.map(|path| LogPath::from_bytes(path.as_bytes())).to_vec();
        let options = RecorderOptions::default()
            .hint_budget(budget)
            .extents_per_file_max(extents_max)
            .property_paths(properties);
        let journal = self.journals.open(&self.log).unwrap();
        let recorder = Recorder::new(journal, played.fsm, head, author, options).unwrap();
        // What others may go by, as a replica does with what is stored.
        self.sets.iter().filter(|taken| taken.hints.log.as_ref() == Some(&self.log)).for_each(|taken| {
            recorder.leave_out(&taken.hints);
        });
        recorder
    }

    fn take_hints(&mut self, recorder: &Recorder) {
        let mut pending = recorder.take_hints().unwrap();
        recorder.barrier().unwrap().wait(soon()).unwrap();
        let hints = pending.wait(soon()).unwrap();
        let hints = FsmHints::decode(&hints.encode_json()).unwrap();
        self.sets.push(Taken { hints, recorder: self.recorders, is_exact: self.is_exact });
    }

    fn step(&mut self, recorder: &Recorder) {
        let path = format!("/{}", ["a", "b", "c", "d/e", "d/f"][self.random.below(5) as usize]);
        let other = format!("/{}", ["a", "b", "g", "d/e", "h"][self.random.below(5) as usize]);
        let log_path = |path: &str| LogPath::from_bytes(path.as_bytes());
        let count = self.model.links.len() as u64;
        let at = if count > 0 { self.random.below(count) as usize } else { 0 };
        let there = self.model.links.iter().nth(at).map(|(path, fnode)| (path.clone(), *fnode));
        match (self.random.below(20), there) {
            (0..3, _) | (_, None) => {
                let fnode = recorder.create(&log_path(&path)).unwrap();
                self.model.unlink(&path);
                self.model.links.insert(path, fnode);
                self.model.contents.insert(fnode, Vec::new());
            }
            (3, Some((from, _))) => {
                recorder.unlink(&log_path(&from)).unwrap();
                self.model.unlink(&from);
            }
            (4, Some((_, fnode))) => {
                recorder.link(fnode, &log_path(&other)).unwrap();
                self.model.links.insert(other.clone(), fnode);
                let alive: Vec<Fnode> = self.model.links.values().copied().collect();
                self.model.contents.retain(|fnode, _| alive.contains(fnode));
            }
            (5, Some((from, fnode))) => {
                recorder.rename(&log_path(&from), &log_path(&other)).unwrap();
                if self.model.links.get(&other) != Some(&fnode) {
                    self.model.unlink(&other);
                    self.model.links.remove(&from);
                    self.model.links.insert(other, fnode);
                }
            }
            (6, Some((from, _))) => {
                let property = PROPERTIES[self.random.below(2) as usize];
                // The JSON form holds no other bytes than UTF-8.
                let content = vec![b'a' + self.random.below(26) as u8; self.random.below(50) as usize];
                let to = log_path(property);
                recorder.rename_to_property(&log_path(&from), &to, content.clone().into()).unwrap();
                self.model.unlink(&from);
                self.model.properties.insert(property.to_owned(), content);
            }
            (draw, Some((_, fnode))) => {
                let content = self.model.contents.get(&fnode).map_or(0, Vec::len) as u64;
                // Pages written again, appends, and anything else.
                let (offset, len) = match draw {
                    7..14 => (self.random.below(8) * PAGE, PAGE),
                    14..18 => (content, self.random.below(40)),
                    _ => (self.random.below(600), self.random.below(300)),
                };
                let bytes = vec![self.random.below(255) as u8 + 1; len as usize];
                recorder.write(fnode, offset, &bytes).unwrap();
                let content = self.model.contents.get_mut(&fnode).unwrap();
                if len > 0 {
                    content.resize(content.len().max((offset + len) as usize), 0);
                    content[offset as usize..(offset + len) as usize].copy_from_slice(&bytes);
                }
            }
        }
    }
}
