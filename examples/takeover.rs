//! Records a directory, takes it over elsewhere, and shows that the old writer is fenced. All in one process.

#![expect(clippy::print_stdout, reason = "an example tells what it does")]

use std::{sync::Arc, time::Duration};

use recoverylog::journal::{FileJournals, Journals, random_author};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::recorded_fs::{RecordedFs, RecordedFsOptions};
use recoverylog::vfs::{FileSystem, OpenMode, OsFs};
use recoverylog::{Deadline, ErrorKind, Fsm, JournalName, Offset, Recorder, RecorderOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let (data, elsewhere) = (place.path().join("data"), place.path().join("elsewhere"));
    let soon = || Deadline::after(Duration::from_secs(10));

    // Record: what changes below `data` goes into the journal too.
    let journals = FileJournals::open(place.path().join("journals"))?;
    let log = JournalName::new("acme/orders-007")?;
    let history = Fsm::new(log.clone());
    let options = RecorderOptions::default();
    let recorder = Recorder::new(journals.open(&log)?, history, Offset::ZERO, random_author()?, options)?;
    OsFs::new().create_dir(&data)?;
    let fs = RecordedFs::new(OsFs::new(), &data, recorder, RecordedFsOptions::default());
    let file = fs.open(&data.join("greeting"), OpenMode::CreateNew)?;
    file.write_all_at(b"hello", 0)?;
    file.sync_data()?; // Returns when the journal is durable.
    let hints = fs.recorder().take_hints()?.wait(soon())?;

    // Take over: play what the hints name, follow the log, and fence whoever wrote it.
    let player = Player::new(&journals, &hints, Arc::new(OsFs::new()), &elsewhere, PlayOptions::default())?;
    let played = player.follow()?.promote(random_author()?, soon())?;
    println!("{} files at offset {}", played.fsm.links().count(), played.position);
    let file_there = OsFs::new().open(&elsewhere.join("greeting"), OpenMode::Read)?;
    let mut content = [0; 5];
    file_there.read_exact_at(&mut content, 0)?;
    assert_eq!(&content, b"hello");

    // The old writer cannot add anything any more.
    file.write_all_at(b"HELLO", 0)?;
    match fs.recorder().barrier().and_then(|mut barrier| barrier.wait(soon())) {
        Err(refused) if refused.kind() == ErrorKind::Fenced => println!("the old writer: {refused}"),
        other => return Err(format!("expected the old writer to be fenced, found {other:?}").into()),
    }
    Ok(())
}
