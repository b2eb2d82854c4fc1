//! Cases about file systems that are confined to a directory.

use std::io::ErrorKind::{AlreadyExists, InvalidInput, NotADirectory, NotFound};
use std::path::Path;
use std::sync::Arc;

use super::{Case, Fixture, Outcome, whole};
use crate::vfs::{FileKind, FileSystem, OpenMode};

pub(super) const CASES: &[Case] = cases! {
    Nothing: beneath_reaches_what_is_in_the_directory
        beneath_names_the_directory_itself
        beneath_refuses_paths_that_lead_out
        beneath_needs_a_directory
        beneath_follows_a_renamed_directory
        beneath_a_removed_directory_nothing_is_created
        beneath_can_be_taken_again
        resolve_dir_needs_a_directory;
    Symlinks: beneath_goes_through_no_symlink
        resolve_dir_leads_to_the_directory_itself;
};

fn beneath(f: &Fixture, name: &str) -> std::io::Result<Arc<dyn FileSystem>> {
    f.fs.beneath(&f.path(name))
}

fn beneath_reaches_what_is_in_the_directory(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    f.mkdir("dir/sub")?;
    let inside = beneath(f, "dir")?;
    let file = inside.open(Path::new("sub/file"), OpenMode::CreateNew)?;
    file.write_all_at(b"content", 0)?;
    same!(f.get("dir/sub/file")?, b"content");
    same!(inside.metadata(Path::new("sub/file"))?, file.metadata()?);
    inside.rename(Path::new("sub/file"), Path::new("moved"))?;
    inside.hard_link(Path::new("./moved"), Path::new("sub/./linked"))?;
    inside.create_dir(Path::new("sub/deep/"))?;
    inside.rename_no_replace(Path::new("sub/deep"), Path::new("deep"))?;
    inside.sync_dir(Path::new("sub"))?;
    same!(f.names("dir")?, ["deep", "moved", "sub"]);
    same!(f.names("dir/sub")?, ["linked"]);
    inside.remove_file(Path::new("sub/linked"))?;
    inside.remove_dir(Path::new("deep"))?;
    same!(inside.read_dir(Path::new("sub"))?, []);
    same!(inside.is_network(Path::new("moved"))?, f.fs.is_network(&f.root)?);
    Ok(())
}

fn beneath_names_the_directory_itself(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    drop(f.put("dir/file", b"")?);
    let inside = beneath(f, "dir")?;
    for itself in ["", ".", "./"] {
        let itself = Path::new(itself);
        same!(inside.metadata(itself)?.kind, FileKind::Directory);
        same!(inside.metadata(itself)?.inode, f.fs.metadata(&f.path("dir"))?.inode);
        same!(inside.read_dir(itself)?.len(), 1);
        inside.sync_dir(itself)?;
        same!(inside.beneath(itself)?.read_dir(Path::new(""))?.len(), 1);
        fails!(inside.create_dir(itself), AlreadyExists);
        same!(inside.open(itself, OpenMode::Create).is_err(), true);
        same!(inside.remove_dir(itself).is_err(), true);
        same!(inside.remove_file(itself).is_err(), true);
        same!(inside.rename(itself, Path::new("other")).is_err(), true);
        same!(inside.rename(Path::new("file"), itself).is_err(), true);
    }
    same!(f.names("dir")?, ["file"]);
    Ok(())
}

fn beneath_refuses_paths_that_lead_out(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    f.mkdir("dir/sub")?;
    drop(f.put("secret", b"secret")?);
    drop(f.put("dir/file", b"")?);
    let inside = beneath(f, "dir")?;
    let absolute = f.path("secret");
    let absolute = absolute.to_string_lossy();
    let file = Path::new("file");
    for path in ["..", "../secret", "sub/../../secret", "sub/..", "sub/../file", "/", "./..", &absolute] {
        let path = Path::new(path);
        for mode in [OpenMode::Read, OpenMode::Create, OpenMode::Truncate] {
            fails!(inside.open(path, mode), InvalidInput, "{path:?}");
        }
        fails!(inside.metadata(path), InvalidInput, "{path:?}");
        fails!(inside.read_dir(path), InvalidInput, "{path:?}");
        fails!(inside.create_dir(path), InvalidInput, "{path:?}");
        fails!(inside.remove_dir(path), InvalidInput, "{path:?}");
        fails!(inside.remove_file(path), InvalidInput, "{path:?}");
        fails!(inside.rename(path, file), InvalidInput, "{path:?}");
        fails!(inside.rename(file, path), InvalidInput, "{path:?}");
        fails!(inside.rename_no_replace(path, Path::new("new")), InvalidInput, "{path:?}");
        fails!(inside.rename_no_replace(file, path), InvalidInput, "{path:?}");
        fails!(inside.hard_link(path, Path::new("new")), InvalidInput, "{path:?}");
        fails!(inside.hard_link(file, path), InvalidInput, "{path:?}");
        fails!(inside.sync_dir(path), InvalidInput, "{path:?}");
        fails!(inside.beneath(path), InvalidInput, "{path:?}");
        fails!(inside.resolve_dir(path), InvalidInput, "{path:?}");
        fails!(inside.is_network(path), InvalidInput, "{path:?}");
    }
    same!(f.names("")?, ["dir", "secret"]);
    same!(f.names("dir")?, ["file", "sub"]);
    same!(f.get("secret")?, b"secret");
    Ok(())
}

fn beneath_needs_a_directory(f: &Fixture) -> Outcome {
    drop(f.put("file", b"")?);
    fails!(beneath(f, "file"), NotADirectory);
    fails!(beneath(f, "missing"), NotFound);
    Ok(())
}

