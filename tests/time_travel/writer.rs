//! A shard that is written to at random, in several logs, by writers that take over from each other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use recoverylog::journal::{Append, Journal, Journals, MemoryJournals, random_author};
use recoverylog::live::HintBudget;
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::MemoryFs;
use recoverylog::wire::encode_op;
use recoverylog::{
    Author, Checksum, Clock, Deadline, FsmHints, JournalName, LogPath, Mark, OpBody, RecordedOp, Recorder,
    RecorderOptions, SeqNo,
};

use super::random::Random;

const PROPERTY: &str = "/IDENTITY";
pub(crate) const NAMES: [&str; 3] = ["before", "after", "release 1.0"];

/// A clock that goes as it is told, back too.
#[derive(Debug, Default)]
struct Told(AtomicI64);

impl Clock for Told {
    fn unix_nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) struct Shard {
    pub(crate) random: Random,
    pub(crate) journals: MemoryJournals,
    /// Every log that was ever written, the present one last.
    pub(crate) logs: Vec<JournalName>,
    pub(crate) sets: Vec<FsmHints>,
    clock: Arc<Told>,
}

/// Where a writer stood when it lost its role.
struct Fenced {
    author: Author,
    seq_no: SeqNo,
    checksum: Checksum,
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
        let clock = Arc::new(Told(AtomicI64::new(1_000)));
        Self { random, journals: MemoryJournals::new(), logs: vec![name(0)], sets: Vec::new(), clock }
    }

    pub(crate) fn log(&self) -> JournalName {
        self.logs.last().unwrap().clone()
    }

    pub(crate) fn work(&mut self) {
        let mut fenced: Option<Fenced> = None;
        for _ in 0..=self.random.below(3) {
            let recorder = self.take_over();
            for _ in 0..10 + self.random.below(30) {
                self.step(&recorder);
                if let Some(fenced) = fenced.as_mut().filter(|_| self.random.one_in(8)) {
                    recorder.barrier().unwrap().wait(soon()).unwrap();
                    self.wake(fenced);
                }
                if self.random.one_in(10) {
                    self.take_hints(&recorder);
                }
            }
            recorder.barrier().unwrap().wait(soon()).unwrap();
            let (seq_no, checksum) = recorder.with_fsm(|fsm| (fsm.next_seq_no(), fsm.next_checksum()));
            fenced = Some(Fenced { author: recorder.author(), seq_no, checksum });
        }
    }

    /// Plays by one of the sets, or by none, and records on, perhaps in another log.
    fn take_over(&mut self) -> Recorder {
        let log = self.log();
        let choice = self.random.below(self.sets.len() as u64 + 1) as usize;
        let of_log = |set: &&FsmHints| set.log.as_ref() == Some(&log);
        let chosen = self.sets.get(choice).filter(of_log).or_else(|| self.sets.iter().rev().find(of_log));
        let hints = chosen.cloned().unwrap_or_else(|| FsmHints::empty(log.clone()));
        let player =
            Player::new(&self.journals, &hints, Arc::new(MemoryFs::new()), Path::new("/d"), options());
        let author = random_author().unwrap();
        let played = player.unwrap().follow().unwrap().promote(author, soon()).unwrap();
        let mut head = played.position;
        let forks = self.sets.iter().any(|set| set.log.as_ref() == Some(&log)) && self.random.one_in(6);
        if forks {
            self.logs.push(name(self.logs.len()));
            let first = self.journals.journal(&self.log());
            first.append(Append::new("foreign"), soon()).unwrap();
            head = first.head(soon()).unwrap().offset;
        }
        let budget = HintBudget { seek_bytes: self.random.below(3) * 60, extra_bytes: 256 << 10 };
        let options = RecorderOptions::default()
            .hint_budget(budget)
            .property_paths(vec![LogPath::from_bytes(PROPERTY.as_bytes())])
            .clock(self.clock.clone());
        let journal = self.journals.open(&self.log()).unwrap();
        let recorder = Recorder::new(journal, played.fsm, head, author, options).unwrap();
        for set in self.sets.iter().filter(|set| set.log.as_ref() == Some(&self.log())) {
            recorder.leave_out(set);
        }
        if forks {
            // Without hints nobody could play the new log.
            self.take_hints(&recorder);
        }
        recorder
    }

    /// The old writer appends a mark, in a history that nobody else has.
    fn wake(&mut self, fenced: &mut Fenced) {
        let name = NAMES[self.random.below(3) as usize];
        let unix_nanos = self.random.below(4_000) as i64;
        let op = RecordedOp {
            seq_no: fenced.seq_no,
            checksum: fenced.checksum,
            author: Some(fenced.author),
            body: OpBody::NoOp,
            payload: None,
            mark: Some(Mark { unix_nanos, name: Some(name.into()) }),
        };
        let mut frame = Vec::new();
        let message = encode_op(&op, &mut frame).unwrap();
        (fenced.seq_no, fenced.checksum) = (op.seq_no.next(), op.checksum.extend(&frame[message]));
        self.journals.journal(&self.log()).append(Append::new(frame), soon()).unwrap();
    }

    fn take_hints(&mut self, recorder: &Recorder) {
        let mut pending = recorder.take_hints().unwrap();
        recorder.barrier().unwrap().wait(soon()).unwrap();
        self.sets.push(FsmHints::decode(&pending.wait(soon()).unwrap().encode_json()).unwrap());
    }

    fn step(&mut self, recorder: &Recorder) {
        let stepped = self.random.below(200) as i64 - 40;
        self.clock.0.fetch_add(stepped, Ordering::Relaxed);
        let log_path = |path: &str| LogPath::from_bytes(path.as_bytes());
        let path = log_path(["/a", "/b", "/c", "/d/e", "/d/f"][self.random.below(5) as usize]);
        let other = log_path(["/a", "/b", "/g", "/d/e", "/h"][self.random.below(5) as usize]);
        let there: Vec<_> = recorder.with_fsm(|fsm| {
            let links = fsm.links().filter(|(path, _)| !path.to_string().starts_with("/.recoverylog"));
            links.map(|(path, fnode)| (path.clone(), fnode)).collect()
        });
        let at = self.random.below(there.len().max(1) as u64) as usize;
        match (self.random.below(20), there.get(at)) {
            (0..3, _) | (_, None) => drop(recorder.create(&path).unwrap()),
            (3, Some((from, _))) => recorder.unlink(from).unwrap(),
            (4, Some((_, fnode))) => recorder.link(*fnode, &other).unwrap(),
            (5, Some((from, _))) => recorder.rename(from, &other).unwrap(),
            (6, Some((from, _))) => {
                let content = vec![b'a' + self.random.below(26) as u8; self.random.below(50) as usize];
                recorder.rename_to_property(from, &log_path(PROPERTY), content.into()).unwrap();
            }
            (7, _) => drop(recorder.mark(NAMES[self.random.below(3) as usize]).unwrap()),
            (8, _) => recorder.no_op().unwrap(),
            (_, Some((_, fnode))) => {
                let bytes = vec![self.random.below(255) as u8 + 1; self.random.below(100) as usize];
                recorder.write(*fnode, self.random.below(4) * 50, &bytes).unwrap();
            }
        }
    }
}
