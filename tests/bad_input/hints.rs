//! Hints that are damaged, of something else, or made to be a burden.

use std::path::Path;
use std::sync::Arc;

use recoverylog::ErrorKind::{DataLoss, Invalid, InvalidHints};
use recoverylog::hint_store::{DirectoryHints, HintStore};
use recoverylog::hints::{AsOf, HintedFile, Property};
use recoverylog::journal::{Append, Journals, MemoryJournals};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
use recoverylog::{
    Author, Checksum, Deadline, Error, ErrorKind, Fnode, FsmHints, JournalName, LogPath, Offset, Result,
    Segment, SeqNo,
};

use super::place::{LOG, Place, log_name};
use super::raw::{AUTHOR, RawLog, create, write};

/// Returns the operations `first..=last` of a log, by their index.
fn segment(log: &RawLog, first: usize, last: usize) -> Segment {
    let offset = |index: usize| log.begins.get(index).copied().unwrap_or(log.content.len()) as u64;
    Segment {
        author: Author::new(AUTHOR).unwrap(),
        first_seq_no: SeqNo::new(first as i64 + 1),
        first_offset: Offset::new(offset(first)).unwrap(),
        first_checksum: log.checksums[first],
        last_seq_no: SeqNo::new(last as i64 + 1),
        end_offset: Offset::new(offset(last + 1)),
        end_checksum: log.checksums.get(last + 1).copied(),
        log: None,
    }
}

fn hints(files: &[&[Segment]]) -> FsmHints {
    let file = |segments: &&[Segment]| {
        let fnode = Fnode::new(segments[0].first_seq_no);
        HintedFile { fnode, segments: segments.to_vec() }
    };
    FsmHints { files: files.iter().map(file).collect(), ..FsmHints::empty(log_name()) }
}

/// Returns hints for the file that was created last in a log of files with one write each.
pub(crate) fn of_last(log: &RawLog) -> FsmHints {
    let last = log.begins.len() - 1;
    hints(&[&[segment(log, last - 1, last)]])
}

/// A log of two live files and a dead middle, and hints that leave that out.
fn gapped() -> (RawLog, FsmHints) {
    let mut log = RawLog::with_a_file();
    let dead = log.op(&create(b"/dead"), b"");
    log.op(&write(dead, 0, 300), &[b'd'; 300]);
    let unlink = super::raw::Message::default().number(1, dead).bytes(2, b"/dead");
    log.op(&super::raw::Message::default().inner(6, &unlink), b"");
    let late = log.op(&create(b"/late"), b"");
    log.op(&write(late, 0, 4), b"late");
    log.op(&write(1, 4, 5), b" more");
    let kept = [segment(&log, 0, 1), segment(&log, 7, 7)];
    let hints = hints(&[&kept, &[segment(&log, 5, 6)]]);
    (log, hints)
}

fn text(json: &str) -> Vec<u8> {
    json.replace("LOG", LOG).into_bytes()
}

#[test]
fn good_hints_of_a_pruned_log_play_to_the_whole_tree() {
    let (log, hints) = gapped();
    let place = Place::new();
    place.store(0, &log.content[..log.begins[2]]);
    place.store(log.begins[5] as u64, &log.content[log.begins[5]..]);
    let expected = [("kept".to_owned(), "kept more".to_owned()), ("late".to_owned(), "late".to_owned())];
    for bytes in [hints.encode_json(), hints.encode_proto()] {
        assert_eq!(place.restore_by(Some(&bytes)).tree().1, expected);
    }
}

#[test]
fn hints_past_the_head_or_into_a_pruned_range_name_what_is_lost() {
    let (log, hints) = gapped();
    let cut = Place::of(&log.content[..log.begins[6]]);
    let error = cut.restore_by(Some(&hints.encode_json())).error(DataLoss);
    assert!(error.seq_no().is_some() && error.expected_value().is_some(), "{error}");
    let pruned = Place::new();
    pruned.store(log.begins[1] as u64, &log.content[log.begins[1]..]);
    let error = pruned.restore_by(Some(&hints.encode_json())).error(DataLoss);
    assert_eq!((error.offset(), error.log()), (Some(Offset::ZERO), Some(&log_name())), "{error}");
    let mut far = hints;
    far.files[1].segments[0].end_offset = None;
    far.files[1].segments[0].first_offset = Offset::MAX;
    far.files[0].segments.pop();
    far.files[0].segments[0].end_offset = None;
    let whole = Place::of(&log.content);
    whole.restore_by(Some(&far.encode_proto())).error(DataLoss);
}

