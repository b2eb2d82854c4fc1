//! `recoverylog log`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::place::{LOG, Place, Writer, command};

#[test]
fn a_range_shows_the_operations_that_begin_in_it() {
    let (place, log) = (Place::new(), Writer::two_files());
    place.store_log(LOG, &log.content, 50);
    let (from, to) = (log.begins[2].to_string(), log.begins[4].to_string());
    let ran = place.run(["log", "--json", "--log", LOG, "--from", &from, "--to", &to]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let rows = ran.objects();
    let shown: Vec<_> = rows.iter().map(|row| (row["kind"].as_str(), row["chain"].as_str())).collect();
    assert_eq!(shown, [(Some("create"), Some("begins")), (Some("write"), Some("ok"))]);
    assert_eq!(rows[1]["payload"], "ok");

    let people = place.run(["log", "--log", LOG, "--from", &from]);
    assert_eq!((people.code, people.stdout.lines().count()), (0, 6), "{people:?}");
    assert!(people.stdout.contains("file 3 at /lost"), "{people:?}");

    for range in [["--from", "9999"], ["--to", "9223372036854775808"]] {
        let ran = place.run(["log", "--json", "--log", LOG].into_iter().chain(range));
        assert_eq!((ran.code, ran.kind().as_str()), (2, "invalid"));
    }
}

#[test]
fn junk_and_a_torn_tail_are_rows_and_no_errors() {
    let (place, log) = (Place::new(), Writer::two_files());
    let content = [b"junk", &log.content[..], b"\x66\x33\x93\x36\x01\0\0\0\xff", &log.content[..20]].concat();
    place.store(LOG, 0, &content);
    let ran = place.run(["log", "--json", "--log", LOG]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let types: Vec<_> = ran.objects().iter().map(|row| row["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!((types[0].as_str(), types.len()), ("junk", 10));
    assert_eq!(types[8..], ["undecodable", "torn"]);
    assert_eq!(place.run(["log", "--log", LOG]).stdout.lines().count(), 11);
}

#[test]
fn bytes_that_are_not_there_are_a_row_and_bytes_that_are_damaged_an_error_too() {
    let (place, log) = (Place::new(), Writer::two_files());
    let files = place.store_log(LOG, &log.content, 100);
    let mut damaged = std::fs::read(&files[1]).unwrap();
    damaged[3] ^= 1;
    std::fs::write(&files[1], damaged).unwrap();
    let ran = place.run(["log", "--json", "--log", LOG]);
    let unreadable = ran.objects().into_iter().find(|row| row["type"] == "unreadable").unwrap();
    assert_eq!((unreadable["offset"].as_u64(), unreadable["end"].as_u64()), (Some(100), Some(200)));
    assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"));
    assert!(ran.stderr.contains(files[1].file_name().unwrap().to_str().unwrap()), "{ran:?}");

    std::fs::remove_file(&files[1]).unwrap();
    let ran = place.run(["log", "--json", "--log", LOG]);
    assert_eq!(ran.code, 0);
    assert!(ran.objects().iter().any(|row| row["type"] == "missing" && row["end"] == 200), "{ran:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (place, mut log) = (Place::new(), Writer::new());
    for index in 0..20_000 {
        log.create(&format!("/some/folder/file-{index}"));
    }
    place.store(LOG, 0, &log.content);
    let root = place.root();
    let mut child = command()
        .args(["log", "--log", LOG, "--journals"])
        .arg(root)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("SEQ-NO"), "{line}");
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{ended:?}");
}
