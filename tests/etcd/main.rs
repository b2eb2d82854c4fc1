//! Goal: hints in etcd are those of Gazette's consumers, key by key, and keep what the contract of hint stores says, whatever
//! happens to etcd and to the way there.
//!
//! Method: each test starts an etcd of its own, the program `etcd` or the one that `ETCD` names; where there is none, it says
//! that it was not run. What the reference stored, by its own run against etcd, is compared key by key and byte by byte. A
//! proxy in between loses connections, requests and answers. Each test has a time in which it must end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and says what it did; it starts a server in a folder"
)]

#[path = "../shared/authority.rs"]
mod authority;
mod away;
mod conformance;
mod keys;
mod limits;
mod proxy;
mod rotation;
mod safe;
mod server;
mod tool;

use std::sync::mpsc;
use std::time::Duration;

use recoverylog::hint_store::{Etcd, EtcdHints, EtcdOptions, HintStore};
use recoverylog::hints::AsOf;
use recoverylog::{Author, Checksum, Deadline, FsmHints, JournalName, Offset, SeqNo};

use server::Server;

/// The keys of most tests.
const KEY: &str = "/hints/shard-A";
const LOG: &str = "recovery/logs/shard-A";

/// Runs a test over an etcd of its own, if there is one here.
fn with_etcd(test: impl FnOnce(Server) + Send + 'static) {
    let Some(server) = Server::start(&[]) else { return };
    within(Duration::from_secs(120), move || test(server));
}

/// Runs a test that ends within `time`, or has failed.
fn within(time: Duration, test: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let run = move || {
        test();
        ended.send(()).unwrap();
    };
    let thread = std::thread::Builder::new().name("test".into()).spawn(run).unwrap();
    match end.recv_timeout(time) {
        Ok(()) => thread.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it has failed"))
        }
    }
}

/// Longer than anything takes: a wait that ends here has failed.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn after_millis(millis: u64) -> Deadline {
    Deadline::after(Duration::from_millis(millis))
}

fn log() -> JournalName {
    JournalName::new(LOG).unwrap()
}

/// Options with short waits.
fn quick() -> EtcdOptions {
    let mut options = EtcdOptions::default();
    (options.connect_max, options.answer_max) = (Duration::from_secs(1), Duration::from_secs(1));
    options
}

fn hints_at(address: &str) -> EtcdHints {
    Etcd::new([address], quick()).unwrap().hints(KEY).unwrap()
}

/// Hints without files, as of one point of history.
fn set(seq_no: i64, author: u32) -> FsmHints {
    let as_of = AsOf {
        offset: Offset::new(seq_no as u64 * 10).unwrap(),
        seq_no: SeqNo::new(seq_no),
        checksum: Checksum::new(7),
        author: Author::new(author),
        unix_nanos: seq_no,
    };
    FsmHints { as_of: Some(as_of), ..FsmHints::empty(log()) }
}

/// Returns the sequence numbers of what can be read, best first.
fn points(hints: &dyn HintStore) -> Vec<i64> {
    let candidates = hints.candidates(&log(), soon()).unwrap();
    let read = candidates.into_iter().filter_map(|candidate| candidate.hints.ok());
    read.map(|set| set.last_seq_no().map_or(0, SeqNo::get)).collect()
}
