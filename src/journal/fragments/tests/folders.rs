//! What lies in a folder, and which of it is read.

use super::*;

#[test]
fn of_overlapping_fragments_the_one_that_reaches_furthest_is_read() {
    let content = noise(5, 1000);
    let folder = Folder::new();
    // What is not to be read holds other bytes than its name says.
    for (begin, end) in [(100, 300), (0, 400), (350, 500)] {
        folder.put(&format!("acme/{}", name_of(begin, &content[begin as usize..end], Codec::None)), b"");
    }
    for (begin, end) in [(0, 600), (500, 900), (550, 1000)] {
        folder.store("acme", begin, &content[begin as usize..end], Codec::None);
    }
    let journal = folder.journal("acme").unwrap();
    // The fragment [500, 900) is never needed either.
    assert!(all(&journal).unwrap() == [Part::Bytes(content.clone())]);
    assert!(parts(&journal, ReadRange::follow(at(360))).unwrap() == [Part::Bytes(content[360..].to_vec())]);
    let begins = journal.fragments(Deadline::passed()).unwrap();
    let begins = begins.iter().map(|fragment| fragment.begin.get()).collect::<Vec<_>>();
    assert_eq!(begins, [0, 0, 100, 350, 500, 550]);
}

#[test]
fn of_equal_fragments_the_cheapest_to_decode_is_read() {
    let content = noise(5, 1000);
    let folder = Folder::new();
    for codec in [Codec::Gzip, Codec::Zstandard, Codec::Snappy] {
        folder.put(&format!("acme/{}", name_of(0, &content, codec)), b"damaged");
    }
    assert!(all(&folder.journal("acme").unwrap()).is_err());
    let best = folder.store("acme", 0, &content, Codec::None);
    assert!(all(&folder.journal("acme").unwrap()).unwrap() == [Part::Bytes(content.clone())]);
    folder.remove(&best);
    if Codec::Snappy.missing_feature().is_none() {
        folder.store("acme", 0, &content, Codec::Snappy);
        assert!(all(&folder.journal("acme").unwrap()).unwrap() == [Part::Bytes(content)]);
    }
}

#[test]
fn missing_ranges_are_jumped_over() {
    let content = noise(5, 400);
    let folder = Folder::new();
    for (begin, end) in [(100, 200), (300, 400)] {
        folder.store("acme", begin, &content[begin as usize..end], Codec::None);
    }
    let journal = folder.journal("acme").unwrap();
    let second = || Part::Bytes(content[100..200].to_vec());
    let last = Part::Bytes(content[300..].to_vec());
    assert_eq!(all(&journal).unwrap(), [Part::Jump(0, 100), second(), Part::Jump(200, 300), last]);
    let bounded = |begin, end| parts(&journal, ReadRange::bounded(at(begin), at(end))).unwrap();
    assert_eq!(bounded(20, 50), [Part::Jump(20, 50)]);
    assert_eq!(bounded(0, 250), [Part::Jump(0, 100), second(), Part::Jump(200, 250)]);
    assert_eq!(bounded(400, 500), []);
    let head = journal.head(Deadline::passed()).unwrap();
    assert_eq!((head.offset, head.registers), (at(400), RegisterSet::EMPTY));
}

#[test]
fn a_fragment_that_is_stored_later_is_seen_by_those_who_ask_for_the_head() {
    let folder = Folder::new();
    folder.store("acme", 0, b"first", Codec::None);
    let journal = folder.journal("acme").unwrap();
    let mut reader = journal.read(ReadRange::follow(Offset::ZERO)).unwrap();
    let mut next = || reader.next(Deadline::passed()).unwrap();
    assert!(matches!(next(), ReadStep::Chunk(_)));
    assert!(matches!(next(), ReadStep::AtHead { head } if head == at(5)));

    folder.store("acme", 5, b"second", Codec::None);
    assert!(matches!(next(), ReadStep::Chunk(chunk) if chunk.offset() == at(5) && chunk.len() == 6));
    assert!(matches!(next(), ReadStep::AtHead { head } if head == at(11)));
    assert_eq!(journal.head(Deadline::passed()).unwrap().offset, at(11));
    assert_eq!(journal.fragments(Deadline::passed()).unwrap().len(), 2);
}

#[test]
fn a_folder_without_fragments_is_an_empty_journal() {
    let folder = Folder::new();
    folder.put("acme/readme.txt", b"nothing here");
    let journal = folder.journal("acme").unwrap();
    assert_eq!(journal.head(Deadline::passed()).unwrap().offset, Offset::ZERO);
    assert_eq!((all(&journal).unwrap(), journal.ignored_files()), (vec![], 1));
    assert!(matches!(folder.journal("none"), Err(JournalError::NotFound { .. })));
}

