//! What a crash leaves, and what a full disk does.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{CrashPlan, MemoryFs};
use crate::prng::SplitMix64;
use crate::vfs::{File, FileKind, FileSystem, LockMode, OpenMode};

fn open(fs: &MemoryFs, path: &str, mode: OpenMode) -> Arc<dyn File> {
    fs.open(Path::new(path), mode).unwrap()
}

fn put(fs: &MemoryFs, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = open(fs, path, OpenMode::Create);
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn get(fs: &MemoryFs, path: &str) -> Option<Vec<u8>> {
    let file = fs.open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.metadata().unwrap().len as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// Returns every path and content, directories without one.
fn tree(fs: &MemoryFs) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(directory) = open.pop() {
        for entry in fs.read_dir(Path::new(&format!("/{directory}"))).unwrap() {
            let path = format!("{directory}/{}", entry.name.to_string_lossy());
            if entry.kind == FileKind::Directory {
                found.insert(path.clone(), None);
                open.push(path);
            } else {
                let content = get(fs, &path);
                found.insert(path, content);
            }
        }
    }
    found
}

fn seeded(fs: &MemoryFs, seeds: u64) -> impl Iterator<Item = MemoryFs> {
    (0..seeds).map(|seed| fs.crash_image(CrashPlan::Seeded(seed)))
}

const ROOT: &str = "/";

#[test]
fn names_and_content_are_durable_each_by_its_own_sync() {
    let fs = MemoryFs::new();
    put(&fs, "/both", b"content").sync_data().unwrap();
    put(&fs, "/name", b"content");
    fs.sync_dir(Path::new(ROOT)).unwrap();
    put(&fs, "/content", b"content").sync_data().unwrap();
    put(&fs, "/neither", b"content");
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    let expected = [("/both", &b"content"[..]), ("/name", b"")];
    assert_eq!(tree(&image), expected.map(|(path, bytes)| (path.into(), Some(bytes.to_vec()))).into());
    assert_eq!(tree(&fs.crash_image(CrashPlan::KeepAll)), tree(&fs));
}

#[test]
fn an_image_is_another_machine_at_another_boot() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", b"content");
    fs.hard_link(Path::new("/file"), Path::new("/link")).unwrap();
    let gone = put(&fs, "/gone", b"content");
    fs.remove_file(Path::new("/gone")).unwrap();
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    let image = fs.crash_image(CrashPlan::KeepAll);
    assert_ne!(fs.boot_id().unwrap(), image.boot_id().unwrap());
    assert!(open(&image, "/file", OpenMode::Read).try_lock(LockMode::Exclusive).unwrap());
    assert_eq!(open(&image, "/file", OpenMode::Read).metadata().unwrap().links, 2);
    put(&image, "/link", b"CHANGED");
    put(&image, "/new", b"");
    assert_eq!(get(&image, "/file").unwrap(), b"CHANGED");
    assert_eq!(get(&fs, "/file").unwrap(), b"content");
    assert_eq!(tree(&fs).len(), 2);
    drop(gone);
    // What is in an image is durable there.
    let next = fs.crash_image(CrashPlan::KeepAll).crash_image(CrashPlan::DropUnsynced);
    assert_eq!(tree(&next), tree(&fs));
    assert_ne!(next.boot_id().unwrap(), image.boot_id().unwrap());
}

