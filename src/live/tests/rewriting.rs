//! What is worth writing again.

use std::collections::BTreeSet;

use super::*;

/// Ten operations of [`Feeder`].
const WINDOW: u64 = 1000;

impl Feeder {
    /// Chooses within a budget: ranges of files by their number; `None` for a file as a whole.
    fn choose_within(&self, budget_bytes: u64) -> Vec<(i64, Option<Range<u64>>)> {
        let rules = Rules { window_bytes: WINDOW, budget_bytes, avoid: &BTreeSet::new() };
        let part = |chosen: Chosen| match chosen.part {
            Part::Whole => (chosen.fnode.get(), None),
            Part::Bytes(range) => (chosen.fnode.get(), Some(range)),
        };
        self.map.choose_rewrites(&rules).into_iter().map(part).collect()
    }

    fn choose(&self) -> Vec<(i64, Option<Range<u64>>)> {
        self.choose_within(u64::MAX)
    }

    /// Creates a file that is too large to be moved, as long as nobody writes past its end.
    fn create_large(&mut self) -> Fnode {
        let file = self.create();
        self.write(file, WHOLE_BYTES_MAX, 1);
        file
    }

    /// Takes operations that die, up to the begin of a window.
    fn waste_until(&mut self, window: i64) {
        while self.next < window * 10 {
            self.take(What::Nothing);
        }
    }
}

#[test]
fn the_window_with_the_least_alive_goes_first_and_of_two_the_older() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    for (window, pages) in [(2, 3), (4, 1), (6, 1), (8, 2)] {
        feeder.waste_until(window);
        for page in 0..pages {
            feeder.write(file, window as u64 * 100 + page * 20, 10);
        }
    }
    feeder.waste_until(20);
    let begins: Vec<u64> = feeder.choose().into_iter().map(|(_, range)| range.unwrap().start).collect();
    // 2 is not old enough for what it costs.
    assert_eq!(begins, [400, 600, 800, 820, 200, 220, 240]);
    assert_eq!(feeder.choose_within(1), [(1, Some(400..410))]);
}

#[test]
fn a_window_of_which_more_than_half_is_alive_is_left_alone() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    feeder.waste_until(2);
    feeder.write(file, 0, 400);
    feeder.waste_until(4);
    feeder.write(file, 1000, 500);
    feeder.waste_until(20);
    assert_eq!(feeder.choose(), [(1, Some(0..400))]);
}

#[test]
fn nothing_is_chosen_at_the_head_or_where_little_is_dead() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    feeder.waste_until(2);
    feeder.write(file, 0, 10);
    feeder.waste_until(3);
    assert_eq!(feeder.choose().len(), 1);
    let mut at_head = Feeder::new();
    let file = at_head.create_large();
    at_head.waste_until(2);
    at_head.write(file, 0, 10);
    assert_eq!(at_head.choose(), [], "what is at the head has not been written to its end");
    // Ten windows, all but full, and one of which a third is alive.
    for window in 3..13 {
        feeder.waste_until(window);
        feeder.write(file, window as u64 * 1000, 950);
    }
    feeder.waste_until(14);
    assert_eq!(feeder.choose(), [], "the log is less than half as long again as what is alive");
}

#[test]
fn a_small_file_whose_creation_holds_a_window_is_moved_whole_and_once() {
    let mut feeder = Feeder::new();
    feeder.waste_until(1);
    let small = feeder.create(); // 10
    for window in 2..6 {
        feeder.waste_until(window);
        feeder.write(small, window as u64 * 10, 10);
    }
    feeder.waste_until(20);
    assert_eq!(feeder.choose(), [(10, None)]);
    let mut feeder = Feeder { next: 20, ..Feeder::new() };
    let large = feeder.create_large();
    feeder.write(large, 0, 10);
    feeder.waste_until(4);
    feeder.write(large, 50, 10);
    feeder.waste_until(20);
    assert_eq!(feeder.choose(), [(20, Some(50..60))], "the creation of a large file stays where it is");
}

