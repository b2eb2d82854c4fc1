//! Hints that must fit a store.

use super::*;

const UNBOUND: Option<usize> = None;

impl Feeder {
    /// Writes pages of a file of which every second one is dead at once.
    fn scatter(&mut self, fnode: Fnode, pages: u64) {
        for page in 0..pages {
            self.write(fnode, page * 20, 10);
            self.take(What::Nothing);
        }
    }

    fn fit(&mut self, bytes_max: Option<usize>) -> Result<FsmHints, usize> {
        self.take(What::Nothing);
        self.map.hints(&log(), Vec::new(), 0, (&exact(), bytes_max))
    }
}

fn segments(hints: &FsmHints) -> usize {
    hints.files.iter().map(|file| file.segments.len()).sum()
}

#[test]
fn further_ranges_take_no_more_than_their_share_of_a_limit() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.scatter(file, 200);
    let whole = feeder.map.clone().hints(&log(), Vec::new(), 0, (&exact(), UNBOUND)).unwrap();
    assert!(segments(&whole) > 190 && whole.json_bytes() > 25_000, "{}", whole.json_bytes());
    for bytes_max in [2_000, 10_000, 20_000, 100_000] {
        let mut feeder = Feeder { map: feeder.map.clone(), ..feeder };
        let hints = feeder.fit(Some(bytes_max)).unwrap();
        let (bytes, few) = (hints.json_bytes(), segments(&hints));
        assert!(bytes <= bytes_max / 5 + 500, "{bytes} of {bytes_max}");
        assert!(
            (few - 1) * 200 <= bytes_max / 5 && few * 250 > bytes_max.min(100_000) / 5,
            "{few} of {bytes_max}"
        );
        assert_eq!(hints.flatten().unwrap().fnodes, [file]);
    }
    let mut feeder = Feeder { map: feeder.map.clone(), ..feeder };
    let roomy = feeder.map.clone().hints(&log(), Vec::new(), 0, (&exact(), Some(1 << 20))).unwrap();
    assert_eq!(roomy, whole, "where there is room, a limit changes nothing");
    assert!(feeder.fit(Some(100)).is_err(), "not even one segment fits");
}

#[test]
fn room_is_left_for_files_that_come_later_though_nothing_is_covered_again() {
    const BYTES_MAX: usize = 60_000;
    let mut feeder = Feeder::new();
    let pages = feeder.create();
    let (mut bytes, mut most) = (0, 0);
    while bytes < BYTES_MAX / 4 * 3 {
        feeder.scatter(pages, 100);
        // Pages that live on, so that what was left out between them parts segments for good.
        for page in 0..20 {
            let at = 1_000_000 + (feeder.next as u64 + page) * 100;
            feeder.write(pages, at, 10);
            feeder.take(What::Nothing);
        }
        for _ in 0..5 {
            feeder.create();
        }
        let hints = feeder.fit(Some(BYTES_MAX)).unwrap_or_else(|bytes| panic!("{bytes} of {BYTES_MAX}"));
        bytes = hints.json_bytes();
        assert!(bytes <= BYTES_MAX);
        most = most.max(segments(&hints) - hints.files.len());
    }
    assert!(most > 30, "{most} further segments");
}

#[test]
fn hints_that_fit_by_no_choice_say_how_large_they_are_and_leave_nothing_out() {
    let mut feeder = Feeder::new();
    for _ in 0..100 {
        let file = feeder.create();
        feeder.write(file, 0, 10);
        feeder.write(file, 0, 10);
        feeder.write(file, 10, 10);
    }
    let fresh = feeder.map.clone();
    let bytes = feeder.fit(Some(10_000)).unwrap_err();
    assert!((10_001..25_000).contains(&bytes), "{bytes}");
    let mut fresh = Feeder { map: fresh, next: feeder.next - 1, ..feeder };
    fresh.take(What::Nothing);
    let none = HintBudget { extra_bytes: 0, seek_bytes: u64::MAX };
    let hints = |feeder: &mut Feeder| feeder.map.hints(&log(), Vec::new(), 0, (&none, UNBOUND)).unwrap();
    assert_eq!(hints(&mut feeder), hints(&mut fresh), "nothing parts what may be joined");
    let fits = feeder.fit(Some(bytes + 1_000)).unwrap();
    assert_eq!(fits.files.len(), 100);
}

#[test]
fn segments_of_another_log_take_its_name_out_of_the_budget() {
    let mut feeder = Feeder::new();
    let file = feeder.create();
    feeder.scatter(file, 200);
    let budget = HintBudget { extra_bytes: 20_000, seek_bytes: 0 };
    let extra = |own: &JournalName| {
        let hints = feeder.map.clone().hints(own, Vec::new(), 0, (&budget, UNBOUND)).unwrap();
        (segments(&hints) - 1, hints.json_bytes())
    };
    assert_eq!(extra(&log()).0, 100);
    let named = 200 + log().as_str().len() + 9;
    let (fork, bytes) = extra(&JournalName::new("acme/fork").unwrap());
    assert_eq!(fork, 20_000 / named);
    assert!(bytes < 21_000, "{bytes}");
}
