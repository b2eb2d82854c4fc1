//! Plays that end at a point of the past.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::clock::Clock;
use crate::ids::Checksum;
use crate::wire::encode_op;

/// A clock that is a second later each time.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

const SECOND: i64 = 1_000_000_000;

impl Clock for Ticking {
    fn unix_nanos(&self) -> i64 {
        (self.0.fetch_add(1, Ordering::Relaxed) as i64 + 1) * SECOND
    }
}

fn until(journals: &dyn Journals, hints: &FsmHints, bound: &Bound) -> Result<Player> {
    let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
    Player::until(journals, hints, bound, Arc::new(MemoryFs::new()), Path::new("/played"), options)
}

fn point(journals: &dyn Journals, hints: &FsmHints, bound: &Bound) -> Result<i64> {
    let player = until(journals, hints, bound)?;
    let seq_no = player.point().unwrap().seq_no;
    let played = player.restore()?;
    assert_eq!(played.fsm.next_seq_no(), seq_no.next());
    Ok(seq_no.get())
}

fn named(name: &str) -> Bound {
    Bound::Mark(Bytes::copy_from_slice(name.as_bytes()))
}

/// Records six files, with a mark behind each: operations 1 to 18, whose marks are of the seconds 1 to 6. The hand-off
/// comes first, as operation 1, so that file `n` ends with its mark `3n + 1`.
fn six_files() -> MemoryJournals {
    let journals = MemoryJournals::new().fragment_bytes(1);
    let options = RecorderOptions::default().clock(Arc::new(Ticking::default()));
    let recorder = take_over(&journals, 1, options);
    for number in 1..=6 {
        create(&recorder, &format!("/file-{number}"));
        recorder.mark(if number == 4 { "again" } else { ["even", "odd"][number % 2] }).unwrap();
        recorder.barrier().unwrap().wait(soon()).unwrap();
    }
    journals
}

fn content(journals: &MemoryJournals) -> Vec<u8> {
    let journal = journals.journal(&log());
    let head = journal.head(soon()).unwrap().offset;
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head)).unwrap();
    let mut bytes = Vec::new();
    while let ReadStep::Chunk(chunk) = reader.next(soon()).unwrap() {
        let begin = bytes.len();
        bytes.resize(begin + chunk.len() as usize, 0);
        chunk.read_exact_at(&mut bytes[begin..], 0).unwrap();
    }
    bytes
}

/// Returns where an operation begins.
fn begin_of(journals: &MemoryJournals, seq_no: i64) -> Offset {
    let player = until(journals, &whole(), &Bound::Seq(SeqNo::new(seq_no - 1))).unwrap();
    player.point().unwrap().offset
}

#[test]
fn a_time_is_that_of_the_last_mark_before_it_and_a_name_the_newest_of_its_kind() {
    let journals = six_files();
    for (nanos, seq_no) in [(SECOND, 4), (2 * SECOND - 1, 4), (2 * SECOND, 7), (9 * SECOND, 19)] {
        assert_eq!(point(&journals, &whole(), &Bound::Time(nanos)).unwrap(), seq_no, "{nanos}");
    }
    for (name, seq_no) in [("odd", 16), ("even", 19), ("again", 13)] {
        assert_eq!(point(&journals, &whole(), &named(name)).unwrap(), seq_no, "{name}");
    }
    for bound in [Bound::Time(SECOND - 1), named("o"), Bound::Seq(SeqNo::new(20)), Bound::Seq(SeqNo::new(0))]
    {
        let error = until(&journals, &whole(), &bound).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(&bound.to_string()), "{error}");
    }
}

#[test]
fn no_recorder_goes_on_in_the_same_log_and_one_does_in_another() {
    let journals = six_files();
    let before = content(&journals);
    let play = || until(&journals, &whole(), &named("again")).unwrap();
    assert_eq!(play().follow().unwrap_err().kind(), ErrorKind::Invalid);
    let played = play().restore().unwrap();
    for head in [played.position, journals.journal(&log()).head(soon()).unwrap().offset] {
        let (journal, fsm) = (journals.journal(&log()), played.fsm.clone());
        let refused = Recorder::new(journal, fsm, head, author(2), RecorderOptions::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    }
    let fork = JournalName::new("acme/fork").unwrap();
    let options = RecorderOptions::default();
    let recorder =
        Recorder::new(journals.journal(&fork), played.fsm, Offset::ZERO, author(2), options.clone()).unwrap();
    create(&recorder, "/new");
    let forked = hints(&recorder);
    let played = by(&forked, &journals).unwrap().restore().unwrap();
    let names: Vec<_> = played.fsm.links().map(|(path, _)| path.to_string()).collect();
    assert_eq!(names, ["/file-1", "/file-2", "/file-3", "/file-4", "/new"]);
    assert_eq!(content(&journals), before, "the old log stays as it is");
    // What went on in another log is of the past no more.
    let history = recorder.history();
    let head = recorder.committed().offset;
    drop(Recorder::new(journals.journal(&fork), history, head, author(2), options).unwrap());
}

#[test]
fn a_time_behind_damage_is_refused_and_one_before_it_is_not() {
    let journals = six_files();
    let mut damaged = content(&journals);
    // In the creation of the fourth file.
    damaged[begin_of(&journals, 11).get() as usize + 12] ^= 1;
    let journals = memory();
    journals.journal(&log()).append(Append::new(damaged), soon()).unwrap();
    assert_eq!(point(&journals, &whole(), &Bound::Time(2 * SECOND)).unwrap(), 7);
    assert_eq!(point(&journals, &whole(), &Bound::Seq(SeqNo::new(10))).unwrap(), 10);
    // Behind the damage there may be a newer mark of the name.
    let error = until(&journals, &whole(), &named("odd")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.advice().contains("the one at seq-no 10 can be restored by its number"), "{error}");
    for bound in
        [Bound::Time(3 * SECOND), Bound::Time(5 * SECOND), named("again"), Bound::Seq(SeqNo::new(11))]
    {
        let error = until(&journals, &whole(), &bound).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bound}: {error}");
    }
}

