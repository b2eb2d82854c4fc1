//! Goal: whatever lies in a folder, a reader gives the true bytes or a typed error. Method: fragments that a real
//! broker stored, damaged at many places; and small folders made here, one for each rule of the index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::*;
use crate::ids::Offset;
use crate::journal::{Chunk, Codec, ReadStep, conformance};
use crate::prng::SplitMix64;
use crate::vfs::{MemoryFs, OpenMode, OsFs, create_dir_all_synced};

mod damage;
mod failing;
mod folders;

/// The codecs that this build can read, with their folders among the golden data.
fn golden_codecs() -> impl Iterator<Item = (Codec, JournalName)> {
    [
        (Codec::None, "frag/none"),
        (Codec::Gzip, "frag/gzip"),
        (Codec::Zstandard, "frag/zstd"),
        (Codec::Snappy, "frag/snappy"),
    ]
    .into_iter()
    .filter(|(codec, _)| codec.missing_feature().is_none())
    .map(|(codec, name)| (codec, JournalName::new(name).unwrap()))
}

fn golden_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fragments")
}

fn golden() -> FragmentJournals {
    FragmentJournals::open(Arc::new(OsFs::new()), golden_root()).unwrap()
}

/// The content that the golden fragments hold.
fn golden_content() -> Vec<u8> {
    let mut content = read_file(&OsFs::new(), &golden_root().join("content.bin"));
    content.truncate(189_182);
    content
}

fn read_file(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A folder of journals in memory.
struct Folder(MemoryFs);

impl Folder {
    fn new() -> Self {
        let fs = MemoryFs::new();
        fs.create_dir(Path::new("/root")).unwrap();
        Self(fs)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = Path::new("/root").join(path);
        create_dir_all_synced(&self.0, path.parent().unwrap()).unwrap();
        self.0.open(&path, OpenMode::Truncate).unwrap().write_all_at(bytes, 0).unwrap();
    }

    /// Stores `content` as a fragment below `folder`; returns its path.
    fn store(&self, folder: &str, begin: u64, content: &[u8], codec: Codec) -> String {
        let name = name_of(begin, content, codec);
        let path = format!("{folder}/{name}");
        self.put(&path, &encode(content, codec));
        path
    }

    fn remove(&self, path: &str) {
        self.0.remove_file(&Path::new("/root").join(path)).unwrap();
    }

    fn journals(&self) -> FragmentJournals {
        FragmentJournals::open(Arc::new(self.0.clone()), "/root").unwrap()
    }

    fn journal(&self, journal: &str) -> Result<FragmentJournal, JournalError> {
        self.journals().journal(&name(journal))
    }
}

fn name(name: &str) -> JournalName {
    JournalName::new(name).unwrap()
}

fn at(offset: u64) -> Offset {
    Offset::new(offset).unwrap()
}

fn name_of(begin: u64, content: &[u8], codec: Codec) -> FragmentName {
    let end = at(begin + content.len() as u64);
    FragmentName { begin: at(begin), end, sum: Sha1::digest(content).into(), codec }
}

/// Compresses as Gazette does.
fn encode(content: &[u8], codec: Codec) -> Vec<u8> {
    match codec {
        Codec::None => content.to_vec(),
        #[cfg(feature = "gzip")]
        Codec::Gzip | Codec::GzipOffloadDecompression => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut encoder, content).unwrap();
            encoder.finish().unwrap()
        }
        #[cfg(feature = "zstd")]
        Codec::Zstandard => zstd::stream::encode_all(content, 1).unwrap(),
        #[cfg(feature = "snappy")]
        Codec::Snappy => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            io::Write::write_all(&mut encoder, content).unwrap();
            encoder.into_inner().unwrap()
        }
        #[cfg(not(all(feature = "gzip", feature = "zstd", feature = "snappy")))]
        _ => content.to_vec(),
    }
}

/// Bytes that compress a little.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = SplitMix64::new(seed);
    let words = std::iter::repeat_with(|| random.next_u64().to_le_bytes());
    words.flatten().map(|byte| byte & 0x3f).take(len).collect()
}

/// What a reader gives: bytes, and missing ranges.
#[derive(Debug, Eq, PartialEq)]
enum Part {
    Bytes(Vec<u8>),
    Jump(u64, u64),
}

