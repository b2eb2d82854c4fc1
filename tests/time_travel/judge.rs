//! What must hold of every point.

use std::path::Path;
use std::sync::Arc;

use ::bytes::Bytes;
use recoverylog::hint_store::{Candidate, HintStore, MemoryHints};
use recoverylog::journal::{Append, Journal, MemoryJournals};
use recoverylog::player::{Bound, Played, Player};
use recoverylog::prune::{PruneOptions, Pruner, Source};
use recoverylog::replica::Past;
use recoverylog::vfs::MemoryFs;
use recoverylog::{ErrorKind, FsmHints, JournalName, Offset, SeqNo};

use super::truth::{Moment, Tree, read};
use super::writer::{NAMES, Shard, options, soon};
use super::{bytes, files};

/// Bytes of a fragment of the copies that lose one.
const FRAGMENT: usize = 300;
/// The same of those that are pruned.
const PRUNED: usize = 60;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    points: usize,
    by_sets: usize,
    before_sets: usize,
    times: usize,
    names: usize,
    forks: usize,
    lost_and_needed: usize,
    lost_and_not_needed: usize,
    pruned: usize,
    back_after_prune: usize,
    gone_after_prune: usize,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.by_sets += other.by_sets;
        self.before_sets += other.before_sets;
        self.times += other.times;
        self.names += other.names;
        self.forks += other.forks;
        self.lost_and_needed += other.lost_and_needed;
        self.lost_and_not_needed += other.lost_and_not_needed;
        self.pruned += other.pruned;
        self.back_after_prune += other.back_after_prune;
        self.gone_after_prune += other.gone_after_prune;
    }

    pub(crate) fn is_telling(&self) -> bool {
        let enough = [self.by_sets, self.before_sets, self.times, self.names, self.lost_and_needed];
        let prunes = [self.pruned, self.back_after_prune, self.gone_after_prune];
        let pruned = prunes.iter().all(|count| *count > 100);
        pruned && self.points > 1_000 && enough.iter().all(|count| *count > 50) && self.forks > 2
    }
}

pub(crate) fn check(shard: &mut Shard) -> Totals {
    let mut totals = Totals { forks: shard.logs.len() - 1, ..Totals::default() };
    let log = shard.log();
    // Points of the present log; of those before a fork the logs before it tell.
    let logs: Vec<_> = shard.logs.iter().map(|log| (log.clone(), None)).collect();
    let history: Vec<_> =
        read(&shard.journals, &logs).into_iter().filter(|moment| moment.log == log).collect();
    let sets: Vec<_> = shard.sets.iter().filter(|set| set.log.as_ref() == Some(&log)).cloned().collect();
    let is_whole = shard.logs.len() == 1;
    let reached = |moment: &Moment| is_whole || sets.iter().any(|set| leads_to(set, moment));
    for moment in history.iter().filter(|moment| reached(moment)) {
        totals.points += 1;
        let next = history.iter().find(|other| other.seq_no > moment.seq_no);
        let gap = next.map_or(1, |next| next.end.bytes_since(moment.end));
        let within = Offset::new(moment.end.get() + shard.random.below(gap)).unwrap();
        for bound in [Bound::Seq(moment.seq_no), Bound::Offset(moment.end), Bound::Offset(within)] {
            same(chosen(&shard.journals, &log, &sets, &bound).unwrap(), moment, &bound);
        }
        for set in
            [shard.random.next(), shard.random.next()].map(|draw| sets.get(draw as usize % sets.len().max(1)))
        {
            let whole = FsmHints::empty(log.clone());
            let Some(set) = set.or_else(|| is_whole.then_some(&whole)) else { continue };
            check_set(&shard.journals, set, moment, &mut totals);
        }
    }
    check_ends(shard, &log, &history, &sets);
    check_times(shard, &log, &history, (&sets, is_whole), &mut totals);
    check_names(shard, &log, &history, (&sets, is_whole), &mut totals);
    lose(shard, &history, &sets, &mut totals);
    if !sets.is_empty() {
        prune(shard, &history, &sets, &mut totals);
    }
    totals
}

