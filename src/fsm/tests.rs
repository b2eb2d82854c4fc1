//! Histories that are replayed under hints.

use super::*;

/// A history and the state machine that took it.
struct History {
    log: JournalName,
    fsm: Fsm,
    ops: Vec<RecordedOp>,
}

impl History {
    fn new() -> Self {
        let log = JournalName::new("acme/log").unwrap();
        Self { fsm: Fsm::new(log.clone()), log, ops: Vec::new() }
    }

    fn push(&mut self, author: u32, body: OpBody) {
        let op = self.next(author, body);
        apply(&mut self.fsm, &self.log, &op).unwrap();
        self.ops.push(op);
    }

    fn replay(&self, hints: &FsmHints, options: FsmOptions) -> Fsm {
        let mut fsm = Fsm::from_hints(hints, options).unwrap();
        for op in &self.ops {
            // What the hints leave out is rejected.
            let _ = apply(&mut fsm, &self.log, op);
        }
        fsm
    }
}

/// Applies `op` as if its frame were its sequence number, and ten bytes of the log.
fn apply(fsm: &mut Fsm, log: &JournalName, op: &RecordedOp) -> Result<Transition, Rejection> {
    let begin = Offset::new(op.seq_no.get() as u64 * 10).unwrap();
    let end = Offset::new(begin.get() + 10);
    fsm.apply(op, op.seq_no.to_string().as_bytes(), Span { log, begin, end })
}

fn set(path: &LogPath, content: &'static [u8]) -> OpBody {
    OpBody::Property { path: path.clone(), content: Bytes::from_static(content) }
}

#[test]
fn a_property_of_the_hints_outlives_the_replay_of_an_earlier_one() {
    let path = LogPath::from_bytes(b"/IDENTITY");
    let file = Fnode::new(SeqNo::FIRST);
    let mut history = History::new();
    history.push(7, OpBody::Create { path: LogPath::from_bytes(b"/file") });
    history.push(7, set(&path, b"earlier"));
    history.push(7, OpBody::Write { fnode: file, offset: 0 });
    history.push(8, set(&path, b"later"));
    history.push(9, OpBody::Write { fnode: file, offset: 1 });

    // The later one lies in a gap: no file needs it.
    let hints = history.fsm.hints(&history.log);
    let ranges: Vec<_> = hints.flatten().unwrap().segments.into_vec();
    let ranges: Vec<_> = ranges.iter().map(|s| (s.first_seq_no.get(), s.last_seq_no.get())).collect();
    assert_eq!(ranges, [(1, 3), (5, 5)]);

    let replayed = history.replay(&hints, FsmOptions::default());
    assert_eq!(replayed.property(&path), history.fsm.property(&path));
    assert_eq!(replayed.properties().collect::<Vec<_>>(), [(&path, &Bytes::from_static(b"later"))]);
    assert_eq!(replayed.next_seq_no(), history.fsm.next_seq_no());
    let as_reference = FsmOptions { overwrite_hinted_properties: true, ..FsmOptions::default() };
    assert_eq!(history.replay(&hints, as_reference).property(&path).unwrap(), "earlier");

    // Past the hinted segments operations set properties as ever.
    history.push(9, set(&path, b"latest"));
    assert_eq!(history.replay(&hints, FsmOptions::default()).property(&path).unwrap(), "latest");
}

fn path(name: &str) -> LogPath {
    LogPath::from_bytes(name.as_bytes())
}

fn create(name: &str) -> OpBody {
    OpBody::Create { path: path(name) }
}

fn fnode(seq_no: i64) -> Fnode {
    Fnode::new(SeqNo::new(seq_no))
}

fn link(of: i64, name: &str) -> OpBody {
    OpBody::Link { fnode: fnode(of), path: path(name) }
}

fn unlink(of: i64, name: &str) -> OpBody {
    OpBody::Unlink { fnode: fnode(of), path: path(name) }
}

fn write(of: i64) -> OpBody {
    OpBody::Write { fnode: fnode(of), offset: 0 }
}

/// Returns the ranges of the segments, by sequence number.
fn ranges<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Vec<(i64, i64)> {
    segments.into_iter().map(|s| (s.first_seq_no.get(), s.last_seq_no.get())).collect()
}

impl History {
    /// Returns the operation that would come next.
    fn next(&self, author: u32, body: OpBody) -> RecordedOp {
        RecordedOp {
            seq_no: self.fsm.next_seq_no(),
            checksum: self.fsm.next_checksum(),
            author: Author::new(author),
            body,
            payload: None,
            mark: None,
        }
    }

