//! What a map keeps alive, and what hints name by it; operations are made up, 100 bytes each.

use super::*;
use crate::ids::LogPath;
use crate::prng::SplitMix64;

mod limits;
mod rewriting;

const RUN: u32 = 0;

fn log() -> JournalName {
    JournalName::new("acme/orders").unwrap()
}

fn author(number: u32) -> Author {
    Author::new(number).unwrap()
}

/// An extent of one operation, which lies at ten times its number.
fn extent(at: u64, len: u32, seq_no: i64) -> Extent {
    let mut extent = Extent::new(at, len, RUN, seq_no, (seq_no as u64 * 1000, len + 20));
    extent.payload_at = 20;
    extent
}

/// Feeds a map with operations of 100 bytes each.
struct Feeder {
    map: LiveMap,
    next: i64,
    author: u32,
}

impl Feeder {
    fn new() -> Self {
        Self { map: LiveMap::default(), next: 1, author: 1 }
    }

    fn take(&mut self, what: What) -> Fnode {
        let seq_no = self.next;
        let begin = seq_no as u64 * 100;
        let change = Change {
            seq_no: SeqNo::new(seq_no),
            begin: offset(begin),
            end: offset(begin + 100),
            before: Checksum::new(seq_no as u32),
            after: Checksum::new(seq_no as u32 + 1),
            what,
        };
        self.map.take(&log(), author(self.author), &change);
        self.next += 1;
        Fnode::new(change.seq_no)
    }

    fn create(&mut self) -> Fnode {
        self.take(What::Created)
    }

    fn write(&mut self, fnode: Fnode, at: u64, len: u64) {
        self.take(What::Written { fnode, at, len, crc32c: Some(self.next as u32) });
    }

    fn remove(&mut self, fnode: Fnode) {
        self.take(What::Unlinked { fnode, last: true });
    }

    /// Takes hints; returns the ranges of sequence numbers that they name.
    fn hints(&mut self, budget: &HintBudget) -> Vec<(i64, i64)> {
        self.take(What::Nothing);
        let hints = self.map.hints(&log(), Vec::new(), 0, (budget, None)).unwrap();
        let flat = hints.flatten().unwrap();
        let of = |s: &Segment| (s.first_seq_no.get(), s.last_seq_no.get());
        flat.segments.as_slice().iter().map(of).collect()
    }
}

fn exact() -> HintBudget {
    HintBudget { seek_bytes: 0, ..HintBudget::default() }
}

#[test]
fn a_byte_belongs_to_the_operation_that_wrote_it_last() {
    const LEN: usize = 5_000;
    for seed in 0..20 {
        let mut random = SplitMix64::new(seed);
        let (mut extents, mut owners) = (Extents::default(), vec![0_i64; LEN]);
        for seq_no in 1..600 {
            let at = random.below(LEN as u64 - 300) as usize;
            let len = if seed % 2 == 0 { random.below(20) } else { random.below(300) } as usize;
            extents.write(extent(at as u64, len as u32, seq_no));
            owners[at..at + len].fill(seq_no);
        }
        let mut seen = vec![0_i64; LEN];
        let mut end = 0;
        for extent in extents.iter() {
            assert!(extent.len > 0 && extent.at >= end, "seed {seed}: {extent:?}");
            end = extent.end();
            seen[extent.at as usize..end as usize].fill(extent.seq_no);
        }
        assert_eq!(seen, owners, "seed {seed}");
        assert_eq!(extents.iter().count(), extents.len(), "seed {seed}");
    }
}

#[test]
fn what_is_left_of_an_overwritten_extent_is_found_where_it_lies_in_the_log() {
    let mut extents = Extents::default();
    extents.write(extent(100, 50, 1));
    extents.write(extent(110, 10, 2));
    let found: Vec<_> =
        extents.iter().map(|e| (e.at, e.len, e.seq_no, e.begin + u64::from(e.payload_at))).collect();
    assert_eq!(found, [(100, 10, 1, 1020), (110, 10, 2, 2020), (120, 30, 1, 1040)]);
    let in_range = |range| extents.in_range(range).map(|extent| extent.at).collect::<Vec<_>>();
    assert!(in_range(0..100).is_empty());
    assert_eq!(in_range(109..120), [100, 110]);
    assert_eq!(in_range(120..1_000), [120]);
}