fn leads_to(set: &FsmHints, moment: &Moment) -> bool {
    set.as_of.is_none_or(|as_of| as_of.seq_no <= moment.seq_no)
}

/// Restores by one set.
fn by(
    journals: &MemoryJournals,
    hints: &FsmHints,
    bound: &Bound,
) -> recoverylog::Result<(Played, Arc<MemoryFs>)> {
    let fs = Arc::new(MemoryFs::new());
    let player = Player::until(journals, hints, bound, fs.clone(), Path::new("/data"), options())?;
    Ok((player.restore()?, fs))
}

/// Restores by the set that is chosen; returns the sequence number of the point too.
fn chosen(
    journals: &MemoryJournals,
    log: &JournalName,
    sets: &[FsmHints],
    bound: &Bound,
) -> recoverylog::Result<(Played, Arc<MemoryFs>)> {
    let candidate =
        |(index, set): (usize, &FsmHints)| Candidate::new(format!("set {index}"), Ok(set.clone()));
    let sets = sets.iter().enumerate().map(candidate).collect();
    let fs = Arc::new(MemoryFs::new());
    let restored =
        Past::new(journals, log.clone(), sets, fs.clone()).restore(bound, Path::new("/data"), &options())?;
    assert!(restored.passed_over.is_empty(), "{:?}", restored.passed_over);
    assert_eq!(restored.point.offset, restored.played.position);
    Ok((restored.played, fs))
}

/// Checks that what was restored is what the tree was behind an operation.
fn same((played, fs): (Played, Arc<MemoryFs>), moment: &Moment, who: &dyn std::fmt::Debug) {
    assert_eq!(played.fsm.next_seq_no(), moment.seq_no.next(), "{who:?}");
    assert_eq!(played.position, moment.end, "{who:?}");
    assert_eq!(played.warnings, [], "{who:?}");
    let mut tree = Tree::default();
    for (path, fnode) in played.fsm.links() {
        tree.links.insert(path.to_string(), fnode);
    }
    let mut tree = tree.shown();
    for path in files::below(&*fs, Path::new("/data")) {
        let below = format!("/{}", path.strip_prefix("/data").unwrap().display());
        let (_, content) = files::read(&*fs, &path);
        match tree.links.get(&below) {
            Some(fnode) => drop(tree.contents.insert(*fnode, content.into())),
            None => drop(tree.properties.insert(below, content)),
        }
    }
    assert_eq!(tree, moment.tree.shown(), "behind seq-no {} by {who:?}", moment.seq_no);
}

/// Checks one set: it leads to the point, or says that it describes a later one.
fn check_set(journals: &MemoryJournals, set: &FsmHints, moment: &Moment, totals: &mut Totals) {
    for bound in [Bound::Seq(moment.seq_no), Bound::Offset(moment.end)] {
        match by(journals, set, &bound) {
            Ok(restored) => {
                assert!(leads_to(set, moment), "{bound} by {set:?}");
                same(restored, moment, set);
                totals.by_sets += 1;
            }
            Err(error) => {
                assert!(!leads_to(set, moment), "{bound} by {set:?}: {error}");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
                let earliest = format!("at earliest seq-no {},", set.as_of.unwrap().seq_no);
                assert!(error.to_string().contains(&earliest), "{error}");
                totals.before_sets += 1;
            }
        }
    }
}

