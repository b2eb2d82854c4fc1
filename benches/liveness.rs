//! Goal: what a log costs that holds more than is alive: bytes to read, hints, time.
//! Method: loads are recorded into journals in memory, once with the live map and once without it, with hints taken 16
//! times and the last ones played into a file system in memory. Bytes read are those that the journal handed out; the
//! baseline of the ratio is the bytes of the live files, and the reference's rule is a state machine with
//! `FsmOptions::REFERENCE` that played the same log from its begin. What was played is compared, by each set of hints.
//! Hints of many files are timed from `take_hints` to the JSON, the wait for the journal included and the end of the set
//! before them not, while another thread writes 100 bytes at a time; its longest call in that window stands beside its
//! longest in a window as long in which no hints are taken, and beside that of a recorder without a live map. Rates of
//! recording are taken in turns, with the map and without. Nothing here makes a system call but for memory and threads;
//! memory for each extent is a unit test's (`live::tests`).
//!
//! `cargo bench --bench liveness [-- MIB] [recovery] [hints] [rates]`: of the first load, 1024 where none is
//! said, and all parts; needs 4 GB of memory.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock, and starts threads")]

#[path = "shared/counted.rs"]
mod counted;
#[path = "shared/discard.rs"]
mod discard;
#[path = "shared/figure.rs"]
mod figure;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use recoverylog::journal::{Journal, Journals as _, MemoryJournals};
use recoverylog::player::{PlayOptions, Played, Player};
use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};
use recoverylog::{
    Author, Deadline, Fnode, Fsm, FsmHints, FsmOptions, LogPath, Offset, Recorder, RecorderOptions,
};

use self::counted::Counted;
use self::discard::{Discard, name};
use self::figure::figure;

const ROUNDS: usize = 9;
const PAGE: usize = 4096;
const TARGET: &str = "/played";

