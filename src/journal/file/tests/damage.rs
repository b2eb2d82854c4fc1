//! Goal: damage to a file is never silent: the content is the true one, or there is a typed error, or, where nothing
//! vouches for the last commit, an earlier whole state.
//! Method: a small journal of one sealed fragment and one open file; each byte of each file is flipped, and the
//! open file is cut at each byte, in this boot and in the next.

use sha1::{Digest as _, Sha1};

use super::super::place::Sealed;
use super::*;
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs};

/// A journal whose states after each append are known.
struct Small {
    fs: MemoryFs,
    states: Vec<Vec<u8>>,
}

fn small(closed: bool) -> Small {
    let fs = MemoryFs::new();
    let process = Arc::new(FaultyFs::new(fs.clone()));
    let place: Arc<dyn FileSystem> = process.clone();
    let journal =
        FileJournals::open_on(place, ROOT, options(4096, true)).unwrap().open_file(&name()).unwrap();
    let mut states = vec![Vec::new()];
    for (index, bytes) in [3000, 1500, 40, 500].into_iter().enumerate() {
        let mut next = Append::new(vec![b'a' + index as u8; bytes]);
        next.union = registers(&index.to_string());
        journal.append(next, soon()).unwrap();
        states.push(content(&journal).unwrap());
    }
    if !closed {
        // The process dies: nothing is flushed any more.
        process.inject(FaultPlan::At { number: 0, fault: Fault::Crash });
    }
    drop(journal);
    Small { fs, states }
}

fn files(fs: &MemoryFs) -> Vec<(PathBuf, u64)> {
    tree(fs).into_iter().filter(|(path, _)| fs.metadata(path).unwrap().kind == FileKind::File).collect()
}

