//! What must hold of every hint set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use recoverylog::journal::{Append, Journal, MemoryJournals};
use recoverylog::player::Player;
use recoverylog::scan::{Found, FoundOp, LogScan, ScanOptions};
use recoverylog::vfs::MemoryFs;
use recoverylog::{ErrorKind, Fnode, Fsm, FsmHints, FsmOptions, JournalName, OpBody, Segment};

use super::writer::{Model, Shard, Taken, options, soon};
use super::{bytes, files, prune};

/// Bytes of a fragment of the copies that lose one.
pub(crate) const FRAGMENT: usize = 400;
/// Sets of a case for which every fragment is lost once.
const LOSSES_MAX: usize = 3;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    sets: usize,
    segments: usize,
    log_bytes: u64,
    planned_bytes: u64,
    lost_and_needed: usize,
    lost_and_not_needed: usize,
    forks: usize,
    pruned_and_kept: [usize; 2],
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.sets += other.sets;
        self.segments += other.segments;
        self.log_bytes += other.log_bytes;
        self.planned_bytes += other.planned_bytes;
        self.lost_and_needed += other.lost_and_needed;
        self.lost_and_not_needed += other.lost_and_not_needed;
        self.forks += other.forks;
        self.pruned_and_kept[0] += other.pruned_and_kept[0];
        self.pruned_and_kept[1] += other.pruned_and_kept[1];
    }

    pub(crate) fn is_telling(&self) -> bool {
        let little = self.planned_bytes * 10 < self.log_bytes * 9;
        little
            && self.pruned_and_kept.iter().all(|number| *number > 100)
            && self.lost_and_needed > 100
            && self.lost_and_not_needed > 100
            && self.forks > 10
    }
}

pub(crate) fn check(shard: &Shard) -> Totals {
    let mut totals = Totals { forks: shard.logs.len() - 1, ..Totals::default() };
    let history = History::read(shard);
    for (index, taken) in shard.sets.iter().enumerate() {
        let who = format!("set {index} of recorder {}: {:?}", taken.recorder, taken.hints);
        history.check_exact(&taken.hints, &who);
        let alive = history.alive(&taken.hints);
        check_alive(&alive, taken, &who);
        if let Some(before) = index.checked_sub(1).map(|index| &shard.sets[index]) {
            check_left_out(before, taken, &who);
        }
        totals.sets += 1;
        totals.segments += taken.hints.files.iter().map(|file| file.segments.len()).sum::<usize>();
        if taken.hints.log.as_ref() != Some(&shard.log) {
            // The history went on in another log, of which this set knows nothing.
            continue;
        }
        let (tree, planned) = play(&shard.journals, &taken.hints, FsmOptions::default()).expect(&who);
        assert_eq!(tree.properties, shard.model.properties, "by {who}");
        assert_eq!(tree, shard.model, "by {who}");
        let (tree, _) = play(&shard.journals, &taken.hints, FsmOptions::REFERENCE).expect(&who);
        assert_eq!(tree, shard.model, "by the reference's rules and {who}");
        totals.planned_bytes += planned;
        totals.log_bytes += history.bytes.values().map(|bytes| bytes.len() as u64).sum::<u64>();
    }
    let of_log = |taken: &&Taken| taken.hints.log.as_ref() == Some(&shard.log);
    for taken in shard.sets.iter().rev().filter(of_log).take(LOSSES_MAX) {
        lose_each(shard, &history, &taken.hints, &mut totals);
    }
    totals.pruned_and_kept = prune::check(shard, &history);
    totals
}

/// Plays by hints to the head; returns the tree, and how many bytes were planned.
pub(crate) fn play(
    journals: &MemoryJournals,
    hints: &FsmHints,
    fsm: FsmOptions,
) -> recoverylog::Result<(Model, u64)> {
    let fs = Arc::new(MemoryFs::new());
    let mut play = options();
    play.fsm = fsm;
    let player = Player::new(journals, hints, fs.clone(), Path::new("/data"), play)?;
    let planned = player.plan().bytes();
    let played = player.restore()?;
    Ok((tree(&fs, &played.fsm), planned))
}

/// Reads the tree that was played, which has the names of `fsm` and no others.
pub(crate) fn tree(fs: &MemoryFs, fsm: &Fsm) -> Model {
    let mut tree = Model::default();
    for (path, fnode) in fsm.links().filter(|(path, _)| !path.to_string().starts_with("/.recoverylog/")) {
        tree.links.insert(path.to_string(), fnode);
    }
    let mut found = BTreeSet::new();
    let mut inodes = BTreeMap::new();
    for path in files::below(fs, Path::new("/data")) {
        if path.starts_with("/data/.recoverylog") {
            continue;
        }
        let below = format!("/{}", path.strip_prefix("/data").unwrap().display());
        let (inode, content) = files::read(fs, &path);
        match tree.links.get(&below) {
            Some(fnode) => {
                assert_eq!(*inodes.entry(*fnode).or_insert(inode), inode, "{below} is another file");
                tree.contents.insert(*fnode, content);
            }
            None => drop(tree.properties.insert(below.clone(), content)),
        }
        found.insert(below);
    }
    let properties = fsm.properties().map(|(path, _)| path.to_string());
    assert_eq!(found, tree.links.keys().cloned().chain(properties).collect());
    tree
}

