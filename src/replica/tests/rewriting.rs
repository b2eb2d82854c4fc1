//! A primary that writes live bytes again in the background.

use super::*;
use crate::ids::LogPath;
use crate::sync::pause;
use crate::tracker::RewriteOptions;

fn primary(world: &World, percent: u32) -> Primary {
    let rewrite = RewriteOptions { percent, window_bytes: 2_000 };
    let options = ReplicaOptions { rewrite, ..ReplicaOptions::default() };
    let standby = world.shard().options(options).standby(Path::new("/first")).unwrap();
    standby.promote(author(1), soon()).unwrap()
}

#[test]
fn a_primary_writes_again_what_holds_old_fragments_and_says_how_much() {
    let world = World::new();
    let first = primary(&world, 50);
    write(&first, "kept", b"content");
    for round in 0..40 {
        write(&first, "again", &[round; 300]);
    }
    let deadline = soon();
    while first.status().bytes_rewritten == 0 {
        assert!(!deadline.remaining().is_zero(), "{:?}", first.status());
        pause(Duration::from_millis(5));
    }
    assert!(first.status().rewrite_failure.is_none());
    first.close(soon()).unwrap();
    let best = world.hints.candidates(&log(), soon()).unwrap().remove(0).hints.unwrap();
    let oldest = best.flatten().unwrap().segments.as_slice()[0].first_offset;
    assert!(oldest.get() > 1_000, "the fragments that are needed begin at {oldest:?}");
    let second = world.primary("/second", 2);
    for (name, content) in [("kept", &b"content"[..]), ("again", &[39; 300])] {
        let file = second.fs().open(&Path::new("/second").join(name), OpenMode::Read).unwrap();
        let mut found = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(found, content, "{name}");
    }
}

#[test]
fn damage_of_the_local_disk_is_told_for_good_while_what_is_whole_goes_on() {
    let world = World::new();
    let first = primary(&world, 50);
    let fnode = |name: &str| {
        let path = LogPath::from_bytes(format!("/{name}").as_bytes());
        first.recorder().with_fsm(|fsm| fsm.link(&path))
    };
    let is_damaged = || {
        let failure = first.status().rewrite_failure;
        failure.is_some_and(|error| error.kind() == ErrorKind::Corrupt)
    };
    // Each in a part of the log of its own, which is freed as one.
    let waste = || (0..40).for_each(|round| write(&first, "again", &[round; 300]));
    let made = |name: &str| {
        write(&first, name, b"content");
        let made = fnode(name);
        waste();
        made
    };
    let until = |is_so: &dyn Fn() -> bool| {
        let deadline = soon();
        while !is_so() {
            assert!(!deadline.remaining().is_zero(), "{:?}", first.status());
            waste();
            pause(Duration::from_millis(50));
        }
    };
    let (bad, good) = (made("bad"), made("good"));
    let local = world.fs.open(Path::new("/first/bad"), OpenMode::ReadWrite).unwrap();
    local.write_all_at(b"C", 0).unwrap();
    until(&|| is_damaged() && fnode("good") != good);
    let later = made("later");
    until(&|| fnode("later") != later);
    assert!(is_damaged(), "a later step that went well has not cleared it");
    assert_eq!(fnode("bad"), bad);
    first.close(soon()).unwrap();
    let second = world.primary("/second", 2);
    assert_eq!(world.content("/second/bad"), b"content", "the log holds what was recorded");
    drop(second);
}
