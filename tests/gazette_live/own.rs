//! A cluster of one test: brokers and an etcd that it may lose.
//!
//! *Invariants.* All of it ends with the test.
//!
//! *Does not* find programs: `GAZETTE` names the broker's, and `ETCD` an etcd that it takes (3.5 or later).

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use recoverylog::journal::{Codec, GazetteJournals, GazetteOptions, NewJournal};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::world::new_journal;

/// An etcd and some brokers.
pub(crate) struct Own {
    folder: TempDir,
    gazette: PathBuf,
    etcd_port: u16,
    ports: Vec<u16>,
    brokers: Mutex<Vec<Option<Child>>>,
    etcd: Child,
}

impl Own {
    /// Starts so many brokers; `None` where it is not said how.
    pub(crate) fn start(brokers: usize) -> Option<Self> {
        Self::start_over(brokers, tempfile::tempdir().unwrap())
    }

    /// Starts brokers whose file store is the folder `root` of `folder`.
    pub(crate) fn start_over(brokers: usize, folder: TempDir) -> Option<Self> {
        let (Some(gazette), Some(etcd)) = (std::env::var_os("GAZETTE"), std::env::var_os("ETCD")) else {
            println!("not run: GAZETTE and ETCD name no programs");
            return None;
        };
        let (etcd_port, peer) = (free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(etcd);
        command.args(["--name", "one", "--data-dir"]).arg(folder.path().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let etcd = command.spawn().unwrap();
        for name in ["root", "tmp"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let ports = (0..brokers).map(|_| free_port()).collect();
        let children = (0..brokers).map(|_| None).collect();
        let own =
            Self { folder, gazette: gazette.into(), etcd_port, ports, brokers: Mutex::new(children), etcd };
        own.until(|| TcpStream::connect(("127.0.0.1", etcd_port)).is_ok());
        for broker in 0..brokers {
            own.go(broker);
        }
        Some(own)
    }

    /// Starts a broker, under a name that none had before, and waits until it serves.
    pub(crate) fn go(&self, broker: usize) {
        let port = self.ports[broker];
        let log = self.folder.path().join(format!("broker-{broker}-{}.log", unique()));
        let mut command = Command::new(&self.gazette);
        command.arg("serve").env("TMPDIR", self.folder.path().join("tmp"));
        command.arg(format!("--etcd.address=http://127.0.0.1:{}", self.etcd_port));
        command.args(["--etcd.prefix=/gazette/cluster", "--etcd.lease=2s", "--broker.zone=local"]);
        command.arg("--broker.host=127.0.0.1").arg(format!("--broker.port={port}"));
        command.arg(format!("--broker.id=broker-{broker}-{}", unique()));
        command.arg(format!("--broker.file-root={}", self.folder.path().join("root").display()));
        command.args(["--broker.file-only", "--broker.watch-delay=0ms", "--log.level=warn"]);
        let err = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
        self.brokers.lock().unwrap()[broker] = Some(command.spawn().unwrap());
        self.until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    pub(crate) fn kill(&self, broker: usize) {
        self.end(broker, Signal::KILL);
    }

    /// Tells a broker to hand its journals over and end.
    pub(crate) fn term(&self, broker: usize) {
        self.end(broker, Signal::TERM);
    }

    fn end(&self, broker: usize, signal: Signal) {
        let mut child = self.brokers.lock().unwrap()[broker].take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        self.until(|| child.try_wait().unwrap().is_some());
    }

    fn until(&self, is_so: impl FnMut() -> bool) {
        let mut is_so = is_so;
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "see {}", self.folder.path().display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns journals that are held by so many brokers.
    pub(crate) fn journals(&self, replication: u16) -> GazetteJournals {
        let brokers = self.ports.iter().map(|port| format!("gazette://127.0.0.1:{port}"));
        let mut new: NewJournal = new_journal(Codec::Snappy);
        new.replication = replication;
        GazetteJournals::new(brokers, GazetteOptions::default()).unwrap().creating(new)
    }

    pub(crate) fn etcd(&self) -> String {
        format!("etcd://127.0.0.1:{}", self.etcd_port)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for mut child in self.brokers.lock().unwrap().drain(..).flatten() {
            drop((child.kill(), child.wait()));
        }
        drop((self.etcd.kill(), self.etcd.wait()));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A number that is not given twice: a broker that was killed keeps its name for as long as its lease.
fn unique() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