#[test]
fn files_that_are_no_fragments_are_counted_and_empty_fragments_left_out() {
    let folder = Folder::new();
    folder.store("acme", 0, b"content", Codec::None);
    folder.store("acme", 7, b"", Codec::None);
    folder.put(&format!("acme/0-0-{}.gz", "0".repeat(40)), b"");
    for other in ["acme/readme.txt", "acme/0-7-beef.raw", "acme/postfix/.hidden"] {
        folder.put(other, b"?");
    }
    folder.0.plant_symlink(Path::new("/root/acme"), Path::new("/root/acme/loop")).unwrap();
    let journal = folder.journal("acme").unwrap();
    assert_eq!(journal.ignored_files(), 4);
    assert_eq!(journal.fragments(Deadline::passed()).unwrap().len(), 1);
    assert_eq!(all(&journal).unwrap(), [Part::Bytes(b"content".to_vec())]);
}

#[test]
fn fragments_in_folders_below_belong_to_the_journal_with_a_postfix() {
    let folder = Folder::new();
    folder.store("acme/orders/date=1/hour=7", 0, b"one", Codec::None);
    folder.store("acme/orders/date=2", 3, b"two", Codec::None);
    folder.store("acme/orders", 6, b"three", Codec::None);
    let journal = folder.journal("acme/orders").unwrap();
    assert_eq!(all(&journal).unwrap(), [Part::Bytes(b"onetwothree".to_vec())]);
    let fragments = journal.fragments(Deadline::passed()).unwrap();
    let postfixes = fragments.iter().map(|fragment| &*fragment.path_postfix).collect::<Vec<_>>();
    assert_eq!(postfixes, ["date=1/hour=7", "date=2", ""]);
}

#[test]
fn a_journal_whose_name_goes_on_where_another_ends_is_kept_apart() {
    let folder = Folder::new();
    folder.store("acme", 0, b"outer", Codec::None);
    folder.store("acme/date=1", 5, b" more", Codec::None);
    folder.store("acme/nested", 0, b"inner", Codec::None);
    folder.store("acme/nested/deep", 5, b" part", Codec::None);
    let whole = |journal: &str| all(&folder.journal(journal).unwrap()).unwrap();
    assert_eq!(whole("acme"), [Part::Bytes(b"outer more".to_vec())]);
    assert_eq!(whole("acme/nested"), [Part::Bytes(b"inner part".to_vec())]);
}

#[test]
fn the_common_folder_of_several_journals_is_no_journal() {
    let folder = Folder::new();
    folder.store("acme/orders", 0, b"one", Codec::None);
    folder.store("acme/stock", 0, b"another", Codec::None);
    match folder.journal("acme") {
        Err(JournalError::Invalid { what, .. }) => {
            assert!(what.contains("orders") && what.contains("stock"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_fragments_of_one_range_with_different_content_are_refused() {
    let folder = Folder::new();
    folder.store("acme", 0, b"the one", Codec::None);
    folder.store("acme", 0, b"another", Codec::None);
    match folder.journal("acme") {
        Err(JournalError::Diverged { offset, what, .. }) => {
            assert_eq!(offset, Offset::ZERO);
            assert_eq!(what.matches("0000000000000000-0000000000000007").count(), 2, "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn journals_are_listed_by_the_topmost_folders_that_hold_fragments() {
    assert!(FragmentJournals::open(Arc::new(MemoryFs::new()), "/nowhere").is_err());
    let folder = Folder::new();
    assert_eq!(folder.journals().list().unwrap(), []);
    for journal in ["stock", "acme/orders", "acme/orders/date=1", "acme/returns/2026", ".recoverylog/state"] {
        folder.store(journal, 0, b"content", Codec::None);
    }
    folder.put("empty/readme.txt", b"no fragment");
    folder.store("abc", 0, b"a name that is too short", Codec::None);
    let listed = folder.journals().list().unwrap();
    assert_eq!(listed, ["acme/orders", "acme/returns/2026", "stock"].map(name));
}

#[test]
fn a_reader_lists_the_folder_anew_where_a_fragment_is_gone() {
    let content = noise(5, 300);
    let folder = Folder::new();
    let stored = [0, 100, 200].map(|begin| {
        let range = begin as usize..begin as usize + 100;
        folder.store("acme", begin, &content[range], Codec::None)
    });
    let journal = folder.journal("acme").unwrap();
    folder.remove(&stored[0]);
    folder.remove(&stored[1]);
    folder.store("acme/other", 100, &content[100..200], Codec::None);
    assert_eq!(all(&journal).unwrap(), [Part::Jump(0, 100), Part::Bytes(content[100..].to_vec())]);
    // The journal itself stays as it was opened.
    assert_eq!(journal.fragments(Deadline::passed()).unwrap().len(), 3);
    // A fragment that is open when it is pruned is read to its end.
    let journal = folder.journal("acme").unwrap();
    let mut reader = journal.read(ReadRange::bounded(at(200), at(300))).unwrap();
    folder.remove(&stored[2]);
    assert!(matches!(reader.next(Deadline::passed()), Ok(ReadStep::AtHead { head }) if head == at(200)));
}
