//! Goal: how fast a log is played into a durable directory, against copying that directory.
//! Method: a tree is recorded into file journals, all of it live. Then each pass makes it anew, in turns:
//! `Player::restore` with `sync`; a copy of the recorded directory by one thread, file by file, with read(2) and
//! write(2) of 1 MiB, then open(2) and fsync(2) of each file and each directory; the same copy, then one syncfs(2)
//! in place of the fsyncs; `cp -r`, then one syncfs(2). Before each pass what it reads is read through once, so
//! that it lies in the page cache, what the pass before it wrote is removed, and one syncfs(2) leaves nothing
//! dirty. What was played is compared with what was recorded, once. Printed: the median, least and greatest rate
//! of the repeats, and the ratio of the rates within each round. The target is 0.9 of the read/write copy; what
//! is played ends in an fsync of each file as well.
//!
//! `cargo bench --bench player [-- DIRECTORY]`; needs 5 GB there.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and copies past the library")]

#[path = "shared/shard.rs"]
mod shard;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use recoverylog::journal::FileJournals;
use recoverylog::player::{Counts, PlayOptions, Player};
use recoverylog::vfs::OsFs;
use recoverylog::{FsmHints, JournalName};

use self::shard::{LOG, Load, figure, record, soon};

const REPEATS: usize = 5;

fn main() {
    let place = shard::place();
    let loads = [
        Load { name: "1,024 files of 1 MiB", sizes: vec![1 << 20; 1024], write_bytes: 64 << 10 },
        Load::mixed(),
        Load { name: "64 files of 1.6 MB, in writes of 100 B", sizes: vec![1_600_000; 64], write_bytes: 100 },
    ];
    for load in loads {
        let folder = place.path().join("load");
        fs::create_dir(&folder).unwrap();
        bench(&folder, &load);
        fs::remove_dir_all(&folder).unwrap();
    }
}

fn bench(place: &Path, load: &Load) {
    let [source, target] = ["source", "target"].map(|name| place.join(name));
    let primary = record(&shard::shard(place), &source, load);
    let log_bytes = primary.recorder().counters().bytes_durable;
    primary.close(soon()).unwrap();

    let counts = play(place, &target);
    assert_same(&source, &target);

    let passes: [(&Path, &dyn Fn()); 4] = [
        (&place.join("journals"), &|| assert_eq!(play(place, &target).applied_ops, counts.applied_ops)),
        (&source, &|| {
            for made in copy(&source, &target) {
                File::open(made).unwrap().sync_all().unwrap();
            }
        }),
        (&source, &|| {
            copy(&source, &target);
            sync_fs(&target);
        }),
        (&source, &|| {
            assert!(Command::new("cp").arg("-r").args([&source, &target]).status().unwrap().success());
            sync_fs(&target);
        }),
    ];
    let mut rates = passes.map(|_| Vec::new());
    for _ in 0..REPEATS {
        for ((reads, pass), rates) in passes.iter().zip(&mut rates) {
            fs::remove_dir_all(&target).unwrap();
            sync_fs(place);
            read_through(reads);
            let begin = Instant::now();
            pass();
            rates.push(load.bytes() as f64 / begin.elapsed().as_secs_f64());
        }
    }
    let [played, baselines @ ..] = rates;
    let ops = counts.applied_ops as f64;
    let ops_rates: Vec<_> = played.iter().map(|rate| rate / load.bytes() as f64 * ops / 1e3).collect();
    let megabytes = |rates: &[f64]| figure(&rates.iter().map(|rate| rate / 1e6).collect::<Vec<_>>(), 0);
    println!("{}: {} bytes, {ops} operations, log of {log_bytes} bytes", load.name, load.bytes());
    println!(
        "  played                 {} MB/s, {} thousand ops/s",
        megabytes(&played),
        figure(&ops_rates, 0)
    );
    let names = ["copied, fsync of each ", "copied, one syncfs    ", "cp -r, one syncfs     "];
    for (name, base) in names.iter().zip(baselines) {
        let ratios: Vec<_> = played.iter().zip(&base).map(|(played, base)| played / base).collect();
        println!("  {name} {} MB/s; played at {} of it, target 0.9", megabytes(&base), figure(&ratios, 2));
    }
}

fn play(place: &Path, target: &Path) -> Counts {
    let journals = FileJournals::read_only(place.join("journals")).unwrap();
    let hints = FsmHints::empty(JournalName::new(LOG).unwrap());
    let options = PlayOptions { sync: true, ..PlayOptions::default() };
    let player = Player::new(&journals, &hints, Arc::new(OsFs::new()), target, options).unwrap();
    let played = player.restore().unwrap();
    assert!(played.warnings.is_empty(), "{:?}", played.warnings);
    played.counts
}

/// Copies; returns what was made, what is in a folder before the folder.
fn copy(source: &Path, target: &Path) -> Vec<PathBuf> {
    let mut buffer = vec![0; 1 << 20];
    fs::create_dir(target).unwrap();
    let mut made = vec![target.to_owned()];
    for_each_below(source, &mut |path, is_folder| {
        let to = target.join(path.strip_prefix(source).unwrap());
        if is_folder {
            fs::create_dir(&to).unwrap();
        } else {
            let (mut from, mut file) = (File::open(path).unwrap(), File::create_new(&to).unwrap());
            loop {
                let read = from.read(&mut buffer).unwrap();
                if read == 0 {
                    break;
                }
                file.write_all(&buffer[..read]).unwrap();
            }
        }
        made.push(to);
    });
    made.reverse();
    made
}

fn sync_fs(on: &Path) {
    rustix::fs::syncfs(File::open(on).unwrap()).unwrap();
}

fn read_through(folder: &Path) {
    let mut buffer = vec![0; 1 << 20];
    for_each_below(folder, &mut |path, is_folder| {
        if !is_folder {
            let mut file = File::open(path).unwrap();
            while file.read(&mut buffer).unwrap() > 0 {}
        }
    });
}

/// Visits everything below a folder, folders before what is in them.
fn for_each_below(folder: &Path, visit: &mut dyn FnMut(&Path, bool)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        visit(&path, path.is_dir());
        if path.is_dir() {
            for_each_below(&path, visit);
        }
    }
}

fn assert_same(source: &Path, target: &Path) {
    let mut names = [0, 0];
    for_each_below(target, &mut |_, _| names[1] += 1);
    for_each_below(source, &mut |path, is_folder| {
        names[0] += 1;
        let other = target.join(path.strip_prefix(source).unwrap());
        let same =
            if is_folder { other.is_dir() } else { fs::read(path).unwrap() == fs::read(&other).unwrap() };
        assert!(same, "{} is not what was recorded", other.display());
    });
    assert_eq!(names[0], names[1], "names in {} and {}", source.display(), target.display());
}
