//! Goal: what journals of a cluster cost the process that uses them, beside calls of the brokers' protocol that do nothing
//! else.
//! Method: over the broker that `GAZETTE_BROKER` names, on this machine, whose file store is the folder of `GAZETTE_ROOT`.
//! Baselines are made by the same transport in the same process, in turns: appends without content, one after the other;
//! appends of 1 MiB in messages of 128 KiB; reads of a whole journal whose content is thrown away. Against them: `Journal::head`;
//! recording into one file, which writes to the file system too; playing 1 GiB that is all alive, through the broker and out
//! of its store. Time of the processor is that of this process, user's and system's, from /proc/self/stat. In the end 200 journals
//! are appended to at once.
//! Printed: the median, least and greatest of the rounds, and ratios. The broker takes a processor of its own while it is
//! written to: rates are its rates, on 2 processors.
//!
//! `GAZETTE_BROKER=gazette://host:port GAZETTE_ROOT=DIR cargo bench --features gazette --bench gazette [-- DIRECTORY]`; needs
//! 8 GB there and in the store.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a bench")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the real clock and its environment")]

#[expect(
    clippy::pedantic,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    unnameable_types,
    unreachable_pub,
    reason = "generated"
)]
mod protocol {
    include!(concat!(env!("OUT_DIR"), "/client/protocol.rs"));
}
#[path = "shared/figure.rs"]
mod figure;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recoverylog::hint_store::{HintStore as _, MemoryHints};
use recoverylog::journal::{
    Append, Codec, GazetteJournals, GazetteOptions, Journals as _, NewJournal, random_author,
};
use recoverylog::player::{PlayOptions, Player};
use recoverylog::replica::Replica;
use recoverylog::vfs::{FileSystem as _, OpenMode, OsFs};
use recoverylog::{Deadline, JournalName};
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};

use self::figure::figure;
use self::protocol::journal_client::JournalClient;
use self::protocol::{AppendRequest, ReadRequest};

const ROUNDS: usize = 5;
const GIB: u64 = 1 << 30;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

/// The processor time of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // In hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Returns the seconds and the processor seconds that `work` takes.
fn timed(work: impl FnOnce()) -> (f64, f64) {
    let (began, before) = (Instant::now(), cpu());
    work();
    (began.elapsed().as_secs_f64(), cpu() - before)
}

/// Calls of the protocol.
struct Raw {
    runtime: tokio::runtime::Runtime,
    client: JournalClient<Channel>,
}

impl Raw {
    fn new(broker: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint =
            Endpoint::from_shared(broker.replacen("gazette", "http", 1)).unwrap().tcp_nodelay(true);
        let window = Some(i32::MAX.cast_unsigned());
        let endpoint = endpoint.initial_connection_window_size(window).initial_stream_window_size(512 << 10);
        let client = JournalClient::new(runtime.block_on(endpoint.connect()).unwrap());
        Self { runtime, client: client.max_decoding_message_size(64 << 20) }
    }

    fn append(&mut self, journal: &JournalName, content: &bytes::Bytes) {
        let first = AppendRequest { journal: journal.as_str().into(), ..AppendRequest::default() };
        let chunk = |at: usize| {
            let content = content.slice(at..content.len().min(at + (128 << 10)));
            AppendRequest { content, ..AppendRequest::default() }
        };
        let chunks = (0..content.len()).step_by(128 << 10).map(chunk);
        let messages: Vec<_> = [first].into_iter().chain(chunks).chain([AppendRequest::default()]).collect();
        let answer = self.runtime.block_on(self.client.append(tokio_stream::iter(messages))).unwrap();
        assert_eq!(answer.into_inner().status, 0);
    }

    fn read(&mut self, journal: &JournalName, end: u64) -> u64 {
        let end_offset = end.cast_signed();
        let request = ReadRequest { journal: journal.as_str().into(), end_offset, ..ReadRequest::default() };
        let client = &mut self.client;
        self.runtime.block_on(async {
            let mut answers = client.read(request).await.unwrap().into_inner();
            let mut bytes = 0;
            while let Some(answer) = answers.message().await.unwrap() {
                bytes += answer.content.len() as u64;
            }
            bytes
        })
    }
}

struct Bench {
    broker: String,
    root: Option<PathBuf>,
    folder: String,
    raw: Raw,
}

