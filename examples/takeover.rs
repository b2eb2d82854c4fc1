//! Records a directory, takes it over elsewhere, and shows that the old writer is fenced. All in one process.
//!
//! Leaves everything in the directory that is named, which must not be there yet; otherwise in a temporary one.

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{FileJournals, random_author};
use recoverylog::replica::Replica;
use recoverylog::vfs::{FileSystem, OpenMode, OsFs};
use recoverylog::{Deadline, ErrorKind, JournalName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let place = std::env::args_os().nth(1).map_or_else(|| temporary.path().join("takeover"), PathBuf::from);
    let soon = || Deadline::after(Duration::from_secs(10));
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    fs.create_dir(&place)?;

    // One shard: a log in a journal, and hints that say which ranges of it matter.
    let journals = Arc::new(FileJournals::open(place.join("journals"))?);
    let hints = Arc::new(DirectoryHints::open(Arc::clone(&fs), &place.join("hints"))?);
    let shard = Replica::new(journals, JournalName::new("acme/orders-007")?, hints, fs);

    // The first primary finds an empty log. What it changes in its directory goes into the journal too.
    let first = shard.standby(&place.join("first"))?.promote(random_author()?, soon())?;
    let file = first.fs().open(&place.join("first/greeting"), OpenMode::CreateNew)?;
    file.write_all_at(b"hello", 0)?;
    file.sync_data()?; // Returns when the journal is durable.
    first.publish_hints(soon())?;

    // A standby plays what the hints name, and follows the log. Promoted, it fences whoever wrote the log.
    let standby = shard.standby(&place.join("second"))?;
    standby.wait_for_tail(soon())?;
    let second = standby.promote(random_author()?, soon())?;
    let mut content = [0; 5];
    second.fs().open(&place.join("second/greeting"), OpenMode::Read)?.read_exact_at(&mut content, 0)?;
    println!("the second primary reads {:?}", String::from_utf8_lossy(&content));

    // The first cannot add anything any more.
    file.write_all_at(b"HELLO", 0)?;
    match first.barrier().and_then(|mut barrier| barrier.wait(soon())) {
        Err(refused) if refused.kind() == ErrorKind::Fenced => println!("the first primary: {refused}"),
        other => return Err(format!("expected the first primary to be fenced, found {other:?}").into()),
    }
    second.close(soon())?;
    Ok(())
}
