//! A primary that writes live bytes again in the background.

use super::*;
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
