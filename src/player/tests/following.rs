//! Goal: who follows a log applies what is committed, no more and no later, and waits no longer than it may.
//! Method: a journal that is watched, of which a test appends parts, and on which it acts while the follower waits.

use super::watched::{Watch, Watched};
use super::*;

const STEP: Duration = Duration::from_millis(50);

/// Plays a watched journal that holds nothing yet, and stands by.
fn follow(journals: &MemoryJournals, can_follow: bool) -> (Follower, Arc<Watch>) {
    let (watched, watch) = Watched::new(journals, can_follow);
    let options = PlayOptions { parallelism: 1, step_deadline: STEP, ..PlayOptions::default() };
    let fs = Arc::new(MemoryFs::new());
    let player = Player::new(&watched, &whole(), fs, Path::new("/played"), options).unwrap();
    (player.follow().unwrap(), watch)
}

/// Returns the bytes of a log in which one writer creates a file and writes 100 bytes to it, and where the write
/// begins.
fn recorded() -> (Vec<u8>, u64) {
    let journals = memory();
    let journal = journals.journal(&log());
    let options = RecorderOptions::default();
    let recorder = Recorder::new(journal.clone(), Fsm::new(log()), Offset::ZERO, author(1), options).unwrap();
    let file = recorder.create(&LogPath::from_bytes(b"/file")).unwrap();
    let created = recorder.barrier().unwrap().wait(soon()).unwrap().offset.get();
    recorder.write(file, 0, &[7; 100]).unwrap();
    let end = recorder.barrier().unwrap().wait(soon()).unwrap().offset.get();
    ((0..end).map(|at| byte(&journal, at)).collect(), created)
}

fn append(journals: &MemoryJournals, bytes: &[u8]) {
    journals.journal(&log()).append(Append::new(bytes.to_vec()), soon()).unwrap();
}

#[test]
fn a_hand_off_waits_for_no_step_of_the_journal_past_its_own_deadline() {
    // Chunks that are shorter than a payload make the player ask how much is committed.
    let journals = memory().chunk_bytes_max(7);
    let (watched, watch) = Watched::new(&journals, true);
    let options = PlayOptions { parallelism: 1, ..PlayOptions::default() };
    let (bytes, _) = recorded();
    // The whole, and one that ends within an operation, which is looked at more closely.
    for (end, outcome) in [(bytes.len(), None), (bytes.len() - 1, Some(ErrorKind::Diverged))] {
        journals.journal(&log()).truncate(Offset::ZERO);
        let fs = Arc::new(MemoryFs::new());
        let player = Player::new(&watched, &whole(), fs, Path::new("/played"), options.clone()).unwrap();
        let follower = player.follow().unwrap();
        append(&journals, &bytes[..end]);
        let deadline = Deadline::after(Duration::from_secs(5));
        watch.take();
        let promoted = follower.promote(author(2), deadline);
        assert_eq!(promoted.err().map(|error| error.kind()), outcome);
        assert!(watch.take().latest.unwrap() <= deadline, "{outcome:?}");
    }
}

#[test]
fn a_restore_waits_for_no_step_of_the_journal_longer_than_it_may() {
    let journals = memory();
    let (bytes, _) = recorded();
    append(&journals, &bytes[..bytes.len() - 1]);
    let (watched, watch) = Watched::new(&journals, true);
    let step_deadline = Duration::from_secs(5);
    let options = PlayOptions { parallelism: 1, step_deadline, ..PlayOptions::default() };
    let fs = Arc::new(MemoryFs::new());
    let player = Player::new(&watched, &whole(), fs, Path::new("/played"), options).unwrap();
    let warnings = player.restore().unwrap().warnings;
    assert!(matches!(warnings[..], [Warning::TornAtTail { .. }]), "{warnings:?}");
    assert!(watch.take().latest.unwrap() <= Deadline::after(step_deadline));
}

#[test]
fn a_hand_off_that_was_read_back_waits_for_nothing_more() {
    let journals = memory();
    let (follower, watch) = follow(&journals, true);
    append(&journals, &recorded().0);
    let played = follower.promote(author(2), soon()).unwrap();
    assert_eq!((played.fsm.last_author(), played.counts.applied_ops), (Some(author(2)), 3));
    assert_eq!(watch.take().waits, 0);
}

#[test]
fn an_operation_is_applied_once_its_whole_payload_is_committed() {
    let (bytes, created) = recorded();
    for chunk_bytes in [7, usize::MAX] {
        let journals = memory().chunk_bytes_max(chunk_bytes);
        let (mut follower, _) = follow(&journals, true);
        for (from, to) in [(0, bytes.len() - 60), (bytes.len() - 60, bytes.len() - 1)] {
            append(&journals, &bytes[from..to]);
            assert_eq!(follower.tail(Deadline::passed()).unwrap(), Tail::AtHead);
            assert_eq!(follower.position().offset.get(), created);
        }
        append(&journals, &bytes[bytes.len() - 1..]);
        follower.tail(Deadline::passed()).unwrap();
        assert_eq!(follower.position().offset.get(), bytes.len() as u64);
        assert_eq!(follower.finish().unwrap().counts.written_bytes, 100);
    }
}

#[test]
fn who_waits_within_a_payload_goes_on_when_the_rest_comes() {
    let (bytes, created) = recorded();
    let journals = Arc::new(memory());
    let (mut follower, watch) = follow(&journals, true);
    append(&journals, &bytes[..bytes.len() - 1]);
    assert_eq!(follower.advance(Deadline::passed()).unwrap(), Tail::Advanced);
    assert_eq!(follower.position().offset.get(), created);
    let (rest, writer) = (bytes[bytes.len() - 1..].to_vec(), Arc::clone(&journals));
    watch.at_head(move || append(&writer, &rest));
    assert_eq!(follower.advance(soon()).unwrap(), Tail::Advanced);
    assert_eq!(follower.position().offset.get(), bytes.len() as u64);
}

#[test]
fn advancing_tells_whether_something_was_applied() {
    for can_follow in [true, false] {
        let journals = memory();
        let (mut follower, _) = follow(&journals, can_follow);
        assert_eq!(follower.advance(Deadline::passed()).unwrap(), Tail::AtHead);
        append(&journals, &recorded().0);
        assert_eq!(follower.advance(Deadline::passed()).unwrap(), Tail::Advanced);
        assert_eq!(follower.advance(Deadline::passed()).unwrap(), Tail::AtHead);
        follower.interrupter().interrupt();
        assert_eq!(follower.advance(soon()).unwrap(), Tail::Interrupted);
    }
}

#[test]
fn a_journal_that_cannot_be_followed_is_looked_at_once_before_a_pause() {
    let (mut follower, watch) = follow(&memory(), false);
    watch.take();
    assert_eq!(follower.tail(Deadline::after(STEP)).unwrap(), Tail::AtHead);
    assert_eq!(watch.take().looks, 1);
}

#[test]
fn a_pause_between_two_looks_is_interrupted_and_what_came_meanwhile_is_applied() {
    let journals = Arc::new(memory());
    let (mut follower, watch) = follow(&journals, false);
    let (interrupter, writer) = (follower.interrupter(), Arc::clone(&journals));
    watch.at_head(move || {
        append(&writer, &recorded().0);
        interrupter.interrupt();
    });
    assert_eq!(follower.tail(soon()).unwrap(), Tail::Interrupted);
    assert_eq!(follower.position().offset.get(), recorded().0.len() as u64);
}
