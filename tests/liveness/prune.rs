//! What must hold after a prune, whichever sets were retained.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use recoverylog::hint_store::{HintStore, MemoryHints};
use recoverylog::journal::{Fragment, Journal, MemoryJournals};
use recoverylog::player::Player;
use recoverylog::prune::{Keep, PruneOptions, Pruner, Source};
use recoverylog::vfs::MemoryFs;
use recoverylog::{ErrorKind, FsmHints, FsmOptions, JournalName};

use super::judge::{History, copy, play};
use super::writer::{Shard, options, soon};

/// Prunes of each case.
const TIMES: usize = 2;

/// Ranges of one log.
type Ranges = Vec<(u64, u64)>;

/// Sets that are retained.
struct Retained<'a> {
    recovery: Vec<&'a FsmHints>,
    snapshots: Vec<&'a FsmHints>,
    keep: Keep,
}

/// Prunes all logs by some of the sets, a few times over; returns how many fragments were removed, and how many kept.
pub(crate) fn check(shard: &Shard, history: &History) -> [usize; 2] {
    let mut random = shard.random.clone();
    let mut total = [0, 0];
    for _ in 0..TIMES {
        let sets: Vec<_> = shard.sets.iter().map(|taken| &taken.hints).collect();
        let (old, recovery) = sets.split_at(random.below(sets.len() as u64) as usize);
        let snapshots = old.iter().copied().filter(|_| random.one_in(5)).collect();
        let keep = if random.one_in(3) { Keep::Spans } else { Keep::Exact };
        let retained = Retained { recovery: recovery.to_vec(), snapshots, keep };
        let (journals, [removed, kept]) = prune(history, &retained);
        total = [total[0] + removed, total[1] + kept];
        for hints in &sets {
            if hints.log.as_ref() != Some(&shard.log) {
                continue;
            }
            for rules in [FsmOptions::default(), FsmOptions::REFERENCE] {
                match play(&journals, hints, rules) {
                    Ok((tree, _)) => assert_eq!(tree, shard.model, "by {hints:?}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
                        assert!(!recovery.contains(hints), "{error} by {hints:?}, which is retained");
                    }
                }
            }
        }
    }
    total
}

fn prune(history: &History, retained: &Retained<'_>) -> (Arc<MemoryJournals>, [usize; 2]) {
    let journals = Arc::new(copy(history));
    let needed = needed(&journals, history, retained);
    let store = |sets: &[&FsmHints]| {
        let store = MemoryHints::new();
        for hints in sets {
            store.store(hints, soon()).unwrap();
        }
        Arc::new(store)
    };
    let (recovery, snapshots) = (store(&retained.recovery), store(&retained.snapshots));
    let (mut removed, mut kept) = (0, 0);
    for log in history.bytes.keys() {
        let mut options = PruneOptions::default();
        options.keep = retained.keep;
        let pruner = Pruner::new(journals.clone(), log.clone())
            .source(Source::recovery("shard", recovery.clone()))
            .source(Source::snapshots("snapshots", snapshots.clone()))
            .options(options);
        let survey = pruner.survey(soon()).unwrap();
        if !retained.recovery.iter().any(|hints| hints.log.as_ref() == Some(log)) {
            // Nobody can say that no other shard goes on with it.
            assert_eq!(survey.refusal().unwrap_err().kind(), ErrorKind::Invalid);
            continue;
        }
        pruner.remove(&survey, &mut |_| Ok(()), soon()).unwrap();
        let journal = journals.journal(log);
        let (head, left) = (journal.head(soon()).unwrap().offset, journal.fragments(soon()).unwrap());
        for verdict in &survey.fragments {
            let Fragment { begin, end, .. } = verdict.fragment;
            let ranges = needed.get(log).map(Vec::as_slice).unwrap_or_default();
            let is_needed = ranges.iter().any(|&(from, to)| from < end.get() && begin.get() < to);
            let is_left = left.contains(&verdict.fragment);
            assert_eq!(is_left, is_needed || end == head, "{verdict} of {log}");
            if is_left { kept += 1 } else { removed += 1 }
        }
        let again = pruner.survey(soon()).unwrap();
        assert!(again.problems.is_empty() && again.dead().count() == 0, "{again:?}");
    }
    (journals, [removed, kept])
}

/// Returns what plays by the retained sets read of each log; of snapshots, what they name.
fn needed(
    journals: &MemoryJournals,
    history: &History,
    retained: &Retained<'_>,
) -> BTreeMap<JournalName, Ranges> {
    let mut needed: BTreeMap<_, Ranges> = BTreeMap::new();
    let mut need = |log: &JournalName, from: u64, to: u64| {
        needed.entry(log.clone()).or_default().push((from, to));
    };
    for hints in &retained.recovery {
        let fs = Arc::new(MemoryFs::new());
        let player = Player::new(journals, hints, fs, Path::new("/data"), options()).unwrap();
        for range in &player.plan().ranges {
            need(&range.log, range.begin.get(), range.end.get());
        }
    }
    for hints in &retained.snapshots {
        for segment in hints.flatten().unwrap().segments.as_slice() {
            let (log, end) = (segment.log.as_ref().unwrap(), segment.end_offset.unwrap());
            need(log, segment.first_offset.get(), end.get());
        }
    }
    if retained.keep == Keep::Spans {
        // What the reference would name next: of each live file all from its creation to its last operation.
        for hints in retained.recovery.iter().chain(&retained.snapshots) {
            for file in &hints.files {
                for log in history.bytes.keys() {
                    let of_log = |segment: &&recoverylog::Segment| {
                        segment.log.as_ref().or(hints.log.as_ref()) == Some(log)
                    };
                    let segments = || file.segments.iter().filter(of_log);
                    let begin = segments().map(|segment| segment.first_offset.get()).min();
                    let end = segments().filter_map(|segment| segment.end_offset).max();
                    if let (Some(begin), Some(end)) = (begin, end) {
                        need(log, begin, end.get());
                    }
                }
            }
        }
    }
    needed
}