/// Checks what lies behind the last operation, and before the first.
fn check_ends(shard: &Shard, log: &JournalName, history: &[Moment], sets: &[FsmHints]) {
    let head = shard.journals.journal(log).head(soon()).unwrap().offset;
    let last = history.last().unwrap();
    let behind = [Bound::Seq(last.seq_no.next()), Bound::Offset(Offset::new(head.get() + 1).unwrap())];
    for bound in behind.iter().chain(&[Bound::Mark(Bytes::from("nobody's"))]) {
        let error = chosen(&shard.journals, log, sets, bound).unwrap_err();
        // The front of a fork is in another log, where the name may be.
        let expected = if shard.logs.len() > 1 && matches!(bound, Bound::Mark(_)) {
            [ErrorKind::Invalid, ErrorKind::DataLoss]
        } else {
            [ErrorKind::Invalid; 2]
        };
        assert!(expected.contains(&error.kind()), "{bound}: {error}");
    }
    for bound in [Bound::Seq(SeqNo::new(0)), Bound::Offset(Offset::ZERO), Bound::Time(-1)] {
        assert!(chosen(&shard.journals, log, sets, &bound).is_err(), "{bound}");
    }
}

fn check_times(
    shard: &Shard,
    log: &JournalName,
    history: &[Moment],
    (sets, is_whole): (&[FsmHints], bool),
    totals: &mut Totals,
) {
    let marks = history.iter().filter_map(|moment| Some((moment.mark.as_ref()?.unix_nanos, moment)));
    let marks: Vec<_> = marks.collect();
    assert!(marks.windows(2).all(|pair| pair[0].0 <= pair[1].0), "marks go back");
    for (nanos, _) in &marks {
        for time in [*nanos - 1, *nanos, *nanos + 1] {
            let last = marks.iter().rev().find(|(nanos, _)| *nanos <= time);
            let reached = last.filter(|(_, moment)| {
                is_whole || sets.iter().any(|set| set.as_of.unwrap().seq_no <= moment.seq_no)
            });
            let bound = Bound::Time(time);
            match (chosen(&shard.journals, log, sets, &bound), reached) {
                (Ok(restored), Some((_, moment))) => same(restored, moment, &bound),
                (Err(error), None) => {
                    let kinds = [ErrorKind::Invalid, ErrorKind::DataLoss];
                    assert!(kinds.contains(&error.kind()), "{error}");
                }
                (restored, _) => panic!("{bound}: {restored:?}"),
            }
            totals.times += 1;
        }
    }
}

fn check_names(
    shard: &Shard,
    log: &JournalName,
    history: &[Moment],
    (sets, is_whole): (&[FsmHints], bool),
    totals: &mut Totals,
) {
    for name in NAMES {
        let is_named = |moment: &&Moment| {
            moment.mark.as_ref().and_then(|mark| mark.name.as_deref()) == Some(name.as_bytes())
        };
        let newest = history.iter().rev().find(is_named);
        let newest = newest.filter(|moment| is_whole || sets.iter().any(|set| leads_to(set, moment)));
        let bound = Bound::Mark(name.into());
        match (chosen(&shard.journals, log, sets, &bound), newest) {
            (Ok(restored), Some(moment)) => {
                same(restored, moment, &bound);
                totals.names += 1;
            }
            (Err(_), None) => {}
            (restored, _) => panic!("{bound}: {restored:?}"),
        }
    }
}

