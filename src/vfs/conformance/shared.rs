//! Cases about what processes share: locks and words.

use std::io::ErrorKind::InvalidInput;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Case, Fixture, Mismatch, Outcome, whole};
use crate::clock::Deadline;
use crate::vfs::{LockMode, OpenMode, SharedWords};

pub(super) const CASES: &[Case] = cases! {
    Locks: an_exclusive_lock_shuts_out_every_other_handle
        shared_locks_go_together
        a_lock_ends_with_its_handle
        a_lock_changes_its_mode
        a_lock_is_of_the_file_not_of_its_name
        a_handle_for_reading_takes_any_lock;
    SharedWords: words_are_shared_between_mappings
        words_are_the_content_of_the_file
        mapping_extends_with_zeros
        no_words_and_too_many_are_refused
        words_outlive_handle_and_name_but_hold_no_lock
        waiting_ends_at_once_when_the_word_differs
        waiting_ends_at_the_deadline
        waking_ends_a_wait_in_another_mapping;
};

/// Long enough for a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(60);

fn an_exclusive_lock_shuts_out_every_other_handle(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    same!(one.try_lock(LockMode::Exclusive)?, true);
    same!(one.try_lock(LockMode::Exclusive)?, true);
    same!(two.try_lock(LockMode::Exclusive)?, false);
    same!(two.try_lock(LockMode::Shared)?, false);
    two.unlock()?;
    same!(two.try_lock(LockMode::Shared)?, false);
    one.unlock()?;
    same!(two.try_lock(LockMode::Exclusive)?, true);
    same!(one.try_lock(LockMode::Shared)?, false);
    Ok(())
}

fn shared_locks_go_together(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    let three = f.open("file", OpenMode::Read)?;
    same!(one.try_lock(LockMode::Shared)?, true);
    same!(two.try_lock(LockMode::Shared)?, true);
    same!(three.try_lock(LockMode::Exclusive)?, false);
    one.unlock()?;
    same!(three.try_lock(LockMode::Exclusive)?, false);
    two.unlock()?;
    same!(three.try_lock(LockMode::Exclusive)?, true);
    Ok(())
}

fn a_lock_ends_with_its_handle(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    same!(one.try_lock(LockMode::Exclusive)?, true);
    // Closing some other handle of the file leaves it alone.
    drop(f.open("file", OpenMode::ReadWrite)?);
    same!(two.try_lock(LockMode::Exclusive)?, false);
    drop(one);
    same!(two.try_lock(LockMode::Exclusive)?, true);
    Ok(())
}

fn a_lock_changes_its_mode(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    same!(one.try_lock(LockMode::Exclusive)?, true);
    same!(one.try_lock(LockMode::Shared)?, true);
    same!(two.try_lock(LockMode::Shared)?, true);
    same!(one.try_lock(LockMode::Exclusive)?, false);
    // What it had is gone with the failed change.
    same!(two.try_lock(LockMode::Exclusive)?, true);
    Ok(())
}

fn a_lock_is_of_the_file_not_of_its_name(f: &Fixture) -> Outcome {
    let one = f.put("file", b"")?;
    same!(one.try_lock(LockMode::Exclusive)?, true);
    f.rename("file", "moved")?;
    same!(f.open("moved", OpenMode::ReadWrite)?.try_lock(LockMode::Shared)?, false);
    same!(f.put("file", b"")?.try_lock(LockMode::Exclusive)?, true);
    Ok(())
}

fn a_handle_for_reading_takes_any_lock(f: &Fixture) -> Outcome {
    let one = f.put("file", b"")?;
    let two = f.open("file", OpenMode::Read)?;
    same!(two.try_lock(LockMode::Exclusive)?, true);
    same!(one.try_lock(LockMode::Shared)?, false);
    Ok(())
}

/// Returns the value of a word.
fn load(words: &dyn SharedWords, index: usize) -> Option<u64> {
    words.word(index).map(|word| word.load(SeqCst))
}

/// Sets a word and returns what it was.
fn swap(words: &dyn SharedWords, index: usize, value: u64) -> Result<u64, Mismatch> {
    words.word(index).map(|word| word.swap(value, SeqCst)).ok_or_else(|| Mismatch::new("no such word"))
}

