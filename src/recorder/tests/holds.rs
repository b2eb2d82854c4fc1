//! What is held back until something else has happened.

use super::*;
use crate::completion::completion;

type Condition = (Completer<(), JournalError>, Completion<(), JournalError>);

fn appends(journal: &Flaky) -> usize {
    journal.sent.lock().unwrap().len()
}

#[test]
fn what_is_recorded_after_a_hold_goes_out_when_the_condition_is_met_and_what_was_before_at_once() {
    let journal = Flaky::new([Fault::Hold]);
    let recorder = record(&journal);
    recorder.create(&path("/in-flight")).unwrap();
    recorder.create(&path("/before")).unwrap();
    let mut before = recorder.barrier().unwrap();
    let (met, condition): Condition = completion();
    recorder.hold_until(condition).unwrap();
    recorder.create(&path("/after")).unwrap();
    let mut after = recorder.barrier().unwrap();
    journal.release();
    assert_eq!(before.wait(soon()).unwrap().next_seq_no, SeqNo::new(3));
    assert_eq!((appends(&journal), after.is_resolved()), (2, false));
    assert_eq!(after.wait(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    met.resolve(Ok(()));
    assert_eq!(after.wait(soon()).unwrap().next_seq_no, SeqNo::new(4));
    assert_eq!(appends(&journal), 3);
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn holds_are_lifted_in_any_order_and_each_lets_through_what_waits_for_no_other() {
    // Batches behind holds 1, 2, 3; then how many are out after each hold is lifted in the given order.
    for (order, out) in
        [([0, 1, 2], [1, 2, 3]), ([2, 1, 0], [0, 0, 3]), ([1, 0, 2], [0, 2, 3]), ([0, 2, 1], [1, 1, 3])]
    {
        let journal = Flaky::new([]);
        let recorder = record(&journal);
        let mut holds = Vec::new();
        for number in 0..3 {
            let (met, condition): Condition = completion();
            recorder.hold_until(condition).unwrap();
            holds.push(Some(met));
            recorder.create(&path(&format!("/{number}"))).unwrap();
            recorder.barrier().map(drop).unwrap();
        }
        for (hold, out) in order.into_iter().zip(out) {
            holds[hold].take().unwrap().resolve(Ok(()));
            assert_eq!(appends(&journal), out, "{order:?} at {hold}");
        }
        assert_log_is_history(&journal, &recorder);
    }
}

#[test]
fn a_condition_that_was_met_before_holds_nothing() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    recorder.hold_until(Completion::<(), JournalError>::resolved(Ok(()))).unwrap();
    recorder.create(&path("/a")).unwrap();
    assert_eq!(appends(&journal), 1);
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn a_condition_that_fails_or_is_abandoned_ends_the_recorder_and_nothing_held_back_is_ever_appended() {
    let fail: [fn(Completer<(), JournalError>); 2] = [|met| met.resolve(Err(JournalError::Abandoned)), drop];
    for fail in fail {
        let journal = Flaky::new([]);
        let recorder = record(&journal);
        recorder.create(&path("/before")).unwrap();
        let head = journal.inner.head(soon()).unwrap().offset;
        let (met, condition): Condition = completion();
        let (_second, other): Condition = completion();
        recorder.hold_until(condition).unwrap();
        recorder.create(&path("/held")).unwrap();
        recorder.hold_until(other).unwrap();
        recorder.create(&path("/held-too")).unwrap();
        let mut barrier = recorder.barrier().unwrap();
        fail(met);
        let error = barrier.wait(soon()).unwrap_err();
        assert!(error.to_string().contains("what the log was to come after has failed"), "{error}");
        assert_fails_for_good(&recorder, error.kind());
        assert_eq!(journal.inner.head(soon()).unwrap().offset, head);
        assert_eq!(recorder.credit_bytes(), 16 << 20);
    }
}

#[test]
fn a_recorder_that_fails_tells_whoever_waits_behind_a_hold() {
    let journal = Flaky::new([Fault::Hold, Fault::Refuse]);
    let recorder = record(&journal);
    recorder.create(&path("/in-flight")).unwrap();
    recorder.create(&path("/before")).unwrap();
    let (met, condition): Condition = completion();
    recorder.hold_until(condition).unwrap();
    recorder.create(&path("/held")).unwrap();
    let mut barrier = recorder.barrier().unwrap();
    journal.release();
    let error = barrier.wait(soon()).unwrap_err();
    met.resolve(Ok(()));
    assert_fails_for_good(&recorder, error.kind());
    assert_eq!(appends(&journal), 2);
    assert_eq!(
        recorder.hold_until(Completion::<(), JournalError>::resolved(Ok(()))).unwrap_err().kind(),
        error.kind()
    );
}

#[test]
fn offsets_move_for_what_is_held_back_too_where_other_bytes_come_between() {
    let journal = Flaky::new([Fault::Hold]);
    let recorder = record(&journal);
    recorder.create(&path("/in-flight")).unwrap();
    recorder.create(&path("/before")).unwrap();
    let (met, condition): Condition = completion();
    recorder.hold_until(condition).unwrap();
    recorder.create(&path("/held")).unwrap();
    let mut hints = recorder.take_hints().unwrap();
    // What nobody recorded: the append in flight finds its place taken.
    journal.inner.append(Append::new("garbage"), soon()).unwrap();
    met.resolve(Ok(()));
    journal.release();
    let hints = hints.wait(soon()).unwrap();
    assert_log_is_history(&journal, &recorder);
    let as_of = hints.as_of.unwrap();
    assert_eq!(as_of.offset, journal.inner.head(soon()).unwrap().offset);
}

#[test]
fn a_condition_whose_result_was_taken_before_ends_the_recorder_instead_of_holding_for_ever() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let mut condition = Completion::<(), JournalError>::resolved(Ok(()));
    condition.wait(soon()).unwrap().unwrap();
    recorder.hold_until(condition).unwrap();
    let error = assert_fails_for_good(&recorder, ErrorKind::Invalid);
    assert!(error.to_string().contains("nobody has taken"), "{error}");
}

#[test]
fn a_barrier_behind_an_unmet_hold_waits_for_it_where_nothing_was_recorded_since_too() {
    let journal = Flaky::new([]);
    let recorder = record(&journal);
    let (met, condition): Condition = completion();
    recorder.hold_until(condition).unwrap();
    let mut barrier = recorder.barrier().unwrap();
    let mut another = recorder.barrier().unwrap();
    assert_eq!(barrier.wait(Deadline::passed()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(appends(&journal), 0);
    met.resolve(Ok(()));
    assert_eq!(barrier.wait(soon()).unwrap(), another.wait(soon()).unwrap());
    assert_log_is_history(&journal, &recorder);
}

#[test]
fn small_batches_that_a_recorder_holds_back_anyway_go_out_in_order_around_a_hold() {
    let journal = Flaky::new([]);
    let options = options().send_bytes_min(1000);
    let writer = Arc::clone(&journal);
    let recorder = Recorder::new(writer, Fsm::new(log_name()), Offset::ZERO, author(A), options).unwrap();
    recorder.create(&path("/before")).unwrap();
    assert_eq!(appends(&journal), 0);
    let (met, condition): Condition = completion();
    recorder.hold_until(condition).unwrap();
    assert_eq!(appends(&journal), 1, "what was before goes out");
    recorder.create(&path("/after")).unwrap();
    met.resolve(Ok(()));
    assert_eq!(appends(&journal), 1, "it is small, and nobody waits for it");
    assert_log_is_history(&journal, &recorder);
    assert_eq!(appends(&journal), 2);
}