/// What a damaged journal shows: its content, or that it says no.
fn look(fs: &MemoryFs) -> Option<Vec<u8>> {
    let journal = match try_open_on(fs, 4096) {
        Ok(journal) => journal,
        Err(JournalError::Corrupt { .. } | JournalError::Diverged { .. }) => return None,
        Err(error) => panic!("{error:?}"),
    };
    match content(&journal) {
        Ok(found) => Some(found),
        Err(JournalError::Corrupt { expected, actual, .. }) => {
            assert_ne!(expected, actual);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn flip(fs: &MemoryFs, path: &Path, at: u64) {
    let file = fs.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at).unwrap();
    file.sync_all().unwrap();
}

fn read_all(fs: &MemoryFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Offsets worth damaging: all that are not zero, their neighbours, and some of the zeros in between.
fn places(bytes: &[u8]) -> Vec<u64> {
    let is_set = |at: usize| bytes.get(at).is_some_and(|&byte| byte != 0);
    let near =
        |at: &usize| is_set(*at) || is_set(at + 1) || is_set(at.wrapping_sub(1)) || at.is_multiple_of(61);
    (0..bytes.len()).filter(near).map(|at| at as u64).collect()
}

#[test]
fn a_flipped_bit_is_seen_in_the_next_boot() {
    for closed in [true, false] {
        let Small { fs, states } = small(closed);
        // Without a clean close the head of the last boot may be lost, and vouches for nothing.
        let plan = if closed { CrashPlan::KeepAll } else { CrashPlan::DropUnsynced };
        let (last, before) = (&states[4], &states[3]);
        let mut outcomes = [0; 3];
        for (path, _) in files(&fs.crash_image(plan)) {
            for at in places(&read_all(&fs.crash_image(plan), &path)) {
                let image = fs.crash_image(plan);
                flip(&image, &path, at);
                let context = format!("{} at {at}, closed: {closed}", path.display());
                match look(&image) {
                    None => outcomes[0] += 1,
                    Some(found) if found == *last => outcomes[1] += 1,
                    Some(found) => {
                        assert!(found == *before && !closed, "{context}: {} bytes", found.len());
                        outcomes[2] += 1;
                        let journal = open_on(&fs.crash_image(plan), 4096);
                        assert!(journal.cut_tail().is_none());
                    }
                }
            }
        }
        println!(
            "flipped: {} refused, {} unharmed, {} an earlier state",
            outcomes[0], outcomes[1], outcomes[2]
        );
        assert!(outcomes[0] > 3000 && outcomes[1] > 100, "{outcomes:?}");
        // 500 bytes of content, and the record.
        assert_eq!(outcomes[2] > 500, !closed, "{outcomes:?}");
    }
}

#[test]
fn content_that_changed_before_it_was_sealed_is_not_sealed_and_stops_the_journal() {
    let fs = MemoryFs::new();
    let (journal, bystander) = (open_on(&fs, 4096), open_on(&fs, 4096));
    append(&journal, &[1; 4000]).unwrap();
    let (open, _) =
        files(&fs).into_iter().find(|(path, _)| path.extension() == Some("open".as_ref())).unwrap();
    flip(&fs, &open, 10);
    // The next append has no room there: the file is sealed, which looks at every byte.
    drop(append(&journal, &[2; 4000]));
    for journal in [&journal, &bystander] {
        let refused = append(journal, b"x");
        assert!(matches!(refused, Err(JournalError::Wedged { .. })), "{refused:?}");
    }
    assert_eq!(sealed_files(&fs), [""; 0]);
    // Readers of this boot follow its head, and look at no sum.
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    for (journals, fs) in [(writing(&fs), &fs), (read_only(&image), &image), (writing(&image), &image)] {
        let before = state_files(fs);
        let opened = journals.open_file(&name());
        assert!(matches!(opened, Err(JournalError::Corrupt { .. })), "{:?}", opened.map(drop));
        assert_eq!(state_files(fs), before, "nothing is cleared away");
    }
}

#[test]
fn what_never_came_into_use_is_removed_and_what_may_be_about_to_is_not() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    for round in 0..4 {
        append(&journal, &[round; 4000]).unwrap();
    }
    drop(journal);
    assert_eq!(state_files(&fs), ["0000000000000004.open", "head", "lock"]);
    for id in [1, 3, 9] {
        fs.open(&open_path(id).with_extension("new"), OpenMode::Create).unwrap();
    }
    drop(open_on(&fs, 4096));
    assert_eq!(state_files(&fs), ["0000000000000004.open", "0000000000000009.new", "head", "lock"]);
}

#[test]
fn a_cut_tail_is_reported() {
    let Small { fs, states } = small(false);
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    let (open, _) = files(&image).into_iter().find(|(path, _)| path.extension().unwrap() == "open").unwrap();
    flip(&image, &open, 4 + 1500 + 40);
    let journal = open_on(&image, 4096);
    let cut = journal.cut_tail().unwrap();
    assert_eq!(cut.offset.get(), states[3].len() as u64);
    assert!(cut.what.contains("CRC-32C"), "{cut:?}");
    drop(journal);
    assert_eq!(open_on(&image, 4096).cut_tail(), None);
}

#[test]
fn a_flipped_bit_is_seen_in_the_same_boot() {
    let Small { fs, states } = small(false);
    let mut flipped = 0;
    for (path, _) in files(&fs) {
        for at in places(&read_all(&fs, &path)) {
            flipped += 1;
            let Small { fs, .. } = small(false);
            flip(&fs, &path, at);
            if let Some(found) = look(&fs) {
                assert!(found == states[4], "{} at {at}: {} bytes", path.display(), found.len());
            }
        }
    }
    println!("flipped: {flipped}");
}

#[test]
fn an_open_file_that_is_cut_anywhere_is_corrupt() {
    let Small { fs, states } = small(false);
    let (path, len) = files(&fs).into_iter().find(|(path, _)| path.extension().unwrap() == "open").unwrap();
    let bytes = read_all(&fs, &path);
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    for fs in [&fs, &image] {
        for cut in 0..len {
            let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
            file.set_len(cut).unwrap();
            assert!(look(fs).is_none(), "cut at {cut} of {len}");
            file.write_all_at(&bytes[cut as usize..], cut).unwrap();
        }
        assert_eq!(look(fs).unwrap(), states[4]);
    }
    println!("cut: {}", len * 2);
}

#[test]
fn a_fragment_that_is_renamed_between_its_listing_and_its_opening_is_no_hole() {
    let Small { fs, states } = small(false);
    // The first file to be opened would be the open one that came before, which was sealed long ago.
    for (renames, expected) in [(1, true), (2, true), (4, true), (100, false)] {
        let faulty = Arc::new(FaultyFs::new(fs.clone()));
        let journal = read_only(&faulty).open(&name()).unwrap();
        let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
        for number in 0..renames {
            let fault = Fault::Fail(io::ErrorKind::NotFound);
            faulty.inject(FaultPlan::Nth { effect: Effect::Open, number, fault });
        }
        match reader.next(soon()) {
            Ok(ReadStep::Chunk(chunk)) if expected => assert_eq!(bytes_of(&chunk), states[4][..3000]),
            Err(JournalError::Unavailable { .. }) if !expected => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_sealed_fragment_that_is_cut_or_gone_is_no_silent_end() {
    let Small { fs, states } = small(false);
    let path = Path::new(ROOT).join(name().as_str()).join(&sealed_files(&fs)[0]);
    for cut in [0, 1, 2999] {
        let image = fs.crash_image(CrashPlan::DropUnsynced);
        image.open(&path, OpenMode::ReadWrite).unwrap().set_len(cut).unwrap();
        assert!(look(&image).is_none(), "{cut}");
    }
    fs.remove_file(&path).unwrap();
    let journal = open_on(&fs, 4096);
    let mut reader =
        journal.read(ReadRange::bounded(Offset::ZERO, journal.head(soon()).unwrap().offset)).unwrap();
    let (from, to) = (Offset::ZERO, Offset::new(3000).unwrap());
    assert!(
        matches!(reader.next(soon()).unwrap(), ReadStep::Jump { from: a, to: b } if (a, b) == (from, to))
    );
    assert!(
        matches!(reader.next(soon()).unwrap(), ReadStep::Chunk(chunk) if bytes_of(&chunk) == states[4][3000..])
    );
}

#[test]
fn an_open_file_that_is_gone_is_corrupt_in_the_next_boot_too() {
    let Small { fs, states } = small(true);
    let image = fs.crash_image(CrashPlan::KeepAll);
    let (path, _) = files(&image).into_iter().find(|(path, _)| path.extension().unwrap() == "open").unwrap();
    assert_eq!(look(&fs.crash_image(CrashPlan::KeepAll)).unwrap(), states[4]);
    image.remove_file(&path).unwrap();
    for journals in [read_only(&image), writing(&image)] {
        let opened = journals.open_file(&name());
        assert!(matches!(opened, Err(JournalError::Corrupt { .. })), "{:?}", opened.map(|j| j.head(soon())));
    }
}

#[test]
fn a_reader_believes_the_witness_of_the_last_boot() {
    let Small { fs, states } = small(true);
    let (open, _) = files(&fs).into_iter().find(|(path, _)| path.extension().unwrap() == "open").unwrap();
    let image = fs.crash_image(CrashPlan::KeepAll);
    assert_eq!(content(&read_only(&image).open_file(&name()).unwrap()).unwrap(), states[4]);
    flip(&image, &open, 4 + 1500 + 40);
    let opened = read_only(&image).open_file(&name());
    assert!(matches!(opened, Err(JournalError::Corrupt { .. })), "{:?}", opened.map(|j| j.head(soon())));
}

#[test]
fn a_fragment_that_reaches_past_the_head_counts_only_where_the_open_file_is_the_same() {
    let fs = MemoryFs::new();
    let journal = open_on(&fs, 4096);
    append(&journal, &[7; 500]).unwrap();
    drop(journal);
    let sum = Sha1::digest([7; 500]).into();
    for (len, is_ours) in [(500, true), (501, false), (1000, false)] {
        let image = fs.crash_image(CrashPlan::KeepAll);
        let sealed = Sealed { begin: Offset::ZERO, end: Offset::new(len).unwrap(), sum };
        let path = Path::new(ROOT).join(name().as_str()).join(format!("{sealed}.raw"));
        image.open(&path, OpenMode::CreateNew).unwrap().write_all_at(&vec![7; len as usize], 0).unwrap();
        for journals in [read_only(&image), writing(&image)] {
            match journals.open_file(&name()).and_then(|journal| content(&journal)) {
                Ok(found) if is_ours => assert_eq!(found, [7; 500]),
                Err(JournalError::Diverged { .. }) if !is_ours => {}
                other => panic!("{len}: {other:?}"),
            }
        }
    }
}