/// Reads to the end of the range or the head; what was read before an error is lost.
fn parts(journal: &FragmentJournal, range: ReadRange) -> Result<Vec<Part>, JournalError> {
    let mut reader = journal.read(range)?;
    let mut parts = Vec::new();
    loop {
        match reader.next(Deadline::passed())? {
            ReadStep::Chunk(chunk) => {
                let mut bytes = vec![0; chunk.len() as usize];
                chunk.read_exact_at(&mut bytes, 0).unwrap();
                match parts.last_mut() {
                    Some(Part::Bytes(last)) => last.extend_from_slice(&bytes),
                    _ => parts.push(Part::Bytes(bytes)),
                }
            }
            ReadStep::Jump { from, to } => parts.push(Part::Jump(from.get(), to.get())),
            ReadStep::End | ReadStep::AtHead { .. } => return Ok(parts),
            ReadStep::Interrupted => panic!("nobody interrupts"),
        }
    }
}

fn all(journal: &FragmentJournal) -> Result<Vec<Part>, JournalError> {
    parts(journal, ReadRange::follow(Offset::ZERO))
}

#[test]
fn the_fragments_of_a_real_broker_read_back_whole() {
    let content = golden_content();
    for (codec, name) in golden_codecs() {
        let journal = golden().journal(&name).unwrap();
        assert_eq!(journal.head(Deadline::passed()).unwrap().offset, at(189_182));
        assert!(all(&journal).unwrap() == [Part::Bytes(content.clone())], "{codec}");
        let fragments = journal.fragments(Deadline::passed()).unwrap();
        assert_eq!(fragments.len(), 3);
        for fragment in fragments {
            let range = fragment.begin.get() as usize..fragment.end.get() as usize;
            assert_eq!(fragment.sum, Some(Sha1::digest(&content[range]).into()));
            assert_eq!((fragment.codec, &*fragment.path_postfix), (codec, ""));
            assert!(fragment.stored_bytes.unwrap() > 0 && fragment.modified_unix_secs.unwrap() > 0);
        }
    }
}

#[test]
fn the_fragments_of_a_real_broker_read_back_from_every_kind_of_offset() {
    let content = golden_content();
    let mut random = SplitMix64::new(3);
    let mut cuts = vec![0, 1, 22_969, 22_970, 22_971, 101_846, 101_847, 101_848, 189_181, 189_182];
    cuts.extend((0..6).map(|_| random.below(189_182)));
    cuts.sort_unstable();
    for (codec, name) in golden_codecs() {
        for (verify, files) in [(true, false), (false, false), (true, true)] {
            let journal = golden().verify_sums(verify).file_chunks(files).journal(&name).unwrap();
            for (index, &begin) in cuts.iter().enumerate() {
                for &end in &cuts[index..] {
                    let found = parts(&journal, ReadRange::bounded(at(begin), at(end))).unwrap();
                    let expected = &content[begin as usize..end as usize];
                    let matches = match &found[..] {
                        [] => expected.is_empty(),
                        [Part::Bytes(found)] => found == expected,
                        _ => false,
                    };
                    assert!(matches, "{codec} [{begin}, {end})");
                }
            }
        }
    }
}

#[test]
fn raw_fragments_are_handed_out_as_files_only_where_that_is_asked_for() {
    for (ask, expected) in [(false, false), (true, true)] {
        let journal = golden().file_chunks(ask).journal(&name("frag/none")).unwrap();
        let mut reader = journal.read(ReadRange::bounded(at(10), at(30_000))).unwrap();
        let ReadStep::Chunk(chunk) = reader.next(Deadline::passed()).unwrap() else { panic!("no chunk") };
        assert_eq!(matches!(chunk, Chunk::File { position: 10, len: 22_960, .. }), expected, "{chunk:?}");
    }
}

#[test]
fn fragment_journals_conform() {
    let content = golden_content();
    for (_, name) in golden_codecs() {
        let make = || conformance::Place::prepared(alone(&name), name.clone(), content.clone());
        let report = conformance::run(&make).unwrap_or_else(|failures| panic!("{failures}"));
        assert!(report.held.contains(&"a_reader_gives_exactly_its_range"));
        assert!(report.declined.contains(&"appends_land_where_they_say"));
    }
}

