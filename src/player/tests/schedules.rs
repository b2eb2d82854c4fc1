//! Goal: whatever is fetched ahead comes in order and to its end, and whatever is to be written is written, however
//! the threads of a player take turns and however small their budgets are.
//!
//! Method: drawn schedules; budgets are some bytes there, so that every thread meets them.

use bytes::Bytes;

use super::super::plan::{Plan, PlanRange};
use super::super::prefetch::Prefetch;
use super::super::writers::{Write, Writers};
use super::*;
use crate::ids::{Fnode, SeqNo};
use crate::sync::tests::{draw, drawn};
use crate::vfs::{Effect, Fault, FaultPlan, FaultyFs, OpenMode};

/// Puts fragments of drawn lengths into a journal, and begins to fetch them.
fn fetch() -> (Prefetch, Vec<u8>) {
    let journals = MemoryJournals::new().fragment_bytes(1);
    let journal = journals.open(&log()).unwrap();
    let mut content = Vec::new();
    for index in 0..3u8 {
        let fragment = vec![index; 1 + draw(40)];
        journal.append(Append::new(fragment.clone()), soon()).unwrap();
        content.extend(fragment);
    }
    let end = Offset::new(content.len() as u64).unwrap();
    let range = PlanRange { log: log(), begin: Offset::ZERO, end };
    let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
    let journals = [(log(), journal)].into();
    (Prefetch::begin(&plan, journals, 3, Duration::from_secs(3600)).unwrap(), content)
}

#[test]
fn blocks_of_any_length_come_in_order_and_to_the_end() {
    drawn(|| {
        let (mut prefetch, content) = fetch();
        let mut found = Vec::new();
        while let Some(block) = prefetch.next().unwrap() {
            assert_eq!(block.offset.get(), found.len() as u64);
            found.extend_from_slice(&block.bytes);
        }
        assert_eq!(found, content);
    });
}

#[test]
fn fetching_ends_when_nobody_wants_more() {
    drawn(|| {
        let (mut prefetch, _) = fetch();
        for _ in 0..draw(3) {
            assert!(prefetch.next().unwrap().is_some());
        }
        drop(prefetch);
    });
}

/// Submits three writes to each of two files, and waits for them; tells what became of that.
fn write_two_files(fs: &dyn FileSystem) -> Result<()> {
    let files = ["/a", "/b"].map(|path| fs.open(Path::new(path), OpenMode::Create).unwrap());
    let mut writers = Writers::start(2).unwrap();
    let submit = |writers: &mut Writers, number: i64, round: u8| {
        let fnode = Fnode::new(SeqNo::new(number));
        let file = Arc::clone(&files[number as usize - 1]);
        let pieces = vec![Bytes::copy_from_slice(&[round; 2])];
        let (seq_no, at) = (SeqNo::new(9), Offset::ZERO);
        writers
            .write(&log(), Write { fnode, file, offset: u64::from(round), pieces, crc32c: None, seq_no, at })
    };
    for round in 0..3 {
        submit(&mut writers, 1, round)?;
        submit(&mut writers, 2, round)?;
    }
    writers.drain()?;
    for file in files {
        let mut content = [9; 4];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(content, [0, 1, 2, 2], "writes to a file are done in order, and before the drain ends");
    }
    Ok(())
}

#[test]
fn a_drain_ends_when_everything_is_written_in_order() {
    drawn(|| write_two_files(&MemoryFs::new()).unwrap());
}

#[test]
fn a_write_that_fails_is_told_and_holds_nobody_up() {
    drawn(|| {
        let fs = FaultyFs::new(MemoryFs::new());
        let fault = Fault::Fail(std::io::ErrorKind::StorageFull);
        fs.inject(FaultPlan::Nth { effect: Effect::Write, number: draw(6) as u64, fault });
        assert_eq!(write_two_files(&fs).unwrap_err().kind(), ErrorKind::Io);
    });
}
