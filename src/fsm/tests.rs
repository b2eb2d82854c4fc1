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
        let op = RecordedOp {
            seq_no: self.fsm.next_seq_no(),
            checksum: self.fsm.next_checksum(),
            author: Author::new(author),
            body,
            payload: None,
            mark: None,
        };
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
    assert_eq!(replayed.next_seq_no(), history.fsm.next_seq_no());
    let as_reference = FsmOptions { overwrite_hinted_properties: true, ..FsmOptions::default() };
    assert_eq!(history.replay(&hints, as_reference).property(&path).unwrap(), "earlier");

    // Past the hinted segments operations set properties as ever.
    history.push(9, set(&path, b"latest"));
    assert_eq!(history.replay(&hints, FsmOptions::default()).property(&path).unwrap(), "latest");
}
