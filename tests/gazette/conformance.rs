//! The suite that every journal runs, over the double.
//!
//! *Invariants.* What is declined is what brokers have no call for.
//!
//! *Does not* let anything go wrong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::conformance::{self, Place};
use recoverylog::journal::{Codec, GazetteJournals, GazetteOptions, Journal, JournalError, Journals};
use recoverylog::{Error, JournalName};

use crate::double::{Double, Options};
use crate::{FRAGMENT_BYTES, new_journal, within};

/// A client with the cluster that it is of.
struct Kept {
    journals: GazetteJournals,
    _double: Arc<Double>,
}

impl Journals for Kept {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        self.journals.open(name)
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        self.journals.list()
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.journals.fmt(f)
    }
}

/// Returns a place in a cluster of its own, of which `seeds` are named to the client.
fn place(options: Options, seeds: &'static [usize], codec: Codec) -> Place {
    let file_root = options.store.clone();
    let double = Arc::new(Double::start(options));
    let open = move || {
        let mut options = GazetteOptions::default();
        options.file_root.clone_from(&file_root);
        let mut new = new_journal();
        new.codec = codec;
        let seeds = seeds.iter().map(|&seed| double.address(seed));
        let journals = GazetteJournals::new(seeds, options).unwrap().creating(new);
        Arc::new(Kept { journals, _double: Arc::clone(&double) }) as Arc<dyn Journals>
    };
    Place::empty(open(), FRAGMENT_BYTES).reopened_by(open)
}

fn conforms(make: impl Fn() -> Place + Send + 'static) {
    within(Duration::from_secs(120), move || {
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert!(report.declined.iter().all(|case| case.contains("prune")), "{:?}", report.declined);
    });
}

#[test]
fn journals_of_one_broker_conform() {
    conforms(|| place(Options::default(), &[0], Codec::None));
}

#[test]
fn journals_of_brokers_that_ask_the_primary_conform() {
    let options = Options { brokers: 3, primary: 2, ..Options::default() };
    conforms(move || place(options.clone(), &[0], Codec::None));
}

#[test]
fn journals_of_brokers_that_name_the_primary_conform() {
    let options = Options { brokers: 3, primary: 2, proxies: false, ..Options::default() };
    conforms(move || place(options.clone(), &[0], Codec::None));
}

#[test]
fn journals_conform_whose_fragments_are_read_from_their_store_in_every_codec() {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        conforms(move || {
            let store = tempfile::tempdir().unwrap().keep();
            place(Options { store: Some(store), ..Options::default() }, &[0], codec)
        });
    }
}