fn words_are_shared_between_mappings(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    let (one, two) = (one.map_shared(1000)?, two.map_shared(3)?);
    same!(swap(&*one, 2, u64::MAX - 5)?, 0);
    same!(load(&*two, 2), Some(u64::MAX - 5));
    same!(swap(&*two, 0, 7)?, 0);
    same!(load(&*one, 0), Some(7));
    let exchange = |word: &std::sync::atomic::AtomicU64| word.compare_exchange(7, 8, SeqCst, SeqCst);
    same!(one.word(0).map(exchange), Some(Ok(7)));
    same!(two.word(0).map(exchange), Some(Err(8)));
    same!((two.word(2).is_some(), two.word(3).is_none()), (true, true));
    same!((one.word(999).is_some(), one.word(1000).is_none()), (true, true));
    Ok(())
}

#[expect(clippy::host_endian_bytes, reason = "shared words are in the byte order of the machine")]
fn words_are_the_content_of_the_file(f: &Fixture) -> Outcome {
    let file = f.put("file", &0x1122_3344_5566_7788_u64.to_ne_bytes())?;
    let words = file.map_shared(2)?;
    same!(load(&*words, 0), Some(0x1122_3344_5566_7788));
    swap(&*words, 1, 42)?;
    let mut bytes = [0; 8];
    f.open("file", OpenMode::Read)?.read_exact_at(&mut bytes, 8)?;
    same!(bytes, 42_u64.to_ne_bytes());
    f.open("file", OpenMode::ReadWrite)?.write_all_at(&43_u64.to_ne_bytes(), 8)?;
    same!(load(&*words, 1), Some(43));
    same!(load(&*words, 0), Some(0x1122_3344_5566_7788));
    file.sync_data()?;
    same!(whole(&*file)?.len(), 16);
    Ok(())
}

fn mapping_extends_with_zeros(f: &Fixture) -> Outcome {
    let file = f.put("file", b"\x01\0\0\0\0\0\0\0\x02")?;
    let words = file.map_shared(600)?;
    same!(file.metadata()?.len, 4800);
    same!(load(&*words, 599), Some(0));
    drop(file.map_shared(2)?);
    same!(file.metadata()?.len, 4800);
    Ok(())
}

fn no_words_and_too_many_are_refused(f: &Fixture) -> Outcome {
    let file = f.put("file", b"")?;
    for words in [0, usize::MAX, usize::MAX / 8, 1 << 50] {
        fails!(file.map_shared(words), InvalidInput, "{words}");
    }
    same!(file.metadata()?.len, 0);
    Ok(())
}

fn words_outlive_handle_and_name_but_hold_no_lock(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("file", b"")?, f.open("file", OpenMode::ReadWrite)?);
    same!(one.try_lock(LockMode::Exclusive)?, true);
    let words = one.map_shared(1)?;
    drop(one);
    same!(two.try_lock(LockMode::Exclusive)?, true);
    f.fs.remove_file(&f.path("file"))?;
    swap(&*words, 0, 9)?;
    same!(load(&*two.map_shared(1)?, 0), Some(9));
    Ok(())
}

fn waiting_ends_at_once_when_the_word_differs(f: &Fixture) -> Outcome {
    let words = f.put("file", b"")?.map_shared(2)?;
    swap(&*words, 1, 5)?;
    let deadline = Deadline::after(LONG);
    words.wait(1, 4, deadline);
    same!(deadline.has_passed(), false);
    // Past the end there is nothing to wait for.
    words.wait(2, 0, deadline);
    words.wake(2);
    same!(deadline.has_passed(), false);
    Ok(())
}

fn waiting_ends_at_the_deadline(f: &Fixture) -> Outcome {
    let words = f.put("file", b"")?.map_shared(1)?;
    words.wait(0, 0, Deadline::passed());
    let deadline = Deadline::after(Duration::from_millis(5));
    while !deadline.has_passed() {
        words.wait(0, 0, deadline);
    }
    Ok(())
}

fn waking_ends_a_wait_in_another_mapping(f: &Fixture) -> Outcome {
    let file = f.put("file", b"")?;
    let (mine, theirs) = (file.map_shared(8)?, f.open("file", OpenMode::ReadWrite)?.map_shared(8)?);
    let (seen, changes) = mpsc::channel();
    let waiter = thread::Builder::new().name("conformance-waiter".into()).spawn(move || {
        let deadline = Deadline::after(LONG);
        let mut last = 0;
        while last < 100 && !deadline.has_passed() {
            theirs.wait(7, last, deadline);
            let now = theirs.word(7).map_or(0, |word| word.load(SeqCst));
            if now != last {
                last = now;
                if seen.send(now).is_err() {
                    return;
                }
            }
        }
    })?;
    for value in 1..=100 {
        swap(&*mine, 7, value)?;
        mine.wake(7);
        same!(changes.recv_timeout(LONG), Ok(value));
    }
    same!(waiter.join().is_ok(), true);
    Ok(())
}