/// All operations of the shard's logs, and their bytes.
pub(crate) struct History {
    /// By sequence number; those that a hand-off cut off are none of the history.
    ops: BTreeMap<i64, (JournalName, FoundOp)>,
    pub(crate) bytes: BTreeMap<JournalName, Vec<u8>>,
}

impl History {
    fn read(shard: &Shard) -> Self {
        let (mut ops, mut bytes) = (BTreeMap::new(), BTreeMap::new());
        for log in &shard.logs {
            let journal = shard.journals.journal(log);
            for found in LogScan::open(journal.clone(), ScanOptions::default()).unwrap() {
                if let Found::Op(op) = found.unwrap() {
                    ops.insert(op.op.seq_no.get(), (log.clone(), op));
                }
            }
            bytes.insert(log.clone(), bytes::from(&*journal, recoverylog::Offset::ZERO));
        }
        Self { ops, bytes }
    }

    /// Checks that each segment begins and ends with operations, and has their checksums.
    fn check_exact(&self, hints: &FsmHints, who: &str) {
        for segment in hints.files.iter().flat_map(|file| &file.segments) {
            let log = segment.log.as_ref().or(hints.log.as_ref()).unwrap();
            let (first, last) =
                (&self.ops[&segment.first_seq_no.get()], &self.ops[&segment.last_seq_no.get()]);
            assert_eq!((&first.0, &last.0), (log, log), "{segment} of {who}");
            assert_eq!(segment.first_offset, first.1.begin, "{segment} of {who}");
            assert_eq!(segment.first_checksum, first.1.op.checksum, "{segment} of {who}");
            assert_eq!(segment.end_offset, Some(last.1.end), "{segment} of {who}");
            let after = last.1.op.checksum.extend(&last.1.message);
            assert_eq!(segment.end_checksum, Some(after), "{segment} of {who}");
        }
        let as_of = hints.as_of.unwrap();
        assert_eq!(as_of.offset, self.ops[&as_of.seq_no.get()].1.end, "{who}");
        assert!(covers(&covered(hints), as_of.seq_no.get()), "the anchor of {who}");
    }

    /// Returns the operations that matter at the head of hints: the names of live files, and every write that is the last
    /// one of a byte.
    fn alive(&self, hints: &FsmHints) -> BTreeSet<i64> {
        let mut files: BTreeMap<Fnode, File> = BTreeMap::new();
        let mut properties = BTreeMap::new();
        for (&seq_no, (_, found)) in self.ops.range(..=hints.as_of.unwrap().seq_no.get()) {
            match &found.op.body {
                OpBody::Create { .. } => {
                    files.insert(
                        Fnode::new(found.op.seq_no),
                        File { links: 1, names: vec![seq_no], bytes: vec![] },
                    );
                }
                OpBody::Link { fnode, .. } | OpBody::Unlink { fnode, .. } => {
                    let file = files.get_mut(fnode).unwrap();
                    file.names.push(seq_no);
                    if matches!(found.op.body, OpBody::Link { .. }) {
                        file.links += 1;
                    } else {
                        file.links -= 1;
                    }
                    if file.links == 0 {
                        files.remove(fnode);
                    }
                }
                OpBody::Write { fnode, offset } => {
                    let range = *offset as usize..(*offset + found.op.payload_len()) as usize;
                    let bytes = &mut files.get_mut(fnode).unwrap().bytes;
                    bytes.resize(bytes.len().max(range.end), 0);
                    bytes[range].fill(seq_no);
                }
                OpBody::Property { path, .. } => drop(properties.insert(path, seq_no)),
                OpBody::NoOp => {}
            }
        }
        // Of properties that were set before the first live file was created the hints alone tell.
        let first = files.keys().next().map_or(i64::MAX, |fnode| fnode.get());
        let set = properties.into_values().filter(|seq_no| *seq_no > first);
        let anchor = hints.as_of.unwrap().seq_no.get();
        let of_files = files.into_values().flat_map(|file| file.names.into_iter().chain(file.bytes));
        of_files.filter(|seq_no| *seq_no > 0).chain(set).chain([anchor]).collect()
    }
}