fn beneath_follows_a_renamed_directory(f: &Fixture) -> Outcome {
    f.mkdir("staging")?;
    let inside = beneath(f, "staging")?;
    drop(inside.open(Path::new("before"), OpenMode::CreateNew)?);
    f.rename("staging", "final")?;
    f.mkdir("staging")?;
    drop(inside.open(Path::new("after"), OpenMode::CreateNew)?);
    same!(f.names("final")?, ["after", "before"]);
    same!(f.names("staging")?, [""; 0]);
    Ok(())
}

fn beneath_a_removed_directory_nothing_is_created(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    let inside = beneath(f, "dir")?;
    f.fs.remove_dir(&f.path("dir"))?;
    f.mkdir("dir")?;
    fails!(inside.open(Path::new("file"), OpenMode::Create), NotFound);
    fails!(inside.create_dir(Path::new("sub")), NotFound);
    same!(f.names("dir")?, [""; 0]);
    Ok(())
}

fn beneath_can_be_taken_again(f: &Fixture) -> Outcome {
    f.mkdir("a")?;
    f.mkdir("a/b")?;
    f.mkdir("a/b/c")?;
    drop(f.put("a/b/c/file", b"content")?);
    let inside = beneath(f, "a")?.beneath(Path::new("b/c"))?;
    same!(whole(&*inside.open(Path::new("file"), OpenMode::Read)?)?, b"content");
    fails!(inside.open(Path::new("../c/file"), OpenMode::Read), InvalidInput);
    Ok(())
}

fn beneath_goes_through_no_symlink(f: &Fixture) -> Outcome {
    f.mkdir("outside")?;
    drop(f.put("outside/secret", b"secret")?);
    f.mkdir("dir")?;
    f.mkdir("dir/sub")?;
    drop(f.put("dir/sub/file", b"file")?);
    f.symlink("../outside", "dir/out")?;
    f.symlink(f.path("outside"), "dir/absolute")?;
    f.symlink("sub", "dir/in")?;
    f.symlink("../../outside/secret", "dir/sub/secret")?;
    let inside = beneath(f, "dir")?;
    for path in ["out/secret", "absolute/secret", "in/file", "in/new", "sub/secret", "out", "in"] {
        let path = Path::new(path);
        for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create, OpenMode::Truncate] {
            fails!(inside.open(path, mode), InvalidInput, "{path:?} {mode:?}");
        }
    }
    let file = Path::new("sub/file");
    for path in ["out/new", "absolute/new", "in/new", "in/new/deeper"] {
        let path = Path::new(path);
        fails!(inside.open(path, OpenMode::CreateNew), InvalidInput, "{path:?}");
        fails!(inside.metadata(path), InvalidInput, "{path:?}");
        fails!(inside.read_dir(path), InvalidInput, "{path:?}");
        fails!(inside.create_dir(path), InvalidInput, "{path:?}");
        fails!(inside.remove_dir(path), InvalidInput, "{path:?}");
        fails!(inside.remove_file(path), InvalidInput, "{path:?}");
        fails!(inside.rename(file, path), InvalidInput, "{path:?}");
        fails!(inside.rename_no_replace(file, path), InvalidInput, "{path:?}");
        fails!(inside.hard_link(file, path), InvalidInput, "{path:?}");
        fails!(inside.beneath(path), InvalidInput, "{path:?}");
        fails!(inside.resolve_dir(path), InvalidInput, "{path:?}");
    }
    fails!(inside.beneath(Path::new("out")), NotADirectory);
    fails!(inside.resolve_dir(Path::new("out")), NotADirectory);
    fails!(inside.read_dir(Path::new("out")), NotADirectory);
    // The links themselves are names like any other.
    inside.rename(Path::new("out"), Path::new("sub/out"))?;
    inside.remove_file(Path::new("sub/out"))?;
    same!(f.names("outside")?, ["secret"]);
    same!(f.get("outside/secret")?, b"secret");
    same!(f.names("dir")?, ["absolute", "in", "sub"]);
    Ok(())
}

fn resolve_dir_needs_a_directory(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    f.mkdir("dir/sub")?;
    drop(f.put("file", b"")?);
    let resolved = f.fs.resolve_dir(&f.path("dir"))?;
    same!(f.fs.metadata(&resolved)?, f.fs.metadata(&f.path("dir"))?);
    same!(f.fs.resolve_dir(&resolved)?, resolved);
    same!(beneath(f, "dir")?.resolve_dir(Path::new("./sub/"))?, Path::new("sub"));
    for path in ["file", "file/sub"] {
        fails!(f.fs.resolve_dir(&f.path(path)), NotADirectory, "{path:?}");
    }
    fails!(f.fs.resolve_dir(&f.path("missing")), NotFound);
    fails!(f.fs.resolve_dir(&f.path("missing/sub")), NotFound);
    Ok(())
}

fn resolve_dir_leads_to_the_directory_itself(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    f.mkdir("dir/sub")?;
    drop(f.put("dir/file", b"")?);
    f.symlink("dir", "link")?;
    f.symlink(f.path("link/sub"), "twice")?;
    f.symlink("link/file", "file")?;
    f.symlink("missing", "dangling")?;
    f.symlink("loop", "loop")?;
    let resolve = |name: &str| f.fs.resolve_dir(&f.path(name));
    let dir = resolve("dir")?;
    same!(resolve("link")?, dir);
    same!(resolve("link/")?, dir);
    for name in ["dir/sub", "link/sub", "twice"] {
        same!(resolve(name)?, dir.join("sub"), "{name:?}");
    }
    same!(f.fs.metadata(&dir)?.kind, FileKind::Directory);
    fails!(resolve("file"), NotADirectory);
    fails!(resolve("dangling"), NotFound);
    same!(resolve("loop").is_err(), true);
    Ok(())
}
