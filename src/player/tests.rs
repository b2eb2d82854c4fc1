//! Claims about the hand-off that take a journal of their own.

mod bound;
mod following;
mod forged;
mod telling;
mod threads;
mod watched;

#[cfg(recoverylog_shuttle)]
mod schedules;

use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::completion::Completion;
use crate::ids::{Author, LogPath};
use crate::journal::{
    Append, AppendFault, Appended, Capabilities, FaultyJournals, Fragment, Head, Interrupter, JournalError,
    JournalReader, MemoryJournals, ReadRange, ReadStep,
};
use crate::recorder::{Recorder, RecorderOptions};
use crate::vfs::MemoryFs;
use crate::wire::{HEADER_BYTES, MAGIC};

fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

fn author(number: u32) -> Author {
    Author::new(number).unwrap()
}

fn memory() -> MemoryJournals {
    MemoryJournals::new()
}

fn by(hints: &FsmHints, journals: &dyn Journals) -> Result<Player> {
    let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
    Player::new(journals, hints, Arc::new(MemoryFs::new()), Path::new("/played"), options)
}

fn whole() -> FsmHints {
    FsmHints::empty(log())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Takes the log over, and records on.
fn take_over(journals: &MemoryJournals, number: u32, options: RecorderOptions) -> Recorder {
    let played = by(&whole(), journals).unwrap().follow().unwrap().promote(author(number), soon()).unwrap();
    Recorder::new(journals.journal(&log()), played.fsm, played.position, author(number), options).unwrap()
}

fn create(recorder: &Recorder, path: &str) {
    let file = recorder.create(&LogPath::from_bytes(path.as_bytes())).unwrap();
    recorder.write(file, 0, b"content").unwrap();
}

fn hints(recorder: &Recorder) -> FsmHints {
    recorder.take_hints().unwrap().wait(soon()).unwrap()
}

/// A journal whose writer wins every race against other appends, and which forgets its registers some times when they
/// are claimed by one that names no offset.
#[derive(Debug)]
struct Contested {
    inner: Arc<crate::journal::MemoryJournal>,
    writer: Recorder,
    forgets: Mutex<u32>,
    /// Offset 0 can be named.
    at_zero: bool,
}

impl Journal for Contested {
    fn name(&self) -> &JournalName {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { at_zero: self.at_zero, ..self.inner.capabilities() }
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        let claims = append.at.is_none();
        if !self.at_zero && append.at == Some(Offset::ZERO) {
            let what = "offset 0 cannot be named".into();
            return Completion::resolved(Err(JournalError::Invalid { journal: self.name().clone(), what }));
        }
        if self.writer.no_op().is_ok() {
            drop(self.writer.barrier().and_then(|mut barrier| barrier.wait(soon())));
        }
        let submitted = self.inner.submit(append);
        let mut forgets = self.forgets.lock().unwrap();
        if claims && *forgets > 0 {
            *forgets -= 1;
            self.inner.lose_registers();
        }
        submitted
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.inner.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

#[derive(Debug)]
struct One(Arc<Contested>);

impl Journals for One {
    fn open(&self, _name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::<Contested>::clone(&self.0))
    }

    fn list(&self) -> Result<Vec<JournalName>> {
        Ok(vec![log()])
    }
}

/// Hands a log over whose writer goes on all the while, and whose registers are forgotten so many times.
fn contest(forgets: u32, deadline: Deadline) -> (Result<Played>, Recorder) {
    let journals = memory();
    let writer = take_over(&journals, 1, RecorderOptions::default());
    let forgets = Mutex::new(forgets);
    let contested =
        Contested { inner: journals.journal(&log()), writer: writer.clone(), forgets, at_zero: true };
    let follower = by(&whole(), &One(Arc::new(contested))).unwrap().follow().unwrap();
    (follower.promote(author(2), deadline), writer)
}

#[test]
fn a_hand_off_stops_a_busy_writer_again_where_its_register_was_lost() {
    let (promoted, writer) = contest(2, soon());
    drop(promoted.unwrap());
    assert_eq!(writer.failure().unwrap().kind(), ErrorKind::Fenced);
}

#[test]
fn a_hand_off_that_loses_every_race_ends_at_its_deadline() {
    let (promoted, writer) = contest(u32::MAX, Deadline::after(Duration::from_millis(20)));
    assert_eq!(promoted.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(writer.failure().is_none());
}

#[test]
fn a_hand_off_that_comes_second_in_a_log_whose_begin_cannot_be_named_tries_again() {
    let journals = memory();
    let inner = journals.journal(&log());
    let options = RecorderOptions::default();
    let writer = Recorder::new(inner.clone(), Fsm::new(log()), Offset::ZERO, author(1), options).unwrap();
    let contested = Contested { inner, writer: writer.clone(), forgets: Mutex::new(0), at_zero: false };
    let follower = by(&whole(), &One(Arc::new(contested))).unwrap().follow().unwrap();
    let played = follower.promote(author(2), soon()).unwrap();
    assert_eq!(played.fsm.last_author(), Some(author(2)));
    assert_eq!(writer.failure().unwrap().kind(), ErrorKind::Fenced);
}

#[test]
fn a_hand_off_does_not_take_the_place_of_a_damaged_operation() {
    let journals = memory();
    let journal = journals.journal(&log());
    create(&take_over(&journals, 1, RecorderOptions::default()), "/file");
    let head = journal.head(soon()).unwrap().offset;
    let begins = (0..head.get()).rev().find(|&at| byte(&journal, at) == MAGIC[0]).unwrap();
    assert!(journal.corrupt_byte(Offset::new(begins + HEADER_BYTES as u64).unwrap(), 0xff));

    let restored = by(&whole(), &journals).unwrap().restore().unwrap_err();
    let promoted = by(&whole(), &journals).unwrap().follow().unwrap().promote(author(2), soon()).unwrap_err();
    assert_eq!((restored.kind(), promoted.kind()), (ErrorKind::Corrupt, ErrorKind::Corrupt));
    assert_eq!(journal.head(soon()).unwrap().offset, head, "nothing was appended");
}

fn byte(journal: &crate::journal::MemoryJournal, at: u64) -> u8 {
    let begin = Offset::new(at).unwrap();
    let mut reader = journal.read(ReadRange::bounded(begin, begin.saturating_add(1))).unwrap();
    match reader.next(soon()).unwrap() {
        ReadStep::Chunk(crate::journal::Chunk::Bytes { bytes, .. }) => bytes[0],
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_play_by_hints_warns_of_operations_that_continue_nothing_it_read() {
    let journals = memory();
    let journal = journals.journal(&log());
    let first = take_over(&journals, 1, RecorderOptions::default());
    create(&first, "/dead");
    first.unlink(&LogPath::from_bytes(b"/dead")).unwrap();
    create(&first, "/kept");
    let hints = hints(&first);
    let damaged = journal.head(soon()).unwrap().offset;
    create(&take_over(&journals, 2, RecorderOptions::default()), "/later");
    // The magic of the hand-off of the second writer.
    assert!(journal.corrupt_byte(damaged, 1));

    let unconnected = |played: Played| {
        played
            .warnings
            .iter()
            .any(|warning| matches!(warning, Warning::Unconnected { offset, .. } if *offset > damaged))
    };
    assert!(unconnected(by(&hints, &journals).unwrap().restore().unwrap()));
    assert!(unconnected(
        by(&hints, &journals).unwrap().follow().unwrap().promote(author(3), soon()).unwrap()
    ));
    assert_eq!(by(&whole(), &journals).unwrap().restore().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[derive(Debug)]
struct At(i64);

impl crate::Clock for At {
    fn unix_nanos(&self) -> i64 {
        self.0
    }
}

#[test]
fn a_mark_is_never_earlier_than_that_of_the_writer_before() {
    let journals = memory();
    let at = |nanos| RecorderOptions::default().clock(Arc::new(At(nanos)));
    let first = take_over(&journals, 1, at(2_000));
    create(&first, "/file");
    assert_eq!(hints(&first).as_of.unwrap().unix_nanos, 2_000);
    let second = take_over(&journals, 2, at(1_000));
    assert_eq!(hints(&second).as_of.unwrap().unix_nanos, 2_000);
}

#[test]
fn a_log_that_ends_with_a_newline_is_taken_over() {
    let journals = memory();
    let journal = journals.journal(&log());
    let recorder = take_over(&journals, 1, RecorderOptions::default());
    create(&recorder, "/file");
    recorder.barrier().unwrap().wait(soon()).unwrap();
    journal.append(Append::new("\n"), soon()).unwrap();
    let played = by(&whole(), &journals).unwrap().follow().unwrap().promote(author(2), soon()).unwrap();
    assert_eq!(played.position, journal.head(soon()).unwrap().offset);
    assert_eq!(played.fsm.live_files(), 1);
}

#[test]
fn a_hand_off_that_is_refused_at_once_pauses_before_it_asks_again() {
    let journals = FaultyJournals::new(memory());
    let journal = journals.journal(&log());
    (0..1000).for_each(|number| journal.fail_append(number, AppendFault::Refused));
    let follower = by(&whole(), &journals).unwrap().follow().unwrap();
    let refused = follower.promote(author(2), Deadline::after(Duration::from_millis(200))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    // Between them lie pauses of 5, 10, 20, 40, 80 ms and so on.
    assert!(journal.counts()["refused"] <= 7, "{:?}", journal.counts());
}

#[test]
fn a_hand_off_whose_answer_is_lost_is_found_or_made_again_and_is_there_once() {
    use AppendFault::{Duplicated, Refused, UnknownCommitted, UnknownLost};
    for faults in [
        &[UnknownCommitted][..],
        &[UnknownLost],
        &[UnknownLost, UnknownCommitted],
        &[Refused, UnknownLost],
        &[Duplicated],
    ] {
        let journals = FaultyJournals::new(memory());
        let journal = journals.journal(&log());
        let recorder = take_over(journals.inner(), 1, RecorderOptions::default());
        create(&recorder, "/file");
        recorder.barrier().unwrap().wait(soon()).unwrap();
        (0..).zip(faults).for_each(|(number, fault)| journal.fail_append(number, *fault));
        let follower = by(&whole(), &journals).unwrap().follow().unwrap();
        let played = follower.promote(author(2), soon()).unwrap();
        assert_eq!(played.position, journal.head(soon()).unwrap().offset, "{faults:?}");
        assert_eq!(played.fsm.last_author(), Some(author(2)));
        // The first hand-off, the file and its content, the second hand-off.
        let again = by(&whole(), journals.inner()).unwrap().restore().unwrap();
        assert_eq!((again.counts.applied_ops, again.counts.rejected_ops), (4, 0), "{faults:?}");
    }
}
