//! Goal: a process that is stopped at any point, and continued after others went on, does no harm and goes on too.
//! Method: one script of appends over a file system that counts every call and every look at a shared word. It is run
//! again and stopped before each of them, while another handle appends: within the open file, or through several
//! rolls, so that whatever the stopped one was about to make, read or rename is out of use when it goes on.

use std::sync::Mutex;

use super::*;
use crate::vfs::FaultyFs;

const FRAGMENT_BYTES: u64 = 4096;

/// What was acknowledged, by anybody: where, and what.
type Acknowledged = Arc<Mutex<Vec<(u64, Vec<u8>)>>>;

/// Appends what nobody else does, and notes where.
fn acknowledged_append(
    journal: &FileJournal,
    by: u8,
    bytes: usize,
    acknowledged: &Acknowledged,
    context: &str,
) {
    let piece = vec![by; bytes];
    let appended = append(journal, &piece).unwrap_or_else(|error| panic!("{context}: {by}: {error}"));
    acknowledged.lock().unwrap().push((appended.begin.get(), piece));
}

/// Opens, and appends through several rolls. Before the step numbered `stop` somebody else appends `others`.
fn run(stop: u64, others: &[usize], open_before: bool) -> u64 {
    let context = format!("stopped before step {stop}, {} appends meanwhile", others.len());
    let fs = MemoryFs::new();
    // There is a journal already, whose first file is about to roll.
    let first = open_on(&fs, FRAGMENT_BYTES);
    let acknowledged = Acknowledged::default();
    acknowledged_append(&first, b'0', 3000, &acknowledged, &context);

    let faulty = Arc::new(FaultyFs::new(fs.clone()));
    let other = open_before.then_some(first);
    let (its_fs, its_appends, its_notes) = (fs.clone(), others.to_vec(), Arc::clone(&acknowledged));
    let its_context = context.clone();
    faulty.stop_before(stop, move || {
        let other = other.unwrap_or_else(|| open_on(&its_fs, FRAGMENT_BYTES));
        for bytes in its_appends {
            acknowledged_append(&other, b'2', bytes, &its_notes, &its_context);
        }
    });
    let journals = FileJournals::open_on(
        Arc::clone(&faulty) as Arc<dyn FileSystem>,
        ROOT,
        options(FRAGMENT_BYTES, true),
    );
    let journal = journals.unwrap().open_file(&name()).unwrap_or_else(|error| panic!("{context}: {error}"));
    for bytes in [500, 2000, 4096, 17, 3000] {
        acknowledged_append(&journal, b'1', bytes, &acknowledged, &context);
    }
    let steps = faulty.steps();
    check(&content(&journal).unwrap_or_else(|error| panic!("{context}: {error}")), &acknowledged, &context);
    drop(journal);

    let late = open_on(&fs, FRAGMENT_BYTES);
    acknowledged_append(&late, b'3', 2000, &acknowledged, &context);
    check(&content(&late).unwrap(), &acknowledged, &context);
    let next_boot = open_on(&fs.crash_image(CrashPlan::DropUnsynced), FRAGMENT_BYTES);
    check(&content(&next_boot).unwrap(), &acknowledged, &context);
    steps
}

/// Checks that a journal holds what was acknowledged, where it was said to be, and nothing else.
fn check(content: &[u8], acknowledged: &Acknowledged, context: &str) {
    let acknowledged = acknowledged.lock().unwrap();
    let total: usize = acknowledged.iter().map(|(_, piece)| piece.len()).sum();
    assert_eq!(content.len(), total, "{context}");
    for (begin, piece) in &*acknowledged {
        let begin = *begin as usize;
        assert!(&content[begin..begin + piece.len()] == piece, "{context}: at {begin}");
    }
}

#[test]
pub(super) fn a_process_that_is_stopped_anywhere_goes_on_after_others_did() {
    // The last two go in larger strides: what they add is another way in.
    let ways: [(&[usize], bool, u64); 4] =
        [(&[300], true, 1), (&[3000, 3000, 3000], true, 1), (&[300], false, 3), (&[4096, 3000, 1], false, 3)];
    let mut points = 0;
    for (others, open_before, stride) in ways {
        let mut stop = 0;
        while run(stop, others, open_before) > stop {
            stop += stride;
        }
        assert!(stop > 100, "the script ended after {stop} steps");
        points += stop / stride;
    }
    println!("{points} points");
}