    /// Offers an operation that is rejected, and checks that it leaves the state as it was.
    fn refuses(&mut self, op: &RecordedOp) -> Rejection {
        let before = format!("{:?}", self.fsm);
        let rejection = apply(&mut self.fsm, &self.log, op).unwrap_err();
        // Which slot was found last is no part of the state.
        let recent = |state: &str| state.split("recent").next().unwrap().to_owned();
        assert_eq!(recent(&format!("{:?}", self.fsm)), recent(&before), "{rejection}");
        rejection
    }

    fn segments_of(&self, of: i64) -> Vec<(i64, i64)> {
        ranges(self.fsm.node(fnode(of)).unwrap().segments())
    }
}

#[test]
fn a_rejected_operation_leaves_the_state_as_it_was_and_says_why() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, set(&path("/p"), b"content"));
    let (seq_no, checksum) = (history.fsm.next_seq_no(), history.fsm.next_checksum());
    let (other_seq_no, other_checksum) = (SeqNo::new(9), Checksum::new(checksum.get() ^ 1));

    let no_op = history.next(7, OpBody::NoOp);
    let (a, p) = (fnode(1), path("/p"));
    let cases = [
        (RecordedOp { author: None, ..no_op.clone() }, Rejection::ZeroAuthor),
        (
            RecordedOp { seq_no: other_seq_no, ..no_op.clone() },
            Rejection::WrongSeqNo { expected: seq_no, actual: other_seq_no },
        ),
        (
            RecordedOp { checksum: other_checksum, ..no_op },
            Rejection::ChecksumMismatch { expected: checksum, actual: other_checksum },
        ),
        (history.next(7, create("/a")), Rejection::LinkExists { fnode: a }),
        (history.next(7, link(1, "/a")), Rejection::LinkExists { fnode: a }),
        (history.next(7, set(&path("/a"), b"")), Rejection::LinkExists { fnode: a }),
        (history.next(7, create("/p")), Rejection::PropertyExists),
        (history.next(7, OpBody::Link { fnode: a, path: p }), Rejection::PropertyExists),
        (history.next(7, unlink(1, "/b")), Rejection::NoSuchLink { fnode: a }),
    ];
    for (op, expected) in cases {
        let rejection = history.refuses(&op);
        assert_eq!(rejection, expected);
        let about_links = matches!(
            expected,
            Rejection::LinkExists { .. } | Rejection::PropertyExists | Rejection::NoSuchLink { .. }
        );
        assert_eq!(rejection.is_divergence(), about_links, "{rejection}");
    }
    assert_eq!(
        Rejection::WrongSeqNo { expected: seq_no, actual: other_seq_no }.to_string(),
        "expected seq-no 3, found 9"
    );
    assert!(Rejection::ExpectedHintedFnode { fnode: a }.is_divergence());
}

#[test]
fn a_file_lives_until_its_last_link_is_gone() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, link(1, "/b"));
    assert_eq!(history.fsm.node(fnode(1)).unwrap().links(), [path("/a"), path("/b")]);
    history.push(7, unlink(1, "/a"));
    assert_eq!((history.fsm.link(&path("/a")), history.fsm.link(&path("/b"))), (None, Some(fnode(1))));
    assert_eq!(history.fsm.live_files(), 1);
    let last = history.next(7, unlink(1, "/b"));
    assert_eq!(apply(&mut history.fsm, &history.log, &last), Ok(Transition::Unlinked { last: true }));
    assert_eq!((history.fsm.live_files(), history.fsm.links().count()), (0, 0));
    // Both belong to the history, and to no file.
    let late = history.next(7, write(1));
    assert_eq!(apply(&mut history.fsm, &history.log, &late), Ok(Transition::Untracked));
    let late = history.next(7, link(1, "/c"));
    assert_eq!(apply(&mut history.fsm, &history.log, &late), Ok(Transition::Untracked));
    assert_eq!(history.fsm.links().count(), 0);
}

