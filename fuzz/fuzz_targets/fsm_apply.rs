//! A rejected operation changes nothing, and hints that are taken anywhere in a history lead to its end.
//!
//! Input: a small program. Each step makes one operation, true to the history or a little off, and the first
//! byte says at which step hints are taken.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use recoverylog::fsm::{Rejection, Span};
use recoverylog::wire::encode_op;
use recoverylog::{
    Author, Checksum, Fnode, Fsm, FsmOptions, JournalName, LogPath, Offset, OpBody, Payload, RecordedOp,
    SeqNo,
};

#[derive(Arbitrary, Debug)]
enum Kind {
    NoOp,
    Create(u8),
    Link(u8, u8),
    Unlink(u8, u8),
    Write(u8),
    Property(u8),
}

#[derive(Arbitrary, Debug)]
enum Fault {
    SeqNo(i8),
    Checksum,
    NoAuthor,
}

#[derive(Arbitrary, Debug)]
struct Step {
    kind: Kind,
    author: bool,
    fault: Option<Fault>,
}

fn path(prefix: &str, which: u8) -> LogPath {
    LogPath::from_bytes(format!("/{prefix}{}", which % 6).as_bytes())
}

/// Names one of the files created so far, or one that never was.
fn fnode(created: &[Fnode], which: u8) -> Fnode {
    created
        .get(usize::from(which) % (created.len() + 1))
        .copied()
        .unwrap_or(Fnode::new(SeqNo::new(1_000_000)))
}

fn body(kind: &Kind, created: &[Fnode]) -> OpBody {
    match *kind {
        Kind::NoOp => OpBody::NoOp,
        Kind::Create(at) => OpBody::Create { path: path("f", at) },
        Kind::Link(file, at) => OpBody::Link { fnode: fnode(created, file), path: path("f", at) },
        Kind::Unlink(file, at) => OpBody::Unlink { fnode: fnode(created, file), path: path("f", at) },
        Kind::Write(file) => OpBody::Write { fnode: fnode(created, file), offset: 0 },
        // Recorders keep names of properties and of files apart.
        Kind::Property(at) => OpBody::Property { path: path("p", at), content: vec![at].into() },
    }
}

/// The tree, and where the history goes on.
fn state(fsm: &Fsm) -> impl Eq + std::fmt::Debug + use<> {
    let links: Vec<_> = fsm.links().map(|(path, fnode)| (path.clone(), fnode)).collect();
    let properties: Vec<_> =
        fsm.properties().map(|(path, content)| (path.clone(), content.clone())).collect();
    (links, properties, fsm.next_seq_no(), fsm.next_checksum())
}

struct Logged {
    op: RecordedOp,
    message: Vec<u8>,
    begin: Offset,
    end: Offset,
}

fn off_the_chain(rejection: &Rejection) -> bool {
    use Rejection::{ChecksumMismatch, WrongSeqNo, ZeroAuthor};
    matches!(rejection, ZeroAuthor | WrongSeqNo { .. } | ChecksumMismatch { .. })
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let hints_at = usize::from(u8::arbitrary(input)?);
    let log = JournalName::new("fuzz/log").expect("a name");
    let mut fsm = Fsm::new(log.clone());
    let mut history: Vec<Logged> = Vec::new();
    let mut created = Vec::new();
    let mut hints = None;
    let mut head = 0_u64;
    while !input.is_empty() {
        let step = Step::arbitrary(input)?;
        let body = body(&step.kind, &created);
        let payload = matches!(body, OpBody::Write { .. }).then_some(Payload { len: 0, crc32c: None });
        let mut op = RecordedOp {
            seq_no: fsm.next_seq_no(),
            checksum: fsm.next_checksum(),
            author: Author::new(if step.author { 7 } else { 8 }),
            body,
            payload,
            mark: None,
        };
        match step.fault {
            None => {}
            Some(Fault::SeqNo(off)) => op.seq_no = SeqNo::new(op.seq_no.get() + i64::from(off)),
            Some(Fault::Checksum) => op.checksum = Checksum::new(op.checksum.get() ^ 1),
            Some(Fault::NoAuthor) => op.author = None,
        }
        let mut frame = Vec::new();
        let Ok(message) = encode_op(&op, &mut frame) else { continue };
        let begin = Offset::new(head).expect("a short log");
        head += frame.len() as u64;
        let end = Offset::new(head).expect("a short log");
        let logged = Logged { op, message: frame[message].to_vec(), begin, end };

        let before = state(&fsm);
        let span = Span { log: &log, begin, end: Some(end) };
        match fsm.apply(&logged.op, &logged.message, span) {
            Ok(_) => {
                if matches!(logged.op.body, OpBody::Create { .. }) {
                    created.push(Fnode::new(logged.op.seq_no));
                }
            }
            Err(rejection) => {
                assert_eq!(state(&fsm), before, "a rejected operation changed the state");
                // No writer continues the chain with an operation that breaks a rule: a player stops there.
                if !off_the_chain(&rejection) {
                    continue;
                }
            }
        }
        history.push(logged);
        if history.len() == hints_at {
            hints = Some(fsm.hints_to_head(&log, 0));
        }
    }

    let Some(hints) = hints else { return Ok(()) };
    let mut replayed = Fsm::from_hints(&hints, FsmOptions::default()).expect("hints that we took are valid");
    for Logged { op, message, begin, end } in &history {
        // Rejections are those of the faulty operations, and of what the hints leave out.
        let _ = replayed.apply(op, message, Span { log: &log, begin: *begin, end: Some(*end) });
    }
    assert_eq!(state(&replayed), state(&fsm), "hints {hints:?}");
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let _ = run(&mut Unstructured::new(input));
});
