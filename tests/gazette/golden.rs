//! What the reference wrote, in journals of a cluster.
//!
//! *Invariants.* Each case comes to what it comes to in files, whichever way its bytes are read.
//!
//! *Does not* know what that is: see `tests/golden_suite`.

use std::time::Duration;

use recoverylog::journal::{Codec, GazetteJournals, GazetteOptions};
use recoverylog::player::PlayOptions;

use crate::cases::all;
use crate::check::check;
use crate::double::{Double, Options};
use crate::{new_journal, within};

fn every_case(options: impl Fn() -> Options + Send + 'static, codec: Codec) {
    within(Duration::from_secs(300), move || {
        for case in all() {
            let options = options();
            let mut client = GazetteOptions::default();
            client.file_root.clone_from(&options.store);
            let double = Double::start(options);
            let mut new = new_journal();
            new.codec = codec;
            let journals = GazetteJournals::new([double.address(0)], client).unwrap().creating(new);
            let bytes = case.logs.iter().map(|(_, content)| content.len()).max().unwrap();
            // So many pieces that several fragments hold the log.
            case.write_to(&journals, (bytes / 40).max(700));
            let unsynced = PlayOptions { sync: false, ..PlayOptions::default() };
            for hints in [&case.hints_json, &case.hints_proto] {
                check(&case, &journals, hints, unsynced.clone());
            }
        }
    });
}

#[test]
fn every_golden_case_comes_to_the_same_through_brokers() {
    every_case(Options::default, Codec::None);
    every_case(|| Options { brokers: 3, primary: 1, proxies: false, ..Options::default() }, Codec::None);
}

#[test]
fn every_golden_case_comes_to_the_same_out_of_the_store_in_each_codec() {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        let store = tempfile::tempdir().unwrap().keep();
        let folder = store.clone();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let own = move || {
            let store = folder.join(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
            std::fs::create_dir(&store).unwrap();
            Options { store: Some(store), ..Options::default() }
        };
        every_case(own, codec);
        std::fs::remove_dir_all(store).unwrap();
    }
}