#[test]
fn the_same_seed_gives_the_same_image() {
    let fs = MemoryFs::new();
    for index in 0..20 {
        put(&fs, &format!("/{index}"), &[index; 5000]);
    }
    let images = (0..50).map(|seed| tree(&fs.crash_image(CrashPlan::Seeded(seed)))).collect::<Vec<_>>();
    let again = (0..50).map(|seed| tree(&fs.crash_image(CrashPlan::Seeded(seed)))).collect::<Vec<_>>();
    assert_eq!(images, again);
    assert!(images.iter().any(|image| *image != images[0]));
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", &[1; 8192]);
    file.sync_data().unwrap();
    fs.sync_dir(Path::new(ROOT)).unwrap();
    file.write_all_at(&[2; 16384], 0).unwrap();
    let (mut kept, mut lost, mut torn_sector, mut torn_page, mut length_only) = (0, 0, 0, 0, 0);
    for image in seeded(&fs, 500) {
        let left = get(&image, "/file").unwrap();
        let sectors = left.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>();
        assert!(left.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert!(sectors[..16].iter().all(|sector| [1, 2].contains(sector)), "{sectors:?}");
        assert!(sectors[16..].iter().all(|sector| [0, 2].contains(sector)), "{sectors:?}");
        if left == [2; 16384] {
            kept += 1;
        } else if left == [1; 8192] {
            lost += 1;
        } else if sectors.iter().all(|sector| *sector != 2) {
            length_only += 1;
        } else if sectors.chunks(8).all(|page| page.iter().all(|sector| *sector == page[0])) {
            torn_page += 1;
        } else {
            torn_sector += 1;
        }
    }
    for count in [kept, lost, torn_sector, torn_page, length_only] {
        assert!(count >= 5, "{kept} {lost} {torn_sector} {torn_page} {length_only}");
    }
}

#[test]
fn a_sector_carries_a_prefix_of_the_writes_to_it() {
    for seed in 0..40 {
        let mut random = SplitMix64::new(seed);
        let fs = MemoryFs::new();
        let file = put(&fs, "/file", &[0; 4096]);
        file.sync_data().unwrap();
        fs.sync_dir(Path::new(ROOT)).unwrap();
        let mut versions = vec![vec![0; 4096]];
        for value in 1..=12 {
            let offset = random.below(4096) as usize;
            let len = 1 + random.below(4096 - offset as u64).min(random.below(900)) as usize;
            file.write_all_at(&vec![value; len], offset as u64).unwrap();
            let mut version = versions.last().unwrap().clone();
            version[offset..offset + len].fill(value);
            versions.push(version);
        }
        for (image_seed, image) in seeded(&fs, 20).enumerate() {
            let left = get(&image, "/file").unwrap();
            assert_eq!(left.len(), 4096);
            for (index, sector) in left.chunks(512).enumerate() {
                let range = index * 512..(index + 1) * 512;
                let known = versions.iter().any(|version| version[range.clone()] == *sector);
                assert!(known, "seed {seed}, image {image_seed}, sector {index}");
            }
        }
    }
}

#[test]
fn after_a_lost_cut_nothing_written_later_is_there() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", &[1; 8192]);
    file.sync_data().unwrap();
    fs.sync_dir(Path::new(ROOT)).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&[2; 4096], 0).unwrap();
    let (mut old, mut new) = (0, 0);
    for image in seeded(&fs, 200) {
        let left = get(&image, "/file").unwrap();
        if left.contains(&1) {
            assert_eq!(left, [1; 8192]);
            old += 1;
        } else {
            assert!(left.len() <= 4096 && left.iter().all(|byte| [0, 2].contains(byte)));
            new += 1;
        }
    }
    assert!(old > 10 && new > 10, "{old} {new}");
}

#[test]
fn the_names_of_a_directory_survive_as_a_prefix() {
    let fs = MemoryFs::new();
    for directory in ["/a", "/b"] {
        fs.create_dir(Path::new(directory)).unwrap();
    }
    fs.sync_dir(Path::new(ROOT)).unwrap();
    for index in 0..8 {
        put(&fs, &format!("/a/{index}"), b"");
        put(&fs, &format!("/b/{index}"), b"");
    }
    let mut differ = 0;
    for image in seeded(&fs, 200) {
        let counts = ["/a", "/b"].map(|directory| {
            let names = image.read_dir(Path::new(directory)).unwrap();
            assert!(names.iter().enumerate().all(|(index, entry)| *entry.name == *index.to_string()));
            names.len()
        });
        differ += usize::from(counts[0] != counts[1]);
    }
    assert!(differ > 20, "{differ}");
}

