//! Folders of fragments, and the binary that reads them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use recoverylog::wire::encode_op;
use recoverylog::{Author, Checksum, Fnode, LogPath, OpBody, Payload, RecordedOp, SeqNo};
use serde_json::Value;
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use super::cases::hex;

/// The log that tests write by themselves.
pub(crate) const LOG: &str = "acme/orders-007";

/// A folder that journals live in.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("journals")
    }

    /// Returns a path beside the journals.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Stores bytes as one fragment; returns its file.
    pub(crate) fn store(&self, log: &str, begin: usize, content: &[u8]) -> PathBuf {
        let folder = self.root().join(log);
        std::fs::create_dir_all(&folder).unwrap();
        let (end, sum) = (begin + content.len(), hex(&Sha1::digest(content)));
        let file = folder.join(format!("{begin:016x}-{end:016x}-{sum}.raw"));
        std::fs::write(&file, content).unwrap();
        file
    }

    /// Stores a whole log in fragments of `len` bytes; returns their files.
    pub(crate) fn store_log(&self, log: &str, content: &[u8], len: usize) -> Vec<PathBuf> {
        std::fs::create_dir_all(self.root().join(log)).unwrap();
        let pieces = content.chunks(len.max(1)).enumerate();
        pieces.map(|(index, piece)| self.store(log, index * len, piece)).collect()
    }

    /// Runs the tool on these journals.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let root = self.root().into_os_string();
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        run(args.chain(["--journals".into(), root]))
    }

    /// Lists every file below the folder, with its content.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            found.push((folder.clone(), Vec::new()));
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let content = std::fs::read(&path).unwrap();
                    found.push((path, content));
                }
            }
        }
        found.sort();
        found
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Returns the objects on standard output.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the only object on standard output.
    pub(crate) fn object(&self) -> Value {
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.remove(0)
    }

    /// Returns the error, which is the only line on standard error.
    pub(crate) fn error(&self) -> Value {
        let error: Value = serde_json::from_str(&self.stderr).unwrap_or_else(|_| panic!("{self:?}"));
        let keys = ["kind", "what", "log", "offset", "seq_no", "expected", "actual", "advice", "causes"];
        for key in keys {
            assert!(error.get(key).is_some(), "{key} is not in {error}");
        }
        error
    }

    pub(crate) fn kind(&self) -> String {
        self.error()["kind"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_recoverylog"))
}

pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let output = command().args(args).stdin(Stdio::null()).output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A log under construction, with payload checksums.
pub(crate) struct Writer {
    pub(crate) content: Vec<u8>,
    /// Where each operation begins.
    pub(crate) begins: Vec<usize>,
    seq_no: SeqNo,
    checksum: Checksum,
    checks_payloads: bool,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            content: Vec::new(),
            begins: Vec::new(),
            seq_no: SeqNo::FIRST,
            checksum: Checksum::ZERO,
            checks_payloads: true,
        }
    }

    /// Returns a log of two files, the second of which is unlinked at the end.
    pub(crate) fn two_files() -> Self {
        Self::new().with_two_files()
    }

    /// Returns the same log, without checksums of payloads, as Gazette's recorder writes it.
    pub(crate) fn two_files_unchecked() -> Self {
        Self { checks_payloads: false, ..Self::new() }.with_two_files()
    }

    fn with_two_files(self) -> Self {
        let mut log = self;
        let kept = log.create("/kept");
        log.write(kept, 0, b"what is kept");
        let lost = log.create("/lost");
        log.write(lost, 0, b"what is lost");
        log.write(kept, 12, b", and more");
        log.op(OpBody::Unlink { fnode: lost, path: LogPath::from_bytes(b"/lost") }, None);
        log.op(OpBody::NoOp, None);
        log
    }

    pub(crate) fn op(&mut self, body: OpBody, payload: Option<&[u8]>) -> SeqNo {
        let (seq_no, checksum) = (self.seq_no, self.checksum);
        let crc32c = |bytes: &[u8]| self.checks_payloads.then(|| crc32c::crc32c(bytes));
        let payload_of = |bytes: &[u8]| Payload { len: bytes.len() as u64, crc32c: crc32c(bytes) };
        let author = Author::new(1234);
        let op = RecordedOp { seq_no, checksum, author, body, payload: payload.map(payload_of), mark: None };
        self.begins.push(self.content.len());
        let message = encode_op(&op, &mut self.content).unwrap();
        self.checksum = checksum.extend(&self.content[message]);
        self.content.extend_from_slice(payload.unwrap_or_default());
        self.seq_no = seq_no.next();
        seq_no
    }

    pub(crate) fn create(&mut self, path: &str) -> Fnode {
        self.op(OpBody::Create { path: LogPath::from_bytes(path.as_bytes()) }, None).into()
    }

    pub(crate) fn write(&mut self, fnode: Fnode, offset: u64, payload: &[u8]) {
        self.op(OpBody::Write { fnode, offset }, Some(payload));
    }
}