#[test]
fn a_point_behind_bytes_that_were_pruned_is_a_loss_and_one_before_them_is_not() {
    let journals = six_files();
    let lost = begin_of(&journals, 12);
    assert!(journals.journal(&log()).drop_fragment(lost));
    assert_eq!(point(&journals, &whole(), &Bound::Seq(SeqNo::new(10))).unwrap(), 10);
    assert_eq!(point(&journals, &whole(), &Bound::Time(3 * SECOND - 1)).unwrap(), 7);
    let head = journals.journal(&log()).head(soon()).unwrap().offset;
    // Marks up to that time, or of that name, may have been among what is lost.
    let (time, seq_no) = (Bound::Time(3 * SECOND), Bound::Seq(SeqNo::new(13)));
    for bound in [time, seq_no, Bound::Offset(head), named("odd"), named("again")] {
        let error = until(&journals, &whole(), &bound).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{bound}: {error}");
        assert!(error.offset().is_some_and(|at| at <= lost), "{error}");
    }
}

#[test]
fn hints_that_do_not_say_what_they_describe_lead_to_no_point() {
    let journals = memory();
    let recorder = take_over(&journals, 1, RecorderOptions::default());
    create(&recorder, "/kept");
    let lost = LogPath::from_bytes(b"/lost");
    create(&recorder, "/lost");
    recorder.unlink(&lost).unwrap();
    let mut set = hints(&recorder);
    let head = set.as_of.unwrap().seq_no;
    assert_eq!(point(&journals, &set, &Bound::Seq(head)).unwrap(), head.get());
    let before = until(&journals, &set, &Bound::Seq(SeqNo::new(head.get() - 1))).unwrap_err();
    assert_eq!(before.kind(), ErrorKind::Invalid, "{before}");
    // As those of the reference: its last segment ends before the file was unlinked that they do not name.
    set.as_of = None;
    set.files[0].segments.truncate(1);
    assert!(by(&set, &journals).is_ok());
    for seq_no in 3..=head.get() {
        let error = until(&journals, &set, &Bound::Seq(SeqNo::new(seq_no))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn what_may_follow_behind_the_last_point_is_told() {
    let journals = six_files();
    let set = {
        let played = by(&whole(), &journals).unwrap().restore().unwrap();
        played.fsm.hints_to_head(&log(), 7 * SECOND)
    };
    // A writer whose operations before this one are not there, or who lost its role.
    let op = RecordedOp {
        seq_no: SeqNo::new(30),
        checksum: Checksum::new(9),
        author: Some(author(9)),
        body: OpBody::NoOp,
        payload: None,
        mark: None,
    };
    let mut frame = Vec::new();
    encode_op(&op, &mut frame).unwrap();
    journals.journal(&log()).append(Append::new(frame), soon()).unwrap();
    let at_head = until(&journals, &set, &Bound::Time(9 * SECOND)).unwrap().restore().unwrap();
    assert!(matches!(at_head.warnings[..], [Warning::Unconnected { .. }]), "{:?}", at_head.warnings);
    let head = set.as_of.unwrap().seq_no;
    let exact = until(&journals, &set, &Bound::Seq(head)).unwrap().restore().unwrap();
    assert_eq!(exact.warnings, []);
}

#[test]
fn hints_that_lie_about_what_they_describe_end_a_play_with_an_error() {
    let journals = six_files();
    let played = by(&whole(), &journals).unwrap().restore().unwrap();
    let honest = played.fsm.hints_to_head(&log(), 7 * SECOND);
    let as_of = honest.as_of.unwrap();
    let head = journals.journal(&log()).head(soon()).unwrap().offset;
    let at = |seq_no| begin_of(&journals, seq_no);
    for (seq_no, offset) in [
        (SeqNo::new(7), at(8)),
        (SeqNo::new(7), Offset::ZERO),
        (SeqNo::new(7), head),
        (SeqNo::new(18), Offset::MAX),
        (SeqNo::new(-3), at(3)),
        (SeqNo::new(i64::MAX), as_of.offset),
        (as_of.seq_no, at(12)),
        (SeqNo::new(18), as_of.offset),
    ] {
        let lying = crate::hints::AsOf { offset, seq_no, ..as_of };
        let set = FsmHints { as_of: Some(lying), ..honest.clone() };
        for bound in
            [Bound::Seq(seq_no), Bound::Offset(offset.max(at(8))), Bound::Time(9 * SECOND), named("odd")]
        {
            let error = until(&journals, &set, &bound).and_then(Player::restore);
            assert!(error.is_err(), "{bound} by {lying:?}: {error:?}");
        }
    }
}