#[test]
fn a_segment_of_a_file_ends_where_another_author_or_log_comes_in_between() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, OpBody::NoOp);
    history.push(7, write(1));
    assert_eq!(history.segments_of(1), [(1, 3)], "what lies between is another's, and of one author");
    history.push(8, OpBody::NoOp);
    history.push(7, write(1));
    assert_eq!(history.segments_of(1), [(1, 3), (5, 5)]);
    assert_eq!(history.fsm.last_author(), Author::new(7));

    history.log = JournalName::new("acme/fork").unwrap();
    history.push(7, OpBody::NoOp);
    history.push(7, write(1));
    assert_eq!(history.segments_of(1), [(1, 3), (5, 5), (7, 7)]);
    assert_eq!(history.fsm.last_log(), &history.log);

    let segment = history.fsm.node(fnode(1)).unwrap().segments()[0].clone();
    assert_eq!((segment.first_offset.get(), segment.end_offset), (10, Offset::new(40)));
    assert_eq!(segment.end_checksum, Some(history.ops[3].checksum), "that of the operation which follows");
    assert_eq!(segment.log.unwrap().as_str(), "acme/log");
}

#[test]
fn a_segment_spans_a_gap_in_the_form_of_the_reference_only() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, create("/b"));
    history.push(7, unlink(2, "/b"));
    let mut hints = history.fsm.hints(&history.log);
    history.push(7, write(1));
    history.push(7, write(1));
    // Played by these hints, the second and third operation are left out.
    let end = Segment {
        first_seq_no: SeqNo::new(4),
        last_seq_no: SeqNo::new(5),
        first_offset: Offset::new(40).unwrap(),
        end_offset: Offset::new(60),
        first_checksum: history.ops[3].checksum,
        end_checksum: Some(history.fsm.next_checksum()),
        ..hints.files[0].segments[0].clone()
    };
    hints.files[0].segments.push(end);
    let exact = history.replay(&hints, FsmOptions::default());
    assert_eq!(ranges(exact.node(fnode(1)).unwrap().segments()), [(1, 1), (4, 5)]);
    let collapsed = history.replay(&hints, FsmOptions::REFERENCE);
    assert_eq!(ranges(collapsed.node(fnode(1)).unwrap().segments()), [(1, 5)]);
    assert_eq!(exact.next_checksum(), history.fsm.next_checksum());
}

#[test]
fn while_hinted_segments_remain_only_their_operations_are_taken() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, create("/b"));
    history.push(7, unlink(2, "/b"));
    history.push(7, create("/c"));
    let hints = history.fsm.hints(&history.log);
    let mut fsm = Fsm::from_hints(&hints, FsmOptions::default()).unwrap();
    assert_eq!(fsm.hinted_fnodes().collect::<Vec<_>>(), [fnode(1), fnode(4)]);
    assert_eq!(ranges(fsm.hinted_segments()), [(1, 1), (4, 4)]);
    assert_eq!(ranges(fsm.hinted_segment()), [(1, 1)]);

    let foreign = RecordedOp { author: Author::new(8), ..history.ops[0].clone() };
    let rejection = apply(&mut fsm, &history.log, &foreign).unwrap_err();
    let (expected, actual) = (Author::new(7).unwrap(), Author::new(8).unwrap());
    assert_eq!(rejection, Rejection::NotHintedAuthor { expected, actual });
    assert!(!rejection.is_divergence());
    // The first hinted operation creates a file, by the hints.
    let no_op = RecordedOp { body: OpBody::NoOp, ..history.ops[0].clone() };
    let end = hints.files[0].segments[0].end_checksum.unwrap();
    let rejection = fsm.clone().apply(
        &RecordedOp { seq_no: SeqNo::FIRST, ..no_op },
        b"1",
        Span { log: &history.log, begin: Offset::ZERO, end: None },
    );
    assert_eq!(rejection, Err(Rejection::ExpectedHintedFnode { fnode: fnode(1) }));
    // The bytes of the last operation of a hinted segment are those that the hints saw.
    let rejection =
        fsm.apply(&history.ops[0], b"changed", Span { log: &history.log, begin: Offset::ZERO, end: None });
    assert!(
        matches!(rejection, Err(Rejection::EndChecksumMismatch { expected, .. }) if expected == end),
        "{rejection:?}"
    );

    assert_eq!(apply(&mut fsm, &history.log, &history.ops[0]), Ok(Transition::Created(fnode(1))));
    assert_eq!(fsm.next_seq_no().get(), 4, "on at the next hinted segment");
    assert!(apply(&mut fsm, &history.log, &history.ops[1]).is_err(), "left out");
    assert_eq!(apply(&mut fsm, &history.log, &history.ops[3]), Ok(Transition::Created(fnode(4))));
    assert_eq!((fsm.hinted_segment(), fsm.hinted_fnodes().count()), (None, 0));
    assert_eq!(fsm.next_checksum(), history.fsm.next_checksum());
}

