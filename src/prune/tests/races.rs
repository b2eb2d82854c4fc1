//! Pruning while a primary records and publishes, standbys play and take over, and others restore.

use super::*;

/// Tells the others to stop, however this ends.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Prunes without a pause until `stop`; returns the fragments that were removed.
fn prune_until(stop: &AtomicBool, pruner: &Pruner) -> u64 {
    let mut fragments = 0;
    loop {
        let last = stop.load(Ordering::Acquire);
        let survey = pruner.survey(soon()).unwrap();
        // A set may be removed from the store, or be stored, between two looks; it is never needed and not there.
        assert!(survey.problems.is_empty(), "{:?}", survey.problems);
        fragments += pruner.remove(&survey, &mut no_audit, soon()).unwrap().fragments;
        if last {
            return fragments;
        }
    }
}

#[test]
fn pruning_races_recording_publishing_handing_off_and_standing_by() {
    let world = World::new();
    let first = world.primary("/0", 1);
    work(&first, 2);
    first.publish_hints(soon()).unwrap();
    let (stop, pruner) = (AtomicBool::new(false), world.pruner());
    let removed = std::thread::scope(|scope| {
        let pruning = scope.spawn(|| prune_until(&stop, &pruner));
        let stops = Stops(&stop);
        let mut primary = first;
        for turn in 1..12_u32 {
            let standby = world.shard("acme/orders", &world.hints);
            let standby = standby.standby(Path::new(&format!("/{turn}"))).unwrap();
            for _ in 0..6 {
                work(&primary, 5);
                primary.publish_hints(soon()).unwrap();
            }
            primary = standby.promote(Author::new(turn + 1).unwrap(), soon()).unwrap();
        }
        drop(stops);
        let removed = pruning.join().unwrap();
        primary.close(soon()).unwrap();
        removed
    });
    assert!(removed > 100, "{removed} fragments were removed");
    for (number, set) in world.sets().iter().enumerate() {
        let pages = world.played(set, &format!("/after-{number}"), "pages").unwrap();
        assert_eq!(pages, [4, 1, 2, 3].map(|round| [round; 100]).concat(), "{number}");
    }
}

#[test]
fn a_restore_under_which_is_pruned_is_whole_or_says_what_is_lost() {
    let world = World::new();
    let primary = world.primary("/0", 1);
    work(&primary, 9);
    primary.publish_hints(soon()).unwrap();
    let (stop, pruner) = (AtomicBool::new(false), world.pruner());
    std::thread::scope(|scope| {
        let restoring = scope.spawn(|| {
            let (mut whole, mut lost) = (0, 0);
            for turn in 0.. {
                if stop.load(Ordering::Acquire) && whole > 0 {
                    break;
                }
                // The oldest set is the next that is removed.
                let candidates = world.hints.candidates(&name("acme/orders"), soon()).unwrap();
                let oldest = candidates.into_iter().last().unwrap().hints.unwrap();
                match world.played(&oldest, &format!("/restored-{turn}"), "pages") {
                    Ok(pages) => {
                        assert_eq!(pages.len(), 400);
                        whole += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
                        lost += 1;
                    }
                }
            }
            (whole, lost)
        });
        let stops = Stops(&stop);
        for _ in 0..60 {
            work(&primary, 9);
            primary.publish_hints(soon()).unwrap();
            let survey = pruner.survey(soon()).unwrap();
            pruner.remove(&survey, &mut no_audit, soon()).unwrap();
        }
        drop(stops);
        let (whole, _) = restoring.join().unwrap();
        assert!(whole > 0);
    });
    let fresh = world.shard("acme/orders", &world.hints).standby(Path::new("/fresh")).unwrap();
    fresh.wait_for_tail(soon()).unwrap();
}
