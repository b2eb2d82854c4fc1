//! Two at once in one process, where only one may win.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use recoverylog::ErrorKind::{Fenced, Invalid};
use recoverylog::hint_store::DirectoryHints;
use recoverylog::journal::{FileJournals, FragmentJournals, random_author};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::replica::Primary;
use recoverylog::vfs::{FileSystem, OpenMode, OsFs};
use recoverylog::{Deadline, FsmHints, Replica};

use super::place::{Place, files, log_name, tree};
use super::raw::{RawLog, create, write};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

#[test]
fn of_two_restores_into_one_directory_one_is_whole_and_the_other_is_refused() {
    let mut log = RawLog::with_a_file();
    for index in 0..20 {
        let file = log.op(&create(format!("/{index}").as_bytes()), b"");
        log.op(&write(file, 0, 100), &[index; 100]);
    }
    let place = Place::of(&log.content);
    let truth = place.restore().tree().1;
    for round in 0..40 {
        let target = place.beside("target");
        if round % 2 == 0 {
            std::fs::create_dir(&target).unwrap();
        }
        let start = Barrier::new(2);
        let one = || {
            let fs = Arc::new(OsFs::new());
            let journals = FragmentJournals::open(Arc::clone(&fs) as _, place.root()).unwrap();
            let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
            let player = Player::new(&journals, &FsmHints::empty(log_name()), fs, &target, options).unwrap();
            start.wait();
            player.restore().map(drop)
        };
        let results = std::thread::scope(|scope| {
            let threads = [scope.spawn(one), scope.spawn(one)];
            threads.map(|thread| thread.join().unwrap())
        });
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "round {round}: {results:?}");
        assert_eq!(refused[0].kind(), Invalid, "round {round}: {results:?}");
        assert_eq!(files(&tree(&target)), truth, "round {round}");
        std::fs::remove_dir_all(&target).unwrap();
        // Nothing of the other is left beside it.
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1, "round {round}");
    }
}

fn record(primary: &Primary, name: &str, content: &[u8]) -> recoverylog::Result<()> {
    let path = primary.directory().join(name);
    let written = primary.fs().open(&path, OpenMode::Create).and_then(|file| file.write_all_at(content, 0));
    // The barrier says why.
    drop(written);
    primary.barrier()?.wait(soon()).map(drop)
}

#[test]
fn of_two_writers_in_one_process_the_one_that_came_first_is_fenced_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let fs: Arc<dyn FileSystem> = Arc::new(OsFs::new());
    let journals = Arc::new(FileJournals::open(at("journals")).unwrap());
    let hints = Arc::new(DirectoryHints::open(Arc::clone(&fs), &at("hints")).unwrap());
    let shard = Replica::new(journals, log_name(), hints, fs);
    let promote = |directory: &Path| {
        shard.standby(directory).unwrap().promote(random_author().unwrap(), soon()).unwrap()
    };
    let first = promote(&at("first"));
    record(&first, "file", b"by the first").unwrap();
    let second = promote(&at("second"));
    record(&second, "file", b"by the second").unwrap();
    for _ in 0..3 {
        assert_eq!(record(&first, "late", b"by nobody").unwrap_err().kind(), Fenced);
    }
    record(&second, "more", b"goes on").unwrap();
    assert_eq!(first.close(soon()).unwrap_err().kind(), Fenced);
    second.close(soon()).unwrap();
    let third = promote(&at("third"));
    let expected =
        [("file", "by the second"), ("more", "goes on")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(files(&tree(third.directory())), expected);
}
