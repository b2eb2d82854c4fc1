//! Operations that no recorder writes.

use recoverylog::ErrorKind::{Corrupt, DataLoss, Io};
use recoverylog::player::Warning;

use super::place::Place;
use super::raw::{Message, RawLog, create, link, property, write};

/// What a recorder wrote before and after: file 1 with content.
fn around(bad: impl FnOnce(&mut RawLog)) -> Place {
    let mut log = RawLog::new();
    let kept = log.op(&create(b"/kept"), b"");
    bad(&mut log);
    log.op(&write(kept, 0, 4), b"kept");
    Place::of(&log.content)
}

fn at_tail(bad: impl FnOnce(&mut RawLog)) -> Place {
    let mut log = RawLog::with_a_file();
    bad(&mut log);
    Place::of(&log.content)
}

#[test]
fn a_frame_that_promises_four_gigabytes_is_junk_wherever_it_stands() {
    for promised in [u32::MAX, u32::MAX - 8, 1 << 31, (16 << 20) - 7] {
        let played = around(|log| log.header(promised)).restore().kept_file_only();
        assert_eq!(played.counts.junk_bytes, 8);
        let played = at_tail(|log| log.header(promised)).restore().kept_file_only();
        assert!(matches!(played.warnings[..], [Warning::JunkAtTail { bytes: 8, .. }]), "{played:?}");
    }
    let longest = at_tail(|log| log.header((16 << 20) - 8)).restore().kept_file_only();
    let promised = Some(16 << 20);
    assert!(
        matches!(longest.warnings[..], [Warning::TornAtTail { promised: p, present: 8, .. }] if p == promised)
    );
}

#[test]
fn a_payload_that_promises_more_than_there_is_ends_the_log_or_is_damage() {
    for length in [i64::from(u32::MAX), i64::MAX, 5] {
        let played = at_tail(|log| {
            log.op(&write(1, 4, length), b"more");
        });
        let played = played.restore().kept_file_only();
        assert!(matches!(played.warnings[..], [Warning::TornAtTail { .. }]), "{played:?}");
    }
    // Operations that follow lie in what it promises.
    for length in [i64::from(u32::MAX), i64::MAX, 1000] {
        let place = around(|log| {
            log.op(&write(1, 4, length), b"more");
        });
        let error = place.restore().error(Corrupt);
        assert!(error.offset().is_some() && error.seq_no().is_some(), "{error}");
        assert!(error.expected_value().is_some(), "{error}");
    }
}

#[test]
fn a_negative_length_or_offset_is_no_operation() {
    for (offset, length) in [(0, -1), (-1, 0), (i64::MIN, 4), (4, i64::MIN), (-1, -1)] {
        // Beside the history it is passed over, in it and at its end it is missing.
        let beside = around(|log| {
            let mut other = log.clone();
            let before = other.content.len();
            other.op(&write(1, offset, length), b"");
            log.content.extend_from_slice(&other.content[before..]);
        });
        assert_eq!(beside.restore().kept_file_only().counts.undecodable_frames, 1);
        let within = around(|log| {
            log.op(&write(1, offset, length), b"");
        });
        let error = within.restore().error(Corrupt);
        assert!(error.offset().is_some() && error.seq_no().is_some(), "{error}");
        let last = at_tail(|log| {
            log.op(&write(1, offset, length), b"");
        });
        assert!(last.restore().error(Corrupt).offset().is_some());
    }
}

#[test]
fn a_write_past_the_end_of_what_a_file_can_hold_is_refused_by_the_file_system() {
    let place = at_tail(|log| {
        log.op(&write(1, i64::MAX - 1, 4), b"far!");
    });
    let error = place.restore().error(Io);
    assert!(error.offset().is_some() && error.seq_no().is_some(), "{error}");
    // A hole costs nothing.
    let place = at_tail(|log| {
        log.op(&write(1, 1 << 40, 0), b"");
    });
    place.restore().kept_file_only();
}

