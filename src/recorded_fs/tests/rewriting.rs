//! Live bytes that are written again at the head of the log.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::fsm::FsmOptions;
use crate::hints::FsmHints;
use crate::journal::{Append, Journal, MemoryJournals};
use crate::player::{PlayOptions, Player};
use crate::prng::SplitMix64;
use crate::recorder::tests::{content, log_name};
use crate::tracker::{RewriteOptions, Rewriter};

/// Writes again whatever is worth it.
fn rewriter(window_bytes: u64) -> Rewriter {
    Rewriter::new(RewriteOptions { percent: 1_000_000, window_bytes })
}

impl Bed {
    /// Steps until there is nothing to do; returns the bytes that were written again.
    fn rewrite(&self, rewriter: &mut Rewriter) -> u64 {
        let before = rewriter.rewritten_bytes();
        while rewriter.step(self.fs.tracker()).unwrap() > 0 {}
        rewriter.rewritten_bytes() - before
    }

    /// Steps until there is nothing to do, whatever fails; returns what did.
    fn rewrite_past_failures(&self, rewriter: &mut Rewriter) -> Vec<Error> {
        let mut failures = Vec::new();
        loop {
            match rewriter.step(self.fs.tracker()) {
                Ok(0) => return failures,
                Ok(_) => {}
                Err(error) => failures.push(error),
            }
        }
    }

    /// Changes a local file behind the back of whoever records it.
    fn damage(&self, name: &str, damage: impl FnOnce(&dyn File) -> io::Result<()>) {
        damage(&*self.disk.open(&db(name), OpenMode::ReadWrite).unwrap()).unwrap();
    }

    /// Records bytes that are dead at once.
    fn waste(&self, bytes: usize) {
        self.create("waste", &vec![0; bytes]);
        self.fs.remove_file(&db("waste")).unwrap();
    }

    /// Returns where the oldest operation begins that a player needs.
    fn oldest_needed(&self) -> u64 {
        let mut pending = self.fs.recorder().take_hints().unwrap();
        let hints = pending.wait(soon()).unwrap();
        hints.flatten().unwrap().segments.as_slice()[0].first_offset.get()
    }
}

#[test]
fn a_small_file_moves_whole_with_all_its_links_and_handles_go_on_writing_to_it() {
    let bed = Bed::new();
    let file = bed.create("a", b"content");
    bed.fs.hard_link(&db("a"), &db("b")).unwrap();
    bed.fs.hard_link(&db("a"), &db("LOG")).unwrap();
    let before = bed.fnode("a");
    bed.waste(5_000);
    assert!(bed.rewrite(&mut rewriter(1_000)) > 0);
    let after = bed.fnode("a");
    assert_ne!(after, before);
    assert_eq!(bed.fnode("b"), after);
    assert_eq!(file.handle.as_ref().unwrap().fnode(), after);
    assert!(bed.oldest_needed() > 5_000, "nothing of the old file is needed");
    file.write_all_at(b"C", 0).unwrap();
    let other = bed.fs.open_recorded(&db("b"), OpenMode::ReadWrite).unwrap();
    other.append(b"!").unwrap();
    bed.check();
    // It is the same file by its link that is not recorded, too.
    drop((file, other));
    let by_alias = bed.fs.open_recorded(&db("LOG"), OpenMode::ReadWrite).unwrap();
    by_alias.append(b"?").unwrap();
    bed.check();
}

#[test]
fn bytes_of_a_file_that_is_too_large_to_move_are_written_over_themselves() {
    const PAGE: usize = 4096;
    let bed = Bed::new();
    bed.waste(100_000);
    let file = bed.create("a", b"");
    for page in 0..(5 << 20) / PAGE {
        file.write_all_at(&[1; PAGE], (page * PAGE) as u64).unwrap();
    }
    let before = bed.fnode("a");
    // All but every fourth page is written again.
    for page in (0..(5 << 20) / PAGE).filter(|page| page % 4 > 0) {
        file.write_all_at(&vec![page as u8; PAGE], (page * PAGE) as u64).unwrap();
    }
    let recorded = bed.fs.recorder().counters().bytes_recorded;
    let rewritten = bed.rewrite(&mut rewriter(64 << 10));
    let left = (5 << 20) / 4;
    // It ends before that, where the log that is needed is half as long again as the file.
    assert!((left / 4..left).contains(&rewritten), "{rewritten} of {left}");
    assert_eq!(bed.fs.recorder().counters().bytes_recorded, recorded + rewritten);
    assert_eq!(bed.fnode("a"), before);
    bed.check();
    assert_eq!(bed.rewrite(&mut rewriter(64 << 10)), 0, "what is at the head is not written again");
}