/// A file as it is written: its links, the operations that changed them, and of each byte the operation that wrote it.
struct File {
    links: usize,
    names: Vec<i64>,
    bytes: Vec<i64>,
}

/// Checks that nothing is left out that matters, and nothing else named where nothing was to be traded for it.
fn check_alive(alive: &BTreeSet<i64>, taken: &Taken, who: &str) {
    let segments = covered(&taken.hints);
    for seq_no in alive {
        assert!(covers(&segments, *seq_no), "seq-no {seq_no} is left out of {who}");
    }
    let named = segments.iter().flat_map(|s| s.first_seq_no.get()..=s.last_seq_no.get());
    if taken.is_exact {
        assert_eq!(named.collect::<BTreeSet<_>>(), *alive, "{who}");
    }
}

/// Returns the ranges of sequence numbers that hints name.
fn covered(hints: &FsmHints) -> Vec<Segment> {
    hints.flatten().unwrap().segments.into_vec()
}

fn covers(segments: &[Segment], seq_no: i64) -> bool {
    segments.iter().any(|s| s.first_seq_no.get() <= seq_no && seq_no <= s.last_seq_no.get())
}

/// Checks that `after` covers nothing again that `before` left out below its head.
fn check_left_out(before: &Taken, after: &Taken, who: &str) {
    if before.hints.log != after.hints.log {
        return;
    }
    let (old, new) = (covered(&before.hints), covered(&after.hints));
    let head = before.hints.as_of.unwrap().seq_no.get();
    for segment in new {
        for seq_no in segment.first_seq_no.get()..=segment.last_seq_no.get().min(head) {
            assert!(covers(&old, seq_no), "seq-no {seq_no} is covered again by {who}");
        }
    }
}

/// Stands by where a fragment is lost.
fn check_standby(journals: &MemoryJournals, hints: &FsmHints, (log, lost): Lost<'_>, needed: bool) {
    let player = Player::new(journals, hints, Arc::new(MemoryFs::new()), Path::new("/data"), options());
    match player.and_then(Player::follow) {
        Ok(follower) => {
            assert!(!needed, "{lost:?} of {log} was lost, needed, and not missed by a standby by {hints:?}");
            follower.abandon();
        }
        Err(error) => {
            assert!(needed, "{lost:?} of {log} was not needed by a standby by {hints:?}: {error}");
            assert_eq!((error.kind(), error.log()), (ErrorKind::DataLoss, Some(log)), "{error}");
            assert!(lost.contains(&(error.offset().unwrap().get() as usize)), "{error}, and not {lost:?}");
        }
    }
}

/// A fragment: the log, and its bytes.
type Lost<'a> = (&'a JournalName, std::ops::Range<usize>);

/// Loses each fragment by itself, and plays.
fn lose_each(shard: &Shard, history: &History, hints: &FsmHints, totals: &mut Totals) {
    let fs = Arc::new(MemoryFs::new());
    let player = Player::new(&shard.journals, hints, fs, Path::new("/data"), options()).unwrap();
    let plan = player.plan().clone();
    for (log, bytes) in &history.bytes {
        for begin in (0..bytes.len()).step_by(FRAGMENT) {
            let end = (begin + FRAGMENT).min(bytes.len());
            let journals = copy(history);
            assert!(journals.journal(log).drop_fragment(recoverylog::Offset::new(begin as u64).unwrap()));
            let needed = plan.ranges.iter().any(|range| {
                range.log == *log && range.begin.get() < end as u64 && range.end.get() > begin as u64
            });
            check_standby(&journals, hints, (log, begin..end), needed);
            match play(&journals, hints, FsmOptions::default()) {
                Ok((tree, _)) => {
                    assert!(
                        !needed,
                        "[{begin}, {end}) of {log} was lost, needed, and not missed by {hints:?}"
                    );
                    assert_eq!(tree, shard.model);
                    totals.lost_and_not_needed += 1;
                }
                Err(error) => {
                    assert!(needed, "[{begin}, {end}) of {log} was not needed by {hints:?}: {error}");
                    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
                    assert_eq!(error.log(), Some(log), "{error}");
                    let at = error.offset().unwrap().get() as usize;
                    assert!((begin..end).contains(&at), "{error}, and not [{begin}, {end})");
                    totals.lost_and_needed += 1;
                }
            }
        }
    }
}

/// Copies all logs, in small fragments.
pub(crate) fn copy(history: &History) -> MemoryJournals {
    let journals = MemoryJournals::new().fragment_bytes(FRAGMENT as u64);
    for (log, bytes) in &history.bytes {
        let journal = journals.journal(log);
        for piece in bytes.chunks(FRAGMENT) {
            journal.append(Append::new(piece.to_vec()), soon()).unwrap();
        }
    }
    journals
}