/// A place that holds one of the golden journals and no other.
fn alone(name: &JournalName) -> Arc<dyn Journals> {
    let folder = Folder::new();
    for entry in OsFs::new().read_dir(&golden_root().join(name.as_str())).unwrap() {
        let file = entry.name.to_str().unwrap();
        let bytes = read_file(&OsFs::new(), &golden_root().join(name.as_str()).join(file));
        folder.put(&format!("{name}/{file}"), &bytes);
    }
    Arc::new(folder.journals())
}

#[test]
fn members_frames_and_streams_may_follow_one_another_in_one_file() {
    let (one, two) = (noise(1, 300_000), noise(2, 70_000));
    let whole = [&one[..], &two].concat();
    for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        if codec.missing_feature().is_some() {
            continue;
        }
        let folder = Folder::new();
        let stored = [encode(&one, codec), encode(b"", codec), encode(&two, codec)].concat();
        folder.put(&format!("acme/{}", name_of(0, &whole, codec)), &stored);
        let journal = folder.journal("acme").unwrap();
        assert!(all(&journal).unwrap() == [Part::Bytes(whole.clone())], "{codec}");
        let inside = parts(&journal, ReadRange::bounded(at(299_999), at(300_001))).unwrap();
        assert!(inside == [Part::Bytes(whole[299_999..300_001].to_vec())], "{codec}");
    }
}

#[cfg(feature = "gzip")]
#[test]
fn an_offloaded_fragment_is_read_packed_and_unpacked() {
    let content = noise(1, 5000);
    for stored in [content.clone(), encode(&content, Codec::Gzip)] {
        let folder = Folder::new();
        folder.put(&format!("acme/{}", name_of(0, &content, Codec::GzipOffloadDecompression)), &stored);
        let journal = folder.journal("acme").unwrap();
        assert!(all(&journal).unwrap() == [Part::Bytes(content.clone())]);
        assert!(
            parts(&journal, ReadRange::follow(at(4999))).unwrap() == [Part::Bytes(content[4999..].to_vec())]
        );
    }
}

#[test]
fn a_codec_that_is_not_built_in_is_named_with_its_feature() {
    for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy, Codec::GzipOffloadDecompression] {
        let Some(feature) = codec.missing_feature() else { continue };
        let folder = Folder::new();
        folder.put(&format!("acme/{}", name_of(0, b"content", codec)), b"compressed");
        match all(&folder.journal("acme").unwrap()) {
            Err(JournalError::NotAllowed { what, .. }) => assert!(what.contains(feature), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(feature = "gzip")]
#[test]
fn an_interrupt_ends_a_long_skip_which_then_goes_on() {
    let content = noise(1, 2 << 20);
    let folder = Folder::new();
    folder.store("acme", 0, &content, Codec::Gzip);
    let journal = folder.journal("acme").unwrap();
    let mut reader = journal.read(ReadRange::follow(at((2 << 20) - 1))).unwrap();
    let interrupter = reader.interrupter();
    interrupter.interrupt();
    assert!(matches!(reader.next(Deadline::passed()), Ok(ReadStep::Interrupted)));
    match reader.next(Deadline::passed()) {
        Ok(ReadStep::Chunk(Chunk::Bytes { bytes, .. })) => assert_eq!(bytes, content[(2 << 20) - 1..]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_of_fragments_is_read_only() {
    let folder = Folder::new();
    folder.store("acme", 0, b"content", Codec::None);
    let journal = folder.journal("acme").unwrap();
    let refused = |result: Result<(), JournalError>| matches!(result, Err(JournalError::NotAllowed { .. }));
    assert!(refused(journal.append(Append::new(Bytes::from_static(b"x")), Deadline::passed()).map(drop)));
    assert!(refused(journal.prune(&[], Deadline::passed())));
    let missing = folder.journals().open(&name("acme/other")).map(drop);
    assert!(matches!(missing, Err(JournalError::NotFound { .. })));
    assert!(
        folder.0.metadata(Path::new("/root/acme/other")).is_err(),
        "a refused open leaves nothing behind"
    );
}