#[test]
fn a_file_that_nobody_has_opened_is_rewritten() {
    let bed = Bed::new();
    drop(bed.create("d", b"content"));
    bed.fs.create_dir(&db("e")).unwrap();
    drop(bed.create("e/f", b"content too"));
    bed.waste(5_000);
    let options = RecordedFsOptions::default();
    let fs = RecordedFs::new(bed.disk.clone(), Path::new("/db"), bed.fs.recorder().clone(), options);
    let bed = Bed { fs, ..bed };
    let before = (bed.fnode("d"), bed.fnode("e/f"));
    assert!(bed.rewrite(&mut rewriter(1_000)) > 0);
    assert!(bed.fnode("d") != before.0 && bed.fnode("e/f") != before.1);
    bed.check();
}

#[test]
fn no_more_is_written_again_than_a_share_of_what_others_record_and_nothing_where_that_is_none() {
    const PAGE: usize = 4096;
    for percent in [0, 10, 50] {
        let bed = Bed::new();
        let file = bed.create("a", &vec![1; 5 << 20]);
        let mut random = SplitMix64::new(9);
        let mut rewriter = Rewriter::new(RewriteOptions { percent, window_bytes: 128 << 10 });
        for _ in 0..6_000 {
            let page = random.below((5 << 20) / PAGE as u64);
            file.write_all_at(&[7; PAGE], page * PAGE as u64).unwrap();
            rewriter.step(bed.fs.tracker()).unwrap();
        }
        let others = bed.fs.recorder().counters().bytes_recorded - rewriter.rewritten_bytes();
        let most = others * u64::from(percent) / 100;
        let (least, more) = (most / 2, (256 << 10) * u64::from(percent > 0));
        let rewritten = rewriter.rewritten_bytes();
        assert!((least..=most + more).contains(&rewritten), "{percent}%: {rewritten} of {most}");
        bed.check();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_once_and_leaves_the_log_as_it_was() {
    let bed = Bed::new();
    drop(bed.create("a", b"content"));
    drop(bed.create("b", b"content"));
    bed.waste(5_000);
    // Somebody else did this.
    bed.disk.open(&db("a"), OpenMode::ReadWrite).unwrap();
    bed.disk.remove_file(&db("a")).unwrap();
    let before = (bed.fnode("a"), bed.fnode("b"));
    let mut rewriter = rewriter(1_000);
    bed.rewrite(&mut rewriter);
    assert_eq!(bed.fnode("a"), before.0);
    bed.waste(5_000);
    bed.rewrite(&mut rewriter);
    assert_eq!(bed.fs.recorder().failure().map(|error| error.to_string()), None);
}

/// Makes a file of a name.
type Make<'a> = &'a dyn Fn(&Bed, &str) -> Arc<RecordedFile>;

/// Damages a file of two that are worth rewriting; returns what is told of it.
fn damaged(make: Make<'_>, damage: impl FnOnce(&dyn File) -> io::Result<()>) -> Error {
    let bed = Bed::new();
    let files = ["bad", "good"].map(|name| make(&bed, name));
    for file in &files {
        bed.waste(40_000);
        // An operation of which a part is alive has no digest for that.
        file.write_all_at(&[3; 400], 1_000).unwrap();
        bed.waste(40_000);
        file.write_all_at(&[4; 10], 1_100).unwrap();
    }
    bed.waste(40_000);
    bed.check();
    let whole = local(&bed.disk, Path::new("/db"));
    bed.damage("bad", damage);
    let mut rewriter = rewriter(16_000);
    let failures = bed.rewrite_past_failures(&mut rewriter);
    assert!(rewriter.rewritten_bytes() > 0, "the other file is rewritten");
    assert_eq!(failures.len(), 1, "it is told once: {failures:?}");
    bed.fs.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(played(&bed.journal), whole, "the log holds what was recorded");
    assert_ne!(local(&bed.disk, Path::new("/db")), whole);
    // Another rewriter finds it again, and whoever writes to the file goes on.
    assert_eq!(bed.rewrite_past_failures(&mut self::rewriter(16_000)).len(), 1);
    files[0].write_all_at(b"more", 0).unwrap();
    assert!(bed.fs.recorder().failure().is_none());
    let mut expected = whole.clone();
    expected.get_mut(&path("/bad")).unwrap().0[..4].copy_from_slice(b"more");
    bed.fs.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(played(&bed.journal), expected);
    failures.into_iter().next().unwrap()
}

#[test]
fn what_the_local_disk_has_damaged_does_not_take_the_place_of_what_was_recorded() {
    let small = |bed: &Bed, name: &str| bed.create(name, &[1; 2_000]);
    let large = |bed: &Bed, name: &str| {
        // Its creation stays where it is, and so does what lies near it.
        bed.waste(40_000);
        let file = bed.create(name, b"");
        file.write_all_at(b"end", 4 << 20).unwrap();
        bed.waste(40_000);
        // Several extents are read as one piece, and written again by one operation.
        for page in 0..4 {
            file.write_all_at(&[page + 1; 500], u64::from(page) * 500).unwrap();
        }
        file
    };
    for (make, begin) in [(&small as Make<'_>, 1_100), (&large, 1_500)] {
        let error = damaged(make, |file| file.write_all_at(&[9], begin + 1));
        let told = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{told}");
        assert!(told.contains("/db/bad does not hold"), "{told}");
        assert!(told.contains(&format!("its bytes {begin}..")), "{told}");
        assert!(told.contains("CRC-32C") && told.contains("restore the directory"), "{told}");
        assert!(error.offset().is_some() && error.log() == Some(&log_name()), "{told}");
        let error = damaged(make, |file| file.set_len(1_000));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.actual_value().unwrap().contains("1000"), "{error}");
    }
}

#[test]
fn properties_and_what_the_filter_leaves_out_now_are_left_alone() {
    let bed = Bed::new();
    drop(bed.create("a", b"content"));
    bed.waste(5_000);
    let nothing = RecordedFsOptions::default().filter(Filter::new(|_| false));
    let fs = RecordedFs::new(bed.disk.clone(), Path::new("/db"), bed.fs.recorder().clone(), nothing);
    let bed = Bed { fs, ..bed };
    let ops = bed.ops();
    assert_eq!(bed.rewrite(&mut rewriter(1_000)), 0);
    assert_eq!(bed.ops_since(ops), 0);
}

/// Plays the first bytes of a log by hints, or by none; returns its tree.
fn play(log: &[u8], hints: Option<&FsmHints>, fsm: FsmOptions) -> Tree {
    let journals = MemoryJournals::new();
    journals.journal(&log_name()).append(Append::new(log.to_vec()), soon()).unwrap();
    let empty = FsmHints::empty(log_name());
    let fs = Arc::new(MemoryFs::new());
    let options = PlayOptions { sync: false, parallelism: 1, fsm, ..PlayOptions::default() };
    let player = Player::new(&journals, hints.unwrap_or(&empty), fs.clone(), Path::new("/db"), options);
    player.unwrap().restore().unwrap();
    local(&*fs, Path::new("/db"))
}

#[test]
fn wherever_the_log_ends_within_a_rewrite_and_whenever_hints_are_taken_the_tree_is_the_same() {
    let bed = Bed::new();
    let large = bed.create("large", b"");
    // It is too large to move, and most of it was never written.
    large.write_all_at(b"end", 4 << 20).unwrap();
    for name in ["a", "b", "c"] {
        bed.create(name, name.as_bytes());
        bed.fs.hard_link(&db(name), &db(&format!("{name}2"))).unwrap();
    }
    bed.waste(3_000);
    for page in 0..60 {
        large.write_all_at(&[page; 500], u64::from(page) * 700).unwrap();
        bed.waste(3_000);
    }
    bed.check();
    let expected = local(&bed.disk, Path::new("/db"));
    let begin = content(&bed.journal.inner).len();
    let (mut rewriter, mut sets) = (rewriter(2_000), Vec::new());
    while rewriter.step(bed.fs.tracker()).unwrap() > 0 {
        sets.push(bed.fs.recorder().take_hints().unwrap());
    }
    bed.check();
    let log = content(&bed.journal.inner);
    assert!(sets.len() > 5, "{}", sets.len());
    let mut borders = 0;
    for append in bed.journal.sent.lock().unwrap().iter() {
        let end = append.at.unwrap().get() as usize + append.content_bytes() as usize;
        if end >= begin {
            assert_eq!(play(&log[..end], None, FsmOptions::default()), expected, "up to {end}");
            borders += 1;
        }
    }
    assert!(borders > 20, "{borders}");
    for (index, mut pending) in sets.into_iter().enumerate() {
        let hints = pending.wait(soon()).unwrap();
        for fsm in [FsmOptions::default(), FsmOptions::REFERENCE] {
            assert_eq!(play(&log, Some(&hints), fsm), expected, "by set {index}, {fsm:?}");
        }
    }
}

#[test]
fn no_byte_is_written_again_once_it_was_overwritten() {
    const SLOT: usize = 8;
    let bed = Bed::new();
    let small = bed.create("small", b"");
    // The creation of the other one would hold that of this one.
    bed.waste(10_000);
    let large = bed.create("large", b"");
    large.write_all_at(&[0; SLOT], 4 << 20).unwrap();
    // Each file has one writer, whose numbers grow.
    let work = |file: &RecordedFile, seed| {
        let mut random = SplitMix64::new(seed);
        for number in 1..3_000_u64 {
            file.write_all_at(&number.to_le_bytes(), random.below(10) * SLOT as u64).unwrap();
            (0..5).for_each(|_| bed.fs.recorder().no_op().unwrap());
        }
    };
    let mut rewriter = Rewriter::new(RewriteOptions { percent: 200, window_bytes: 8_000 });
    std::thread::scope(|scope| {
        let workers = [(&small, 1), (&large, 2)].map(|(file, seed)| {
            let builder = std::thread::Builder::new().name("worker".into());
            builder.spawn_scoped(scope, move || work(file, seed)).unwrap()
        });
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            rewriter.step(bed.fs.tracker()).unwrap();
        }
    });
    assert!(rewriter.rewritten_bytes() > 0);
    bed.check();
    let (mut names, mut newest) = (BTreeMap::new(), BTreeMap::new());
    for (op, data) in accepted(&bed.journal.inner).1 {
        match op.body {
            OpBody::Write { .. } if data.len() == 10_000 => {}
            OpBody::Create { path } => drop(names.insert(Fnode::new(op.seq_no), path)),
            OpBody::Write { fnode, offset } => {
                for (at, slot) in (offset..).step_by(SLOT).zip(data.chunks(SLOT)) {
                    let number = u64::from_le_bytes(slot.try_into().unwrap());
                    let before = newest.insert((names[&fnode].clone(), at), number).unwrap_or(0);
                    assert!(before <= number, "{before} came before {number} at {at} of {}", names[&fnode]);
                }
            }
            _ => {}
        }
    }
    let moved = names.values().filter(|name| **name == path("small")).count() - 1;
    assert!(moved > 0, "the small file was never moved");
}

#[test]
fn threads_that_change_everything_meanwhile_are_recorded_as_without_it() {
    let mut rewritten = 0;
    for seed in 0..12 {
        let bed = Bed::new();
        bed.fs.create_dir(&db("d")).unwrap();
        let large = bed.create("large", b"");
        large.write_all_at(b"end", 4 << 20).unwrap();
        let work = |seed: u64| {
            let mut random = SplitMix64::new(seed);
            for _ in 0..400 {
                let name =
                    |random: &mut SplitMix64| db(["a", "b", "c", "d/a", "LOG"][random.below(5) as usize]);
                let (one, other) = (name(&mut random), name(&mut random));
                match random.below(12) {
                    0 => drop(bed.fs.rename(&one, &other)),
                    1 => drop(bed.fs.hard_link(&one, &other)),
                    2 => drop(bed.fs.remove_file(&one)),
                    3 => large.write_all_at(&[random.next_u64() as u8; 900], random.below(30) * 700).unwrap(),
                    4 => drop(
                        bed.fs.rename(&db("d"), &db("e")).and_then(|()| bed.fs.rename(&db("e"), &db("d"))),
                    ),
                    draw => {
                        let Ok(file) = bed.fs.open_recorded(&one, OpenMode::Create) else { continue };
                        if draw == 5 {
                            file.set_len(random.below(600)).unwrap();
                        } else {
                            let bytes = vec![random.next_u64() as u8; random.below(700) as usize];
                            file.write_all_at(&bytes, random.below(900)).unwrap();
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let workers = [seed * 2, seed * 2 + 1].map(|seed| {
                let builder = std::thread::Builder::new().name("worker".into());
                builder.spawn_scoped(scope, move || work(seed)).unwrap()
            });
            let mut rewriter = Rewriter::new(RewriteOptions { percent: 200, window_bytes: 3_000 });
            while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                rewriter.step(bed.fs.tracker()).unwrap();
            }
            rewritten += rewriter.rewritten_bytes();
        });
        bed.check();
    }
    assert!(rewritten > 0);
}