fn main() {
    let (mut mib, mut parts) = (1024, Vec::new());
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with('-')) {
        match argument.parse() {
            Ok(number) => mib = number,
            Err(_) => parts.push(argument),
        }
    }
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if is_wanted("recovery") {
        recovery("MANIFEST-like: 200 B to one file after each of 4 MiB, 5% live", mib, 1.1, 21.3, manifest);
        recovery("files of 256 KiB, of which 90% are deleted at random", mib / 2, 1.05, 1.53, random_deletes);
    }
    if is_wanted("hints") {
        hints("100,000 files of 1 KiB", 1);
        hints("100,000 files of 1 KiB, between as many that are dead", 2);
    }
    if is_wanted("rates") {
        rates();
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

fn path(name: &str, index: usize) -> LogPath {
    LogPath::from_bytes(format!("/{name}-{index:06}").as_bytes())
}

fn recorder(journal: Arc<dyn Journal>, options: RecorderOptions) -> Recorder {
    let author = Author::new(7).unwrap();
    Recorder::new(journal, Fsm::new(name()), Offset::ZERO, author, options).unwrap()
}

fn take(recorder: &Recorder) -> FsmHints {
    recorder.take_hints().unwrap().wait_once(soon()).unwrap()
}

fn segments(hints: &FsmHints) -> usize {
    hints.files.iter().map(|file| file.segments.len()).sum()
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Records a load of so many MiB, and takes hints now and then; returns the bytes of the live files, and the last hints.
type RecordLoad = fn(&Recorder, usize) -> (u64, FsmHints);

fn write_file(recorder: &Recorder, index: usize, bytes: usize) {
    let fnode = recorder.create(&path("file", index)).unwrap();
    let block = vec![index as u8; 64 << 10];
    for at in (0..bytes).step_by(block.len()) {
        recorder.write(fnode, at as u64, &block).unwrap();
    }
}

fn manifest(recorder: &Recorder, mib: usize) -> (u64, FsmHints) {
    const FILE_BYTES: usize = 4 << 20;
    let manifest = recorder.create(&path("manifest", 0)).unwrap();
    let count = mib / 4;
    let (mut live, mut hints) = (VecDeque::new(), None);
    for index in 0..count {
        write_file(recorder, index, FILE_BYTES);
        recorder.write(manifest, index as u64 * 200, &[index as u8; 200]).unwrap();
        live.push_back(index);
        if live.len() > (count / 20).max(1) {
            recorder.unlink(&path("file", live.pop_front().unwrap())).unwrap();
        }
        if (index + 1) % (count / 16) == 0 {
            hints = Some(take(recorder));
        }
    }
    ((live.len() * FILE_BYTES + count * 200) as u64, hints.unwrap())
}

fn random_deletes(recorder: &Recorder, mib: usize) -> (u64, FsmHints) {
    const FILE_BYTES: usize = 256 << 10;
    let (count, mut random) = (mib * 4, Random(0x5eed));
    let (mut live, mut hints) = (Vec::new(), None);
    for index in 0..count {
        write_file(recorder, index, FILE_BYTES);
        live.push(index);
        // A tenth stays, of what was written so far.
        while live.len() > (index / 10).max(1) {
            let dead = live.swap_remove(random.below(live.len()));
            recorder.unlink(&path("file", dead)).unwrap();
        }
        if (index + 1) % (count / 16) == 0 {
            hints = Some(take(recorder));
        }
    }
    ((live.len() * FILE_BYTES) as u64, hints.unwrap())
}

fn recovery(what: &str, mib: usize, target: f64, of_reference: f64, record: RecordLoad) {
    println!("{what}: {mib} MiB recorded; bytes to read, of those that are alive");
    let mut whole = None;
    for (way, live_map) in [("live map   ", true), ("without it ", false)] {
        let counted = Counted::default();
        let journal = counted.journals.open(&name()).unwrap();
        let recorder = recorder(journal, RecorderOptions::default().live_map(live_map));
        let (live, hints) = record(&recorder, mib);
        let log_bytes = recorder.counters().bytes_durable;
        if whole.is_none() {
            println!(
                "  {live} bytes alive, log of {log_bytes} bytes, {:.1} x",
                log_bytes as f64 / live as f64
            );
            let (played, fs) = play(&counted, &FsmHints::empty(name()), FsmOptions::REFERENCE);
            counted.take_read();
            let by_reference = played.fsm.hints(&name());
            report("the rule of the reference", &counted, &by_reference, live, None);
            println!("  the reference itself was seen to read {of_reference} x");
            whole = Some(tree(&played, &fs));
        }
        let tree = report(way, &counted, &hints, live, live_map.then_some(target));
        assert!(Some(tree) == whole, "what was played by hints is not what was recorded");
    }
}

fn report(
    what: &str,
    counted: &Counted,
    hints: &FsmHints,
    live: u64,
    target: Option<f64>,
) -> Vec<(LogPath, Vec<u8>)> {
    let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
    let options = PlayOptions::default();
    let planned = Player::new(counted, hints, fs, Path::new(TARGET), options).unwrap().plan().bytes();
    counted.take_read();
    let (played, fs) = play(counted, hints, FsmOptions::default());
    let read = counted.take_read();
    let times = |bytes: u64| bytes as f64 / live as f64;
    let target = target.map_or(String::new(), |target| format!(", target {target}"));
    println!(
        "  {what:<26} planned {:.4} x, read {:.4} x{target}; {} segments of {} files, {} bytes of JSON",
        times(planned),
        times(read),
        segments(hints),
        hints.files.len(),
        hints.encode_json().len()
    );
    tree(&played, &fs)
}

fn play(counted: &Counted, hints: &FsmHints, fsm: FsmOptions) -> (Played, Arc<MemoryFs>) {
    let fs = Arc::new(MemoryFs::new());
    let options = PlayOptions { fsm, ..PlayOptions::default() };
    let target = Path::new(TARGET);
    let player = Player::new(counted, hints, Arc::clone(&fs) as Arc<dyn FileSystem>, target, options);
    let played = player.unwrap().restore().unwrap();
    assert!(played.warnings.is_empty(), "{:?}", played.warnings);
    (played, fs)
}

/// Returns every file, with its content.
fn tree(played: &Played, fs: &MemoryFs) -> Vec<(LogPath, Vec<u8>)> {
    let content = |(path, _): (&LogPath, Fnode)| {
        let name = std::str::from_utf8(path.as_bytes()).unwrap();
        let file = fs.open(&Path::new(TARGET).join(name.trim_start_matches('/')), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.metadata().unwrap().len as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (path.clone(), bytes)
    };
    played.fsm.links().map(content).collect()
}

/// A thread that writes, and its longest call.
#[derive(Default)]
struct Writer {
    stop: AtomicBool,
    writes: AtomicU64,
    longest_nanos: AtomicU64,
}

impl Writer {
    fn run(&self, recorder: &Recorder, fnode: Fnode) {
        let mut random = Random(0x5eed);
        while !self.stop.load(Ordering::Relaxed) {
            let at = random.below(1024) * PAGE;
            let begin = Instant::now();
            recorder.write(fnode, at as u64, &[7; 100]).unwrap();
            self.longest_nanos.fetch_max(begin.elapsed().as_nanos() as u64, Ordering::AcqRel);
            self.writes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Returns the longest call, in milliseconds, of those that begin or end while `window` runs.
    fn longest(&self, window: impl FnOnce()) -> f64 {
        self.longest_nanos.store(0, Ordering::Release);
        window();
        let begun = self.writes.load(Ordering::Acquire);
        while self.writes.load(Ordering::Acquire) < begun + 2 {
            std::thread::yield_now();
        }
        self.longest_nanos.load(Ordering::Acquire) as f64 / 1e6
    }
}

/// Times hints of 100,000 live files of which each stands among `one_in` that were recorded.
fn hints(what: &str, one_in: usize) {
    let record = |live_map| {
        let recorder = recorder(Discard::at_once(), RecorderOptions::default().live_map(live_map));
        for index in 0..100_000 * one_in {
            let fnode = recorder.create(&path("file", index)).unwrap();
            recorder.write(fnode, 0, &[7; 1024]).unwrap();
        }
        for index in (0..100_000 * one_in).filter(|index| index % one_in > 0) {
            recorder.unlink(&path("file", index)).unwrap();
        }
        let busy = recorder.create(&path("busy", 0)).unwrap();
        (recorder, busy)
    };
    println!("hints of {what}");
    for (way, live_map) in [("live map  ", true), ("without it", false)] {
        let (recorder, busy) = record(live_map);
        let mut last = (FsmHints::empty(name()), 0);
        let mut timed = || {
            let begin = Instant::now();
            let hints = take(&recorder);
            let taken = begin.elapsed();
            let json = hints.encode_json();
            let whole = begin.elapsed();
            last = (hints, json.len());
            (whole, taken)
        };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let mut alone = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for index in 0..10_000 {
                recorder.write(busy, index % 1024 * PAGE as u64, &[7; 100]).unwrap();
            }
            let (whole, taken) = timed();
            alone[0].push(millis(whole));
            alone[1].push(millis(taken));
        }
        let (writer, mut stalls, mut beside) = (Writer::default(), [Vec::new(), Vec::new()], Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| writer.run(&recorder, busy));
            for _ in 0..ROUNDS {
                let mut whole = Duration::ZERO;
                stalls[0].push(writer.longest(|| whole = timed().0));
                beside.push(millis(whole));
                stalls[1].push(writer.longest(|| std::thread::sleep(whole)));
            }
            writer.stop.store(true, Ordering::Relaxed);
        });
        let [whole, taken] = alone.map(|times| figure(&times, 1));
        println!(
            "  {way}  {whole} ms, target 60, of which to choose {taken}; {} segments, {} bytes of JSON",
            segments(&last.0),
            last.1
        );
        let [with, none] = stalls.map(|times| figure(&times, 2));
        println!(
            "              beside a writer {} ms; its longest call {with} ms, target 5; with no hints {none}",
            figure(&beside, 1)
        );
    }
}

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    writes: usize,
    bytes: usize,
    random: bool,
}

type MakeJournal = fn() -> Arc<dyn Journal>;

fn rates() {
    let loads = [
        Load { name: "100 B at random pages", writes: 500_000, bytes: 100, random: true },
        Load { name: "100 B appended", writes: 500_000, bytes: 100, random: false },
        Load { name: "4 KiB at random pages", writes: 60_000, bytes: PAGE, random: true },
    ];
    let journals: [(&str, MakeJournal, usize); 3] = [
        // In one fragment: it takes the sum of each that ends.
        ("in memory", || MemoryJournals::new().fragment_bytes(u64::MAX).open(&name()).unwrap(), 1),
        ("discards, from 64 KiB on", || Discard::at_once(), 64 << 10),
        ("discards, answers later", || Discard::later(), 1),
    ];
    println!("recording into a file of 64 MiB, with the live map, of the rate without it; target 0.9");
    for load in loads {
        for (journal, make, send_bytes_min) in journals {
            let options = RecorderOptions::default().send_bytes_min(send_bytes_min);
            let mut rates = [Vec::new(), Vec::new()];
            for round in 0..ROUNDS {
                for turn in [round % 2, (round + 1) % 2] {
                    let recorder = recorder(make(), options.clone().live_map(turn == 0));
                    let begin = Instant::now();
                    write_all(&recorder, load);
                    rates[turn].push(load.writes as f64 / 1e3 / begin.elapsed().as_secs_f64());
                }
            }
            let ratios: Vec<_> = rates[0].iter().zip(&rates[1]).map(|(on, off)| on / off).collect();
            println!(
                "  {:<22} {journal:<25} {}; {} thousand ops/s, without {}",
                load.name,
                figure(&ratios, 3),
                figure(&rates[0], 0),
                figure(&rates[1], 0)
            );
        }
    }
}

fn write_all(recorder: &Recorder, load: Load) {
    const PAGES: usize = (64 << 20) / PAGE;
    let (mut random, bytes) = (Random(0x5eed), vec![7; load.bytes]);
    let fnode = recorder.create(&path("file", 0)).unwrap();
    for index in 0..load.writes {
        let at = if load.random { random.below(PAGES) * PAGE } else { index * load.bytes };
        recorder.write(fnode, at as u64, &bytes).unwrap();
    }
    recorder.barrier().unwrap().wait(soon()).unwrap();
}
