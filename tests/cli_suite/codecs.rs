//! Logs whose fragments are compressed.

use std::path::{Path, PathBuf};

use recoverylog::Offset;
use recoverylog::journal::{Codec, FragmentName};
use serde_json::Value;
use sha1::{Digest, Sha1};

use super::cases::root;
use super::place::{LOG, Place, Ran, Writer, run, text};

/// The codecs that this build reads, with their folders among the golden data.
fn codecs() -> Vec<(Codec, &'static str)> {
    vec![
        (Codec::None, "frag/none"),
        #[cfg(feature = "gzip")]
        (Codec::Gzip, "frag/gzip"),
        #[cfg(feature = "zstd")]
        (Codec::Zstandard, "frag/zstd"),
        #[cfg(feature = "snappy")]
        (Codec::Snappy, "frag/snappy"),
    ]
}

fn encode(content: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        #[cfg(feature = "gzip")]
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, content).unwrap();
            encoder.finish().unwrap()
        }
        #[cfg(feature = "zstd")]
        Codec::Zstandard => zstd::stream::encode_all(content, 1).unwrap(),
        #[cfg(feature = "snappy")]
        Codec::Snappy => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut encoder, content).unwrap();
            encoder.into_inner().unwrap()
        }
        _ => content.to_vec(),
    }
}

/// Stores a log in compressed fragments of 100 bytes; returns their files.
fn store(place: &Place, content: &[u8], codec: Codec) -> Vec<PathBuf> {
    let folder = place.root().join(LOG);
    std::fs::create_dir_all(&folder).unwrap();
    let store = |(index, piece): (usize, &[u8])| {
        let begin = Offset::new(100 * index as u64).unwrap();
        let (end, sum) = (begin.saturating_add(piece.len() as u64), Sha1::digest(piece).into());
        let file = folder.join(FragmentName { begin, end, sum, codec }.to_string());
        std::fs::write(&file, encode(piece, codec)).unwrap();
        file
    };
    content.chunks(100).enumerate().map(store).collect()
}

fn restore(place: &Place, target: &Path) -> Ran {
    place.run(["restore", "--json", "--log", LOG, "--dir", text(target)])
}

#[test]
fn a_log_is_the_same_to_every_command_however_its_fragments_are_compressed() {
    let log = Writer::two_files();
    let plain = Place::new();
    store(&plain, &log.content, Codec::None);
    for (codec, _) in codecs() {
        let place = Place::new();
        let files = store(&place, &log.content, codec);
        assert!(files.len() > 2);
        for command in [&["log", "--json", "--log", LOG][..], &["verify", "--json"]] {
            let ran = place.run(command);
            assert_eq!((ran.code, ran.objects()), (0, plain.run(command).objects()), "{codec:?}");
        }
        let target = place.beside("target");
        assert_eq!(restore(&place, &target).code, 0, "{codec:?}");
        assert_eq!(std::fs::read(target.join("kept")).unwrap(), b"what is kept, and more", "{codec:?}");
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1, "{codec:?}");

        let mut damaged = std::fs::read(&files[1]).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 4;
        std::fs::write(&files[1], damaged).unwrap();
        for ran in [restore(&place, &place.beside("other")), place.run(["verify", "--json"])] {
            assert_eq!((ran.code, ran.kind().as_str()), (3, "corrupt"), "{codec:?}: {ran:?}");
            let name = files[1].file_name().unwrap().to_str().unwrap();
            assert!(ran.stderr.contains(name) || ran.stdout.contains(name), "{codec:?}: {ran:?}");
        }
        assert!(!place.beside("other").exists());
    }
}

#[test]
fn what_a_broker_stored_reads_alike_in_every_codec() {
    // Its content is text, of which no byte is a frame.
    let (journals, place) = (root().join("fragments"), Place::new());
    let run = |args: &[&str]| run(args.iter().chain(&["--json", "--journals", text(&journals)]));
    let verified = run(&["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let logs = verified.object()["logs"].as_array().unwrap().clone();
    for (codec, name) in codecs() {
        let log = logs.iter().find(|log| log["log"] == name).unwrap();
        let counted = (log["fragments"].as_u64(), log["head"].as_u64(), log["junk_bytes"].as_u64());
        assert_eq!(counted, (Some(3), Some(189_182), Some(189_182)), "{codec:?}: {log}");
        let listed: Vec<Value> = run(&["log", "--log", name]).objects();
        assert_eq!(
            (listed.len(), &listed[0]["type"], &listed[0]["end"]),
            (1, &"junk".into(), &189_182.into())
        );
        let target = place.beside(&name.replace('/', "-"));
        let restored = run(&["restore", "--log", name, "--dir", text(&target)]);
        assert_eq!(restored.code, 0, "{restored:?}");
        let restored = restored.object();
        let junk = (restored["files"].as_u64(), restored["junk_bytes"].as_u64());
        assert_eq!((junk, restored["warnings"].as_array().unwrap().len()), ((Some(0), Some(189_182)), 1));
    }
}
