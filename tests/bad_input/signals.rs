//! Signals at any moment of every command, and outputs that nobody takes.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use recoverylog::ErrorKind::Invalid;
use recoverylog::vfs::OsFs;
use rustix::process::{Pid, Signal, kill_process};

use super::place::{LOG, Place, tree};
use super::raw::{RawLog, create, write};

/// How often, at least, a restore is ended by a signal.
const HITS: usize = 15;

fn tool(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recoverylog"));
    command.args(args).arg("--journals").arg(place.root());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A log that takes a while.
fn place() -> Place {
    let mut log = RawLog::with_a_file();
    for index in 0..30 {
        let file = log.op(&create(format!("/d{}/{index}", index % 7).as_bytes()), b"");
        log.op(&write(file, 0, 20_000), &vec![index; 20_000]);
    }
    let place = Place::of(&log.content);
    std::fs::write(place.beside("hints.json"), format!("{{\"log\":\"{LOG}\"}}")).unwrap();
    place
}

/// SplitMix64, for the moments.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

/// Ends the process by a signal after a while; returns whether it was the signal that ended it.
fn hit(mut child: Child, after: Duration, signal: Signal) -> bool {
    std::thread::park_timeout(after);
    // It may have ended by itself, and is waited for below, so that its number is still its own.
    let _ended_already = kill_process(Pid::from_child(&child), signal);
    child.wait().unwrap().signal() == Some(signal.as_raw())
}

#[test]
fn a_restore_that_is_hit_at_any_moment_is_never_taken_for_whole() {
    let place = place();
    let target = place.beside("target");
    let dir = target.to_str().unwrap();
    let restore = ["restore", "--log", LOG, "--dir", dir];
    assert!(tool(&place, &restore).status().unwrap().success());
    let truth = tree(&target);
    std::fs::remove_dir_all(&target).unwrap();
    let before = tree(&place.root());
    let (mut seed, mut hits, mut incomplete) = (11, 0, 0);
    // How long a restore takes is found out as we go.
    let mut span = Duration::from_millis(20);
    for round in 0.. {
        if hits >= HITS && incomplete > 1 {
            break;
        }
        assert!(round < 30 * HITS, "{hits} hits in {round} rounds, {incomplete} within the play");
        let inside = round % 2 == 0;
        if inside {
            std::fs::create_dir(&target).unwrap();
        }
        let signal = [Signal::INT, Signal::TERM, Signal::KILL][round % 3];
        let after = span.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0);
        let is_hit = hit(tool(&place, &restore).spawn().unwrap(), after, signal);
        hits += usize::from(is_hit);
        span = span.mul_f64(if is_hit { 1.25 } else { 0.75 });
        let context = format!("round {round}, {signal:?} after {after:?}");

        let again = place.run(["restore", "--json", "--if-missing", "--log", LOG, "--dir", dir]);
        if again.code == Some(0) {
            assert_eq!(tree(&target), truth, "{context}: {again:?}");
        } else {
            again.check_failed(Invalid);
            assert!(
                inside && recoverylog::player::is_incomplete(&OsFs::new(), &target).unwrap(),
                "{context}"
            );
            incomplete += 1;
        }
        assert_eq!(tree(&place.root()), before, "{context}");
        clear(&place);
    }
}

/// Removes all but the journals and the hints; what else is there must be what a killed restore may leave.
fn clear(place: &Place) {
    for entry in std::fs::read_dir(place.folder.path()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "target" || name.starts_with(".target.staging-") {
            std::fs::remove_dir_all(place.beside(&name)).unwrap();
        } else {
            assert!(name == "journals" || name == "hints.json", "{name}");
        }
    }
}

#[test]
fn commands_that_only_look_leave_nothing_when_they_are_hit() {
    let place = place();
    let (hints, target) = (place.beside("hints.json"), place.beside("target"));
    let (hints, target) = (hints.to_str().unwrap(), target.to_str().unwrap());
    let before = tree(place.folder.path());
    let mut seed = 12;
    for args in [
        &["verify"][..],
        &["verify", "--hints", hints],
        &["log", "--log", LOG],
        &["hints", "--hints", hints],
        &["restore", "--dry-run", "--hints", hints, "--dir", target],
    ] {
        let (mut span, mut hits) = (Duration::from_millis(5), 0);
        for round in 0..12 {
            let after = span.mul_f64((random(&mut seed) % 1000) as f64 / 1000.0);
            let signal = [Signal::INT, Signal::TERM][round % 2];
            let is_hit = hit(tool(&place, args).spawn().unwrap(), after, signal);
            hits += usize::from(is_hit);
            span = span.mul_f64(if is_hit { 1.25 } else { 0.5 });
            assert_eq!(tree(place.folder.path()), before, "{args:?}, {signal:?} after {after:?}");
        }
        assert!(hits > 0, "{args:?}");
    }
}

/// Runs the tool with an output that the shell makes.
fn with_output(place: &Place, args: &[&str], output: &str) -> (Option<i32>, String) {
    let ran = Command::new("sh")
        .args(["-c", &format!("exec \"$0\" \"$@\" {output}"), env!("CARGO_BIN_EXE_recoverylog")])
        .args(args)
        .arg("--journals")
        .arg(place.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn an_output_that_nobody_takes_is_no_error_and_one_that_is_full_is() {
    let place = place();
    let (hints, target) = (place.beside("hints.json"), place.beside("target"));
    let (hints, dir) = (hints.to_str().unwrap(), target.to_str().unwrap());
    for args in [
        &["verify"][..],
        &["verify", "--json", "--hints", hints],
        &["log", "--log", LOG],
        &["log", "--json", "--log", LOG],
        &["hints", "--hints", hints],
        &["restore", "--dry-run", "--hints", hints, "--dir", dir],
        &["restore", "--hints", hints, "--dir", dir],
        &["restore", "--json", "--hints", hints, "--dir", dir],
    ] {
        let is_restore = args[0] == "restore" && args[1] != "--dry-run";
        let ended = |code: Option<i32>, expected: i32, stderr: &str| {
            assert_eq!(code, Some(expected), "{args:?}: {stderr}");
            assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
            if is_restore {
                assert_eq!(tree(&target).len(), 38, "{args:?}");
                std::fs::remove_dir_all(&target).unwrap();
            }
        };
        let (code, stderr) = with_output(&place, args, ">&-");
        ended(code, 0, &stderr);
        let (code, stderr) = with_output(&place, args, ">/dev/full");
        ended(code, 1, &stderr);
        assert!(stderr.contains("standard output"), "{args:?}: {stderr}");
        ended(without_reader(&place, args), 0, "");
        // Nobody hears of the error, and it is one all the same.
        let (code, stderr) = with_output(&place, args, ">/dev/full 2>&-");
        ended(code, 1, &stderr);
    }
    assert_eq!(with_output(&place, &["restore", "--dir", dir], ">/dev/full 2>/dev/full").0, Some(2));
    assert!(!Path::new(dir).exists());
}

/// Runs the tool with a pipe that nobody reads; returns its exit code.
fn without_reader(place: &Place, args: &[&str]) -> Option<i32> {
    let mut child = tool(place, args).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.wait().unwrap().code()
}