#[test]
fn an_extent_has_a_digest_of_its_own_until_it_is_cut_or_joined() {
    let run = RUN + 5;
    let digested = |at, seq_no: i64| {
        Extent::new(at, 10, run, seq_no, (seq_no as u64 * 30, 30)).digested(Some(seq_no as u32))
    };
    let mut extents = Extents::default();
    (0..6).for_each(|page| extents.write(digested(page * 10, page as i64 + 1)));
    extents.write(digested(25, 9));
    let found = |extents: &Extents| -> Vec<_> {
        extents.iter().map(|e| (e.at, e.run(), e.crc32c(), e.own_crc32c())).collect()
    };
    let of = |at, seq_no, is_whole: bool| (at, run, Some(seq_no), is_whole.then_some(seq_no));
    let written = [
        of(0, 1, true),
        of(10, 2, true),
        of(20, 3, false),
        of(25, 9, true),
        of(35, 4, false),
        of(40, 5, true),
        of(50, 6, true),
    ];
    assert_eq!(found(&extents), written);
    extents.merge(5, |_, _| true);
    let joined: Vec<_> = extents.iter().filter(|extent| extent.span > 0).collect();
    assert!(!joined.is_empty());
    for extent in joined {
        assert_eq!((extent.run(), extent.crc32c(), extent.own_crc32c()), (run, None, None), "{extent:?}");
    }
    let mut bare = Extents::default();
    bare.write(extent(0, 10, 1));
    assert_eq!(bare.iter().next().unwrap().own_crc32c(), None);
}

#[test]
fn an_extent_takes_at_most_eighty_bytes_of_memory() {
    const EXTENTS: u64 = 40_000;
    let mut random = SplitMix64::new(7);
    let (mut pages, mut appended) = (Extents::default(), Extents::default());
    for seq_no in 1..=EXTENTS as i64 * 5 {
        pages.write(extent(random.below(EXTENTS) * 4096, 4096, seq_no));
    }
    (1..=EXTENTS as i64).for_each(|seq_no| appended.write(extent(seq_no as u64 * 100, 100, seq_no)));
    for extents in [&pages, &appended] {
        assert!(extents.len() > EXTENTS as usize * 9 / 10);
        let each = extents.memory() / extents.len();
        assert!(each <= 80, "{each} bytes for each of {}", extents.len());
    }
}

#[test]
fn joined_extents_hold_what_each_held_and_those_nearest_in_the_log_go_first() {
    let mut extents = Extents::default();
    for page in 0..100_u64 {
        // Two pages that lie side by side in the log, one that lies elsewhere.
        let seq_no = if page % 3 == 2 { 5_000 - page as i64 } else { page as i64 + 1 };
        let mut page = extent(page * 10, 10, seq_no);
        (page.begin, page.bytes) = (seq_no as u64 * 30, 30);
        extents.write(page);
    }
    extents.merge(70, |_, _| true);
    assert_eq!(extents.len(), 70);
    let joined: Vec<_> = extents.iter().filter(|extent| extent.len > 10).collect();
    assert_eq!(joined.len(), 30, "each is a pair");
    assert!(joined.iter().all(|pair| (pair.len, pair.span, pair.bytes) == (20, 1, 60)), "{joined:?}");
    extents.merge(1, |_, _| true);
    let whole: Vec<_> = extents.iter().collect();
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].at, whole[0].len, whole[0].seq_no, whole[0].last()), (0, 1000, 1, 4_998));
}

#[test]
fn hints_name_what_is_alive_and_nothing_else() {
    let mut feeder = Feeder::new();
    let manifest = feeder.create(); // 1
    let dead = feeder.create(); // 2
    feeder.write(manifest, 0, 10); // 3
    feeder.write(dead, 0, 80); // 4
    feeder.write(manifest, 10, 10); // 5
    feeder.remove(dead); // 6
    feeder.write(manifest, 0, 10); // 7
    assert_eq!(feeder.hints(&exact()), [(1, 1), (5, 5), (7, 8)]);
}

#[test]
fn small_gaps_are_bridged_and_large_ones_are_where_the_budget_is_spent() {
    let none = HintBudget { extra_bytes: 0, seek_bytes: 0 };
    let near = HintBudget { seek_bytes: 100, ..HintBudget::default() };
    let pieces = vec![(1, 2), (4, 4), (7, 7), (10, 11)];
    for (budget, expected) in
        [(exact(), pieces), (near, vec![(1, 4), (7, 7), (10, 11)]), (none, vec![(1, 11)])]
    {
        let mut feeder = Feeder::new();
        let file = feeder.create(); // 1
        for at in [0, 50, 10, 60, 60, 50, 60, 60, 60] {
            feeder.write(file, at, 10); // 2 to 10
        }
        assert_eq!(feeder.hints(&budget), expected, "{budget:?}");
    }
}