#[test]
fn of_several_members_the_first_applies_and_the_bytes_of_a_write_follow() {
    let both = |a: &Message, b: &Message| Message([&a.0[..], &b.0[..]].concat());
    let place = around(|log| {
        let file = log.op(&both(&create(b"/both"), &write(1, 0, 5)), b"never");
        log.op(&both(&write(file, 0, 3), &link(1, b"/linked")), b"raw");
        log.op(&both(&property(b"/p", b"v"), &write(file, 1, 2)), b"ow");
    });
    let (played, files) = place.restore().tree();
    let names: Vec<_> = files.iter().map(|(name, content)| (&name[..], &content[..])).collect();
    // Link comes before write, and write before property; so nothing was written but the last.
    assert_eq!(names, [("both", "\\x00ow"), ("kept", "kept"), ("linked", "kept")], "{played:?}");
}

#[test]
fn an_operation_of_author_zero_is_passed_over_and_is_missed_where_the_history_needs_it() {
    let by_nobody = |log: &mut RawLog| {
        let author = std::mem::take(&mut log.author);
        log.op(&create(b"/nobody"), b"");
        log.author = author;
    };
    let beside = around(|log| {
        let mut other = log.clone();
        let before = other.content.len();
        by_nobody(&mut other);
        log.content.extend_from_slice(&other.content[before..]);
    });
    assert_eq!(beside.restore().kept_file_only().counts.rejected_ops, 1);
    let error = around(by_nobody).restore().error(Corrupt);
    assert!(error.offset().is_some() && error.expected_value().is_some(), "{error}");
}

#[test]
fn fields_that_nobody_knows_are_accepted() {
    let strange = Message::default()
        .number(1001, -1)
        .fixed(1002, 7)
        .bytes(1003, b"anything")
        .number(536_870_911, 0)
        .number(15, i64::MAX);
    let place = around(|log| {
        log.op(&Message([create(b"/strange").0, strange.0.clone()].concat()), b"");
        log.op(&strange, b"");
    });
    let (played, files) = place.restore().tree();
    assert_eq!((files.len(), played.counts.applied_ops), (2, 4), "{played:?}");
}

#[test]
fn sequence_numbers_that_cannot_be_next_are_passed_over_or_prove_a_loss() {
    let numbered = |seq_no: i64| Message::default().number(1, seq_no).fixed(3, 99).0;
    for seq_no in [0, -1, i64::MIN] {
        let place = around(|log| log.frame(&numbered(seq_no)));
        assert_eq!(place.restore().kept_file_only().counts.rejected_ops, 1);
    }
    for seq_no in [i64::MAX, 1000] {
        let place = around(|log| log.frame(&numbered(seq_no)));
        let error = place.restore().error(Corrupt);
        assert_eq!(error.seq_no().map(recoverylog::SeqNo::get), Some(seq_no), "{error}");
    }
    let mut first = RawLog::new();
    first.frame(&numbered(i64::MAX));
    Place::of(&first.content).restore().error(DataLoss);
}

#[test]
fn marks_of_any_time_go_back_and_forth_and_change_nothing() {
    let place = around(|log| {
        for time in [i64::MAX, 0, i64::MIN, -1, 1_700_000_000_000_000_000] {
            let mark = Message::default().number(1, time).bytes(2, b"\xff\x1b[2Jname");
            log.op(&Message::default().inner(2002, &mark), b"");
        }
    });
    assert_eq!(place.restore().kept_file_only().counts.applied_ops, 7);
    #[cfg(feature = "cli")]
    for args in [&["log", "--log", super::place::LOG][..], &["log", "--json", "--log", super::place::LOG]] {
        assert_eq!(place.run(args).code, Some(0));
    }
}

#[test]
fn headers_upon_headers_in_a_torn_tail_cost_no_more_than_their_bytes() {
    // A header every few bytes, each the beginning of a message that decodes: a reader that looks for operations in
    // a torn one must not decode all of the rest at each.
    let mut inner = RawLog::new();
    inner.header(1 << 20);
    let piece = Message::default().bytes(1000, &inner.content).0;
    let place = at_tail(|log| {
        log.op(&write(1, 4, i64::MAX), b"");
        log.content.extend(piece.repeat((2 << 20) / piece.len()));
    });
    let played = place.restore().kept_file_only();
    assert!(matches!(played.warnings[..], [Warning::TornAtTail { .. }]), "{played:?}");
}
