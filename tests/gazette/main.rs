//! Goal: a journal in a cluster of brokers keeps what the contract of journals says, whatever brokers, connections and stores
//! do; what cannot be kept is a typed error, and nothing hangs.
//!
//! Method: a double of a cluster speaks the brokers' protocol on loopback, as real ones were seen to, and goes wrong as a test
//! plans: every status and code, before and after each message of a call and after a commit; connections lost, stalls,
//! brokers that are down; answers and stored fragments that are lies. The conformance suite runs over it with one broker
//! and with three, with and without a store, in each codec. Each test has a time in which it must end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise; it makes and damages files of a store"
)]

mod appends;
#[path = "../shared/authority.rs"]
mod authority;
#[expect(dead_code, reason = "shared with the tests over files, which use all of it")]
#[path = "../golden_suite/cases.rs"]
mod cases;
#[path = "../golden_suite/check.rs"]
mod check;
#[path = "../shared/broker_claims.rs"]
mod claims;
mod conformance;
mod double;
mod golden;
mod lies;
mod many;
mod protocol;
mod raw;
mod reads;
mod shards;
mod stores;
mod tls;
mod tokens;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use recoverylog::journal::{
    Append, Appended, Chunk, GazetteJournals, GazetteOptions, Journal, JournalError, JournalReader, Journals,
    NewJournal, ReadRange, ReadStep,
};
use recoverylog::{Deadline, JournalName, Offset};

use double::{Double, Options};

/// The journal of most tests.
const ONE: &str = "acme/orders";
/// Content after which fragments of the tests end.
const FRAGMENT_BYTES: u64 = 4096;

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

/// Longer than anything takes that does not hang.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Returns options with which whatever does not work has failed soon.
fn quick() -> GazetteOptions {
    let mut options = GazetteOptions::default();
    options.connect_max = Duration::from_secs(1);
    options.answer_max = Duration::from_secs(1);
    options.append_max = Duration::from_secs(3);
    options.read_max = Duration::from_secs(3);
    options
}

fn name(name: &str) -> JournalName {
    JournalName::new(name).unwrap()
}

fn at(offset: u64) -> Offset {
    Offset::new(offset).unwrap()
}

fn new_journal() -> NewJournal {
    let mut new = NewJournal::new("file:///");
    new.fragment_bytes = FRAGMENT_BYTES;
    new
}

/// Returns a client that asks the brokers of `seeds`, and creates what it opens.
fn client(double: &Double, seeds: &[usize], options: GazetteOptions) -> GazetteJournals {
    let seeds = seeds.iter().map(|&seed| double.address(seed));
    GazetteJournals::new(seeds, options).unwrap().creating(new_journal())
}

/// A cluster of one broker, a client, and a journal that it has opened.
struct Fixture {
    journal: Arc<dyn Journal>,
    journals: GazetteJournals,
    double: Double,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options::default(), quick())
    }

    fn with(options: Options, client_options: GazetteOptions) -> Self {
        let double = Double::start(options);
        let journals = client(&double, &[0], client_options);
        let journal = journals.open(&name(ONE)).unwrap();
        Self { journal, journals, double }
    }

    fn append(&self, content: &[u8]) -> Result<Appended, JournalError> {
        self.journal.append(Append::new(content.to_vec()), soon())
    }

    /// Appends `count` pieces of 3000 bytes, so that there are fragments; returns the whole.
    fn filled(&self, count: usize) -> Vec<u8> {
        for index in 0..count {
            self.append(&noise(index, 3_000)).unwrap();
        }
        let whole = self.double.content(ONE);
        assert_eq!(whole.len(), 3_000 * count);
        whole
    }

    fn content(&self) -> Vec<u8> {
        self.double.content(ONE)
    }

    /// Reads everything below the head that the double has.
    fn read(&self) -> Result<Vec<u8>, JournalError> {
        let head = self.content().len() as u64;
        read_all(&mut *self.journal.read(ReadRange::bounded(Offset::ZERO, at(head))).unwrap())
    }
}

/// Reads to the end of a range that has no holes.
fn read_all(reader: &mut dyn JournalReader) -> Result<Vec<u8>, JournalError> {
    let mut found = Vec::new();
    loop {
        match reader.next(soon())? {
            ReadStep::Chunk(chunk) => {
                assert_eq!(chunk.offset().get(), reader.offset().get() - chunk.len());
                found.extend_from_slice(&bytes(&chunk));
            }
            ReadStep::End => return Ok(found),
            step => panic!("{step:?} at {}", found.len()),
        }
    }
}

fn bytes(chunk: &Chunk) -> Vec<u8> {
    let mut bytes = vec![0; chunk.len() as usize];
    chunk.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Bytes that differ from one seed to the next.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}