#[test]
fn a_rename_survives_in_both_directories_or_in_neither() {
    let fs = MemoryFs::new();
    for directory in ["/a", "/b"] {
        fs.create_dir(Path::new(directory)).unwrap();
    }
    put(&fs, "/a/file", b"new").sync_data().unwrap();
    put(&fs, "/b/file", b"old").sync_data().unwrap();
    for directory in [ROOT, "/a", "/b"] {
        fs.sync_dir(Path::new(directory)).unwrap();
    }
    fs.rename(Path::new("/a/file"), Path::new("/b/file")).unwrap();
    let (mut kept, mut lost) = (0, 0);
    for image in seeded(&fs, 200) {
        match (get(&image, "/a/file").as_deref(), get(&image, "/b/file").as_deref()) {
            (Some(b"new"), Some(b"old")) => lost += 1,
            (None, Some(b"new")) => kept += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(kept > 20 && lost > 20, "{kept} {lost}");
    // One sync is enough for both sides.
    fs.sync_dir(Path::new("/b")).unwrap();
    let image = fs.crash_image(CrashPlan::DropUnsynced);
    assert_eq!((get(&image, "/a/file"), get(&image, "/b/file").as_deref()), (None, Some(&b"new"[..])));
}

#[test]
fn a_new_directory_is_lost_with_all_in_it_while_its_own_name_is_not_synced() {
    let fs = MemoryFs::new();
    fs.create_dir(Path::new("/new")).unwrap();
    put(&fs, "/new/file", b"content").sync_data().unwrap();
    fs.sync_dir(Path::new("/new")).unwrap();
    assert!(tree(&fs.crash_image(CrashPlan::DropUnsynced)).is_empty());
    fs.sync_dir(Path::new(ROOT)).unwrap();
    assert_eq!(tree(&fs.crash_image(CrashPlan::DropUnsynced)), tree(&fs));
}

#[test]
fn a_directory_moves_whole_and_never_twice() {
    let fs = MemoryFs::new();
    for directory in ["/p", "/q", "/p/x", "/q/y"] {
        fs.create_dir(Path::new(directory)).unwrap();
    }
    for file in ["/p/x/one", "/q/y/two"] {
        put(&fs, file, file.as_bytes()).sync_data().unwrap();
    }
    for directory in ["/p/x", "/q/y", "/p", "/q", ROOT] {
        fs.sync_dir(Path::new(directory)).unwrap();
    }
    for (from, to) in [("/p/x", "/q/y/x"), ("/q/y/x", "/p/x"), ("/q/y", "/p/x/y")] {
        fs.rename(Path::new(from), Path::new(to)).unwrap();
    }
    for image in seeded(&fs, 300) {
        let found = tree(&image);
        for content in ["/p/x/one", "/q/y/two"] {
            let holders = found.values().flatten().filter(|bytes| *bytes == content.as_bytes());
            assert_eq!(holders.count(), 1, "{found:?}");
        }
    }
}

#[test]
fn what_is_synced_is_in_every_image() {
    for seed in 0..30 {
        let mut random = SplitMix64::new(seed);
        let fs = MemoryFs::new();
        fs.create_dir(Path::new("/dir")).unwrap();
        let mut synced = tree(&fs);
        for step in 0..60 {
            let name = format!("/dir/{}", random.below(5));
            let path = Path::new(&name);
            match random.below(6) {
                0 => drop(fs.remove_file(path)),
                1 => drop(fs.rename(path, Path::new(&format!("/dir/{}", random.below(5))))),
                2 => drop(open(&fs, &name, OpenMode::Truncate)),
                3 => open(&fs, &name, OpenMode::Create).set_len(random.below(9000)).unwrap(),
                _ => open(&fs, &name, OpenMode::Create)
                    .write_all_at(&vec![step; random.below(6000) as usize], random.below(6000))
                    .unwrap(),
            }
            if random.one_in(6) {
                for entry in fs.read_dir(Path::new("/dir")).unwrap() {
                    let path = format!("/dir/{}", entry.name.to_string_lossy());
                    open(&fs, &path, OpenMode::Read).sync_data().unwrap();
                }
                fs.sync_dir(Path::new("/dir")).unwrap();
                fs.sync_dir(Path::new(ROOT)).unwrap();
                synced = tree(&fs);
                for plan in [CrashPlan::DropUnsynced, CrashPlan::KeepAll, CrashPlan::Seeded(step.into())] {
                    assert_eq!(tree(&fs.crash_image(plan)), synced, "seed {seed}, step {step}, {plan:?}");
                }
            }
            assert_eq!(tree(&fs.crash_image(CrashPlan::KeepAll)), tree(&fs), "seed {seed}, step {step}");
        }
        assert!(synced.len() <= 6);
    }
}

#[test]
fn stores_to_shared_words_are_durable_after_a_sync() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", b"");
    let words = file.map_shared(1000).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(Path::new(ROOT)).unwrap();
    let word_in = |image: &MemoryFs| {
        let words = open(image, "/file", OpenMode::ReadWrite).map_shared(1000).unwrap();
        words.word(700).unwrap().load(SeqCst)
    };
    words.word(700).unwrap().store(1, SeqCst);
    assert_eq!(word_in(&fs.crash_image(CrashPlan::DropUnsynced)), 0);
    assert_eq!(word_in(&fs.crash_image(CrashPlan::KeepAll)), 1);
    open(&fs, "/file", OpenMode::Read).sync_data().unwrap();
    words.word(700).unwrap().store(2, SeqCst);
    assert_eq!(word_in(&fs.crash_image(CrashPlan::DropUnsynced)), 1);
    let seen = seeded(&fs, 50).map(|image| word_in(&image)).collect::<Vec<_>>();
    assert!(seen.contains(&1) && seen.contains(&2) && !seen.contains(&0), "{seen:?}");
}

#[test]
fn a_full_disk_cuts_writes_short_and_then_refuses_them() {
    let fs = MemoryFs::new();
    fs.set_capacity(3 * 4096);
    let file = put(&fs, "/file", &[1; 4000]);
    assert_eq!(file.write_at(&[2; 10_000], 4000).unwrap(), 3 * 4096 - 4000);
    let refused = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::StorageFull);
    refused(file.write_at(b"x", 3 * 4096).unwrap_err());
    refused(file.write_at(b"x", 1 << 40).unwrap_err());
    refused(file.allocate(0, 4 * 4096).unwrap_err());
    let other = open(&fs, "/other", OpenMode::Create);
    refused(other.write_at(b"x", 0).unwrap_err());
    refused(other.map_shared(1).unwrap_err());
    // A hole takes no space, and what is there can be written over.
    other.set_len(1 << 40).unwrap();
    file.write_all_at(&[3; 3 * 4096], 0).unwrap();
    file.set_len(4096).unwrap();
    assert_eq!(fs.used_bytes(), 4096);
    other.write_all_at(&[4; 2], 4095).unwrap();
    assert_eq!(fs.used_bytes(), 3 * 4096);

    fs.remove_file(Path::new("/other")).unwrap();
    assert_eq!(fs.used_bytes(), 3 * 4096);
    drop(other);
    assert_eq!(fs.used_bytes(), 4096);
    drop(file);
    assert_eq!(fs.used_bytes(), 4096);
    fs.remove_file(Path::new("/file")).unwrap();
    assert_eq!(fs.used_bytes(), 0);
}