#[test]
fn hints_of_another_log_are_a_call_to_be_mended_or_name_what_never_was() {
    let (log, hints) = gapped();
    let place = Place::of(&log.content);
    let other = FsmHints { log: Some(JournalName::new("acme/other").unwrap()), ..hints.clone() };
    let error = place.restore_by(Some(&other.encode_json())).error(Invalid);
    assert_eq!(error.log(), other.log.as_ref(), "{error}");
    // The same name, another history.
    let mut stranger = RawLog::new();
    stranger.author = 99;
    for index in 0..20 {
        stranger.op(&create(format!("/stranger-{index}").as_bytes()), b"");
    }
    Place::of(&stranger.content).restore_by(Some(&hints.encode_json())).error(DataLoss);
    #[cfg(feature = "cli")]
    {
        let file = place.beside("hints.json");
        std::fs::write(&file, other.encode_json()).unwrap();
        let (target, file) = (place.beside("target"), file.to_str().unwrap().to_owned());
        let restore =
            ["restore", "--json", "--log", LOG, "--hints", &file, "--dir", target.to_str().unwrap()];
        let ran = place.run(restore);
        ran.check_failed(Invalid);
        assert_eq!(
            (ran.error()["expected"].as_str(), ran.error()["actual"].as_str()),
            (Some(LOG), Some("acme/other"))
        );
    }
}

#[test]
fn what_is_no_hints_is_refused_with_the_reason() {
    let place = Place::of(&RawLog::with_a_file().content);
    let deep = format!("{{\"log\":{}", "[".repeat(100_000));
    let broken = [
        "",
        "null",
        "{}",
        "{",
        "[]",
        "0",
        "\"LOG\"",
        "{\"log\":null}",
        "{\"log\":\"\"}",
        "{\"log\":7}",
        "{\"log\":\"LOG\",\"live_nodes\":7}",
        "{\"log\":\"../up\"}",
        "{\"log\":\"/etc/passwd\"}",
        &deep,
        "{\"log\":\"LOG\"}{\"log\":\"LOG\"}",
        "{\"log\":\"LOG\",\"live_nodes\":[null]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{}]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{\"fnode\":1,\"segments\":[]}]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{\"fnode\":1,\"segments\":[{\"author\":0,\"first_seq_no\":1,\"last_seq_no\":1}]}]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{\"fnode\":1,\"segments\":[{\"author\":1,\"first_seq_no\":-1,\"last_seq_no\":1}]}]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{\"fnode\":1,\"segments\":[{\"author\":1,\"first_seq_no\":1,\"last_seq_no\":99999999999999999999}]}]}",
        "{\"log\":\"LOG\",\"live_nodes\":[{\"fnode\":1,\"segments\":[{\"author\":1,\"first_seq_no\":1,\"last_seq_no\":1,\"first_offset\":-9}]}]}",
        "\u{1}\u{2}\u{3}",
        "\n\u{7f}",
    ];
    for broken in broken {
        let error = place.restore_by(Some(&text(broken))).error(InvalidHints);
        assert!(error.to_string().len() < 2000, "{error}");
    }
}

#[test]
fn null_empty_unknown_and_repeated_keys_are_read_as_the_reference_reads_them() {
    let place = Place::of(&RawLog::with_a_file().content);
    for good in [
        "{\"log\":\"LOG\"}",
        "{\"log\":\"LOG\",\"live_nodes\":null,\"properties\":null}",
        "{\"log\":\"LOG\",\"live_nodes\":[],\"properties\":[],\"as_of\":null}",
        "{\"log\":\"acme/other\",\"LOG\":1,\"log\":\"LOG\"}",
        "{\"live_nodes\":[{\"fnode\":7}],\"log\":\"LOG\",\"live_nodes\":null}",
        "{\"log\":\"LOG\",\"unknown\":{\"deep\":[1,{\"x\":null}]}}",
    ] {
        let good = if good.contains("\"LOG\":1") {
            good.replace("\"LOG\":1", "\"Log\":\"acme/third\"")
        } else {
            good.into()
        };
        place.restore_by(Some(&text(&good))).kept_file_only();
    }
}

#[test]
fn hints_of_a_hundred_thousand_files_and_of_large_properties_are_played_or_refused() {
    let (log, mut hints) = gapped();
    let place = Place::of(&log.content);
    let content = bytes::Bytes::from(vec![b'p'; 8 << 20]);
    hints.properties = vec![Property { path: LogPath::from_bytes(b"/property"), content }];
    let (_, files) = place.restore_by(Some(&hints.encode_proto())).tree();
    assert_eq!(files.len(), 3);
    let one = hints.files.remove(1);
    hints.properties.clear();
    hints.files = (0..100_000)
        .map(|index| {
            let mut file = one.clone();
            file.fnode = Fnode::new(SeqNo::new(6 + index));
            file.segments[0] = Segment {
                first_seq_no: SeqNo::new(6 + index),
                last_seq_no: SeqNo::new(6 + index),
                end_offset: None,
                end_checksum: None,
                ..file.segments[0].clone()
            };
            file
        })
        .collect();
    let error = place.restore_by(Some(&hints.encode_proto())).into_result().unwrap_err();
    assert_eq!(error.kind().exit_code(), 3, "{error}");
}

