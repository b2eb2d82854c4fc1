//! A hostile log under hostile hints ends in a whole tree or a typed error, and touches nothing but its target.
//!
//! Input: options, the length of the hints, the hints, the log. An option continues the chain through whatever
//! frames the log holds, so that a fuzzer need not guess checksums.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use recoverylog::journal::{Append, Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::vfs::{FileKind, FileSystem, MemoryFs, OpenMode};
use recoverylog::wire::{Step, decode_frame, decode_op, encode_op};
use recoverylog::{Author, Checksum, Deadline, FsmHints, JournalName, SeqNo};

const CHAIN: u8 = 1;

/// Gives every operation of `log` its place in one history.
fn chained(log: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut seq_no, mut checksum) = (SeqNo::FIRST, Checksum::ZERO);
    let mut rest = log;
    loop {
        let step = decode_frame(rest, true);
        let taken = match &step {
            Step::Frame { message } => message.end,
            Step::Desync { skip, .. } => *skip,
            _ => rest.len(),
        };
        let (head, tail) = rest.split_at(taken);
        rest = tail;
        let op = match step {
            Step::Frame { message } => decode_op(&head[message]).ok(),
            _ => None,
        };
        match op {
            Some(mut op) => {
                (op.seq_no, op.checksum) = (seq_no, checksum);
                op.author = op.author.or(Author::new(1));
                let payload_bytes = op.payload.map_or(0, |payload| payload.len.min(rest.len() as u64));
                if let Some(payload) = &mut op.payload {
                    (payload.len, payload.crc32c) = (payload_bytes, None);
                }
                if let Ok(message) = encode_op(&op, &mut out) {
                    checksum = checksum.extend(&out[message]);
                    seq_no = seq_no.next();
                }
                let (payload, tail) = rest.split_at(payload_bytes as usize);
                out.extend_from_slice(payload);
                rest = tail;
            }
            None => out.extend_from_slice(head),
        }
        if rest.is_empty() {
            return out;
        }
    }
}

/// Every file under `directory`, by path.
fn tree(fs: &MemoryFs, directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs.read_dir(directory).expect("a directory that is there") {
        let path = directory.join(&entry.name);
        if entry.kind == FileKind::Directory {
            found.extend(tree(fs, &path));
        } else {
            let file = fs.open(&path, OpenMode::Read).expect("a file");
            let mut content = vec![0; file.metadata().expect("facts").len as usize];
            file.read_exact_at(&mut content, 0).expect("content");
            found.insert(path, content);
        }
    }
    found
}

/// Plays into `/base/target`, beside a file that must stay as it is; returns the tree relative to the target.
fn play(journals: &MemoryJournals, hints: &FsmHints) -> Option<(Played, BTreeMap<PathBuf, Vec<u8>>)> {
    let fs = Arc::new(MemoryFs::new());
    fs.set_capacity(1 << 20);
    fs.create_dir(Path::new("/base")).expect("a directory");
    let outside = fs.open(Path::new("/base/outside"), OpenMode::CreateNew).expect("a file");
    outside.write_all_at(b"as it was", 0).expect("content");

    let target = Path::new("/base/target");
    let options =
        PlayOptions { parallelism: 1, step_deadline: Duration::from_secs(1), ..PlayOptions::default() };
    let played = Player::new(journals, hints, Arc::clone(&fs) as Arc<dyn FileSystem>, target, options)
        .and_then(Player::restore);

    let (inside, beside): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tree(&fs, Path::new("/")).into_iter().partition(|(path, _)| path.starts_with(target));
    let expected = BTreeMap::from([(PathBuf::from("/base/outside"), b"as it was".to_vec())]);
    assert_eq!(beside, expected, "something was left or changed outside");
    let inside: BTreeMap<_, _> = inside
        .into_iter()
        .map(|(path, content)| (path.strip_prefix(target).expect("a prefix").to_owned(), content))
        .collect();
    match played {
        Ok(played) => {
            let paths = played.fsm.links().count() + played.fsm.properties().count();
            assert_eq!(inside.len(), paths, "{inside:?}");
            Some((played, inside))
        }
        Err(_) => {
            assert!(inside.is_empty(), "what was built is removed: {inside:?}");
            None
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [options, hint_bytes, rest @ ..] = input else { return };
    let (hints, log) = rest.split_at(usize::from(*hint_bytes).min(rest.len()));
    let name = JournalName::new("fuzz/log").expect("a name");
    let hints = FsmHints::decode(hints).unwrap_or_else(|_| FsmHints::empty(name.clone()));
    let name = hints.log.clone().unwrap_or(name);
    let log = if options & CHAIN == 0 { log.to_vec() } else { chained(log) };

    let journals = MemoryJournals::new();
    let journal = journals.open(&name).expect("a journal in memory");
    let soon = Deadline::after(Duration::from_secs(5));
    journal.append(Append::new(log), soon).expect("an append in memory");

    let Some((played, first)) = play(&journals, &hints) else { return };
    let again = played.fsm.hints_to_head(&played.log, 0);
    let (_, second) = play(&journals, &again).expect("hints of what was played can be played");
    assert_eq!(first, second, "hints {again:?}");
});
