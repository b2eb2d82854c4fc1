//! Goal: what a player says of its work is so: what it counted, how far it is, and what it passed over.
//! Method: logs whose every byte is known, played whole, by hints, and with junk between and behind.

use super::*;
use crate::player::{Counts, Progress, ProgressCallback};

const MIB: usize = 1 << 20;

/// Plays by `hints`, and notes what is told on the way.
fn play(journals: &MemoryJournals, hints: &FsmHints) -> (Played, Vec<Progress>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let progress: ProgressCallback =
        Arc::new(move |progress: &Progress| notes.lock().unwrap().push(*progress));
    let options = PlayOptions { parallelism: 1, progress: Some(progress), ..PlayOptions::default() };
    let player =
        Player::new(journals, hints, Arc::new(MemoryFs::new()), Path::new("/played"), options).unwrap();
    let played = player.restore().unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    (played, told)
}

/// Records a file, a larger one that is gone, and another, one operation after the other.
fn record(journals: &MemoryJournals) -> FsmHints {
    let recorder = take_over(journals, 1, RecorderOptions::default());
    create(&recorder, "/first");
    let dead = recorder.create(&LogPath::from_bytes(b"/dead")).unwrap();
    for piece in 0..5 {
        recorder.write(dead, piece * MIB as u64, &vec![7; MIB]).unwrap();
    }
    recorder.unlink(&LogPath::from_bytes(b"/dead")).unwrap();
    create(&recorder, "/second");
    hints(&recorder)
}

#[test]
fn options_are_printed_without_the_callback() {
    let progress: ProgressCallback = Arc::new(|_| ());
    let options =
        PlayOptions { parallelism: 5, sync: false, progress: Some(progress), ..PlayOptions::default() };
    let printed = format!("{options:?}");
    for part in
        ["parallelism: 5", "step_deadline: 30s", "fsm: FsmOptions", "verify: AsRead", "sync: false", ".."]
    {
        assert!(printed.contains(part), "{part} in {printed}");
    }
}

#[test]
fn counts_tell_apart_what_was_applied_and_what_hints_leave_out() {
    let journals = memory();
    let hints = record(&journals);
    let (whole, _) = play(&journals, &whole());
    // The hand-off, 2 + 7 + 2 operations, and the no-op of the hints.
    let expected = Counts { applied_ops: 13, written_bytes: 14 + 5 * MIB as u64, ..Counts::default() };
    assert_eq!(whole.counts, expected);
    let (hinted, _) = play(&journals, &hints);
    assert_eq!(hinted.counts.written_bytes, 14);
    assert!(hinted.counts.untracked_ops < 5, "what lies between is stepped over: {:?}", hinted.counts);
    assert_eq!(hinted.fsm.hints(&log()), whole.fsm.hints(&log()));
}

#[test]
fn a_dead_file_that_hints_cannot_step_over_is_untracked() {
    let journals = memory();
    let recorder = take_over(&journals, 1, RecorderOptions::default());
    let kept = recorder.create(&LogPath::from_bytes(b"/kept")).unwrap();
    create(&recorder, "/dead");
    recorder.unlink(&LogPath::from_bytes(b"/dead")).unwrap();
    recorder.write(kept, 0, b"x").unwrap();
    let hints = hints(&recorder);
    let (played, _) = play(&journals, &hints);
    let counts = Counts { applied_ops: 3, untracked_ops: 3, written_bytes: 1, ..Counts::default() };
    assert_eq!(played.counts, counts);
}

#[test]
fn progress_grows_about_each_mebibyte_and_ends_with_the_plan() {
    let journals = memory();
    let hints = record(&journals);
    let head = journals.journal(&log()).head(soon()).unwrap().offset.get();
    for (hints, steps, bytes) in [(whole(), 5..=7, head..=head), (hints, 1..=4, 100..=head / 2)] {
        let (played, told) = play(&journals, &hints);
        assert!(steps.contains(&told.len()), "{} steps", told.len());
        let planned = told[0].planned_bytes;
        assert!(bytes.contains(&planned), "{planned} of {head}");
        assert!(told.iter().all(|step| step.planned_bytes == planned && step.done_bytes <= planned));
        assert!(told.windows(2).all(|pair| pair[0].done_bytes <= pair[1].done_bytes), "{told:?}");
        let grown = |pair: &[Progress]| pair[1].done_bytes - pair[0].done_bytes;
        assert!(told.windows(2).rev().skip(1).all(|pair| grown(pair) >= MIB as u64), "{told:?}");
        let last = told.last().unwrap();
        assert_eq!((last.done_bytes, last.counts), (planned, played.counts));
    }
}

#[test]
fn junk_is_counted_and_at_the_tail_told_with_its_place_and_length() {
    let journals = memory();
    let journal = journals.journal(&log());
    record(&journals);
    journal.append(Append::new("junk amid the log"), soon()).unwrap();
    let recorder = take_over(&journals, 2, RecorderOptions::default());
    create(&recorder, "/third");
    recorder.barrier().unwrap().wait(soon()).unwrap();
    let (played, _) = play(&journals, &whole());
    assert_eq!((played.counts.junk_bytes, played.warnings), (17, vec![]));

    let head = journal.head(soon()).unwrap().offset;
    for (junk, bytes) in [("junk", 4), (" and more", 13)] {
        journal.append(Append::new(junk), soon()).unwrap();
        let (played, _) = play(&journals, &whole());
        assert_eq!(played.warnings, [Warning::JunkAtTail { log: log(), offset: head, bytes }]);
    }
}

#[test]
fn a_log_whose_middle_was_pruned_plays_by_hints_that_leave_it_out_and_by_no_others() {
    let journals = memory().fragment_bytes(4096);
    let hints = record(&journals);
    let journal = journals.journal(&log());
    let fragments = journal.fragments(soon()).unwrap();
    let dead: Vec<_> = fragments.iter().filter(|found| found.begin.get() > MIB as u64).cloned().collect();
    assert!(journal.drop_fragment(dead[0].begin));
    assert_eq!(play(&journals, &hints).0.counts.written_bytes, 14);
    let error = by(&whole(), &journals).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(dead[0].begin)));
}
