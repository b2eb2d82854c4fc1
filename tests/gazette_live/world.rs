//! The broker that the environment names, and journals of one run in it.
//!
//! *Invariants.* Journals of a run lie below a folder of their own, under the names that a test gives them.
//!
//! *Does not* remove them: a broker has no call that would.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use recoverylog::completion::Completion;
use recoverylog::journal::{
    Append, Appended, Capabilities, Codec, Fragment, GazetteJournals, GazetteOptions, Head, Journal,
    JournalError, JournalReader, Journals, NewJournal, ReadRange, random_author,
};
use recoverylog::{Deadline, JournalName};

/// Bytes of a fragment.
pub(crate) const FRAGMENT: u64 = 4 << 10;

/// Journals that lie below one folder of this run, under the names that a case gives them.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    pub(crate) folder: String,
    pub(crate) journals: GazetteJournals,
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
pub(crate) fn cluster(options: GazetteOptions, codec: Codec) -> Option<Below> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Ok(broker) = std::env::var("GAZETTE_BROKER") else {
        println!("not run: GAZETTE_BROKER names no broker");
        return None;
    };
    let author = random_author().unwrap().register_value();
    let folder = format!("live/{author}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let journals = GazetteJournals::new([broker], options).unwrap().creating(new_journal(codec));
    Some(Below { folder, journals })
}

/// Describes journals of small fragments, on one broker.
pub(crate) fn new_journal(codec: Codec) -> NewJournal {
    let mut new = NewJournal::new("file:///");
    (new.replication, new.fragment_bytes, new.codec) = (1, FRAGMENT, codec);
    (new.refresh_every, new.flush_every) = (Duration::from_secs(1), Duration::from_secs(60));
    new
}

pub(crate) fn with_files() -> GazetteOptions {
    let mut options = GazetteOptions::default();
    options.file_root = std::env::var_os("GAZETTE_ROOT").map(PathBuf::from);
    options
}
