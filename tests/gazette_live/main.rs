//! Goal: what a real broker does is what the journals of a cluster are written for.
//!
//! Method: runs where `GAZETTE_BROKER` names a broker, as `gazette://host:port`, whose file store is the folder that
//! `GAZETTE_ROOT` names where that is set; otherwise each test says that it was not run. Journals get names of their own, so
//! that one broker serves many runs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it did"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recoverylog::completion::Completion;
use recoverylog::journal::conformance::{self, Place};
use recoverylog::journal::{
    Append, Appended, Capabilities, Codec, Fragment, GazetteJournals, GazetteOptions, Head, Journal,
    JournalError, JournalReader, Journals, NewJournal, ReadRange, random_author,
};
use recoverylog::{Deadline, JournalName};

/// Bytes of a fragment.
const FRAGMENT: u64 = 4 << 10;

/// Journals that lie below one folder of this run, under the names that a case gives them.
#[derive(Clone, Debug)]
struct Below {
    folder: String,
    journals: GazetteJournals,
}

impl Journals for Below {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        let inner = self.journals.open(&JournalName::new(&format!("{}/{name}", self.folder)).unwrap())?;
        Ok(Arc::new(Named { name: name.clone(), inner }))
    }

    fn list(&self) -> recoverylog::Result<Vec<JournalName>> {
        let below = format!("{}/", self.folder);
        let names = self.journals.list()?;
        let names = names.iter().filter_map(|name| name.as_str().strip_prefix(&below));
        Ok(names.map(|name| JournalName::new(name).unwrap()).collect())
    }
}

/// A journal by the name that a case gives it.
#[derive(Debug)]
struct Named {
    name: JournalName,
    inner: Arc<dyn Journal>,
}

impl Journal for Named {
    fn name(&self) -> &JournalName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.inner.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        self.inner.head(deadline)
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        self.inner.read(range)
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.inner.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        self.inner.prune(fragments, deadline)
    }
}

/// Returns journals of the broker, compressed as is said; or says that there is no broker.
fn cluster(options: GazetteOptions, codec: Codec) -> Option<Below> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Ok(broker) = std::env::var("GAZETTE_BROKER") else {
        println!("not run: GAZETTE_BROKER names no broker");
        return None;
    };
    let mut new = NewJournal::new("file:///");
    (new.replication, new.fragment_bytes, new.codec) = (1, FRAGMENT, codec);
    (new.refresh_every, new.flush_every) = (Duration::from_secs(1), Duration::from_secs(60));
    let author = random_author().unwrap().register_value();
    let folder = format!("live/{author}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let journals = GazetteJournals::new([broker], options).unwrap().creating(new);
    Some(Below { folder, journals })
}

fn with_files() -> GazetteOptions {
    let mut options = GazetteOptions::default();
    options.file_root = std::env::var_os("GAZETTE_ROOT").map(PathBuf::from);
    options
}

fn conforms(options: impl Fn() -> GazetteOptions, codec: Codec) {
    if cluster(options(), codec).is_none() {
        return;
    }
    let make = || {
        let below = cluster(options(), codec).unwrap();
        let again = below.clone();
        let place = Place::empty(Arc::new(below), FRAGMENT);
        place.reopened_by(move || Arc::new(again.clone()) as Arc<dyn Journals>)
    };
    let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
    // Brokers delete nothing.
    assert!(report.declined.iter().all(|case| case.contains("prune")), "{:?}", report.declined);
}

#[test]
fn journals_of_a_broker_conform_whether_it_is_read_through_or_its_store_is() {
    conforms(GazetteOptions::default, Codec::None);
    conforms(with_files, Codec::None);
}

#[test]
fn journals_of_a_broker_conform_however_their_fragments_are_packed() {
    for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        conforms(with_files, codec);
    }
}