fn main() {
    let Ok(broker) = std::env::var("GAZETTE_BROKER") else {
        println!("not run: GAZETTE_BROKER names no broker");
        return;
    };
    let place = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let place = place.map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    let folder = format!("bench/{}", random_author().unwrap().register_value());
    let root = std::env::var_os("GAZETTE_ROOT").map(PathBuf::from);
    let mut bench = Bench { raw: Raw::new(&broker), broker, root, folder };
    bench.barriers();
    for bytes in [4 << 10, 64 << 10, 1 << 20] {
        bench.record(place.path(), bytes);
    }
    bench.play(place.path());
    bench.many();
}

impl Bench {
    fn name(&self, name: &str) -> JournalName {
        JournalName::new(&format!("{}/{name}", self.folder)).unwrap()
    }

    fn journals(&self, root: Option<&Path>) -> GazetteJournals {
        let mut options = GazetteOptions::default();
        options.file_root = root.map(Path::to_owned);
        options.stores = root.is_some();
        let mut new = NewJournal::new("file:///");
        (new.replication, new.codec) = (1, Codec::None);
        new.refresh_every = Duration::from_secs(1);
        GazetteJournals::at(&self.broker, options).unwrap().creating(new)
    }

    /// One round trip, idle and behind 4 KiB.
    fn barriers(&mut self) {
        let name = self.name("barriers");
        let journal = self.journals(None).open(&name).unwrap();
        for (what, bytes) in [("idle", 0), ("behind 4 KiB", 4 << 10)] {
            let content = bytes::Bytes::from(vec![7; bytes]);
            let (mut ours, mut raw) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let median = |mut times: Vec<f64>| {
                    times.sort_by(f64::total_cmp);
                    times[times.len() / 2]
                };
                let mut times = [Vec::new(), Vec::new()];
                for _ in 0..400 {
                    if bytes > 0 {
                        journal.append(Append::new(content.clone()), soon()).unwrap();
                    }
                    times[0].push(timed(|| drop(journal.head(soon()).unwrap())).0 * 1e3);
                    if bytes > 0 {
                        self.raw.append(&name, &content);
                    }
                    times[1].push(timed(|| self.raw.append(&name, &bytes::Bytes::new())).0 * 1e3);
                }
                let [one, other] = times;
                ours.push(median(one));
                raw.push(median(other));
            }
            let ratio: Vec<_> = ours.iter().zip(&raw).map(|(ours, raw)| ours / raw).collect();
            println!(
                "barrier, {what}: {} of a bare append without content, target 1.2; {} ms, bare {} ms",
                figure(&ratio, 2),
                figure(&ours, 3),
                figure(&raw, 3)
            );
        }
    }

    /// Recording into a file of 64 MiB, in writes of so many bytes.
    fn record(&mut self, place: &Path, bytes: usize) {
        const TOTAL: u64 = 512 << 20;
        let journals = Arc::new(self.journals(None));
        let (mut rates, mut costs, mut raw_rates, mut raw_costs) = (vec![], vec![], vec![], vec![]);
        let mib = bytes::Bytes::from(vec![7; 1 << 20]);
        for round in 0..ROUNDS {
            let name = self.name(&format!("record-{bytes}-{round}"));
            let shard = Replica::new(
                Arc::clone(&journals) as _,
                name,
                Arc::new(MemoryHints::new()),
                Arc::new(OsFs::new()),
            );
            let directory = place.join(format!("record-{bytes}-{round}"));
            let primary = shard.standby(&directory).unwrap();
            let primary = primary.promote(random_author().unwrap(), soon()).unwrap();
            let file = primary.fs().open(&directory.join("file"), OpenMode::CreateNew).unwrap();
            let content = vec![9; bytes];
            let (seconds, cpu) = timed(|| {
                for at in (0..TOTAL).step_by(bytes) {
                    file.write_all_at(&content, at % (64 << 20)).unwrap();
                }
                file.sync_data().unwrap();
            });
            rates.push(TOTAL as f64 / 1e6 / seconds);
            costs.push(cpu * 1e9 / TOTAL as f64);
            drop((file, primary));
            fs::remove_dir_all(&directory).unwrap();
            let name = self.name(&format!("raw-{bytes}-{round}"));
            drop(journals.open(&name).unwrap());
            let (seconds, cpu) = timed(|| (0..TOTAL >> 20).for_each(|_| self.raw.append(&name, &mib)));
            raw_rates.push(TOTAL as f64 / 1e6 / seconds);
            raw_costs.push(cpu * 1e9 / TOTAL as f64);
        }
        let ratio: Vec<_> = rates.iter().zip(&raw_rates).map(|(ours, raw)| ours / raw).collect();
        println!(
            "recording, writes of {bytes} bytes: {} of the rate of bare appends; {} MB/s, bare {}; processor {} s/GB, bare {}; \
             target a third of the reference's 6 to 7",
            figure(&ratio, 2),
            figure(&rates, 0),
            figure(&raw_rates, 0),
            figure(&costs, 2),
            figure(&raw_costs, 2)
        );
    }

    /// Playing what is all alive.
    fn play(&mut self, place: &Path) {
        let (name, hints) = (self.name("play"), Arc::new(MemoryHints::new()));
        let shard = Replica::new(
            Arc::new(self.journals(None)),
            name.clone(),
            Arc::clone(&hints) as _,
            Arc::new(OsFs::new()),
        );
        let recorded = place.join("recorded");
        let primary = shard.standby(&recorded).unwrap().promote(random_author().unwrap(), soon()).unwrap();
        for index in 0..GIB >> 22 {
            let path = recorded.join(format!("{index:04}.sst"));
            let file = primary.fs().open(&path, OpenMode::CreateNew).unwrap();
            let content = vec![index as u8; 1 << 20];
            (0..4).for_each(|part| file.write_all_at(&content, part << 20).unwrap());
        }
        primary.barrier().unwrap().wait(soon()).unwrap();
        primary.publish_hints(soon()).unwrap();
        drop(primary);
        fs::remove_dir_all(&recorded).unwrap();
        let set = hints.candidates(&name, soon()).unwrap().remove(0).hints.unwrap();
        let root = self.root.clone();
        let mut ways = vec![("through the broker", None, "1.5 times the reference's 117 MB/s")];
        if let Some(root) = &root {
            ways.push(("out of its store", Some(root.as_path()), "5 times"));
        }
        for (what, root, target) in ways {
            let journals = self.journals(root);
            let head = journals.open(&name).unwrap().head(soon()).unwrap().offset.get();
            let (mut rates, mut costs, mut raw_rates, mut raw_costs) = (vec![], vec![], vec![], vec![]);
            for round in 0..ROUNDS {
                let target = place.join(format!("played-{round}"));
                let (seconds, cpu) = timed(|| {
                    let options = PlayOptions { sync: false, ..PlayOptions::default() };
                    let player =
                        Player::new(&journals, &set, Arc::new(OsFs::new()), &target, options).unwrap();
                    drop(player.restore().unwrap());
                });
                rates.push(GIB as f64 / 1e6 / seconds);
                costs.push(cpu * 1e9 / GIB as f64);
                fs::remove_dir_all(&target).unwrap();
                let (seconds, cpu) = timed(|| assert_eq!(self.raw.read(&name, head), head));
                raw_rates.push(head as f64 / 1e6 / seconds);
                raw_costs.push(cpu * 1e9 / head as f64);
            }
            let ratio: Vec<_> = rates.iter().zip(&raw_rates).map(|(ours, raw)| ours / raw).collect();
            println!(
                "playing 1 GiB {what}: {} of the rate of a bare read through the broker; {} MB/s, bare {}, target {target}; \
                 processor {} s/GB, bare {}, target a quarter of the reference's 6.7",
                figure(&ratio, 2),
                figure(&rates, 0),
                figure(&raw_rates, 0),
                figure(&costs, 2),
                figure(&raw_costs, 2)
            );
        }
    }

    /// Threads and connections of many journals.
    fn many(&mut self) {
        let count = |folder: &str, is: &dyn Fn(&Path) -> bool| {
            fs::read_dir(folder).unwrap().filter(|entry| is(&entry.as_ref().unwrap().path())).count()
        };
        let is_socket =
            |path: &Path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let look = || (count("/proc/self/task", &|_| true), count("/proc/self/fd", &is_socket));
        let before = look();
        let journals = self.journals(None);
        let all: Vec<_> =
            (0..200).map(|index| journals.open(&self.name(&format!("many-{index}"))).unwrap()).collect();
        let (seconds, cpu) = timed(|| {
            for _ in 0..10 {
                let under_way: Vec<_> =
                    all.iter().map(|journal| journal.submit(Append::new(&[7; 4096][..]))).collect();
                for mut appended in under_way {
                    appended.wait(soon()).unwrap().unwrap();
                }
            }
        });
        let after = look();
        println!(
            "200 journals: {} more threads, {} more connections; 2,000 appends of 4 KiB, 200 at once, in {seconds:.2} s, \
             {cpu:.2} s of the processor",
            after.0 - before.0,
            after.1 - before.1
        );
    }
}
