//! Every file system of the crate runs the suite.

mod differential;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::conformance::{self, Capabilities, Fixture};
use super::{FaultyFs, FileSystem, MemoryFs, OsFs};

fn on_os() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    Fixture {
        fs: Arc::new(OsFs::new()),
        root: dir.path().to_owned(),
        plant_symlink: Some(Box::new(|target, link| std::os::unix::fs::symlink(target, link))),
        keep: Box::new(dir),
    }
}

fn in_memory() -> Fixture {
    over_memory(|memory| Arc::new(memory))
}

fn faulty() -> Fixture {
    over_memory(|memory| Arc::new(FaultyFs::new(memory)))
}

fn over_memory(wrap: impl Fn(MemoryFs) -> Arc<dyn FileSystem>) -> Fixture {
    let memory = MemoryFs::new();
    memory.create_dir(Path::new("/root")).unwrap();
    Fixture {
        fs: wrap(memory.clone()),
        root: PathBuf::from("/root"),
        plant_symlink: Some(Box::new(move |target, link| memory.plant_symlink(target, link))),
        keep: Box::new(()),
    }
}

#[test]
fn the_operating_system_conforms() {
    let report = conformance::run(&on_os, Capabilities::ALL).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.unsupported, [""; 0]);
}

#[test]
fn memory_conforms() {
    let report =
        conformance::run(&in_memory, Capabilities::ALL).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.unsupported, [""; 0]);
}

#[test]
fn a_faulty_file_system_without_faults_conforms() {
    let report = conformance::run(&faulty, Capabilities::ALL).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.unsupported, [""; 0]);
}