#[test]
fn a_file_that_costs_more_than_the_window_of_its_creation_is_not_moved() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.waste_until(2);
    feeder.write(file, 0, 300);
    feeder.waste_until(3);
    feeder.write(file, 300, 300);
    feeder.waste_until(20);
    assert_eq!(feeder.choose(), [(1, Some(0..300)), (1, Some(300..600))]);
}

#[test]
fn a_window_that_a_file_holds_which_cannot_be_rewritten_is_left_alone() {
    let mut feeder = Feeder::new();
    let (one, other) = (feeder.create_large(), feeder.create_large());
    feeder.waste_until(2);
    feeder.write(one, 0, 10);
    feeder.write(other, 0, 10);
    feeder.waste_until(4);
    feeder.write(one, 20, 10);
    feeder.waste_until(5);
    feeder.take(What::PropertySet(LogPath::from_bytes(b"/IDENTITY")));
    feeder.write(one, 40, 10);
    feeder.waste_until(20);
    assert_eq!(feeder.choose().len(), 3, "a property holds one, which nothing frees");
    let avoid = BTreeSet::from([other]);
    let rules = Rules { window_bytes: WINDOW, budget_bytes: u64::MAX, avoid: &avoid };
    let parts: Vec<_> = feeder.map.choose_rewrites(&rules).into_iter().map(|chosen| chosen.part).collect();
    assert_eq!(parts, [Part::Bytes(20..30)]);
}

#[test]
fn what_was_overwritten_since_it_was_chosen_is_not_written_again() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    feeder.waste_until(2);
    feeder.write(file, 0, 100);
    feeder.waste_until(20);
    let rules = Rules { window_bytes: WINDOW, budget_bytes: u64::MAX, avoid: &BTreeSet::new() };
    let chosen = feeder.map.choose_rewrites(&rules).remove(0);
    feeder.write(file, 40, 10);
    let left = |map: &LiveMap| map.take_left(&mut chosen.clone(), u64::MAX);
    assert_eq!(left(&feeder.map), [0..40, 50..100]);
    feeder.remove(file);
    assert_eq!(left(&feeder.map), []);
}

#[test]
fn what_is_taken_to_be_written_is_cut_where_extents_end_unless_one_is_longer_than_an_operation() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    feeder.waste_until(2);
    let lens = [100, 100, PIECE_BYTES_MAX - 100, PIECE_BYTES_MAX + 1, 50, EXTENT_BYTES_MAX + 5];
    let ends: Vec<u64> =
        lens.iter().scan(0, |end, len| Some(*end + len).inspect(|next| *end = *next)).collect();
    for (end, len) in ends.iter().zip(lens) {
        feeder.write(file, end - len, len);
    }
    let head = feeder.next;
    let chosen = Chosen { fnode: file, part: Part::Bytes(0..ends[5]), upto: head };
    let cut = ends[4] + EXTENT_BYTES_MAX;
    let pieces = [0..200, 200..ends[2], ends[2]..ends[3], ends[3]..ends[4], ends[4]..cut, cut..ends[5]];
    assert_eq!(feeder.map.take_left(&mut chosen.clone(), u64::MAX), pieces);
    // However little is asked for, an extent is taken whole.
    let mut chosen = chosen;
    let mut each = Vec::new();
    while chosen.part != Part::Bytes(ends[5]..ends[5]) {
        each.extend(feeder.map.take_left(&mut chosen, 1));
    }
    let begins = [0, 100, 200, ends[2], ends[3], ends[4], cut];
    assert_eq!(each.iter().map(|piece| piece.start).collect::<Vec<_>>(), begins);
    assert!(each.windows(2).all(|pair| pair[0].end == pair[1].start), "{each:?}");
}

