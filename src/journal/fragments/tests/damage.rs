//! Damaged files: the true bytes or `Corrupt`, never a panic, and never other bytes.

use super::*;

/// One golden fragment of each codec: its content, its name and the bytes of its file.
fn samples() -> Vec<(Codec, Vec<u8>, String, Vec<u8>)> {
    let content = golden_content();
    let sample = |(codec, name): (Codec, JournalName)| {
        let folder = golden_root().join(name.as_str());
        let first = OsFs::new().read_dir(&folder).unwrap().remove(0).name;
        let bytes = read_file(&OsFs::new(), &folder.join(&first));
        (codec, content[..22_970].to_vec(), first.into_string().unwrap(), bytes)
    };
    golden_codecs().map(sample).collect()
}

/// Reads a journal whose only fragment is `bytes`.
fn read_alone(name: &str, bytes: &[u8]) -> Result<Vec<Part>, JournalError> {
    let folder = Folder::new();
    folder.put(&format!("acme/{name}"), bytes);
    all(&folder.journal("acme").unwrap())
}

fn assert_corrupt(result: Result<Vec<Part>, JournalError>, context: &str) -> (String, String, String) {
    match result {
        Err(JournalError::Corrupt { journal, what, expected, actual, offset }) => {
            assert_eq!(journal, name("acme"));
            assert!(what.contains("/root/acme/0"), "{context}: the file is not named: {what}");
            assert!(offset <= at(22_970), "{context}: {offset}");
            (what, expected, actual)
        }
        other => panic!("{context}: {other:?}"),
    }
}

#[test]
fn a_flipped_byte_is_seen_or_does_no_harm() {
    for (codec, content, name, bytes) in samples() {
        let mut harmless = 0;
        let positions = (0..bytes.len()).filter(|at| *at < 80 || bytes.len() - at < 40 || at % 61 == 0);
        for (index, position) in positions.enumerate() {
            let mut changed = bytes.clone();
            changed[position] ^= [0xff, 0x01, 0x80, 0x10][index % 4];
            match read_alone(&name, &changed) {
                Ok(parts) => {
                    assert!(
                        parts == [Part::Bytes(content.clone())],
                        "{codec}: wrong bytes, flipped {position}"
                    );
                    harmless += 1;
                }
                error => drop(assert_corrupt(error, &format!("{codec}, flipped {position}"))),
            }
        }
        // Headers have bytes that do not change the content: gzip's time, level and system, zstd's window.
        let at_most = match codec {
            Codec::Gzip => 8,
            Codec::Zstandard => 2,
            _ => 0,
        };
        assert!(harmless <= at_most, "{codec}: {harmless} flips were not seen");
    }
}

#[test]
fn a_cut_file_is_corrupt_wherever_it_is_cut() {
    for (codec, _, name, bytes) in samples() {
        let lengths = (0..bytes.len()).filter(|at| *at < 40 || bytes.len() - at < 40 || at % 97 == 0);
        for len in lengths {
            drop(assert_corrupt(read_alone(&name, &bytes[..len]), &format!("{codec}, cut at {len}")));
        }
    }
}

#[test]
fn bytes_after_the_end_are_seen_or_do_no_harm() {
    for (codec, content, name, bytes) in samples() {
        for tail in [&b"\0"[..], b"garbage after the end", &bytes[..20], &bytes] {
            match read_alone(&name, &[&bytes[..], tail].concat()) {
                Ok(parts) => assert!(parts == [Part::Bytes(content.clone())], "{codec}: {tail:?}"),
                error => drop(assert_corrupt(error, &format!("{codec}, with a tail"))),
            }
        }
        drop(assert_corrupt(read_alone(&name, &[&bytes[..], &bytes].concat()), "twice the content"));
    }
}

