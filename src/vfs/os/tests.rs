//! What only the operating system has: other ways to do a thing, strange files, other threads.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

use super::{Held, OsFs, Spot, rename_by_link, walk, walk_by_component};
use crate::vfs::{File, FileKind, FileSystem, OpenMode};

const MODES: [OpenMode; 5] =
    [OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create, OpenMode::CreateNew, OpenMode::Truncate];

fn put(dir: &TempDir, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = OsFs::new().open(&dir.path().join(name), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn both_ways_to_walk_a_path_find_and_refuse_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "a/b", "a/b/c"] {
        OsFs::new().create_dir(&dir.path().join(name)).unwrap();
    }
    drop(put(&dir, "a/file", b""));
    symlink("b", dir.path().join("a/link")).unwrap();
    symlink("missing", dir.path().join("dangling")).unwrap();
    let base = rustix::fs::openat(CWD, dir.path(), super::DIRECTORY, Mode::empty()).unwrap();
    for path in
        ["a", "a/b", "a/b/c", "a/file", "a/file/x", "a/link", "a/link/c", "dangling", "none", "none/x"]
    {
        let inode = |fd| rustix::fs::fstat(fd).unwrap().st_ino;
        let fast = walk(base.as_fd(), Path::new(path)).map(inode).map_err(|error| error.kind());
        let slow = walk_by_component(base.as_fd(), Path::new(path)).map(inode).map_err(|error| error.kind());
        assert_eq!(fast, slow, "{path}");
        let found = ["a", "a/b", "a/b/c"].contains(&path);
        assert_eq!(fast.is_ok(), found, "{path}");
    }
}

#[test]
fn renaming_by_link_moves_and_never_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let fs = OsFs::new();
    drop(put(&dir, "file", b"content"));
    drop(put(&dir, "taken", b"taken"));
    for name in ["dir", "empty"] {
        fs.create_dir(&dir.path().join(name)).unwrap();
    }
    let base = rustix::fs::openat(CWD, dir.path(), super::DIRECTORY, Mode::empty()).unwrap();
    let rename = |from: &str, to: &str| {
        let from = Spot { dir: Held::Borrowed(base.as_fd()), name: OsStr::new(from) };
        let to = Spot { dir: Held::Borrowed(base.as_fd()), name: OsStr::new(to) };
        rename_by_link(&from, &to).map_err(|error| error.kind())
    };
    for from in ["file", "dir"] {
        for to in ["taken", "empty"] {
            assert_eq!(rename(from, to), Err(ErrorKind::AlreadyExists), "{from} {to}");
        }
    }
    assert_eq!(rename("missing", "new"), Err(ErrorKind::NotFound));
    assert_eq!(rename("dir", "dir/inner"), Err(ErrorKind::InvalidInput));
    rename("file", "moved").unwrap();
    rename("dir", "moved-dir").unwrap();
    let names = fs.read_dir(dir.path()).unwrap();
    let names = names.iter().map(|entry| entry.name.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(names, ["empty", "moved", "moved-dir", "taken"]);
    assert_eq!(fs.metadata(&dir.path().join("moved")).unwrap().links, 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_pipe_is_refused_and_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    for mode in MODES {
        let expected =
            if mode == OpenMode::CreateNew { ErrorKind::AlreadyExists } else { ErrorKind::InvalidInput };
        assert_eq!(OsFs::new().open(&path, mode).unwrap_err().kind(), expected, "{mode:?}");
    }
    assert_eq!(OsFs::new().read_dir(dir.path()).unwrap()[0].kind, FileKind::Other);
}

#[test]
#[cfg(target_os = "linux")]
fn a_name_need_not_be_utf_8() {
    let dir = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"\xff\xfe name\n");
    let inside = OsFs::new().beneath(dir.path()).unwrap();
    drop(inside.open(Path::new(name), OpenMode::CreateNew).unwrap());
    assert_eq!(inside.read_dir(Path::new("")).unwrap()[0].name, name);
}

#[test]
fn every_descriptor_is_closed_on_exec() {
    let dir = tempfile::tempdir().unwrap();
    for mode in
        [OpenMode::CreateNew, OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create, OpenMode::Truncate]
    {
        let file = OsFs::new().open(&dir.path().join("file"), mode).unwrap();
        let flags = rustix::io::fcntl_getfd(file.as_fd().unwrap()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{mode:?}");
    }
    let held = OsFs::new().open_directory(dir.path()).unwrap();
    assert!(rustix::io::fcntl_getfd(&held).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let walked = walk(held.as_fd(), Path::new(".")).unwrap();
    assert!(rustix::io::fcntl_getfd(&walked).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_directory_swapped_for_a_symlink_never_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let fs = OsFs::new();
    for name in ["outside", "root", "root/real"] {
        fs.create_dir(&dir.path().join(name)).unwrap();
    }
    drop(put(&dir, "outside/file", b"outside"));
    drop(put(&dir, "root/real/file", b"inside!"));
    symlink("../outside", dir.path().join("root/link")).unwrap();
    let inside = fs.beneath(&dir.path().join("root")).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // `sub` is by turns the directory, the link and nothing.
        scope.spawn(|| {
            let path = |name: &str| dir.path().join("root").join(name);
            while !done.load(Ordering::Relaxed) {
                for name in ["real", "link"] {
                    fs.rename(&path(name), &path("sub")).unwrap();
                    fs.rename(&path("sub"), &path(name)).unwrap();
                }
            }
        });
        let base = fs.open_directory(&dir.path().join("root")).unwrap();
        let (mut found, mut refused) = (0, 0);
        for _ in 0..20_000 {
            match inside.open(Path::new("sub/file"), OpenMode::Read) {
                Ok(file) => {
                    let mut content = [0; 7];
                    file.read_exact_at(&mut content, 0).unwrap();
                    assert_eq!(&content, b"inside!");
                    found += 1;
                }
                Err(_) => refused += 1,
            }
            let created = inside.open(Path::new("sub/new"), OpenMode::CreateNew);
            drop(created.and_then(|_| inside.remove_file(Path::new("sub/new"))));
            if let Ok(walked) = walk_by_component(base.as_fd(), Path::new("sub")) {
                let outside = fs.metadata(&dir.path().join("outside")).unwrap().inode;
                assert_ne!(rustix::fs::fstat(walked).unwrap().st_ino, outside);
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(found > 0 && refused > 0, "{found} {refused}");
    });
    assert_eq!(fs.read_dir(&dir.path().join("outside")).unwrap().len(), 1);
}
