//! An etcd of one test.
//!
//! *Invariants.* It ends with its test. Whoever names a program with `ETCD` is told where that does not run.
//!
//! *Does not* share: each has a folder and ports of its own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running etcd, and a client that sees its keys as they are.
pub(crate) struct Server {
    program: PathBuf,
    options: Vec<String>,
    folder: TempDir,
    port: u16,
    peer: u16,
    scheme: &'static str,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// Starts an etcd; `None` where there is none here.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        Self::start_as("http", |_| options.iter().map(|option| (*option).to_owned()).collect())
    }

    /// Starts an etcd that is reached by `scheme`, with options that may name files in its folder.
    pub(crate) fn start_as(
        scheme: &'static str,
        options: impl FnOnce(&TempDir) -> Vec<String>,
    ) -> Option<Self> {
        let named = std::env::var_os("ETCD").map(PathBuf::from);
        let program = named.clone().unwrap_or_else(|| "etcd".into());
        let runs =
            Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if runs.is_err() && named.is_none() {
            println!("not run: there is no program etcd, and ETCD names none");
            return None;
        }
        assert!(runs.unwrap().success(), "{} is no etcd", program.display());
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder);
        let server = Self {
            program,
            options,
            folder,
            port: free_port(),
            peer: free_port(),
            scheme,
            child: Mutex::new(None),
        };
        server.go();
        Some(server)
    }

    /// Starts it, or once more after it was killed, with what it has stored.
    pub(crate) fn go(&self) {
        let client = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["--name", "one", "--data-dir"]).arg(self.folder.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync"]);
        command.args(&self.options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(30), "etcd does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it, or lets it go on: it holds its connections, and says nothing.
    pub(crate) fn stop(&self, stops: bool) {
        let id = self.child.lock().unwrap().as_ref().unwrap().id().to_string();
        let signal = if stops { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme.replace("http", "etcd"), self.port)
    }

    /// Asks it by its own protocol.
    pub(crate) fn raw<T>(&self, ask: impl AsyncFnOnce(etcd_client::Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("http://127.0.0.1:{}", self.port);
        runtime.block_on(async {
            let begun = Instant::now();
            loop {
                let client = etcd_client::Client::connect([&address], None).await.unwrap();
                // It takes connections before it has a leader.
                if client.kv_client().get("ready", None).await.is_ok() {
                    return ask(client).await;
                }
                assert!(begun.elapsed() < Duration::from_secs(30), "etcd has no leader");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Returns what a key holds, and the revision at which it was created.
    pub(crate) fn get(&self, key: &str) -> Option<(Vec<u8>, i64)> {
        self.raw(async |mut client| {
            let mut found = client.get(key, None).await.unwrap();
            found.take_kvs().pop().map(|kv| (kv.value().to_vec(), kv.create_revision()))
        })
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        self.raw(async |mut client| drop(client.put(key, value, None).await.unwrap()));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.raw(async |mut client| drop(client.delete(key, None).await.unwrap()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
