//! Appends of unknown fate, appends that lose their place, and other writers.

use super::*;
use crate::journal::{Register, RegisterSet};

fn append_foreign(journal: &Flaky, bytes: &[u8]) {
    journal.inner.append(Append::new(bytes.to_vec()), soon()).unwrap();
}

#[test]
fn an_ambiguous_append_that_committed_is_found_and_not_repeated() {
    let journal = Flaky::new([Fault::LoseReply]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    assert_log_is_history(&journal, &recorder);
    assert_eq!(journal.sent.lock().unwrap().len(), 1);
}

#[test]
fn an_ambiguous_append_that_is_not_there_is_resent_unchanged_at_the_same_offset() {
    let journal = Flaky::new([Fault::None, Fault::Delay, Fault::Delay]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    recorder.write(fnode, 0, b"first").unwrap();
    recorder.write(fnode, 5, b"gathers while the fate of the first is unknown").unwrap();
    assert_log_is_history(&journal, &recorder);
    let sent = journal.sent.lock().unwrap();
    assert_eq!(sent.len(), 5);
    for resent in &sent[2..4] {
        assert_eq!((resent.at, &resent.content), (sent[1].at, &sent[1].content));
    }
}

#[test]
fn a_late_copy_of_an_append_that_was_resent_commits_nothing() {
    let journal = Flaky::new([Fault::Delay]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    assert_log_is_history(&journal, &recorder);
    let late = journal.deliver_delayed();
    assert!(matches!(late[..], [Err(JournalError::WrongOffset { .. })]), "{late:?}");
    recorder.create(&path("/b")).unwrap();
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn append_k_is_ambiguous_and_the_next_succeeds_and_each_is_there_once() {
    for fault in [Fault::LoseReply, Fault::Delay] {
        let journal = Flaky::new([Fault::None, fault, Fault::None, fault, Fault::None]);
        let recorder = record(&journal);
        let fnode = recorder.create(&path("/a")).unwrap();
        for k in 0..6 {
            recorder.write(fnode, k, &[k as u8]).unwrap();
            recorder.barrier().unwrap().wait(soon()).unwrap();
        }
        journal.deliver_delayed();
        assert_log_is_history(&journal, &recorder);
        assert_eq!(accepted(&journal.inner).1.len(), 7);
    }
}

#[test]
fn an_append_of_an_abandoned_journal_thread_is_resent() {
    let journal = Flaky::new([Fault::Abandon]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn an_append_that_went_elsewhere_than_it_was_to_is_found_there() {
    for faults in
        [&[Fault::Misplace][..], &[Fault::Delay, Fault::Misplace], &[Fault::Misplace, Fault::Misplace]]
    {
        let journal = Flaky::new(faults.iter().copied());
        let recorder = record(&journal);
        recorder.create(&path("/a")).unwrap();
        recorder.barrier().unwrap().wait(soon()).unwrap();
        recorder.create(&path("/b")).unwrap();
        assert_log_is_history(&journal, &recorder);
    }
}

#[test]
fn a_journal_that_takes_no_more_appends_ends_the_recorder_at_once_and_says_why() {
    for faults in [&[Fault::Refuse][..], &[Fault::Delay, Fault::Refuse]] {
        let journal = Flaky::new(faults.iter().copied());
        let recorder = record(&journal);
        recorder.create(&path("/a")).unwrap();
        let error = assert_fails_for_good(&recorder, ErrorKind::Invalid);
        assert!(error.to_string().contains("a test"), "{error}");
    }
}

#[test]
fn a_duplicate_where_offset_zero_cannot_be_named_is_passed_over() {
    let mut journal = Flaky::new([Fault::Delay]);
    Arc::get_mut(&mut journal).unwrap().capabilities.at_zero = false;
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    recorder.barrier().unwrap().wait(soon()).unwrap();
    // The late copy names no offset, and so commits a second time.
    assert!(journal.deliver_delayed()[0].is_ok());
    recorder.create(&path("/b")).unwrap();
    assert_log_is_history(&journal, &recorder);
    assert!(journal.sent.lock().unwrap()[0].at.is_none());
}

#[test]
fn bytes_before_an_append_that_could_not_name_offset_zero_are_judged() {
    let mut journal = Flaky::new([]);
    Arc::get_mut(&mut journal).unwrap().capabilities.at_zero = false;
    append_foreign(&journal, b"garbage");
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn a_writer_that_lost_its_role_is_fenced_by_the_register() {
    let journal = Flaky::new([]);
    let old = record(&journal);
    old.create(&path("/a")).unwrap();
    let new = take_over(&journal, B);
    old.create(&path("/b")).unwrap();
    assert_fails_for_good(&old, ErrorKind::Fenced);
    new.create(&path("/c")).unwrap();
    assert_log_is_history(&journal, &new);
}

#[test]
fn a_live_zombie_is_fenced_by_the_history_where_registers_were_lost() {
    let journal = Flaky::new([]);
    let old = record(&journal);
    old.create(&path("/a")).unwrap();
    let new = take_over(&journal, B);
    journal.inner.lose_registers();
    old.create(&path("/b")).unwrap();
    assert_fails_for_good(&old, ErrorKind::Fenced);
    new.create(&path("/c")).unwrap();
    assert_log_is_history(&journal, &new);
}

#[test]
fn a_live_zombie_is_fenced_by_the_history_where_registers_were_set_back_to_its_own() {
    let journal = Flaky::new([]);
    let old = record(&journal);
    old.create(&path("/a")).unwrap();
    let registers = journal.head(soon()).unwrap().registers;
    let new = take_over(&journal, B);
    journal.inner.set_registers(registers);
    old.create(&path("/b")).unwrap();
    assert_fails_for_good(&old, ErrorKind::Fenced);
    // A false alarm, and terminal all the same: nothing that was acknowledged is lost.
    new.create(&path("/c")).unwrap();
    assert_fails_for_good(&new, ErrorKind::Fenced);
    assert!(replay(&journal.inner).link(&path("/b")).is_none());
}

#[test]
fn registers_that_were_lost_are_set_again_by_the_append_after_the_one_that_saw_it() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let ours = RegisterSet::from_iter([Register::new("author", author(A).register_value())]);
    assert_eq!(journal.head(soon()).unwrap().registers, ours);
    journal.inner.lose_registers();
    recorder.create(&path("/b")).unwrap();
    assert!(journal.head(soon()).unwrap().registers.is_empty());
    recorder.create(&path("/c")).unwrap();
    assert_eq!(journal.head(soon()).unwrap().registers, ours);
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn a_stale_retry_of_the_own_hand_off_no_op_is_passed_over() {
    let journal = Flaky::new([]);
    record(&journal).create(&path("/a")).unwrap();
    let (no_op, _) = op(&replay(&journal.inner), B, OpBody::NoOp);
    let new = take_over(&journal, B);
    append_foreign(&journal, &no_op);
    new.create(&path("/b")).unwrap();
    assert_log_is_history(&journal, &new);
}

#[test]
fn a_stale_retry_of_anothers_hand_off_no_op_fences_by_its_register_and_loses_nothing() {
    let journal = Flaky::new([]);
    record(&journal).create(&path("/a")).unwrap();
    let (no_op, _) = op(&replay(&journal.inner), 1003, OpBody::NoOp);
    let new = take_over(&journal, B);
    new.create(&path("/b")).unwrap();
    new.barrier().unwrap().wait(soon()).unwrap();
    journal.inner.append(Append::new(no_op).union_author(author(1003)), soon()).unwrap();
    new.create(&path("/c")).unwrap();
    assert_fails_for_good(&new, ErrorKind::Fenced);
    let again = take_over(&journal, 1004);
    assert!(again.with_fsm(|fsm| fsm.link(&path("/b")).is_some() && fsm.link(&path("/c")).is_none()));
}

#[test]
fn another_authors_operation_fences_even_where_its_link_rule_fails() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let (create, _) = op(&replay(&journal.inner), B, OpBody::Create { path: path("/a") });
    append_foreign(&journal, &[b"junk before it", &create[..]].concat());
    recorder.create(&path("/b")).unwrap();
    let error = assert_fails_for_good(&recorder, ErrorKind::Fenced);
    assert_eq!(error.seq_no(), Some(SeqNo::new(2)));
}

#[test]
fn the_committed_prefix_judges_and_not_the_machine_that_runs_ahead() {
    // By the state machine, which has seen the batch in flight, the foreign operation has an old seq-no.
    let journal = Flaky::new([Fault::None, Fault::Hold]);
    let recorder = record(&journal);
    let fnode = recorder.create(&path("/a")).unwrap();
    let (no_op, _) = op(&replay(&journal.inner), B, OpBody::NoOp);
    recorder.write(fnode, 0, b"in flight").unwrap();
    recorder.write(fnode, 0, b"gathering").unwrap();
    append_foreign(&journal, &no_op);
    journal.release();
    assert_fails_for_good(&recorder, ErrorKind::Fenced);
}

#[test]
fn foreign_garbage_at_the_head_is_followed_and_every_offset_moves() {
    for garbage in [&b"garbage"[..], b"\n", b"\x66\x33\x93", b"\x66", &[0; 5000], b"x\x66\x33\x93"] {
        let journal = Flaky::new([Fault::None, Fault::Hold]);
        let recorder = record(&journal);
        let fnode = recorder.create(&path("/a")).unwrap();
        recorder.write(fnode, 0, b"in flight").unwrap();
        let mut hints = recorder.take_hints().unwrap();
        recorder.create(&path("/gathering")).unwrap();
        append_foreign(&journal, garbage);
        journal.release();
        assert_log_is_history(&journal, &recorder);

        // The hints were taken before the garbage was seen, and tell the offsets that came to be.
        let hints = hints.wait(soon()).unwrap();
        let mut fsm = Fsm::from_hints(&hints, crate::FsmOptions::default()).unwrap();
        let whole = replay(&journal.inner);
        let last = hints.files[0].segments.last().unwrap();
        assert_eq!(hints.as_of.unwrap().offset, last.end_offset.unwrap());
        assert_eq!(whole.nodes().next().unwrap().1.segments()[0].first_offset, Offset::ZERO);
        let content = content(&journal.inner);
        let mut at = Offset::ZERO;
        while fsm.hinted_segment().is_some() {
            at = at.max(fsm.hinted_segment().unwrap().first_offset);
            match decode_frame(&content[at.get() as usize..], true) {
                Step::Desync { skip, .. } => at = at.saturating_add(skip as u64),
                Step::Frame { message } => {
                    let message = &content[at.get() as usize..][message];
                    let op = decode_op(message).unwrap();
                    let end = at.saturating_add(8 + message.len() as u64 + op.payload_len());
                    fsm.apply(&op, message, Span { log: &log_name(), begin: at, end: Some(end) }).unwrap();
                    at = end;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(fsm.next_seq_no(), hints.as_of.unwrap().seq_no.next());
        assert_eq!(at, hints.as_of.unwrap().offset);
    }
}

#[test]
fn frames_of_a_dead_branch_at_the_head_are_followed() {
    let journal = Flaky::new([]);
    let old = record(&journal);
    old.create(&path("/a")).unwrap();
    let dead = replay(&journal.inner);
    let new = take_over(&journal, B);
    // What the old writer had in flight arrives after all, payload included: the new one's committed prefix has
    // moved on.
    let write = OpBody::Write { fnode: Fnode::new(SeqNo::FIRST), offset: 0 };
    let (mut zombie, _) = op(&dead, A, write);
    zombie.extend_from_slice(b"\x66\x33\x93\x36 magic");
    append_foreign(&journal, &zombie);
    new.create(&path("/b")).unwrap();
    assert_log_is_history(&journal, &new);
}

#[test]
fn a_torn_foreign_frame_or_payload_at_the_head_advises_a_fork() {
    let write = OpBody::Write { fnode: Fnode::new(SeqNo::FIRST), offset: 0 };
    let (mut torn_payload, _) = op(&Fsm::new(log_name()), B, write);
    torn_payload.extend_from_slice(b"123456789");
    for torn in [
        &b"\x66\x33\x93\x36\x64\0\0\0xx"[..],
        b"\x66\x33\x93\x36",
        b"\x66\x33\x93\x36\xff\xff\xff\xffxx",
        &torn_payload,
    ] {
        let journal = Flaky::new([]);
        let recorder = record(&journal);
        recorder.create(&path("/a")).unwrap();
        append_foreign(&journal, torn);
        recorder.create(&path("/b")).unwrap();
        let error = assert_fails_for_good(&recorder, ErrorKind::Diverged);
        assert!(error.advice().contains("fork"), "{error}");
    }
}

#[test]
fn other_operations_under_the_own_author_are_a_divergence() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    let (create, _) = op(&replay(&journal.inner), A, OpBody::Create { path: path("/other") });
    append_foreign(&journal, &create);
    recorder.create(&path("/b")).unwrap();
    assert_fails_for_good(&recorder, ErrorKind::Diverged);
}

#[test]
fn a_journal_that_lost_acknowledged_bytes_is_data_loss() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    recorder.create(&path("/a")).unwrap();
    journal.inner.truncate(Offset::new(10).unwrap());
    recorder.create(&path("/b")).unwrap();
    assert_fails_for_good(&recorder, ErrorKind::DataLoss);
}

#[test]
fn a_deadline_that_passes_while_the_fate_is_unknown_fails_for_good() {
    let journal = Flaky::new([Fault::Delay; 64]);
    let options = options().resolve_max(Duration::from_millis(20));
    let journals = Arc::clone(&journal);
    let recorder = Recorder::new(journals, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    recorder.create(&path("/a")).unwrap();
    let mut hints = recorder.take_hints().unwrap();
    assert_fails_for_good(&recorder, ErrorKind::Unavailable);
    assert_eq!(hints.wait(soon()).unwrap_err().kind(), ErrorKind::Unavailable);
    // Whatever arrives later changes nothing for this recorder.
    journal.deliver_delayed();
    assert_fails_for_good(&recorder, ErrorKind::Unavailable);
}
