//! Files that cannot be read: an I/O error stays one, through every decoder.

use super::*;
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs};

const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Zstandard, Codec::Snappy];

/// One journal of one fragment behind faults, and its content.
fn failing(codec: Codec) -> (Arc<FaultyFs<MemoryFs>>, FragmentJournal, Vec<u8>) {
    let content = noise(4, 600_000);
    let folder = Folder::new();
    folder.store("acme", 0, &content, codec);
    let fs = Arc::new(FaultyFs::new(folder.0));
    let journals = FragmentJournals::open(Arc::clone(&fs) as Arc<dyn FileSystem>, "/root").unwrap();
    let journal = journals.journal(&name("acme")).unwrap();
    (fs, journal, content)
}

#[test]
fn a_failed_call_is_an_io_error_wherever_it_fails() {
    for codec in CODECS.into_iter().filter(|codec| codec.missing_feature().is_none()) {
        for effect in [Effect::Open, Effect::Read] {
            let mut failures = 0;
            loop {
                let (fs, journal, content) = failing(codec);
                let fault = Fault::Fail(io::ErrorKind::TimedOut);
                fs.inject(FaultPlan::Nth { effect, number: failures, fault });
                match all(&journal) {
                    Err(JournalError::Io { what, source, .. }) => {
                        assert!(what.contains("/root/acme/0"), "{what}");
                        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
                    }
                    Ok(parts) => {
                        assert!(parts == [Part::Bytes(content)]);
                        break;
                    }
                    other => panic!("{codec}, {effect:?} {failures}: {other:?}"),
                }
                failures += 1;
            }
            assert!(
                failures >= if effect == Effect::Open { 1 } else { 3 },
                "{codec}, {effect:?}: {failures}"
            );
        }
    }
}

#[test]
fn short_reads_are_read_on() {
    for codec in CODECS.into_iter().filter(|codec| codec.missing_feature().is_none()) {
        let (fs, journal, content) = failing(codec);
        fs.inject(FaultPlan::Every { effect: Effect::Read, fault: Fault::Short });
        assert!(all(&journal).unwrap() == [Part::Bytes(content)], "{codec}");
    }
}

#[test]
fn nothing_is_ever_changed() {
    let (fs, journal, content) = failing(Codec::None);
    assert!(all(&journal).unwrap() == [Part::Bytes(content)]);
    drop(journal.append(Append::new(Bytes::from_static(b"x")), Deadline::passed()));
    let journals = FragmentJournals::open(Arc::clone(&fs) as Arc<dyn FileSystem>, "/root").unwrap();
    assert_eq!(journals.list().unwrap(), [name("acme")]);
    assert!(journals.open(&name("acme/none")).is_err());
    assert_eq!(fs.changes(), 0);
    assert!(fs.counts().keys().all(|effect| !effect.changes()), "{:?}", fs.counts());
}
