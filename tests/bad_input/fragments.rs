//! Folders of fragments from which something is missing, or in which too much is.

use recoverylog::ErrorKind::{Corrupt, DataLoss, Diverged, Invalid};
use recoverylog::player::Warning;
use recoverylog::{FsmHints, Offset};

use super::place::{Place, log_name};
use super::raw::{RawLog, create, write};

/// A log of several files, and a place with pieces of it.
fn log() -> RawLog {
    let mut log = RawLog::with_a_file();
    for index in 0..6 {
        let file = log.op(&create(format!("/{index}").as_bytes()), b"");
        log.op(&write(file, 0, 40), &[b'a' + index; 40]);
    }
    log
}

fn store_pieces(place: &Place, log: &RawLog, ranges: &[(usize, usize)]) {
    for &(begin, end) in ranges {
        place.store(begin as u64, &log.content[begin..end]);
    }
}

#[test]
fn a_log_of_no_bytes_is_an_empty_tree() {
    let empty = Place::new();
    let (played, files) = empty.restore().tree();
    assert_eq!((played.position, files.len(), played.warnings.len()), (Offset::ZERO, 0, 0));
    // Gazette stores no empty fragments; one that is there holds nothing.
    empty.store(0, b"");
    assert_eq!(empty.restore().tree().1.len(), 0);
    std::fs::remove_dir_all(empty.root().join(super::place::LOG)).unwrap();
    let error = empty.restore().error(Invalid);
    assert_eq!(error.log(), Some(&log_name()));
}

#[test]
fn garbage_at_the_tail_ends_a_restore_with_a_warning() {
    for tail in [&b"garbage"[..], b"f", b"\n\n", b"\0", b"\x66\x33\x93", b"\x66\x33\x93\x36\x05\0\0\0ab"] {
        let content = [&RawLog::with_a_file().content[..], tail].concat();
        let played = Place::of(&content).restore().kept_file_only();
        let warned = match played.warnings[..] {
            [Warning::JunkAtTail { bytes, .. }] => bytes,
            [Warning::TornAtTail { present, .. }] => present,
            _ => panic!("{tail:?}: {played:?}"),
        };
        // A newline may end a log.
        assert!(warned as usize >= tail.len() - 1, "{tail:?}: {played:?}");
    }
    let only_garbage = Place::of(&vec![b'x'; 100_000]).restore();
    assert_eq!(only_garbage.tree().0.counts.junk_bytes, 100_000);
}

#[test]
fn a_missing_first_or_middle_fragment_is_data_loss_at_its_first_byte() {
    let (log, len) = (log(), log().content.len());
    for (ranges, lost) in [
        (&[(100, 200), (200, len)][..], 0),
        (&[(0, 100), (200, len)], 100),
        (&[(0, 100), (150, 200), (201, len)], 100),
        (&[(0, 100), (100, 200), (201, len)], 200),
    ] {
        let place = Place::new();
        store_pieces(&place, &log, ranges);
        let error = place.restore().error(DataLoss);
        assert_eq!((error.log(), error.offset()), (Some(&log_name()), Offset::new(lost)), "{error}");
        assert!(error.expected_value().is_some(), "{error}");
    }
}

#[test]
fn a_missing_last_fragment_is_an_earlier_state_that_only_hints_can_tell_from_the_latest() {
    let log = log();
    let cut = log.begins[6];
    let place = Place::of(&log.content[..cut]);
    assert_eq!(place.restore().tree().1.len(), 3);
    let hints = super::hints::of_last(&log);
    let error = place.restore_by(Some(&hints.encode_json())).error(DataLoss);
    assert!(error.offset().is_some() && error.expected_value().is_some(), "{error}");
}

#[test]
fn overlapping_and_repeated_fragments_are_read_once() {
    let (log, len) = (log(), log().content.len());
    let whole = Place::of(&log.content).restore().tree().1;
    for ranges in [
        &[(0, len), (0, 100), (50, 150)][..],
        &[(0, 100), (50, 200), (60, 70), (120, len)],
        &[(0, 200), (100, len), (199, len), (len - 1, len)],
    ] {
        let place = Place::new();
        store_pieces(&place, &log, ranges);
        assert_eq!(place.restore().tree().1, whole);
    }
}

#[test]
fn two_fragments_of_one_range_that_differ_are_two_histories() {
    let log = log();
    let place = Place::of(&log.content);
    let mut other = log.content.clone();
    *other.last_mut().unwrap() ^= 1;
    place.store(0, &other);
    let error = place.restore().error(Diverged);
    assert_eq!(error.log(), Some(&log_name()));
}

#[test]
fn a_name_that_promises_eight_exabytes_reads_no_more_than_there_is() {
    let log = log();
    for end in [i64::MAX as u64, 1 << 40, log.content.len() as u64 + 1] {
        let place = Place::new();
        place.store_as(0, end, &log.content);
        let error = place.restore().error(Corrupt);
        assert_eq!(error.log(), Some(&log_name()), "{error}");
        #[cfg(feature = "cli")]
        for command in [&["verify", "--json"][..], &["log", "--json", "--log", super::place::LOG]] {
            place.run(command).check_failed(Corrupt);
        }
    }
    let place = Place::new();
    place.store_as(i64::MAX as u64 - 3, i64::MAX as u64, b"end");
    place.restore().error(DataLoss);
}

#[test]
fn a_folder_pipe_or_link_with_the_name_of_a_fragment_is_no_fragment() {
    let log = log();
    let place = Place::of(&log.content[..200]);
    let real = place.store(200, &log.content[200..]);
    let aside = place.beside("aside");
    std::fs::rename(&real, &aside).unwrap();
    let make: [&dyn Fn(); 3] = [
        &|| std::fs::create_dir(&real).unwrap(),
        &|| std::os::unix::fs::symlink(&aside, &real).unwrap(),
        &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &real, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        },
    ];
    let earlier = Place::of(&log.content[..200]).restore().tree().1;
    for make in make {
        make();
        assert_eq!(place.restore().tree().1, earlier);
        drop(std::fs::remove_dir(&real).or_else(|_| std::fs::remove_file(&real)));
    }
}

#[test]
fn a_pruned_log_without_hints_is_data_loss_also_where_its_first_byte_is_given_anew() {
    let log = log();
    let pruned = Place::new();
    pruned.store(log.begins[4] as u64, &log.content[log.begins[4]..]);
    pruned.restore().error(DataLoss);
    let empty = FsmHints::empty(log_name()).encode_json();
    pruned.restore_by(Some(&empty)).error(DataLoss);
    // The rest of a history, copied to the beginning of a log.
    let moved = Place::of(&log.content[log.begins[4]..]);
    let error = moved.restore().error(DataLoss);
    assert!(error.seq_no().is_some() && error.expected_value().is_some(), "{error}");
}
