//! What a broker stored, in each of its codecs.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{FragmentJournals, Journal, Journals, ReadRange, ReadStep};
use recoverylog::vfs::OsFs;
use recoverylog::{Deadline, Offset};

use super::cases::root;

/// Bytes that the broker had persisted.
const PERSISTED_BYTES: usize = 189_182;

fn read(journal: &dyn Journal, begin: usize, end: usize) -> Vec<u8> {
    let offset = |at: usize| Offset::new(at as u64).unwrap();
    let mut reader = journal.read(ReadRange::bounded(offset(begin), offset(end))).unwrap();
    let mut content = Vec::new();
    loop {
        match reader.next(Deadline::after(Duration::from_secs(10))).unwrap() {
            ReadStep::Chunk(chunk) => {
                let at = content.len();
                content.resize(at + chunk.len() as usize, 0);
                chunk.read_exact_at(&mut content[at..], 0).unwrap();
            }
            ReadStep::End => return content,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fragments_of_every_codec_read_back_to_the_content() {
    let content = std::fs::read(root().join("fragments/content.bin")).unwrap();
    let journals = FragmentJournals::open(Arc::new(OsFs::new()), root().join("fragments")).unwrap();
    let names = journals.list().unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        let journal = journals.open(&name).unwrap();
        for (begin, end) in
            [(0, PERSISTED_BYTES), (1, 2), (22_970, 22_971), (22_000, 150_000), (101_847, 101_850)]
        {
            assert!(read(&*journal, begin, end) == content[begin..end], "{name} [{begin}, {end})");
        }
    }
}
