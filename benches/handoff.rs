//! Goal: how long a hand-off takes where the standby is at the tail.
//! Method: a primary records 10,000 files and 1 GiB, then lives on. In each round a standby plays the log into a
//! directory of its own, follows 100 more writes of the primary, and is promoted; the one before it is then found
//! to be fenced. Timed are `Standby::promote`, and with it the first file that is created, written and synced in
//! the new directory. The baseline, just before that, is what a hand-off cannot do without: a pwrite(2) of 4 KiB
//! over written blocks, an fdatasync(2), a rename(2) of a directory. In every other round a syncfs(2) goes before,
//! for a standby that has followed for a while; in the others the bytes of the play are dirty still.
//! Printed: the median, least and greatest of the rounds. The target is 100 ms.
//!
//! `cargo bench --bench handoff [-- DIRECTORY]`; needs 5 GB there.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and writes past the library")]

#[path = "shared/shard.rs"]
mod shard;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use recoverylog::ErrorKind;
use recoverylog::journal::random_author;
use recoverylog::replica::{Primary, Replica};
use recoverylog::vfs::{FileSystem as _, OpenMode};

use self::shard::{Load, figure, record, shard, soon};

const ROUNDS: usize = 14;

/// Milliseconds of one round.
struct Round {
    baseline: f64,
    promoted: f64,
    used: f64,
}

fn main() {
    let place = shard::place();
    let place = place.path();
    let load = Load::mixed();
    let shard = shard(place);
    let mut primary = record(&shard, &place.join("0"), &load);
    primary.publish_hints(soon()).unwrap();
    println!("hand-off at the tail, {}, {} bytes", load.name, load.bytes());
    let mut rounds = [Vec::new(), Vec::new()];
    for index in 1..=ROUNDS {
        let is_quiet = index % 2 == 0;
        let (next, round) = hand_off(&shard, &primary, place, index, is_quiet);
        rounds[usize::from(is_quiet)].push(round);
        fs::remove_dir_all(primary.directory()).unwrap();
        primary = next;
    }
    for (what, rounds) in ["just played", "synced before"].iter().zip(&rounds) {
        let of =
            |figure_of: &dyn Fn(&Round) -> f64| figure(&rounds.iter().map(figure_of).collect::<Vec<_>>(), 1);
        println!(
            "  {what:<14} promoted in {} ms, target 100; a file synced there after {} ms; pwrite + fdatasync + \
             rename {} ms",
            of(&|round| round.promoted),
            of(&|round| round.used),
            of(&|round| round.baseline),
        );
    }
}

fn hand_off(shard: &Replica, primary: &Primary, place: &Path, index: usize, quiet: bool) -> (Primary, Round) {
    let directory = place.join(index.to_string());
    let standby = shard.standby(&directory).unwrap();
    standby.wait_for_tail(soon()).unwrap();
    let path = primary.directory().join(format!("tail-{index}"));
    let file = primary.fs().open(&path, OpenMode::CreateNew).unwrap();
    (0..100).for_each(|at| file.write_all_at(&[7; 4096], at * 4096).unwrap());
    let reached = primary.barrier().unwrap().wait(soon()).unwrap();
    standby.wait_until(reached, soon()).unwrap();
    if quiet {
        rustix::fs::syncfs(File::open(place).unwrap()).unwrap();
    }
    let baseline = baseline(place);

    let begin = Instant::now();
    let next = standby.promote(random_author().unwrap(), soon()).unwrap();
    let promoted = begin.elapsed().as_secs_f64() * 1e3;
    let file = next.fs().open(&directory.join(format!("used-{index}")), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"at work", 0).unwrap();
    file.sync_data().unwrap();
    let used = begin.elapsed().as_secs_f64() * 1e3;

    primary.recorder().no_op().unwrap();
    let fenced = primary.barrier().and_then(|mut barrier| barrier.wait(soon())).unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    next.publish_hints(soon()).unwrap();
    (next, Round { baseline, promoted, used })
}

fn baseline(place: &Path) -> f64 {
    let file = File::create(place.join("raw")).unwrap();
    file.write_all_at(&[1; 8192], 0).unwrap();
    file.sync_all().unwrap();
    let [from, to] = ["raw.from", "raw.to"].map(|name| place.join(name));
    fs::create_dir(&from).unwrap();
    let begin = Instant::now();
    file.write_all_at(&[2; 4096], 4096).unwrap();
    file.sync_data().unwrap();
    fs::rename(&from, &to).unwrap();
    let taken = begin.elapsed().as_secs_f64() * 1e3;
    fs::remove_dir(&to).unwrap();
    taken
}
