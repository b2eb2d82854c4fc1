//! Fragments straight from their store: what is in it, and what is wrong with it.
//!
//! *Invariants.* A fragment that is not what it is named as is damage. One that cannot be had is read through the broker.
//!
//! *Does not* speak to an object store over the network.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use recoverylog::journal::{Codec, GazetteJournals, JournalError, Journals, ReadRange};
use tempfile::TempDir;

use crate::double::Options;
use crate::{Fixture, ONE, at, name, new_journal, quick, read_all, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

type Damage = fn(&mut Vec<u8>);

const CODECS: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Zstandard, Codec::Snappy];

/// A cluster with a store that the client reaches too.
fn fixture(codec: Codec) -> (TempDir, Fixture) {
    let store = tempfile::tempdir().unwrap();
    let mut client_options = quick();
    client_options.file_root = Some(store.path().to_owned());
    let options = Options { store: Some(store.path().to_owned()), ..Options::default() };
    let double = crate::double::Double::start(options);
    let mut new = new_journal();
    new.codec = codec;
    let journals = GazetteJournals::new([double.address(0)], client_options).unwrap().creating(new);
    let journal = journals.open(&name(ONE)).unwrap();
    (store, Fixture { journal, journals, double })
}

/// Returns the files of the journal, in order.
fn files(store: &TempDir) -> Vec<PathBuf> {
    let there = fs::read_dir(store.path().join(ONE)).unwrap();
    let mut files: Vec<_> = there.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_is_stored_is_read_from_its_store_and_not_through_the_broker() {
    for codec in CODECS {
        minute(move || {
            let (store, fixture) = fixture(codec);
            let whole = fixture.filled(20);
            assert!(files(&store).len() > 5);
            // What the broker has now is not what it has stored.
            fixture.double.change(ONE, |log| log.content.fill(0));
            let stored = fixture.double.change(ONE, |log| log.fragments.last().unwrap().end as u64);
            for (begin, end) in [(0, stored), (2_990, 3_010), (5, stored - 5), (7_000, 7_001)] {
                let range = ReadRange::bounded(at(begin), at(end));
                let found = read_all(&mut *fixture.journal.read(range).unwrap()).unwrap();
                assert!(found == whole[begin as usize..end as usize], "{codec:?} [{begin}, {end})");
            }
        });
    }
}

#[test]
fn a_fragment_that_is_not_there_is_read_through_the_broker() {
    minute(|| {
        let (store, fixture) = fixture(Codec::Snappy);
        let whole = fixture.filled(20);
        for file in files(&store).into_iter().skip(1) {
            fs::remove_file(file).unwrap();
        }
        assert!(fixture.read().unwrap() == whole);
    });
}

#[test]
fn a_stored_fragment_that_is_not_what_it_is_named_as_is_damage() {
    for codec in CODECS {
        minute(move || {
            let damages: [(&str, Damage); 5] = [
                ("shorter", |bytes| bytes.truncate(bytes.len() / 2)),
                ("empty", Vec::clear),
                ("other bytes", |bytes| {
                    let within = bytes.len() / 4;
                    bytes[within] ^= 1;
                }),
                ("longer", |bytes| bytes.extend_from_within(..)),
                ("other bytes at the end", |bytes| *bytes.last_mut().unwrap() ^= 0xff),
            ];
            for (what, damage) in damages {
                let (store, fixture) = fixture(codec);
                fixture.filled(8);
                let file = files(&store)[1].clone();
                let mut bytes = fs::read(&file).unwrap();
                damage(&mut bytes);
                fs::write(file, bytes).unwrap();
                let failed = fixture.read().map(|found| found.len());
                assert!(matches!(failed, Err(JournalError::Corrupt { .. })), "{codec:?} {what}: {failed:?}");
            }
        });
    }
}

#[test]
fn an_address_that_leads_out_of_the_store_is_not_followed() {
    use crate::double::{Call, Fault};
    minute(|| {
        let (_store, fixture) = fixture(Codec::None);
        let whole = fixture.filled(8);
        for url in
            ["file:///etc/passwd", "file:///../../etc/passwd", "http://127.0.0.1:1/x", "ftp://x/y", "::"]
        {
            fixture.double.plan(
                Call::Read,
                None,
                1,
                Fault::read(move |_, response| {
                    if !response.fragment_url.is_empty() {
                        response.fragment_url = url.into();
                    }
                }),
            );
            assert!(fixture.read().unwrap() == whole, "{url}");
        }
    });
}