/// Loses fragments, one at a time.
fn lose(shard: &mut Shard, history: &[Moment], sets: &[FsmHints], totals: &mut Totals) {
    let contents = contents(shard);
    for _ in 0..12 {
        let moment = &history[shard.random.below(history.len() as u64) as usize];
        let set = sets.iter().filter(|set| leads_to(set, moment)).nth(shard.random.below(3) as usize);
        let Some(set) = set else { continue };
        let bound = Bound::Seq(moment.seq_no);
        let player = Player::until(
            &shard.journals,
            set,
            &bound,
            Arc::new(MemoryFs::new()),
            Path::new("/data"),
            options(),
        );
        let plan = player.unwrap().plan().clone();
        let (log, bytes) = &contents[shard.random.below(contents.len() as u64) as usize];
        let begin = shard.random.below(bytes.len() as u64) as usize / FRAGMENT * FRAGMENT;
        let end = (begin + FRAGMENT).min(bytes.len());
        let copies = copy(&contents, FRAGMENT);
        assert!(copies.journal(log).drop_fragment(Offset::new(begin as u64).unwrap()));
        let needed = plan.ranges.iter().any(|range| {
            range.log == *log && range.begin.get() < end as u64 && range.end.get() > begin as u64
        });
        match by(&copies, set, &bound) {
            Ok(restored) => {
                assert!(!needed, "[{begin}, {end}) of {log} was needed for {bound}");
                same(restored, moment, set);
                totals.lost_and_not_needed += 1;
            }
            Err(error) => {
                assert!(needed, "[{begin}, {end}) of {log} was not needed for {bound}: {error}");
                assert_eq!((error.kind(), error.log()), (ErrorKind::DataLoss, Some(log)), "{error}");
                let at = error.offset().unwrap().get() as usize;
                assert!((begin..end).contains(&at), "{error}, and not [{begin}, {end})");
                totals.lost_and_needed += 1;
            }
        }
    }
}

fn contents(shard: &Shard) -> Vec<(JournalName, Vec<u8>)> {
    let content = |log| bytes::from(&*shard.journals.journal(log), Offset::ZERO);
    shard.logs.iter().map(|log| (log.clone(), content(log))).collect()
}

/// Copies all logs, in small fragments.
fn copy(contents: &[(JournalName, Vec<u8>)], fragment: usize) -> MemoryJournals {
    let copies = MemoryJournals::new().fragment_bytes(fragment as u64);
    for (log, bytes) in contents {
        for piece in bytes.chunks(fragment) {
            copies.journal(log).append(Append::new(piece.to_vec()), soon()).unwrap();
        }
    }
    copies
}

/// Prunes a copy by the newest set, to recover by, and the others, to go back to; perhaps with a time since when every
/// point is to stay. The points of all sets stay then, and those behind the newest; any other is as it was, or is said to
/// be gone.
fn prune(shard: &mut Shard, history: &[Moment], sets: &[FsmHints], totals: &mut Totals) {
    let (recovery, snapshots) = (Arc::new(MemoryHints::new()), Arc::new(MemoryHints::new()));
    let (newest, others) = sets.split_last().unwrap();
    recovery.store(newest, soon()).unwrap();
    for set in others {
        snapshots.store(set, soon()).unwrap();
    }
    let mut since = newest.as_of.unwrap();
    let mut options = PruneOptions::default();
    if shard.random.one_in(2) {
        let time = sets[shard.random.below(sets.len() as u64) as usize].as_of.unwrap().unix_nanos;
        options.whole_since = Some(time);
        // Under a clock that steps back several are of one time.
        let as_old = sets.iter().rev().filter_map(|set| set.as_of).find(|as_of| as_of.unix_nanos <= time);
        since = as_old.unwrap();
    }
    let copies = Arc::new(copy(&contents(shard), PRUNED));
    let pruner = Pruner::new(copies.clone(), shard.log())
        .source(Source::recovery("recovery", recovery))
        .source(Source::snapshots("snapshots", snapshots))
        .options(options);
    let survey = pruner.survey(soon()).unwrap();
    totals.pruned += pruner.remove(&survey, &mut |_| Ok(()), soon()).unwrap().fragments as usize;
    for moment in history {
        let bound = Bound::Seq(moment.seq_no);
        let stays = moment.seq_no >= since.seq_no
            || sets.iter().any(|set| set.as_of.is_some_and(|as_of| as_of.seq_no == moment.seq_no));
        match chosen(&copies, &shard.log(), sets, &bound) {
            Ok(restored) => {
                same(restored, moment, &bound);
                totals.back_after_prune += 1;
            }
            Err(error) => {
                assert!(!stays, "{bound} was to stay: {error}");
                assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
                totals.gone_after_prune += 1;
            }
        }
    }
}
