//! Many journals of one process.
//!
//! *Invariants.* Journals share connections and threads, and nothing else: what one waits for, another does not.
//!
//! *Does not* measure rates.

use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{Append, Journal, Journals, ReadRange, ReadStep};
use recoverylog::{Deadline, Offset};

use crate::double::{Call, Fault};
use crate::{Fixture, ONE, at, bytes, name, read_all, soon, within};

fn minute(test: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), test);
}

#[test]
fn a_journal_that_stalls_does_not_stall_another() {
    minute(|| {
        let mut options = crate::quick();
        options.append_max = Duration::from_secs(30);
        let fixture = Fixture::with(crate::double::Options::default(), options);
        let other = fixture.journals.open(&name("acme/other")).unwrap();
        fixture.double.plan(Call::Append, Some(ONE), 1, Fault::Stall(Duration::from_secs(10)));
        let stalled: Vec<_> = (0..10).map(|_| fixture.journal.submit(Append::new(&b"abcd"[..]))).collect();
        let before = Deadline::after(Duration::from_secs(5));
        for _ in 0..100 {
            other.append(Append::new(&b"abcd"[..]), soon()).unwrap();
        }
        let range = ReadRange::bounded(Offset::ZERO, at(400));
        assert_eq!(read_all(&mut *other.read(range).unwrap()).unwrap(), b"abcd".repeat(100));
        assert!(!before.has_passed());
        assert!(stalled.iter().all(|one| !one.is_resolved()));
    });
}

#[test]
fn a_reader_that_nobody_takes_from_does_not_hold_up_others() {
    minute(|| {
        let fixture = Fixture::new();
        let piece = vec![7; 1 << 20];
        for _ in 0..16 {
            fixture.append(&piece).unwrap();
        }
        let mut lazy: Vec<_> =
            (0..20).map(|_| fixture.journal.read(ReadRange::follow(Offset::ZERO)).unwrap()).collect();
        for reader in &mut lazy {
            assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(_)));
        }
        let before = Deadline::after(Duration::from_secs(15));
        assert_eq!(fixture.read().unwrap().len(), 16 << 20);
        fixture.append(b"abcd").unwrap();
        assert!(!before.has_passed());
        // They go on where they are.
        let mut reader = lazy.pop().unwrap();
        while reader.offset() < at((16 << 20) + 4) {
            assert!(matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(_)));
        }
    });
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Threads of the client itself, which all have its name.
fn threads_of_clients() -> usize {
    let names = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("recoverylog")).count()
}

#[test]
fn two_hundred_journals_share_one_connection_and_no_journal_has_a_thread() {
    minute(|| {
        let fixture = Fixture::new();
        let others = threads();
        let open = |index: usize| fixture.journals.open(&name(&format!("acme/{index:04}"))).unwrap();
        let journals: Vec<Arc<dyn Journal>> = (0..200).map(open).collect();
        let mut readers: Vec<_> =
            journals.iter().map(|journal| journal.read(ReadRange::follow(Offset::ZERO)).unwrap()).collect();
        let submit = |journal: &Arc<dyn Journal>| journal.submit(Append::new(&b"abcd"[..]));
        let submitted: Vec<_> = journals.iter().map(submit).collect();
        for mut one in submitted {
            assert_eq!(one.wait(soon()).unwrap().unwrap().end, at(4));
        }
        for reader in &mut readers {
            match reader.next(soon()).unwrap() {
                ReadStep::Chunk(chunk) => assert_eq!(bytes(&chunk), b"abcd"),
                step => panic!("{step:?}"),
            }
        }
        assert_eq!(fixture.double.accepted(0), 1);
        // Other tests of this process come and go: far fewer than journals.
        let (now, clients) = (threads(), threads_of_clients());
        assert!(now < others + 100, "{others} threads before, {now} now");
        assert!(clients > 0 && clients < 60, "{clients} threads of clients");
        assert_eq!(fixture.journals.list().unwrap().len(), 201);
    });
}
