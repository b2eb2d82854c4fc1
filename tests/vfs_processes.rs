//! Goal: locks and shared words work between processes, and a killed process leaves its words but no lock.
//! Method: a child is this test binary, started again; the two take turns through the words under test.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use recoverylog::Deadline;
use recoverylog::vfs::{File, FileSystem, LockMode, OpenMode, OsFs, SharedWords};

/// Tells a child which file to use.
const FILE: &str = "RECOVERYLOG_TEST_FILE";

/// Long enough for a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(60);

/// Words by which the processes take turns.
const OF_PARENT: usize = 0;
const OF_CHILD: usize = 1;

fn say(words: &dyn SharedWords, index: usize, value: u64) {
    words.word(index).unwrap().store(value, SeqCst);
    words.wake(index);
}

fn hear(words: &dyn SharedWords, index: usize, value: u64) {
    let deadline = Deadline::after(LONG);
    loop {
        let seen = words.word(index).unwrap().load(SeqCst);
        if seen == value {
            return;
        }
        assert!(!deadline.has_passed(), "word {index} is {seen}, not {value}");
        words.wait(index, seen, deadline);
    }
}

fn open(path: &Path) -> std::sync::Arc<dyn File> {
    OsFs::new().open(path, OpenMode::Create).unwrap()
}

fn start_child(path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child"]).env(FILE, path).spawn().unwrap()
}

#[test]
fn locks_and_words_are_shared_by_processes_and_a_kill_ends_the_lock_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = open(&path);
    let words = file.map_shared(2).unwrap();
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    let mut child = start_child(&path);

    // The child has found the lock taken, and waits for it.
    hear(&*words, OF_CHILD, 1);
    file.unlock().unwrap();
    say(&*words, OF_PARENT, 1);
    hear(&*words, OF_CHILD, 2);
    assert!(!file.try_lock(LockMode::Shared).unwrap());

    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    assert_eq!(words.word(OF_CHILD).unwrap().load(SeqCst), 2);
}

#[test]
#[ignore = "the child of the test above"]
fn child() {
    let file = open(&PathBuf::from(std::env::var_os(FILE).unwrap()));
    let words = file.map_shared(2).unwrap();
    assert!(!file.try_lock(LockMode::Exclusive).unwrap());
    say(&*words, OF_CHILD, 1);
    hear(&*words, OF_PARENT, 1);
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    say(&*words, OF_CHILD, 2);
    // Until it is killed.
    hear(&*words, OF_PARENT, 2);
}
