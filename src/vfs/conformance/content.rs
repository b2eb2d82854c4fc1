//! Cases about the content of files: positional I/O, lengths, space, copies, syncs.

use std::io::ErrorKind::{InvalidInput, NotFound, UnexpectedEof};

use super::{Case, Fixture, Outcome, whole};
use crate::vfs::OpenMode;

pub(super) const CASES: &[Case] = cases! {
    Nothing: what_is_written_is_read_at_its_place
        a_gap_reads_as_zeros
        reading_ends_at_the_end
        an_empty_write_does_not_extend
        offsets_past_the_largest_are_refused
        all_handles_see_a_write
        a_file_that_is_cut_and_extended_reads_zeros_there
        metadata_tell_length_and_identity
        a_copy_moves_bytes_between_offsets
        a_copy_ends_at_the_end_of_its_source
        a_copy_within_one_file_moves_bytes
        syncs_succeed_also_without_changes_and_names
        names_are_synced_by_directory;
    Allocate: allocating_extends_with_zeros_and_keeps_content
        allocating_no_bytes_is_refused;
    BootId: the_boot_stays_the_same;
};

fn what_is_written_is_read_at_its_place(f: &Fixture) -> Outcome {
    let file = f.put("file", b"0123456789")?;
    file.write_all_at(b"abc", 3)?;
    same!(whole(&*file)?, b"012abc6789");
    let mut buffer = [0; 4];
    file.read_exact_at(&mut buffer, 5)?;
    same!(&buffer, b"c678");
    // Over many pages, at odd places.
    let long = (0..70_001_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>();
    file.write_all_at(&long, 4093)?;
    let mut back = vec![0; long.len()];
    file.read_exact_at(&mut back, 4093)?;
    same!(back == long, true);
    same!(file.metadata()?.len, 4093 + 70_001);
    Ok(())
}

fn a_gap_reads_as_zeros(f: &Fixture) -> Outcome {
    let file = f.put("file", b"begin")?;
    file.write_all_at(b"end", 1 << 33)?;
    same!(file.metadata()?.len, (1 << 33) + 3);
    let mut buffer = [1; 8];
    file.read_exact_at(&mut buffer, 5)?;
    same!(buffer, [0; 8]);
    file.read_exact_at(&mut buffer, (1 << 33) - 5)?;
    same!(&buffer, b"\0\0\0\0\0end");
    Ok(())
}

fn reading_ends_at_the_end(f: &Fixture) -> Outcome {
    let file = f.put("file", b"0123456789")?;
    let mut buffer = [0xff; 8];
    same!(file.read_at(&mut buffer, 6)?, 4);
    same!(&buffer, b"6789\xff\xff\xff\xff");
    same!(file.read_at(&mut buffer, 10)?, 0);
    same!(file.read_at(&mut buffer, 1 << 40)?, 0);
    same!(file.read_at(&mut [], 0)?, 0);
    fails!(file.read_exact_at(&mut buffer, 6), UnexpectedEof);
    Ok(())
}

fn an_empty_write_does_not_extend(f: &Fixture) -> Outcome {
    let file = f.put("file", b"")?;
    same!(file.write_at(b"", 100)?, 0);
    same!(file.metadata()?.len, 0);
    Ok(())
}

fn offsets_past_the_largest_are_refused(f: &Fixture) -> Outcome {
    let file = f.put("file", b"x")?;
    for offset in [1 << 63, u64::MAX] {
        fails!(file.read_at(&mut [0], offset), InvalidInput, "{offset}");
        fails!(file.write_at(b"x", offset), InvalidInput, "{offset}");
        fails!(file.set_len(offset), InvalidInput, "{offset}");
    }
    same!(file.metadata()?.len, 1);
    Ok(())
}

fn all_handles_see_a_write(f: &Fixture) -> Outcome {
    let first = f.put("file", b"old")?;
    let second = f.open("file", OpenMode::Read)?;
    first.write_all_at(b"new", 0)?;
    same!(whole(&*second)?, b"new");
    drop(f.open("file", OpenMode::Truncate)?);
    same!(whole(&*second)?, b"");
    Ok(())
}

fn a_file_that_is_cut_and_extended_reads_zeros_there(f: &Fixture) -> Outcome {
    let file = f.put("file", &[7; 10_000])?;
    file.set_len(5000)?;
    same!(file.metadata()?.len, 5000);
    same!(whole(&*file)?, [7; 5000]);
    file.set_len(9000)?;
    let mut expected = vec![7; 5000];
    expected.resize(9000, 0);
    same!(whole(&*file)? == expected, true);
    file.write_all_at(&[8; 10], 12_000)?;
    expected.resize(12_000, 0);
    expected.resize(12_010, 8);
    same!(whole(&*file)? == expected, true);
    file.set_len(0)?;
    same!(file.metadata()?.len, 0);
    Ok(())
}

fn metadata_tell_length_and_identity(f: &Fixture) -> Outcome {
    let (one, two) = (f.put("one", b"12345")?, f.put("two", b"")?);
    let of_handle = one.metadata()?;
    same!(of_handle, f.fs.metadata(&f.path("one"))?);
    same!((of_handle.len, of_handle.links), (5, 1));
    same!(of_handle.inode == two.metadata()?.inode, false);
    same!(of_handle.device, two.metadata()?.device);
    same!(of_handle.device, f.fs.metadata(&f.root)?.device);
    Ok(())
}

fn a_copy_moves_bytes_between_offsets(f: &Fixture) -> Outcome {
    let content = (0..300_000_u32).map(|i| (i % 253) as u8).collect::<Vec<_>>();
    let (source, target) = (f.put("source", &content)?, f.put("target", b"head")?);
    let mut done = 0;
    while done < 250_000 {
        let copied = source.copy_to(10 + done, &*target, 4 + done, 250_000 - done)?;
        same!(copied > 0 && copied <= 250_000 - done, true);
        done += copied;
    }
    let copy = whole(&*target)?;
    same!(copy.len(), 250_004);
    same!(copy.get(..4), Some(&b"head"[..]));
    same!(copy.get(4..) == content.get(10..250_010), true);
    Ok(())
}

fn a_copy_ends_at_the_end_of_its_source(f: &Fixture) -> Outcome {
    let (source, target) = (f.put("source", b"0123456789")?, f.put("target", b"")?);
    same!(source.copy_to(6, &*target, 0, 100)?, 4);
    same!(source.copy_to(10, &*target, 4, 100)?, 0);
    same!(source.copy_to(0, &*target, 4, 0)?, 0);
    same!(whole(&*target)?, b"6789");
    Ok(())
}

fn a_copy_within_one_file_moves_bytes(f: &Fixture) -> Outcome {
    let file = f.put("file", b"0123456789")?;
    same!(file.copy_to(0, &*file, 8, 4)?, 4);
    same!(whole(&*file)?, b"012345670123");
    Ok(())
}

fn syncs_succeed_also_without_changes_and_names(f: &Fixture) -> Outcome {
    let file = f.put("file", b"content")?;
    for _ in 0..2 {
        file.sync_data()?;
        file.sync_all()?;
    }
    f.open("file", OpenMode::Read)?.sync_data()?;
    f.fs.remove_file(&f.path("file"))?;
    file.write_all_at(b"more", 7)?;
    file.sync_all()?;
    same!(whole(&*file)?, b"contentmore");
    Ok(())
}

fn names_are_synced_by_directory(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    drop(f.put("dir/file", b"")?);
    f.fs.sync_dir(&f.path("dir"))?;
    f.fs.sync_dir(&f.root)?;
    fails!(f.fs.sync_dir(&f.path("missing")), NotFound);
    fails!(f.fs.is_network(&f.path("missing")), NotFound);
    same!(f.fs.is_network(&f.root)?, f.fs.is_network(&f.path("dir/file"))?);
    Ok(())
}

fn allocating_extends_with_zeros_and_keeps_content(f: &Fixture) -> Outcome {
    let file = f.put("file", b"content")?;
    file.allocate(3, 9997)?;
    same!(file.metadata()?.len, 10_000);
    let mut expected = vec![0; 10_000];
    same!(expected.splice(..7, *b"content").count(), 7);
    same!(whole(&*file)? == expected, true);
    file.allocate(0, 100)?;
    same!(file.metadata()?.len, 10_000);
    Ok(())
}

fn allocating_no_bytes_is_refused(f: &Fixture) -> Outcome {
    fails!(f.put("file", b"")?.allocate(0, 0), InvalidInput);
    Ok(())
}

fn the_boot_stays_the_same(f: &Fixture) -> Outcome {
    same!(f.fs.boot_id()?, f.fs.boot_id()?);
    Ok(())
}
