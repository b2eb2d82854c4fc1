//! Where journals and hints are that the processes share: in the directory of the example, or in clusters.

use std::io;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::journal::{FileJournals, Journals, random_author};
use recoverylog::vfs::{FileSystem, OsFs};
use recoverylog::{Author, JournalName, Result};
use serde::{Deserialize, Serialize};

/// What of it the command line says.
#[derive(Args, Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Shared {
    /// Record into a journal of these brokers, which is created: gazette://host:port.
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "URL")]
    journals: Option<String>,
    /// Have the brokers store fragments there.
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "URL", default_value = "file:///")]
    store: String,
    /// Have so many brokers hold each byte.
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "N", default_value_t = 1)]
    replication: u16,
    /// Keep hints in etcd, under a key of their own: etcd://host:port/PREFIX.
    #[cfg(feature = "etcd")]
    #[arg(long, value_name = "URL")]
    hints: Option<String>,
    /// A name that no other run has.
    #[arg(skip = own_name())]
    name: String,
}

/// Draws a name for the log.
fn own_name() -> String {
    let drawn = random_author().map_or_else(|_| std::process::id().to_string(), Author::register_value);
    format!("handoff-{drawn}")
}

impl Shared {
    /// Tells the processes of a run.
    #[expect(clippy::disallowed_methods, reason = "what the example tells itself is no data of a user")]
    pub(crate) fn save(&self, root: &Path) -> io::Result<()> {
        std::fs::write(root.join("shared.json"), serde_json::to_vec(self)?)
    }

    /// Returns what a process was told.
    #[expect(clippy::disallowed_methods, reason = "what the example tells itself is no data of a user")]
    pub(crate) fn load(root: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(root.join("shared.json"))?)?)
    }

    pub(crate) fn log(&self) -> Result<JournalName> {
        Ok(JournalName::new(&format!("examples/{}", self.name))?)
    }

    pub(crate) fn journals(&self, root: &Path) -> Result<Arc<dyn Journals>> {
        #[cfg(feature = "gazette")]
        if let Some(url) = &self.journals {
            use recoverylog::journal::{GazetteJournals, GazetteOptions, NewJournal};
            let mut journal = NewJournal::new(&self.store);
            journal.replication = self.replication;
            return Ok(Arc::new(GazetteJournals::at(url, GazetteOptions::default())?.creating(journal)));
        }
        Ok(Arc::new(FileJournals::open(root.join("journals"))?))
    }

    pub(crate) fn hints(&self, root: &Path) -> Result<Arc<dyn HintStore>> {
        #[cfg(feature = "etcd")]
        if let Some(url) = &self.hints {
            use recoverylog::hint_store::{EtcdHints, EtcdOptions};
            let url = format!("{}/{}", url.trim_end_matches('/'), self.name);
            return Ok(Arc::new(EtcdHints::at(&url, EtcdOptions::default())?));
        }
        let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
        Ok(Arc::new(DirectoryHints::open(fs, &root.join("hints"))?))
    }
}
