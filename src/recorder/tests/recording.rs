//! What is recorded, when it goes out, and what waits for it.

use std::task::{Context, Poll, Waker};

use super::*;

fn durable(recorder: &Recorder) -> Position {
    recorder.barrier().unwrap().wait(soon()).unwrap()
}

#[test]
fn what_is_recorded_while_an_append_is_in_flight_goes_out_as_one() {
    let journal = Flaky::new([Fault::Hold]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    for k in 0..100 {
        recorder.write(fnode, k, b"x").unwrap();
    }
    assert_eq!(journal.sent.lock().unwrap().len(), 1);
    journal.release();
    assert_log_is_history(&journal, &recorder);
    assert_eq!(journal.sent.lock().unwrap().len(), 2);
    assert_eq!(recorder.counters().ops_durable, 101);
    assert_eq!(recorder.counters().appends, 2);
}

#[test]
fn a_batch_that_is_held_back_goes_out_when_it_is_large_or_at_a_barrier() {
    let journal = Flaky::new([]);
    let options = options().send_bytes_min(1000);
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let fnode = recorder.create(&path("/a")).unwrap();
    assert_eq!(journal.sent.lock().unwrap().len(), 0);
    recorder.write(fnode, 0, &[7; 1000]).unwrap();
    assert_eq!(journal.sent.lock().unwrap().len(), 1);
    recorder.write(fnode, 0, b"small").unwrap();
    assert_eq!(journal.sent.lock().unwrap().len(), 1);
    assert_log_is_history(&journal, &recorder);
    assert_eq!(journal.sent.lock().unwrap().len(), 2);
}

#[test]
fn a_barrier_vouches_for_what_was_recorded_before_it_and_holds_nothing_up() {
    let journal = Flaky::new([Fault::Hold, Fault::Hold]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let mut first = recorder.barrier().unwrap();
    recorder.create(&path("/b")).unwrap();
    let mut second = recorder.barrier().unwrap();
    assert_eq!(first.wait(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(!second.is_resolved());
    journal.release();
    assert_eq!(first.wait(soon()).unwrap().next_seq_no, SeqNo::new(2));
    assert_eq!(second.wait(soon()).unwrap().next_seq_no, SeqNo::new(3));
    assert_eq!(second.wait(soon()).unwrap(), recorder.committed());
}

#[test]
fn a_barrier_knows_whether_it_is_resolved_before_and_after_it_was_waited_for() {
    let journal = Flaky::new([Fault::Hold]);
    let recorder = record(&journal);
    recorder.no_op().unwrap();
    let mut barrier = recorder.barrier().unwrap();
    assert!(!barrier.is_resolved());
    assert_eq!(barrier.wait(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    journal.release();
    assert!(barrier.is_resolved());
    barrier.wait(soon()).unwrap();
    assert!(barrier.is_resolved());
    assert!(format!("{recorder:?}").contains("acme/orders"));
}

#[test]
fn the_memory_of_a_batch_is_used_again_where_the_journal_has_let_go_of_it() {
    let content = Bytes::from(vec![7; 100]);
    let kept = content.clone();
    assert_eq!(batch::reclaim(content), None);
    let again = batch::reclaim(kept).unwrap();
    assert!(again.is_empty() && again.capacity() >= 100, "{}", again.capacity());
}

#[test]
fn a_barrier_is_a_future_and_calls_back() {
    let journal = Flaky::new([Fault::Hold]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut polled = recorder.barrier().unwrap();
    recorder.barrier().unwrap().on_ready(move |outcome| sender.send(outcome).unwrap());
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut polled).poll(&mut context).is_pending());
    journal.release();
    assert_eq!(receiver.recv().unwrap().unwrap(), recorder.committed());
    let Poll::Ready(outcome) = std::pin::Pin::new(&mut polled).poll(&mut context) else { panic!("pending") };
    assert_eq!(outcome.unwrap(), recorder.committed());
}

#[test]
fn large_writes_become_operations_of_one_mebibyte() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    let bytes = (0..=5 << 19).map(|index: u32| (index >> 7) as u8).collect::<Vec<_>>();
    recorder.write(fnode, 3, &bytes).unwrap();
    assert_log_is_history(&journal, &recorder);
    let ops = accepted(&journal.inner).1;
    let (mut at, mut read) = (3, Vec::new());
    for (op, data) in &ops[1..] {
        assert_eq!(op.body, OpBody::Write { fnode, offset: at });
        assert_eq!(op.payload.unwrap().crc32c, Some(crc32c::crc32c(data)));
        assert!(data.len() <= OP_BYTES_MAX);
        at += data.len() as u64;
        read.extend_from_slice(data);
    }
    assert_eq!(read, bytes);
    assert_eq!(ops.len(), 4);
}

#[test]
fn a_caller_that_exceeds_the_credit_waits_and_after_a_while_is_refused() {
    let journal = Flaky::new([Fault::Hold]);
    let options = options().in_flight_bytes_max(1000).stall_max(Duration::from_millis(10));
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let fnode = recorder.create(&path("/a")).unwrap();
    let before = recorder.with_fsm(Fsm::next_seq_no);
    let error = recorder.write(fnode, 0, &[1; 2000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(recorder.with_fsm(Fsm::next_seq_no), before);
    journal.release();
    // More than the whole credit goes through once nothing else is on its way.
    recorder.write(fnode, 0, &[1; 2000]).unwrap();
    durable(&recorder);
    assert_eq!(recorder.credit_bytes(), 1000);
}

#[test]
fn a_waiter_for_credit_learns_of_the_failure() {
    let journal = Flaky::new([Fault::Hold]);
    let options = options().in_flight_bytes_max(1000);
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let fnode = recorder.create(&path("/a")).unwrap();
    let waiting = recorder.clone();
    let thread = std::thread::Builder::new().spawn(move || waiting.write(fnode, 0, &[1; 2000])).unwrap();
    recorder.fail(Error::new(ErrorKind::Io, "a local write failed"));
    assert_eq!(thread.join().unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert_fails_for_good(&recorder, ErrorKind::Io);
    // A journal that never answers would keep its recorder for ever.
    journal.release();
}

#[test]
fn refused_requests_record_nothing_and_are_not_failures() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let dead = recorder.create(&path("/dead")).unwrap();
    recorder.unlink(&path("/dead")).unwrap();
    let before = recorder.counters();
    let refused = [
        recorder.write(dead, 0, b"x"),
        recorder.link(dead, &path("/b")),
        recorder.unlink(&path("/dead")),
        recorder.rename(&path("/dead"), &path("/b")),
        recorder.rename_to_property(&path("/dead"), &path("/b"), Bytes::new()),
        recorder.create(&LogPath::from_bytes(b"/../escaped")).map(drop),
    ];
    for outcome in refused {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(recorder.counters(), before);
    durable(&recorder);
    assert_eq!(recorder.credit_bytes(), 16 << 20, "credit for what was refused is given back");
    recorder.create(&path("/alive")).unwrap();
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn a_transaction_that_fails_midway_ends_the_recorder_and_one_that_recorded_nothing_does_not() {
    let journal = Flaky::new([Fault::None, Fault::Hold]);
    let recorder = record(&journal);
    let give_up = |ops: i32| {
        let reserved = recorder.reserve_ops(&[]).unwrap();
        recorder.transaction(reserved, |tx| -> Result<()> {
            (0..ops).try_for_each(|_| tx.no_op(None))?;
            Err(Error::new(ErrorKind::Invalid, "a test gave up"))
        })
    };
    give_up(0).unwrap_err();
    assert!(recorder.failure().is_none());
    // One is durable, one is on its way, one waits.
    (0..3).for_each(|_| recorder.no_op().unwrap());
    give_up(2).unwrap_err();
    assert_eq!(recorder.credit_bytes(), 16 << 20, "nothing will be durable any more");
    assert!(recorder.failure().unwrap().to_string().contains("a test gave up"));
    assert_fails_for_good(&recorder, ErrorKind::Invalid);
    journal.release();
}

#[test]
fn credit_covers_what_is_on_its_way_and_not_much_more() {
    const MAX: u64 = 16 << 20;
    let long = |name: &str| path(&format!("/{}", name.repeat(225)).repeat(4));
    let call = |name: &str, recorder: &Recorder, fnode: Fnode| match name {
        "no-op" => recorder.no_op(),
        "create" => recorder.create(&long("c")).map(drop),
        "create over" => recorder.create(&long("b")).map(drop),
        "rename over" => recorder.rename(&long("a"), &long("b")),
        "link over" => recorder.link(fnode, &long("b")),
        "write nothing" => recorder.write(fnode, 0, b""),
        "write" => recorder.write(fnode, 0, &[1; 3000]),
        "empty property" => recorder.rename_to_property(&long("a"), &path("/IDENTITY"), Bytes::new()),
        _ => recorder.rename_to_property(&long("a"), &path("/IDENTITY"), Bytes::from_static(&[1; 100])),
    };
    for name in [
        "no-op",
        "create",
        "create over",
        "rename over",
        "link over",
        "write nothing",
        "write",
        "empty property",
        "property",
    ] {
        let journal = Flaky::new([Fault::None; 2].into_iter().chain([Fault::Hold]));
        let options = options().property_paths(vec![path("/IDENTITY")]);
        let shared = Arc::clone(&journal);
        let recorder = Recorder::new(shared, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
        let fnode = recorder.create(&long("a")).unwrap();
        recorder.create(&long("b")).unwrap();
        assert_eq!(recorder.credit_bytes(), MAX);
        call(name, &recorder, fnode).unwrap();
        let (taken, bytes) = (MAX - recorder.credit_bytes(), recorder.counters().bytes_in_flight());
        // How many operations there will be, and so how often a name is repeated, is not known before.
        assert!((bytes..=2 * bytes + 200).contains(&taken), "{name}: {taken} for {bytes}");
        journal.release();
        assert_log_is_history(&journal, &recorder);
    }
}

#[test]
fn counters_tell_what_was_recorded_byte_by_byte() {
    let journal = Flaky::new([Fault::None, Fault::Hold]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    // The first is on its way, and the others gather.
    for round in 1..=3 {
        recorder.write(fnode, 0, &[round; 500]).unwrap();
    }
    assert_eq!((recorder.counters().ops_recorded, recorder.counters().ops_durable), (4, 1));
    journal.release();
    let end = durable(&recorder);
    let counters = recorder.counters();
    assert_eq!((counters.ops_recorded, counters.ops_durable), (4, 4));
    assert_eq!((counters.bytes_recorded, counters.bytes_durable), (end.offset.get(), end.offset.get()));
}

#[test]
fn names_follow_posix() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let a = recorder.create(&path("/a")).unwrap();
    recorder.link(a, &path("/a2")).unwrap();
    let before = recorder.counters();
    recorder.rename(&path("/a"), &path("/a2")).unwrap();
    recorder.rename(&path("/a"), &path("/a")).unwrap();
    assert_eq!(recorder.counters(), before);
    let b = recorder.create(&path("/b")).unwrap();
    recorder.rename(&path("/b"), &path("/a")).unwrap();
    let again = recorder.create(&path("/a2")).unwrap();
    assert_log_is_history(&journal, &recorder);
    let fsm = replay(&journal.inner);
    assert_eq!((fsm.link(&path("/a")), fsm.link(&path("/a2"))), (Some(b), Some(again)));
    assert_eq!((fsm.link(&path("/b")), fsm.node(a)), (None, None));
}

#[test]
fn a_property_is_only_replaced_whole() {
    let journal = Flaky::new([]);
    let options = options().property_paths(vec![path("/IDENTITY")]);
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let fnode = recorder.create(&path("/tmp")).unwrap();
    for outcome in [
        recorder.create(&path("/IDENTITY")).map(drop),
        recorder.link(fnode, &path("/IDENTITY")),
        recorder.unlink(&path("/IDENTITY")),
        recorder.rename(&path("/tmp"), &path("/IDENTITY")),
    ] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("/IDENTITY"), "{error}");
    }
    assert!(recorder.is_property(&path("/IDENTITY")) && !recorder.is_property(&path("/tmp")));
    recorder.rename_to_property(&path("/tmp"), &path("/IDENTITY"), Bytes::from_static(b"me")).unwrap();
    assert_log_is_history(&journal, &recorder);
    let fsm = replay(&journal.inner);
    assert_eq!(fsm.property(&path("/IDENTITY")).unwrap(), "me");
    assert_eq!(fsm.live_files(), 0);
    // What is a property of the history needs no naming.
    let next = take_over(&journal, B);
    assert!(next.is_property(&path("/IDENTITY")) && !next.is_property(&path("/tmp")));
}

#[test]
fn hints_lead_to_the_head_they_were_taken_at() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    recorder.write(fnode, 0, b"x").unwrap();
    let hints = recorder.take_hints().unwrap().wait(soon()).unwrap();
    let as_of = hints.as_of.unwrap();
    let durable = durable(&recorder);
    assert_eq!((as_of.offset, as_of.checksum), (durable.offset, durable.next_checksum));
    assert_eq!(as_of.seq_no.next(), durable.next_seq_no);
    assert_eq!(as_of.author, Some(author(A)));
    let last = hints.flatten().unwrap().segments.as_slice().last().unwrap().clone();
    assert_eq!((last.last_seq_no, last.end_offset), (as_of.seq_no, Some(as_of.offset)));
    assert_eq!(last.end_checksum, Some(as_of.checksum));
}

#[test]
fn hints_are_published_only_once_their_anchor_is_durable() {
    let journal = Flaky::new([Fault::None, Fault::Hold]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let mut hints = recorder.take_hints().unwrap();
    assert_eq!(hints.wait(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    let once = recorder.take_hints().unwrap();
    assert_eq!(once.wait_once(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    journal.release();
    let waited_for = hints.wait(soon()).unwrap();
    assert_eq!(hints.wait_once(soon()).unwrap(), waited_for, "what was waited for before is there");
    assert!(recorder.take_hints().unwrap().wait_once(soon()).is_ok());
}

#[test]
fn hints_of_an_empty_tree_are_anchored_by_a_reserved_file() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let hints = recorder.take_hints().unwrap().wait(soon()).unwrap();
    assert_eq!(hints.files.len(), 1);
    assert_eq!(hints.as_of.unwrap().seq_no, SeqNo::new(2));
    assert!(replay(&journal.inner).link(&path("/.recoverylog/anchor")).is_some());
    // Another set needs no second file.
    let hints = recorder.take_hints().unwrap().wait(soon()).unwrap();
    assert_eq!((hints.files.len(), hints.as_of.unwrap().seq_no), (1, SeqNo::new(3)));
    // Once there are files, it goes.
    let fnode = recorder.create(&path("/a")).unwrap();
    let hints = recorder.take_hints().unwrap().wait(soon()).unwrap();
    assert_eq!(hints.files.iter().map(|file| file.fnode).collect::<Vec<_>>(), [fnode]);
    assert!(replay(&journal.inner).link(&path("/.recoverylog/anchor")).is_none());
}

#[test]
fn a_fork_takes_another_log_over_with_a_no_op_that_sets_the_register() {
    let old = MemoryJournals::new().journal(&JournalName::new("acme/old").unwrap());
    let name = old.name().clone();
    let recorder = Recorder::new(old, Fsm::new(name.clone()), Offset::ZERO, author(A), options()).unwrap();
    recorder.create(&path("/a")).unwrap();
    durable(&recorder);
    let fsm = recorder.history();

    let journal = Flaky::new([]);
    journal.inner.append(Append::new(&b"x"[..]).union_author(author(77)), soon()).unwrap();
    let head = journal.head(soon()).unwrap().offset;
    let journals = Arc::clone(&journal);
    let fork = Recorder::new(journals, fsm, head, author(B), options()).unwrap();
    let fnode = fork.create(&path("/b")).unwrap();
    assert_eq!(fnode, Fnode::new(SeqNo::new(3)));
    let hints = fork.take_hints().unwrap().wait(soon()).unwrap();
    assert_eq!(hints.log, Some(log_name()));
    assert_eq!(hints.files[0].segments[0].log, Some(name));
    assert!(hints.flatten().is_ok());
    let registers = journal.head(soon()).unwrap().registers;
    assert!(registers.values("author").eq([author(B).register_value()]));
    let sent = journal.sent.lock().unwrap();
    assert!(sent[0].check.is_none() && sent[1].check.is_some());
    assert!(!sent[0].union.is_empty() && sent[1].union.is_empty());
}

#[test]
fn marks_never_go_back_in_time() {
    #[derive(Debug)]
    struct Backwards(std::sync::atomic::AtomicI64);
    impl Clock for Backwards {
        fn unix_nanos(&self) -> i64 {
            self.0.fetch_sub(10, std::sync::atomic::Ordering::Relaxed)
        }
    }
    let journal = Flaky::new([]);
    let options = options().clock(Arc::new(Backwards(1000.into())));
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    recorder.no_op().unwrap();
    recorder.no_op().unwrap();
    let ops = accepted(&journal.inner).1;
    let nanos = ops.iter().map(|(op, _)| op.mark.as_ref().unwrap().unix_nanos).collect::<Vec<_>>();
    assert_eq!(nanos, [1000, 1000]);
}

#[test]
fn many_threads_record_one_history() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let recorder = &recorder;
            scope.spawn(move || {
                let fnode = recorder.create(&path(&format!("/{thread}"))).unwrap();
                for k in 0..500 {
                    recorder.write(fnode, k, &[k as u8; 100]).unwrap();
                    if k % 50 == 0 {
                        recorder.barrier().unwrap().wait(soon()).unwrap();
                    }
                }
            });
        }
    });
    assert_log_is_history(&journal, &recorder);
    assert_eq!(recorder.counters().ops_durable, 4 * 501);
}

#[test]
fn a_file_that_is_linked_where_it_is_already_stays_there() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    let before = recorder.with_fsm(Fsm::next_seq_no);
    recorder.link(fnode, &path("/a")).unwrap();
    assert_eq!(recorder.with_fsm(Fsm::next_seq_no), before);
    recorder.write(fnode, 0, b"still there").unwrap();
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn the_live_map_is_told_of_everything_sooner_or_later() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    for page in 0..200_000 {
        recorder.write(fnode, page % 7, b"x").unwrap();
    }
    assert_eq!(recorder.with_live_map(|live| live.locate(fnode, 0..7).count()), Some(7));
    assert!(!recorder.inner.lock().is_fed());
    let again = |fsm: Fsm, options: RecorderOptions| {
        Recorder::new(journal.clone(), fsm, recorder.committed().offset, author(A), options)
    };
    let cloned = again(recorder.with_fsm(Fsm::clone), options()).unwrap_err();
    assert_eq!(cloned.kind(), ErrorKind::Invalid);
    let coarse = again(recorder.with_fsm(Fsm::clone), options().live_map(false)).unwrap();
    assert_eq!(coarse.with_live_map(|_| ()), None);
    let fine = again(recorder.history(), options()).unwrap();
    assert_eq!(fine.with_live_map(|live| live.locate(fnode, 0..7).count()), Some(7));
}

/// A clock that steps back.
#[derive(Debug, Default)]
struct Back(std::sync::atomic::AtomicI64);

impl Clock for Back {
    fn unix_nanos(&self) -> i64 {
        1_000 - self.0.fetch_add(7, std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn marks_have_the_names_that_they_were_given_and_there_are_none_in_vain() {
    let journal = MemoryJournals::new().journal(&log_name());
    let options = RecorderOptions::default().clock(Arc::new(Back::default()));
    let recorder =
        Recorder::new(journal.clone(), Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    let longest = "x".repeat(255);
    for (index, name) in ["before 2.0", "\u{fc}ber", &longest].into_iter().enumerate() {
        assert_eq!(recorder.mark(name).unwrap().get(), index as i64 + 1);
    }
    let too_long = "x".repeat(256);
    for name in ["", "two\nlines", "\0", &too_long] {
        assert_eq!(recorder.mark(name).unwrap_err().kind(), ErrorKind::Invalid, "{name:?}");
    }
    // Nothing was recorded since, and then something is.
    recorder.mark_time().unwrap();
    recorder.create(&path("a")).unwrap();
    recorder.mark_time().unwrap();
    recorder.mark_time().unwrap();
    recorder.barrier().unwrap().wait(soon()).unwrap();
    let ops: Vec<_> = accepted(&journal).1.into_iter().map(|(op, _)| op).collect();
    let marks: Vec<_> = ops.iter().filter_map(|op| op.mark.clone()).collect();
    assert_eq!((ops.len(), marks.len()), (5, 4));
    assert!(marks.windows(2).all(|pair| pair[0].unix_nanos <= pair[1].unix_nanos), "{marks:?}");
    assert_eq!(marks[1].name.as_deref(), Some("\u{fc}ber".as_bytes()));
    assert_eq!(marks[3].name, None);

    let plain = RecorderOptions::default().extensions(false);
    let journal = MemoryJournals::new().journal(&log_name());
    let recorder =
        Recorder::new(journal.clone(), Fsm::new(log_name()), Offset::ZERO, author(A), plain).unwrap();
    assert_eq!(recorder.mark("a").unwrap_err().kind(), ErrorKind::Invalid);
    recorder.create(&path("a")).unwrap();
    recorder.mark_time().unwrap();
    assert_eq!(recorder.with_fsm(|fsm| fsm.next_seq_no().get()), 2, "nothing but the file was recorded");
}
