//! Goal: what recording and playing take of memory, and what an idle shard takes of the machine.
//! Method: each role runs in a process of its own, and says what the kernel counted for it. Memory is `VmHWM` of
//! /proc/self/status, with nothing taken off; the baseline is the same process without a role. The target is 128
//! MiB and 512 bytes for each live file. Idle roles are left alone for 12 seconds and counted over the last 10:
//! voluntary context switches of all threads but the main one, which measures, and the calls and bytes of
//! /proc/self/io, less those that a look at them takes. The idle primary and the standby that follows it live at
//! the same time. The target is no I/O, and one wake-up a second of each thread at most.
//!
//! `cargo bench --bench footprint [-- DIRECTORY]`; needs 4 GB there.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench sleeps, and reads /proc past the library")]

#[path = "shared/shard.rs"]
mod shard;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use recoverylog::journal::{FileJournals, Journals as _};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::vfs::OsFs;
use recoverylog::{Author, Fsm, FsmHints, JournalName, LogPath, Offset, Recorder, RecorderOptions};

use self::shard::{LOG, Load, figure, record, shard, soon};

const REPEATS: usize = 3;
const SETTLE: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--role") {
        return role(&arguments[at + 1], Path::new(&arguments[at + 2]));
    }
    let place = shard::place();
    idle(place.path());
    memory(place.path());
}

fn many_small() -> Load {
    Load { name: "100,000 files of 1 KiB", sizes: vec![1024; 100_000], write_bytes: 1024 }
}

fn few() -> Load {
    Load { name: "100 files of 4 KiB", sizes: vec![4096; 100], write_bytes: 4096 }
}

fn memory(place: &Path) {
    let peak = |role: &str, folder: &Path| {
        let mut child = start(role, folder);
        let peak = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        assert!(child.wait().unwrap().success());
        peak.parse::<f64>().unwrap()
    };
    for (load, suffix) in [(Load::mixed(), "mixed"), (many_small(), "small")] {
        let mut peaks = [(); 3].map(|()| Vec::new());
        for _ in 0..REPEATS {
            let folder = place.join("memory");
            fs::create_dir(&folder).unwrap();
            peaks[0].push(peak("none", &folder));
            peaks[1].push(peak(&format!("record-{suffix}"), &folder));
            peaks[2].push(peak("play", &folder));
            fs::remove_dir_all(&folder).unwrap();
        }
        let target = 128.0 + 512.0 * load.sizes.len() as f64 / f64::from(1 << 20);
        let [none, recording, playing] = peaks.map(|peaks| figure(&peaks, 1));
        println!("peak memory, {}, {} bytes; target {target:.1} MiB", load.name, load.bytes());
        println!(
            "  recording {recording} MiB; playing {playing} MiB; a process that does neither {none} MiB"
        );
    }
}

fn idle(place: &Path) {
    let roles = ["idle-none", "idle-recorder", "idle-primary", "idle-standby"];
    let mut children = Vec::new();
    for role in roles {
        let folder = place.join(if role == "idle-recorder" { "idle-recorder" } else { "idle" });
        fs::create_dir_all(&folder).unwrap();
        let mut child = start(role, &folder);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        children.push((child, lines));
    }
    for (child, _) in &mut children {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    println!("idle for {} s; target: no I/O, one wake-up a second of each thread", IDLE.as_secs());
    for (role, (mut child, lines)) in roles.iter().zip(children) {
        lines.for_each(|line| println!("  {role:<14} {}", line.unwrap()));
        assert!(child.wait().unwrap().success());
    }
}

fn start(role: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--role").arg(role).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn role(role: &str, place: &Path) {
    match role {
        "none" => {}
        "record-mixed" => record(&shard(place), &place.join("source"), &Load::mixed()).close(soon()).unwrap(),
        "record-small" => record(&shard(place), &place.join("source"), &many_small()).close(soon()).unwrap(),
        "play" => play(place),
        "idle-none" => rest(&()),
        "idle-recorder" => rest(&recorder(place)),
        "idle-primary" => {
            let primary = record(&shard(place), &place.join("primary"), &few());
            rest(&primary);
        }
        "idle-standby" => {
            let standby = shard(place).standby(&place.join("standby")).unwrap();
            standby.wait_for_tail(soon()).unwrap();
            rest(&standby);
        }
        other => unreachable!("role {other}"),
    }
    if !role.starts_with("idle") {
        println!("{}", status("/proc/self/status")["VmHWM"] as f64 / 1024.0);
    }
}

fn play(place: &Path) {
    let journals = FileJournals::read_only(place.join("journals")).unwrap();
    let hints = FsmHints::empty(JournalName::new(LOG).unwrap());
    let fs = Arc::new(OsFs::new());
    let options = PlayOptions { sync: false, ..PlayOptions::default() };
    let player = Player::new(&journals, &hints, fs, &place.join("target"), options).unwrap();
    player.restore().unwrap();
}

/// Returns a recorder over a file journal that has recorded something, and a file journal's handle.
fn recorder(place: &Path) -> Recorder {
    let journals = FileJournals::open(place.join("journals")).unwrap();
    let name = JournalName::new(LOG).unwrap();
    let (journal, fsm) = (journals.open(&name).unwrap(), Fsm::new(name));
    let author = Author::new(7).unwrap();
    let recorder = Recorder::new(journal, fsm, Offset::ZERO, author, RecorderOptions::default()).unwrap();
    let file = recorder.create(&LogPath::from_bytes(b"/file")).unwrap();
    recorder.write(file, 0, b"something").unwrap();
    recorder.barrier().unwrap().wait(soon()).unwrap();
    recorder
}

/// Holds on to something that has nothing to do, and says what that took.
fn rest<T>(_held: &T) {
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    std::thread::sleep(SETTLE);
    let look = [counts(), counts()];
    std::thread::sleep(IDLE);
    let after = counts();
    let seconds = IDLE.as_secs_f64();
    let per_second = |name: &str| {
        let [first, before] = [&look[0], &look[1]].map(|counts| counts[name]);
        (after[name] as f64 - before as f64 - (before as f64 - first as f64)) / seconds
    };
    println!(
        "{} threads beside the main one, {:.1} wake-ups/s; calls that read {:.1}/s, that write {:.1}/s; bytes read \
         {:.0}/s, written {:.0}/s",
        after["threads"],
        per_second("voluntary_ctxt_switches"),
        per_second("syscr"),
        per_second("syscw"),
        per_second("rchar"),
        per_second("wchar"),
    );
}

fn counts() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::from([("threads".to_owned(), 0), ("voluntary_ctxt_switches".to_owned(), 0)]);
    let main = std::process::id().to_string();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let thread = thread.unwrap();
        if thread.file_name().to_str() != Some(&*main) {
            let switches = status(&format!("{}/status", thread.path().display()))["voluntary_ctxt_switches"];
            *counts.get_mut("threads").unwrap() += 1;
            *counts.get_mut("voluntary_ctxt_switches").unwrap() += switches;
        }
    }
    counts.extend(status("/proc/self/io"));
    counts
}

/// Reads lines of a name and a number.
fn status(path: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap();
    let number = |rest: &str| rest.split_whitespace().next().and_then(|word| word.parse().ok());
    let line =
        |line: &str| line.split_once(':').and_then(|(name, rest)| Some((name.to_owned(), number(rest)?)));
    text.lines().filter_map(line).collect()
}
