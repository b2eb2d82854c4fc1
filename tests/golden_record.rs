//! Goal: given the file operations that Gazette's recorder was given, ours writes the same operations: the same
//! frames, byte for byte, and so the same sequence numbers and checksums.
//!
//! Method: every script of every golden case is fed to a recorder that starts where the case's did: from an
//! empty history, or from what the logs hold before its first operation. A hand-off no-op is the player's and
//! part of that; the no-op of a fork is the recorder's own. Scripts that the reference left empty (RocksDB was
//! the one who called) are made up from the operations themselves.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test over data that is part of the repository"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use recoverylog::fsm::Span;
use recoverylog::journal::{Chunk, Journals, MemoryJournals, ReadRange, ReadStep};
use recoverylog::wire::{Step, decode_frame, decode_op};
use recoverylog::{
    Author, Deadline, Fnode, Fsm, JournalName, LogPath, Offset, OpBody, RecordedOp, Recorder, RecorderOptions,
};
use serde_json::Value;

/// One operation as it stands in a log.
#[derive(Clone)]
struct Found {
    log: JournalName,
    begin: usize,
    op: RecordedOp,
    message: Vec<u8>,
    data: Vec<u8>,
}

struct Case {
    folder: PathBuf,
    /// The operations of all logs, the oldest log first.
    found: Vec<Found>,
    scripts: BTreeMap<Author, PathBuf>,
    facts: Value,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<Case> {
    let mut folders = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").exists())
        .collect::<Vec<_>>();
    folders.sort();
    assert!(!folders.is_empty(), "no golden cases");
    folders.into_iter().map(Case::load).collect()
}

#[expect(clippy::disallowed_methods, reason = "golden data are files of the repository")]
fn read_file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn decode_log(log: &JournalName, content: &[u8]) -> Vec<Found> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        match decode_frame(&content[at..], true) {
            Step::Frame { message } => {
                let message = content[at..][message].to_vec();
                let op = decode_op(&message).unwrap();
                let data = at + 8 + message.len();
                let end = data + op.payload.map_or(0, |payload| payload.len) as usize;
                let data = content[data..end].to_vec();
                found.push(Found { log: log.clone(), begin: at, op, message, data });
                at = end;
            }
            Step::Desync { skip, .. } => at += skip,
            // Two cases end with a torn frame.
            _ => return found,
        }
    }
}

impl Case {
    fn load(folder: PathBuf) -> Self {
        let facts: Value = serde_json::from_slice(&read_file(&folder.join("case.json"))).unwrap();
        let logs = facts["logs"].as_array().unwrap();
        let found = logs.iter().rev().flat_map(|log| {
            let name = JournalName::new(log["name"].as_str().unwrap()).unwrap();
            decode_log(&name, &read_file(&folder.join(log["file"].as_str().unwrap())))
        });
        let found = found.collect();
        let scripts = facts["scripts"].as_object().unwrap().iter().map(|(author, path)| {
            let author = Author::new(author.parse().unwrap()).unwrap();
            (author, folder.join(path.as_str().unwrap()).canonicalize().unwrap())
        });
        let scripts = scripts.collect();
        Self { folder, found, scripts, facts }
    }

    /// Returns the history that the recorder of `author` began with, the log it recorded in, and what it wrote.
    fn split(&self, author: Author) -> (Fsm, JournalName, Vec<Found>) {
        let mut own =
            self.found.iter().filter(|found| found.op.author == Some(author)).cloned().collect::<Vec<_>>();
        // Duplicated appends are in the log twice.
        own.sort_by_key(|found| found.op.seq_no);
        own.dedup_by(|a, b| a.message == b.message);
        let log = own.last().expect("an author without operations").log.clone();
        let before = own.iter().filter(|found| found.log != log).count();
        let hand_off = before == 0 && own[0].op.seq_no.get() > 1;
        assert!(!hand_off || own[0].op.body == OpBody::NoOp);
        let wrote = own.split_off(if hand_off { 1 } else { before });
        (self.history_before(&wrote[0]), log, wrote)
    }

    fn history_before(&self, first: &Found) -> Fsm {
        let mut fsm = Fsm::new(self.found[0].log.clone());
        let mut found = self.found.iter();
        while (fsm.next_seq_no(), fsm.next_checksum()) != (first.op.seq_no, first.op.checksum) {
            let next = found.next().expect("a history that leads to the recorder's first operation");
            let offset = |at: usize| Offset::new(at as u64).unwrap();
            let end = offset(next.begin + 8 + next.message.len() + next.data.len());
            let span = Span { log: &next.log, begin: offset(next.begin), end: Some(end) };
            // Rejected are dead branches and duplicates.
            let _ = fsm.apply(&next.op, &next.message, span);
        }
        fsm
    }
}

/// A recorder, and the content of the files that it records.
struct Driver {
    recorder: Recorder,
    content: BTreeMap<Fnode, Vec<u8>>,
}

impl Driver {
    fn link(&self, path: &LogPath) -> Option<Fnode> {
        self.recorder.with_fsm(|fsm| fsm.link(path))
    }

    fn run(&mut self, line: &str) {
        let words = line.split(' ').collect::<Vec<_>>();
        match words[..] {
            ["create" | "trunc", at] => drop(self.recorder.create(&path(at)).unwrap()),
            ["open", at] => {
                if self.link(&path(at)).is_none() {
                    self.recorder.create(&path(at)).unwrap();
                }
            }
            ["remove", at] => self.recorder.unlink(&path(at)).unwrap(),
            ["write", at, offset, bytes] => {
                let fnode = self.link(&path(at)).unwrap();
                self.write(fnode, offset.parse().unwrap(), &data(bytes));
            }
            ["link", from, to] => {
                let fnode = self.link(&path(from)).unwrap();
                self.recorder.link(fnode, &path(to)).unwrap();
            }
            ["rename", from, to] if self.recorder.is_property(&path(to)) => {
                let content = self.content[&self.link(&path(from)).unwrap()].clone();
                self.recorder.rename_to_property(&path(from), &path(to), content.into()).unwrap();
            }
            ["rename", from, to] => self.recorder.rename(&path(from), &path(to)).unwrap(),
            ["barrier"] => self.wait(),
            _ => panic!("{line:?}"),
        }
    }

