//! The operator's tool, with hints in etcd.
//!
//! *Invariants.* Journals are in a folder: what is tried is the address of hints, wherever one can be given.
//!
//! *Does not* try what the tool does with hints: see `tests/cli.rs`.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use recoverylog::hint_store::EtcdHints;
use recoverylog::journal::{FileJournals, random_author};
use recoverylog::replica::Replica;
use recoverylog::vfs::{FileSystem, MemoryFs, OpenMode};

use crate::{KEY, log, points, quick, soon, with_etcd};

fn tool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recoverylog")).args(args).output().unwrap()
}

#[track_caller]
fn done(args: &[&str]) -> String {
    let output = tool(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(args: &[&str], code: i32) -> String {
    let output = tool(args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    told
}

/// Records one file, and stores hints.
fn record(journals: &Path, hints: EtcdHints) {
    let journals = Arc::new(FileJournals::open(journals).unwrap());
    let shard = Replica::new(journals, log(), Arc::new(hints), Arc::new(MemoryFs::new()));
    let primary = shard.standby(Path::new("/first")).unwrap();
    let primary = primary.promote(random_author().unwrap(), soon()).unwrap();
    let file = primary.fs().open(Path::new("/first/file"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"hello", 0).unwrap();
    file.sync_data().unwrap();
    primary.publish_hints(soon()).unwrap();
    primary.close(soon()).unwrap();
}

#[test]
fn hints_are_named_by_an_address_wherever_they_can_be_named() {
    with_etcd(|server| {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).display().to_string();
        let (journals, restored, forked) = (path("journals"), path("restored"), path("forked"));
        let url = format!("{}{KEY}", server.address());
        record(Path::new(&journals), EtcdHints::at(&format!("{url}?backups=2"), quick()).unwrap());
        let both = ["--journals", &journals, "--hints", &url];
        done(&[&["restore", "--dir", &restored][..], &both].concat());
        assert_eq!(std::fs::read(path("restored/file")).unwrap(), b"hello");
        assert!(done(&[&["hints"][..], &both].concat()).contains("file"));
        done(&[&["verify"][..], &both].concat());
        let log = log();
        let status = done(&[&["status", "--log", log.as_str(), "--also", &url][..], &both].concat());
        assert!(status.contains(&format!("{KEY}.primary")), "{status}");
        let prune = ["prune", "--dry-run", "--log", log.as_str(), "--snapshots", &url];
        done(&[&prune[..], &both].concat());

        let fork = format!("{}/hints/fork", server.address());
        let to = ["fork", "--at", "seq:2", "--to", "a/fork", "--to-hints", &fork, "--dir", &forked];
        done(&[&to[..], &both].concat());
        assert!(!points(&EtcdHints::at(&fork, quick()).unwrap()).is_empty());
    });
}

#[test]
fn an_address_without_hints_and_an_etcd_that_is_away_are_told() {
    with_etcd(|server| {
        let place = tempfile::tempdir().unwrap();
        let journals = place.path().join("journals").display().to_string();
        drop(FileJournals::open(&journals).unwrap());
        let verify = |hints: &str, code| fails(&["verify", "--journals", &journals, "--hints", hints], code);
        let none = verify(&format!("{}/hints/none", server.address()), 2);
        assert!(none.contains("/hints/none holds no hints"), "{none}");
        for wrong in
            ["etcd://", "etcd://host:1", "etcd://host:1/", "etcd://host:1/a/b?backups=x", "etcds://a:1,/k"]
        {
            verify(wrong, 2);
        }
        server.put(&format!("{KEY}.primary"), b"{");
        let unreadable = verify(&format!("{}{KEY}", server.address()), 3);
        assert!(unreadable.contains(&format!("{KEY}.primary")), "{unreadable}");
        server.kill();
        let away = verify(&format!("{}{KEY}", server.address()), 1);
        assert!(away.contains("refused"), "{away}");
    });
}