#[test]
fn what_the_log_holds_has_a_digest_where_all_that_an_operation_wrote_is_alive_and_asked_for() {
    let mut feeder = Feeder::new();
    let file = feeder.create(); // 1
    for at in 0..4 {
        feeder.write(file, at * 100, 100); // 2 to 5
    }
    feeder.write(file, 150, 10); // 6: the second is cut
    let held = |map: &LiveMap, range| -> Vec<(Range<u64>, Option<u32>)> {
        map.held(file, range).map(|held| (held.range, held.crc32c)).collect()
    };
    let all = [
        (0..100, Some(2)),
        (100..150, None),
        (150..160, Some(6)),
        (160..200, None),
        (200..300, Some(4)),
        (300..400, Some(5)),
    ];
    assert_eq!(held(&feeder.map, 0..u64::MAX), all);
    assert_eq!(held(&feeder.map, 1..300), [&[(1..100, None)], &all[1..5]].concat());
    assert_eq!(held(&feeder.map, 200..399), [(200..300, Some(4)), (300..399, None)]);
    let located: Vec<_> = feeder.map.locate(file, 100..150).map(|located| located.crc32c).collect();
    assert_eq!(located, [Some(3)], "that of the whole payload is known all the same");
    let at = feeder.map.held(file, 150..160).next().unwrap();
    assert_eq!((at.log, at.at), (log(), offset(600)));
}

#[test]
fn what_lies_in_another_log_is_older_than_all_of_this_one() {
    let mut feeder = Feeder::new();
    let file = feeder.create_large();
    for at in [0, 50] {
        feeder.waste_until(2 + at as i64 / 10);
        feeder.write(file, at, 10);
    }
    feeder.waste_until(8);
    let change = Change {
        seq_no: SeqNo::new(feeder.next),
        begin: offset(50_000),
        end: offset(50_100),
        before: Checksum::ZERO,
        after: Checksum::ZERO,
        what: What::Nothing,
    };
    // The same positions as in the log before.
    feeder.map.take(&JournalName::new("acme/fork").unwrap(), author(2), &change);
    assert_eq!(feeder.choose().len(), 2, "each window of the log before has been written to its end");
}

/// Overwrites pages at random, and writes again as much as a share of that; returns how long the log is that is needed,
/// in times of what is alive.
fn log_by_live(percent: u64) -> f64 {
    const PAGES: u64 = 1024;
    const FRAGMENT: u64 = 16 * 100;
    let (mut feeder, mut random) = (Feeder::new(), SplitMix64::new(percent));
    let file = feeder.create_large();
    let page_at = |page: u64| WHOLE_BYTES_MAX + page * 50;
    let (mut credit, mut sum, mut times) = (0, 0, 0_u64);
    for round in 0..16 * PAGES {
        feeder.write(file, page_at(random.below(PAGES)), 50);
        credit += percent;
        if credit >= 100 * 32 {
            let rules = Rules { window_bytes: FRAGMENT, budget_bytes: 32 * 50, avoid: &BTreeSet::new() };
            for chosen in feeder.map.choose_rewrites(&rules).into_iter().take(32) {
                let Part::Bytes(range) = chosen.part else { panic!("the file is too large to be moved") };
                for at in range.step_by(50) {
                    feeder.write(file, at, 50);
                    credit -= 100;
                }
            }
        }
        if round > 8 * PAGES && round % PAGES == 0 {
            let pieces = feeder.map.pieces();
            let fragments: BTreeSet<u64> = pieces.iter().map(|piece| piece.begin / FRAGMENT).collect();
            sum += fragments.len() as u64 * FRAGMENT;
            times += 1;
        }
    }
    sum as f64 / times as f64 / (PAGES * 100) as f64
}

#[test]
fn pages_overwritten_at_random_need_a_log_as_long_as_the_theory_of_cleaning_says() {
    // The share c of cleaning in all writes solves c = exp(-(1 - c) * log / live).
    for (percent, theory) in [(10, 2.638), (50, 1.648)] {
        let measured = log_by_live(percent);
        assert!((0.9..1.1).contains(&(measured / theory)), "{percent}%: {measured}, and not {theory}");
    }
}
