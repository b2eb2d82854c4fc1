//! Every file system of the crate runs the suite.

mod differential;

use std::path::Path;
use std::sync::Arc;

use super::conformance::{self, Capabilities, Fixture};
use super::{CrashPlan, FaultyFs, FileSystem, MemoryFs, OsFs};

fn on_os() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(Arc::new(OsFs::new()), dir.path());
    fixture.planting_symlinks_by(|target, link| std::os::unix::fs::symlink(target, link)).keeping(dir)
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
    memory.sync_dir(Path::new("/")).unwrap();
    let disk = memory.clone();
    Fixture::new(wrap(memory.clone()), "/root")
        .planting_symlinks_by(move |target, link| memory.plant_symlink(target, link))
        .losing_power_by(move || Arc::new(disk.crash_image(CrashPlan::DropUnsynced)))
}

#[test]
fn the_operating_system_conforms() {
    let can = Capabilities { power_loss: false, ..Capabilities::ALL };
    let report = conformance::run(&on_os, can).unwrap_or_else(|failures| panic!("{failures}"));
    assert!(report.declined.iter().all(|case| case.ends_with("_power_loss")), "{report:?}");
}

#[test]
fn memory_conforms() {
    let report =
        conformance::run(&in_memory, Capabilities::ALL).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.declined, [""; 0]);
}

#[test]
fn a_faulty_file_system_without_faults_conforms() {
    let report = conformance::run(&faulty, Capabilities::ALL).unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(report.declined, [""; 0]);
}