#[test]
fn what_was_left_out_once_is_never_covered_again() {
    let none = HintBudget { extra_bytes: 0, seek_bytes: 0 };
    let mut feeder = Feeder::new();
    let file = feeder.create(); // 1
    feeder.write(file, 0, 10); // 2
    feeder.write(file, 10, 10); // 3
    feeder.write(file, 0, 10); // 4
    assert_eq!(feeder.hints(&exact()), [(1, 1), (3, 5)]);
    // A set that may have no further segments has this one all the same.
    assert_eq!(feeder.hints(&none), [(1, 1), (3, 6)]);
}

#[test]
fn what_a_stored_set_leaves_out_is_left_out_too() {
    let mut feeder = Feeder::new();
    let file = feeder.create(); // 1
    feeder.write(file, 0, 10); // 2
    feeder.write(file, 10, 10); // 3
    feeder.write(file, 0, 10); // 4
    let mut other = Feeder { map: feeder.map.clone(), ..feeder };
    other.take(What::Nothing); // 5
    let stored = other.map.hints(&log(), Vec::new(), 0, (&exact(), None)).unwrap();
    let mut feeder = Feeder { map: feeder.map, next: 5, author: 1 };
    feeder.map.leave_out(&stored);
    assert_eq!(feeder.hints(&HintBudget::default()), [(1, 1), (3, 5)]);
}

#[test]
fn behind_the_newest_live_file_no_segment_holds_the_creation_of_a_dead_file_without_its_end() {
    let all = HintBudget { seek_bytes: u64::MAX, ..HintBudget::default() };
    let mut feeder = Feeder::new();
    let file = feeder.create(); // 1
    feeder.write(file, 0, 10); // 2
    let dead = feeder.create(); // 3
    feeder.write(file, 10, 10); // 4
    feeder.map.leave_out(&{
        // Somebody left out the end of the dead file, which is to come: [1, 4] and the anchor at 7.
        let mut other = Feeder { map: feeder.map.clone(), next: 5, author: 1 };
        other.remove(dead); // 5
        other.take(What::Nothing); // 6
        other.take(What::Nothing); // 7
        other.map.hints(&log(), Vec::new(), 0, (&exact(), None)).unwrap()
    });
    feeder.remove(dead); // 5
    feeder.take(What::Nothing); // 6
    // From 2 to 4 the creation at 3 would come without its end.
    assert_eq!(feeder.hints(&all), [(1, 2), (4, 4), (7, 7)]);
}

#[test]
fn a_segment_never_spans_two_authors() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.write(file, 0, 10);
    feeder.author = 2;
    feeder.write(file, 10, 10);
    feeder.take(What::Nothing);
    let hints = feeder.map.hints(&log(), Vec::new(), 9, (&HintBudget::default(), None)).unwrap();
    let authors: Vec<_> = hints.files[0].segments.iter().map(|segment| segment.author.get()).collect();
    assert_eq!(authors, [1, 2]);
    assert_eq!(hints.as_of.map(|as_of| (as_of.author.unwrap().get(), as_of.unix_nanos)), Some((2, 9)));
}

#[test]
fn each_file_has_its_own_segment_and_those_of_neighbours_leave_no_gap() {
    let mut feeder = Feeder::new();
    let files: Vec<_> = (0..4).map(|_| feeder.create()).collect();
    feeder.write(files[1], 0, 10);
    feeder.take(What::Nothing);
    let hints = feeder.map.hints(&log(), Vec::new(), 0, (&HintBudget::default(), None)).unwrap();
    assert_eq!(hints.files.iter().map(|file| file.segments.len()).collect::<Vec<_>>(), [1; 4]);
    assert_eq!(hints.flatten().unwrap().segments.as_slice().len(), 1);
}

#[test]
fn a_range_of_a_file_is_located_in_the_log_with_the_digest_of_its_payload() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.write(file, 0, 50); // 2, in [200, 300) of the log
    feeder.write(file, 20, 10); // 3
    let found: Vec<_> = feeder.map.locate(file, 10..25).collect();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].file_range.clone(), found[0].payload, found[0].crc32c),
        (0..20, Some(offset(250)), Some(2))
    );
    assert_eq!(
        (found[1].file_range.clone(), found[1].payload, found[1].crc32c),
        (20..30, Some(offset(390)), Some(3))
    );
    assert_eq!((found[0].ops.clone(), &found[0].log), (offset(200)..offset(300), &log()));
    assert_eq!(feeder.map.locate(file, 60..90).count(), 0);
    assert_eq!(feeder.map.extents(), 3);
}

#[test]
fn positions_move_from_where_foreign_bytes_were_found() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.write(file, 0, 10);
    feeder.write(file, 10, 10);
    feeder.map.shift(&log(), offset(300), 7);
    feeder.map.shift(&JournalName::new("acme/else").unwrap(), offset(0), 1_000);
    feeder.take(What::Nothing);
    let hints = feeder.map.hints(&log(), Vec::new(), 0, (&exact(), None)).unwrap();
    let found: Vec<_> = feeder.map.locate(file, 0..20).map(|found| found.ops.start.get()).collect();
    assert_eq!(found, [200, 307]);
    assert_eq!(hints.files[0].segments[0].first_offset, offset(100));
}

