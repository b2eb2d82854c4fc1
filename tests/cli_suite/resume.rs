//! `recoverylog restore --resume`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use recoverylog::{Fnode, LogPath, OpBody};
use serde_json::Value;

use super::place::{LOG, Place, Ran, Writer, command, text};

/// A log that grows fragment by fragment, and what is alive in it.
struct Growing {
    place: Place,
    writer: Writer,
    stored: usize,
    files: BTreeMap<String, (Fnode, Vec<u8>)>,
    drawn: u64,
}

impl Growing {
    fn new() -> Self {
        let (place, files) = (Place::new(), BTreeMap::new());
        Self { place, writer: Writer::new(), stored: 0, files, drawn: 7 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.drawn =
            self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 33) % bound
    }

    /// Writes to some files, ends others, and stores all that as one fragment.
    fn grow(&mut self, ops: u64) {
        for _ in 0..ops {
            let name = format!("/{}/{}", self.below(5), self.below(40));
            let bytes = vec![self.below(255) as u8 + 1; self.below(5_000) as usize + 1];
            if self.below(8) == 0 {
                if let Some((fnode, _)) = self.files.remove(&name) {
                    let path = LogPath::from_bytes(name.as_bytes());
                    self.writer.op(OpBody::Unlink { fnode, path }, None);
                }
                continue;
            }
            let (fnode, content) = match self.files.remove(&name) {
                Some(file) => file,
                None => (self.writer.create(&name), Vec::new()),
            };
            let at = self.below(content.len() as u64 + 1) as usize;
            self.writer.write(fnode, at as u64, &bytes);
            let mut content = content;
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(&bytes);
            self.files.insert(name, (fnode, content));
        }
        self.place.store(LOG, self.stored, &self.writer.content[self.stored..]);
        self.stored = self.writer.content.len();
    }

    fn resume(&self, target: &Path, more: &[&str]) -> Ran {
        let args = ["restore", "--json", "--resume", "--log", LOG, "--dir", text(target)];
        self.place.run(args.iter().chain(more))
    }

    /// Checks that the directory holds what is alive, and nothing else.
    fn check(&self, target: &Path) {
        let mut found = BTreeMap::new();
        for folder in std::fs::read_dir(target).unwrap().map(|entry| entry.unwrap().path()) {
            if folder.ends_with(".recoverylog") {
                continue;
            }
            for file in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                let name = format!("/{}", text(file.strip_prefix(target).unwrap()));
                found.insert(name, std::fs::read(&file).unwrap());
            }
        }
        let alive = self.files.iter().map(|(name, (_, content))| (name.clone(), content.clone()));
        assert!(found == alive.collect::<BTreeMap<_, _>>(), "the tree is another one");
    }
}

fn resumed(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.object()["resumed"].clone()
}

#[test]
fn a_restore_goes_on_from_the_one_before_it() {
    let mut log = Growing::new();
    let target = log.place.beside("target");
    log.grow(300);
    assert_eq!(resumed(&log.resume(&target, &[])), Value::Null);
    log.check(&target);
    let (first, files) = (log.stored, log.files.len());
    log.grow(20);
    let planned = log.resume(&target, &["--dry-run"]);
    assert_eq!(planned.object()["bytes"], log.stored - first, "{planned:?}");
    let went_on = resumed(&log.resume(&target, &[]));
    assert_eq!((&went_on["offset"], &went_on["kept_files"]), (&first.into(), &files.into()));
    log.check(&target);
    // Nothing is lacking.
    assert_eq!(resumed(&log.resume(&target, &[]))["offset"], log.stored);
    // What somebody has changed meanwhile is built again.
    let (name, _) = log.files.first_key_value().unwrap();
    std::fs::write(target.join(&name[1..]), b"changed").unwrap();
    assert_eq!(resumed(&log.resume(&target, &[]))["rebuilt_files"], 1);
    log.check(&target);
}

#[test]
fn a_directory_without_a_state_is_not_gone_on_from() {
    let mut log = Growing::new();
    let target = log.place.beside("target");
    log.grow(20);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), b"precious").unwrap();
    let before = log.place.files();
    let refused = log.resume(&target, &[]);
    assert_eq!((refused.code, refused.kind().as_str()), (2, "invalid"), "{refused:?}");
    assert_eq!(log.place.files(), before);
    for more in [["--at", "seq:3"].as_slice(), &["--if-missing"]] {
        assert_eq!(log.resume(&target, more).code, 2, "{more:?}");
    }
}

#[test]
fn a_restore_that_was_killed_is_gone_on_from() {
    let mut log = Growing::new();
    let target = log.place.beside("target");
    log.grow(400);
    let (mut killed, mut went_on) = (0, 0);
    for _ in 0..40 {
        log.grow(60);
        let args = ["restore", "--resume", "--log", LOG, "--dir", text(&target), "--journals"];
        let mut restore = command();
        restore.args(args).arg(log.place.root()).stdin(Stdio::null());
        let mut child = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(log.below(40_000)));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        if log.below(4) == 0 {
            let ran = log.resume(&target, &[]);
            went_on += u32::from(!resumed(&ran).is_null());
            log.check(&target);
        }
    }
    log.resume(&target, &[]);
    log.check(&target);
    assert!(went_on > 0 && killed > 0, "{killed} killed, {went_on} gone on from");
    assert_eq!(std::fs::read_dir(log.place.folder.path()).unwrap().count(), 2, "nothing is left beside it");
}