#[test]
fn a_file_that_the_hints_do_not_name_is_dead_while_hinted_segments_remain() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, create("/dead"));
    history.push(7, write(1));
    let mut hints = history.fsm.hints(&history.log);
    hints.files.truncate(1);
    let exact = history.replay(&hints, FsmOptions::default());
    assert_eq!(exact.links().map(|(_, fnode)| fnode).collect::<Vec<_>>(), [fnode(1)]);
    assert_eq!(exact.next_seq_no().get(), 4);
    let options = FsmOptions { accept_unhinted_creates: true, ..FsmOptions::default() };
    assert_eq!(history.replay(&hints, options).live_files(), 2);
    // Past the hints a create is one.
    history.push(7, create("/later"));
    assert_eq!(history.replay(&hints, FsmOptions::default()).live_files(), 2);
}

#[test]
fn offsets_move_from_a_point_of_one_log_on_and_nowhere_else() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, write(1));
    history.push(8, create("/b"));
    let log = history.log.clone();
    let other = JournalName::new("acme/other").unwrap();
    let offsets = |fsm: &Fsm| -> Vec<(u64, u64)> {
        let segments = fsm.nodes().flat_map(|(_, node)| node.segments());
        segments.map(|s| (s.first_offset.get(), s.end_offset.unwrap().get())).collect()
    };
    history.fsm.shift_offsets(&other, Offset::ZERO, 1000);
    assert_eq!(offsets(&history.fsm), [(10, 30), (30, 40)]);
    history.fsm.shift_offsets(&log, Offset::new(30).unwrap(), 1000);
    assert_eq!(offsets(&history.fsm), [(10, 30), (1030, 1040)]);
    let hints = history.fsm.hints_to_head(&log, 5);
    assert_eq!(hints.as_of.unwrap().offset.get(), 1040, "runs move as well");
}

#[test]
fn hints_to_the_head_leave_nothing_out_from_the_newest_file_on() {
    let mut history = History::new();
    history.push(7, create("/a"));
    history.push(7, OpBody::NoOp);
    history.push(7, create("/b"));
    history.push(8, OpBody::NoOp);
    history.push(8, create("/dead"));
    history.push(8, unlink(5, "/dead"));
    let log = &history.log;
    let hints = history.fsm.hints_to_head(log, 77);
    assert_eq!(hints.log.as_ref(), Some(log));
    assert_eq!(ranges(&hints.files[0].segments), [(1, 1)]);
    assert_eq!(ranges(&hints.files[1].segments), [(3, 3), (4, 6)]);
    let newest = &hints.files[1].segments;
    assert_eq!((newest[0].first_offset.get(), newest[0].end_offset), (30, Offset::new(40)));
    assert_eq!((newest[0].first_checksum, newest[0].log.clone()), (history.ops[2].checksum, None));
    let as_of = hints.as_of.unwrap();
    assert_eq!((as_of.offset.get(), as_of.seq_no.get(), as_of.author), (70, 6, Author::new(8)));
    assert_eq!((as_of.checksum, as_of.unix_nanos), (history.fsm.next_checksum(), 77));

    let replayed = history.replay(&hints, FsmOptions::default());
    assert_eq!(replayed.next_seq_no(), history.fsm.next_seq_no());
    assert_eq!(replayed.last_mark_nanos(), Some(77));
    assert_eq!(replayed.links().collect::<Vec<_>>(), history.fsm.links().collect::<Vec<_>>());
    // Hints of another log name the one that the segments lie in.
    let elsewhere = history.fsm.hints(&JournalName::new("acme/fork").unwrap());
    assert_eq!(elsewhere.files[0].segments[0].log.as_ref(), Some(log));
}

#[test]
fn the_latest_mark_is_known_and_never_goes_back() {
    let mut history = History::new();
    assert_eq!((history.fsm.last_mark_nanos(), history.fsm.last_author()), (None, None));
    for (nanos, latest) in [(-5, -5), (30, 30), (20, 30)] {
        let mark = Some(crate::op::Mark { unix_nanos: nanos, name: None });
        let op = RecordedOp { mark, ..history.next(7, OpBody::NoOp) };
        apply(&mut history.fsm, &history.log, &op).unwrap();
        assert_eq!(history.fsm.last_mark_nanos(), Some(latest));
    }
}