#[test]
fn an_allocation_that_does_not_fit_takes_nothing() {
    let fs = MemoryFs::new();
    fs.set_capacity(4 * 4096);
    let file = open(&fs, "/file", OpenMode::Create);
    assert!(file.allocate(0, 5 * 4096).is_err());
    assert_eq!((fs.used_bytes(), file.metadata().unwrap().len), (0, 0));
    file.allocate(0, 4 * 4096).unwrap();
    assert_eq!(fs.used_bytes(), 4 * 4096);
    file.write_all_at(&[1; 4 * 4096], 0).unwrap();
    assert_eq!(fs.crash_image(CrashPlan::KeepAll).used_bytes(), 4 * 4096);
}

#[test]
fn a_file_that_is_never_synced_keeps_a_bounded_past() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", &[1; 8192]);
    file.sync_data().unwrap();
    fs.sync_dir(Path::new(ROOT)).unwrap();
    file.set_len(4096).unwrap();
    for value in 0..3000_u32 {
        file.write_all_at(&[(value % 251) as u8; 4096], 4096 * u64::from(value % 3)).unwrap();
    }
    file.set_len(10_000).unwrap();
    let state = MemoryFs::tree(&fs);
    let spot = state.spot(None, Path::new("/file")).unwrap();
    let Some(super::Entry::Node(node)) = state.get(spot) else { panic!("no file") };
    let kept = node.lock().versions().pending().len();
    assert!((4..1500).contains(&kept), "{kept}");
    drop(state);
    assert_eq!(get(&fs.crash_image(CrashPlan::DropUnsynced), "/file").unwrap(), [1; 8192]);
    assert_eq!(tree(&fs.crash_image(CrashPlan::KeepAll)), tree(&fs));
    let differ = seeded(&fs, 50).filter(|image| tree(image) != tree(&fs)).count();
    assert!(differ > 10, "{differ}");
    file.sync_data().unwrap();
    assert_eq!(tree(&fs.crash_image(CrashPlan::DropUnsynced)), tree(&fs));
}

#[test]
fn a_deleted_file_comes_back_with_what_was_synced_of_it_only() {
    let fs = MemoryFs::new();
    let file = put(&fs, "/file", b"synced");
    file.sync_data().unwrap();
    fs.sync_dir(Path::new(ROOT)).unwrap();
    file.write_all_at(b"UNSYNCED", 0).unwrap();
    fs.remove_file(Path::new("/file")).unwrap();
    drop(file);
    let (mut gone, mut back) = (0, 0);
    for image in seeded(&fs, 50) {
        match get(&image, "/file").as_deref() {
            None => gone += 1,
            Some(b"synced") => back += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(gone > 5 && back > 5, "{gone} {back}");
}