#[test]
fn zones_that_no_live_byte_lies_in_are_forgotten() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    for _ in 0..3 * ZONES_MIN {
        let dead = feeder.create();
        feeder.remove(dead);
    }
    feeder.write(file, 0, 10);
    assert!(feeder.map.zones.len() <= ZONES_MIN + 1, "{}", feeder.map.zones.len());
    feeder.hints(&exact());
    assert_eq!(feeder.map.zones, []);
}

#[test]
fn joined_extents_end_where_their_last_operation_ends_after_foreign_bytes_came_between() {
    let mut joined = extent(0, 10, 1).joined(&extent(10, 10, 2)).unwrap();
    let end = joined.log_end();
    joined.shift(2_000, 500);
    assert_eq!((joined.begin, joined.log_end()), (1_000, end + 500));
    joined.shift(end + 500, 500);
    assert_eq!((joined.begin, joined.log_end()), (1_000, end + 500));
    joined.shift(0, 500);
    assert_eq!((joined.begin, joined.log_end()), (1_500, end + 1_000));
}

#[test]
fn a_budget_of_nothing_is_kept_however_often_hints_are_taken() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    for round in 0..100 {
        let dead = feeder.create();
        feeder.write(dead, 0, 10);
        feeder.remove(dead);
        feeder.write(file, round * 10, 10);
        let named = feeder.hints(&HintBudget { extra_bytes: 0, seek_bytes: 0 });
        assert_eq!(named.len(), 1, "round {round}: {named:?}");
    }
}

#[test]
fn a_file_that_is_dead_by_the_hints_is_open_until_its_end_is_read_and_held_once() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    let stray = feeder.take(What::StrayCreated);
    feeder.write(file, 0, 10);
    for _ in 0..10 {
        feeder.hints(&exact());
    }
    assert_eq!((feeder.map.zones.len(), feeder.map.strays.len()), (0, 1));
    feeder.take(What::StrayLinked(stray));
    feeder.take(What::StrayUnlinked(stray));
    assert_eq!(feeder.map.strays.len(), 1, "one link is left");
    feeder.take(What::StrayUnlinked(stray));
    feeder.write(file, 10, 10);
    feeder.hints(&exact());
    assert!(feeder.map.strays.is_empty() && feeder.map.zones.len() == 1, "{:?}", feeder.map.zones);
}

#[test]
fn the_largest_seq_no_does_not_overflow() {
    let mut feeder = Feeder { next: i64::MAX - 1, ..Feeder::new() };
    let change = |what| Change {
        seq_no: SeqNo::new(i64::MAX),
        begin: Offset::ZERO,
        end: offset(10),
        before: Checksum::ZERO,
        after: Checksum::ZERO,
        what,
    };
    let fnode = Fnode::new(SeqNo::new(i64::MAX));
    feeder.map.take(&log(), author(1), &change(What::Created));
    feeder.map.take(&log(), author(1), &change(What::Written { fnode, at: u64::MAX, len: 5, crc32c: None }));
    feeder.map.take(&log(), author(1), &change(What::Written { fnode, at: 0, len: u64::MAX, crc32c: None }));
    assert_eq!(feeder.map.hints(&log(), Vec::new(), 0, (&exact(), None)).unwrap().files.len(), 1);
}

#[test]
fn the_last_setting_of_a_property_is_named_and_earlier_ones_are_not() {
    let property = || What::PropertySet(LogPath::from_bytes(b"/IDENTITY"));
    let mut feeder = Feeder::new();
    feeder.take(property()); // 1
    assert_eq!(feeder.hints(&exact()), [], "an empty tree holds nothing; the hints have the content");
    let file = feeder.create(); // 3
    feeder.take(property()); // 4
    feeder.write(file, 0, 10); // 5
    feeder.take(property()); // 6
    assert_eq!(feeder.hints(&exact()), [(3, 3), (5, 7)]);
}

#[test]
fn extents_that_must_stay_apart_are_not_looked_at_with_every_write() {
    let mut feeder = Feeder::new();
    feeder.map.bound_extents(10);
    let file = feeder.create();
    for page in 0..200 {
        feeder.create();
        feeder.write(file, page * 10, 10);
        let live = &feeder.map.files[&file];
        assert_eq!(live.extents.len() as u64, page + 1, "another file was created between any two");
        assert!(live.join_past <= live.extents.len() * 3 / 2);
    }
    assert!(feeder.map.files[&file].join_past > 100);
}