    fn write(&mut self, fnode: Fnode, offset: u64, bytes: &[u8]) {
        self.recorder.write(fnode, offset, bytes).unwrap();
        let content = self.content.entry(fnode).or_default();
        let end = offset as usize + bytes.len();
        content.resize(content.len().max(end), 0);
        content[offset as usize..end].copy_from_slice(bytes);
    }

    /// Makes the calls that lead to the operations of a recorder whose script was not kept.
    fn make_up(&mut self, wrote: &[Found]) {
        let mut wrote = wrote.iter();
        while let Some(found) = wrote.next() {
            match &found.op.body {
                OpBody::NoOp => self.recorder.no_op().unwrap(),
                OpBody::Create { path } => drop(self.recorder.create(path).unwrap()),
                OpBody::Link { fnode, path } => self.recorder.link(*fnode, path).unwrap(),
                OpBody::Unlink { path, .. } => self.recorder.unlink(path).unwrap(),
                OpBody::Write { fnode, offset } => self.write(*fnode, *offset, &found.data),
                OpBody::Property { path, content } => {
                    let OpBody::Unlink { path: from, .. } = &wrote.next().unwrap().op.body else {
                        panic!("a property that was not renamed")
                    };
                    self.recorder.rename_to_property(from, path, content.clone()).unwrap();
                }
            }
        }
    }

    fn wait(&self) {
        self.recorder.barrier().unwrap().wait(Deadline::after(Duration::from_secs(20))).unwrap();
    }
}

fn path(escaped: &str) -> LogPath {
    let (mut bytes, mut rest) = (Vec::new(), escaped.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(first);
        if first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            *bytes.last_mut().unwrap() = u8::from_str_radix(digits, 16).unwrap();
            rest = &tail[2..];
        }
    }
    LogPath::rooted(&bytes).unwrap()
}

/// Decodes the data of a write: hex, nothing, or `@LEN:SEED` for bytes of splitmix64.
fn data(word: &str) -> Vec<u8> {
    if word == "-" {
        return Vec::new();
    }
    let Some((len, seed)) = word.strip_prefix('@').and_then(|rest| rest.split_once(':')) else {
        let digits = |at| u8::from_str_radix(&word[at..at + 2], 16).unwrap();
        return (0..word.len()).step_by(2).map(digits).collect();
    };
    let (len, mut state): (usize, u64) = (len.parse().unwrap(), seed.parse().unwrap());
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(z ^ z >> 31).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Feeds one script; returns the number of operations that were compared.
fn check(case: &Case, author: Author, script: &Path) -> usize {
    let (fsm, log, wrote) = case.split(author);
    let journal = MemoryJournals::new().open(&log).unwrap();
    let options = RecorderOptions::default().extensions(false).property_paths(vec![path("/IDENTITY")]);
    let recorder =
        Recorder::new(std::sync::Arc::clone(&journal), fsm, Offset::ZERO, author, options).unwrap();
    let mut driver = Driver { recorder, content: BTreeMap::new() };
    let text = String::from_utf8(read_file(script)).unwrap();
    if text.trim().is_empty() {
        driver.make_up(&wrote);
    } else {
        text.lines().for_each(|line| driver.run(line));
    }
    driver.wait();

    let head = driver.recorder.committed();
    let mut reader = journal.read(ReadRange::bounded(Offset::ZERO, head.offset)).unwrap();
    let mut content = Vec::new();
    while let ReadStep::Chunk(Chunk::Bytes { bytes, .. }) = reader.next(Deadline::passed()).unwrap() {
        content.extend_from_slice(&bytes);
    }
    let ours = decode_log(&log, &content);
    let name = case.folder.file_name().unwrap().to_string_lossy();
    for (index, (ours, reference)) in ours.iter().zip(&wrote).enumerate() {
        let context = format!("{name}, author {author}, operation {index}");
        assert_eq!(ours.op, reference.op, "{context}");
        assert_eq!(Bytes::copy_from_slice(&ours.message), reference.message, "{context}");
        assert!(ours.data == reference.data, "{context}: other bytes");
    }
    assert_eq!(ours.len(), wrote.len(), "{name}, author {author}");
    let facts = &case.facts["recorders"][author.to_string()];
    assert_eq!(Some(head.next_seq_no.get()), facts["next_seq"].as_i64(), "{name}, author {author}");
    assert_eq!(
        Some(u64::from(head.next_checksum.get())),
        facts["next_checksum"].as_u64(),
        "{name}, author {author}"
    );
    wrote.len()
}

#[test]
fn scripts_fed_to_our_recorder_give_the_operations_of_the_reference() {
    let (mut used, mut ops) = (BTreeSet::new(), 0);
    for case in cases() {
        for (author, script) in &case.scripts {
            ops += check(&case, *author, script);
            used.insert(script.clone());
        }
    }
    let is_script = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("script.") && name.ends_with(".txt")
    };
    let folders = std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path());
    let on_disk = folders
        .filter(|path| path.is_dir())
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(is_script)
        .map(|path| path.canonicalize().unwrap())
        .collect::<BTreeSet<_>>();
    assert_eq!(used, on_disk, "a script was not used");
    println!("{} scripts, {ops} operations", used.len());
}