#[cfg(feature = "cli")]
#[test]
fn a_file_that_is_too_long_to_be_hints_is_refused_before_it_is_read() {
    let place = Place::of(&RawLog::with_a_file().content);
    let hints = place.beside("hints");
    std::fs::File::create(&hints).unwrap().set_len((1 << 40) + 1).unwrap();
    let run = |path: &Path| {
        let args = ["hints", "--json", "--hints", path.to_str().unwrap()];
        // Far less than the file, and than the longest hints.
        super::place::run_limited("ulimit -v 524288", args.into_iter(), &place.root())
    };
    let ran = run(&hints);
    ran.check_failed(Invalid);
    assert_eq!(ran.error()["actual"], ((1_u64 << 40) + 1).to_string() + " bytes");
    // As a set of a directory: its digest cannot be that of its name.
    let sets = place.beside("sets");
    std::fs::create_dir(&sets).unwrap();
    std::fs::rename(&hints, sets.join(format!("{:016x}-{:040x}.json", 1, 1))).unwrap();
    run(&sets).check_failed(ErrorKind::Corrupt);
}

#[test]
fn a_flipped_bit_in_a_stored_set_is_seen_by_its_digest() {
    let (_, hints) = gapped();
    let (fs, soon) = (MemoryFs::new(), Deadline::after(std::time::Duration::from_secs(10)));
    let store = DirectoryHints::open(Arc::new(fs.clone()), Path::new("/hints")).unwrap();
    store.store(&hints, soon).unwrap();
    let name = fs.read_dir(Path::new("/hints")).unwrap().remove(0).name;
    let file = fs.open(&Path::new("/hints").join(name), OpenMode::ReadWrite).unwrap();
    let good = hints.encode_json();
    for bit in 0..good.len() * 8 {
        let flipped = good[bit / 8] ^ 1 << (bit % 8);
        file.write_all_at(&[flipped], bit as u64 / 8).unwrap();
        let found = store.candidates(&log_name(), soon).unwrap().remove(0);
        let error = found.hints.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.expected_value().is_some(), "bit {bit}: {error}");
        file.write_all_at(&good[bit / 8..=bit / 8], bit as u64 / 8).unwrap();
    }
    assert_eq!(store.candidates(&log_name(), soon).unwrap().remove(0).hints.unwrap(), hints);
}

#[test]
fn a_flipped_bit_in_bare_hints_ends_in_a_tree_or_a_typed_error() {
    let (log, hints) = gapped();
    let truth = play(&log, &hints.encode_json()).unwrap();
    let (mut same, mut errors, mut other) = (0, 0, 0);
    for good in [hints.encode_json(), hints.encode_proto()] {
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match play(&log, &bytes) {
                Ok(found) if found == truth => same += 1,
                // Nothing vouches for what a bare set leaves out: a key that nobody knows hides a file.
                Ok(found) => {
                    assert!(
                        found.iter().all(|(name, _)| truth.iter().any(|(other, _)| other == name)),
                        "bit {bit}"
                    );
                    other += 1;
                }
                Err(error) => {
                    assert!(matches!(error.kind().exit_code(), 2 | 3), "bit {bit}: {error:?}");
                    errors += 1;
                }
            }
        }
    }
    assert!(errors > 10 * other && same > 100, "{same} true trees, {errors} errors, {other} other trees");

    // With the checksum that those of a recorder have.
    let as_of = AsOf {
        offset: Offset::new(log.content.len() as u64).unwrap(),
        seq_no: hints.last_seq_no().unwrap(),
        checksum: Checksum::ZERO,
        author: None,
        unix_nanos: 1,
    };
    let hints = FsmHints { as_of: Some(as_of), ..hints };
    for good in [hints.encode_json(), hints.encode_proto()] {
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match play(&log, &bytes) {
                Ok(found) => assert_eq!(found, truth, "bit {bit}"),
                Err(error) => assert_eq!(error.kind(), InvalidHints, "bit {bit}: {error:?}"),
            }
        }
    }
}

/// Plays in memory; returns the files.
fn play(log: &RawLog, hints: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let (journals, fs) = (MemoryJournals::new(), MemoryFs::new());
    let soon = Deadline::after(std::time::Duration::from_secs(10));
    journals.open(&log_name()).unwrap().append(Append::new(log.content.clone()), soon).unwrap();
    let hints = FsmHints::decode(hints).map_err(Error::from)?;
    let options = PlayOptions { parallelism: 1, sync: false, ..PlayOptions::default() };
    let player = Player::new(&journals, &hints, Arc::new(fs.clone()), Path::new("/data"), options)?;
    if let Err(error) = player.restore() {
        assert!(fs.read_dir(Path::new("/")).unwrap().is_empty(), "{error:?}");
        return Err(error);
    }
    let content = |entry: recoverylog::vfs::DirEntry| {
        let file = fs.open(&Path::new("/data").join(&entry.name), OpenMode::Read).unwrap();
        let mut content = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        (entry.name.into_string().unwrap(), content)
    };
    Ok(fs.read_dir(Path::new("/data")).unwrap().into_iter().map(content).collect())
}