#[test]
fn another_sum_than_the_name_says_is_corrupt_unless_sums_are_not_checked() {
    for (codec, content, name, bytes) in samples() {
        let wrong = name.replace("ab0c744894a4ec77954e05f198b019e46b236b7d", &"5".repeat(40));
        assert_ne!(name, wrong);
        let (what, expected, actual) = assert_corrupt(read_alone(&wrong, &bytes), codec.name());
        assert!(what.contains(&wrong) && what.contains("SHA-1"), "{what}");
        assert_eq!((&*expected, &*actual), (&*"5".repeat(40), "ab0c744894a4ec77954e05f198b019e46b236b7d"));

        let folder = Folder::new();
        folder.put(&format!("acme/{wrong}"), &bytes);
        let unchecked = folder.journals().verify_sums(false).journal(&super::name("acme")).unwrap();
        assert!(all(&unchecked).unwrap() == [Part::Bytes(content.clone())]);
        // A raw fragment that is not read from its beginning has no sum to check; a decoder reads all of it.
        let inside = parts(&folder.journal("acme").unwrap(), ReadRange::follow(at(10)));
        match codec {
            Codec::None => assert!(inside.unwrap() == [Part::Bytes(content[10..].to_vec())]),
            _ => drop(assert_corrupt(inside, codec.name())),
        }
    }
}

#[test]
fn an_error_is_given_again_and_nothing_after_it() {
    for (codec, _, name, bytes) in samples() {
        let folder = Folder::new();
        folder.put(&format!("acme/{name}"), &bytes[..bytes.len() - 1]);
        let mut reader = folder.journal("acme").unwrap().read(ReadRange::follow(Offset::ZERO)).unwrap();
        for _ in 0..3 {
            let result = reader.next(Deadline::passed()).map(|_| Vec::new());
            drop(assert_corrupt(result, codec.name()));
            assert_eq!(reader.offset(), Offset::ZERO);
        }
    }
}

#[test]
fn content_that_is_longer_or_shorter_than_its_name_says_is_corrupt() {
    let bomb = vec![0; 32 << 20];
    for codec in [Codec::None, Codec::Gzip, Codec::Zstandard, Codec::Snappy, Codec::GzipOffloadDecompression]
    {
        if codec.missing_feature().is_some() {
            continue;
        }
        let packed = encode(&bomb, codec);
        for claimed in [1, 1000, i64::MAX as u64] {
            let claim = FragmentName { end: at(claimed), ..name_of(0, b"", codec) };
            let folder = Folder::new();
            folder.put(&format!("acme/{claim}"), &packed);
            let mut reader = folder.journal("acme").unwrap().read(ReadRange::follow(Offset::ZERO)).unwrap();
            let error = loop {
                match reader.next(Deadline::passed()) {
                    Ok(ReadStep::Chunk(chunk)) => assert!(chunk.len() <= 256 << 10, "{codec}"),
                    Ok(other) => panic!("{codec}: {other:?}"),
                    Err(error) => break error,
                }
            };
            let JournalError::Corrupt { offset, .. } = error else { panic!("{codec}: {error:?}") };
            assert_eq!(offset, at(claimed.min(32 << 20)), "{codec}");
            assert!(reader.offset() <= offset);
        }
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_window_that_would_take_much_memory_is_refused() {
    use std::io::Write;
    let content = noise(1, 100_000);
    for (window_log, accepted) in [(23, true), (25, true), (26, false)] {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&content).unwrap();
        let stored = encoder.finish().unwrap();
        let result = read_alone(&name_of(0, &content, Codec::Zstandard).to_string(), &stored);
        match result {
            Ok(parts) => assert!(accepted && parts == [Part::Bytes(content.clone())], "{window_log}"),
            error => {
                let (_, _, actual) = assert_corrupt(error, "a large window");
                assert!(!accepted && actual.contains("memory"), "{actual}");
            }
        }
    }
}

#[test]
fn files_of_noise_never_panic() {
    for seed in 0..300 {
        let mut random = SplitMix64::new(seed);
        for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
            if codec.missing_feature().is_some() {
                continue;
            }
            // A good beginning, so that the noise is taken for content.
            let good = encode(&noise(seed, 500), codec);
            let keep = random.below(good.len() as u64) as usize;
            let stored = [&good[..keep], &noise(seed ^ 1, random.below(400) as usize)].concat();
            let claimed = name_of(0, &noise(seed, 500), codec).to_string();
            drop(assert_corrupt(read_alone(&claimed, &stored), &format!("{codec}, seed {seed}")));
        }
    }
}
