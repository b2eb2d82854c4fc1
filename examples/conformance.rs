//! A journal, a file system and a hint store made elsewhere, and the suites that they must pass.
//!
//! To bring one of your own: implement the trait, enable the feature `conformance` in your dev-dependencies, and
//! call the suite from a test as `main` does here. What is declared as a capability is demanded.

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

#[path = "conformance/files.rs"]
mod files;
#[path = "conformance/hints.rs"]
mod hints;
#[path = "conformance/journal.rs"]
mod journal;

use std::{error::Error, sync::Arc};

use recoverylog::conformance::Report;
use recoverylog::{hint_store, journal as journals, vfs};

use crate::files::{Meter, MeteredFs};
use crate::{hints::TableHints, journal::VecJournals};

fn main() -> Result<(), Box<dyn Error>> {
    let report = journals::conformance::run(&|| {
        let place = VecJournals::default();
        let again = place.clone();
        journals::conformance::Place::empty(Arc::new(place), journal::FRAGMENT_BYTES)
            .reopened_by(move || Arc::new(again.clone()))
    })?;
    print("VecJournals", &report);

    let can = vfs::conformance::Capabilities { power_loss: false, ..vfs::conformance::Capabilities::ALL };
    let meter = Arc::default();
    let report = vfs::conformance::run(&|| metered(&meter), can)?;
    print("MeteredFs", &report);
    let (bytes, syncs) = meter.read();
    println!("  {bytes} bytes were written, and synced {syncs} times");

    let report = hint_store::conformance::run(&|| {
        let store = TableHints::default();
        let again = store.clone();
        hint_store::conformance::Place::empty(Arc::new(store)).reopened_by(move || Arc::new(again.clone()))
    })?;
    print("TableHints", &report);
    Ok(())
}

/// A fresh directory of the operating system, metered.
#[expect(clippy::expect_used, reason = "without a temporary directory there is nothing to test")]
fn metered(meter: &Arc<Meter>) -> vfs::conformance::Fixture {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = Arc::new(MeteredFs::new(Arc::new(vfs::OsFs::new()), Arc::clone(meter)));
    vfs::conformance::Fixture::new(fs, dir.path())
        .planting_symlinks_by(|target, link| std::os::unix::fs::symlink(target, link))
        .keeping(dir)
}

fn print(what: &str, report: &Report) {
    println!(
        "{what}: {} promises kept, {} declined {:?}",
        report.held.len(),
        report.declined.len(),
        report.declined
    );
}
