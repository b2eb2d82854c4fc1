//! Cases about opening.

use std::io::ErrorKind::{
    AlreadyExists, InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
};
use std::path::Path;

use super::{Case, Fixture, Outcome};
use crate::vfs::{FileKind, OpenMode};

pub(super) const CASES: &[Case] = cases! {
    Nothing: a_missing_file_is_found_or_created_as_the_mode_says
        an_existing_file_is_kept_emptied_or_refused_as_the_mode_says
        a_directory_is_opened_by_no_mode
        a_missing_parent_is_not_created
        a_file_has_no_names_in_it
        a_handle_for_reading_changes_nothing
        a_name_that_cannot_be_is_refused;
    Symlinks: a_symlink_in_the_last_component_is_opened_by_no_mode
        a_symlink_is_a_name_like_any_other;
};

const MODES: [OpenMode; 5] =
    [OpenMode::Read, OpenMode::ReadWrite, OpenMode::Create, OpenMode::CreateNew, OpenMode::Truncate];

fn a_missing_file_is_found_or_created_as_the_mode_says(f: &Fixture) -> Outcome {
    for mode in MODES {
        let name = format!("{mode:?}");
        let opened = f.open(&name, mode);
        if matches!(mode, OpenMode::Read | OpenMode::ReadWrite) {
            fails!(opened, NotFound, "{mode:?}");
            fails!(f.fs.metadata(&f.path(&name)), NotFound);
            continue;
        }
        let file = opened?;
        file.write_all_at(b"new", 0)?;
        same!(f.get(&name)?, b"new", "{mode:?}");
        same!(file.metadata()?.kind, FileKind::File);
    }
    Ok(())
}

fn an_existing_file_is_kept_emptied_or_refused_as_the_mode_says(f: &Fixture) -> Outcome {
    for mode in MODES {
        let name = format!("{mode:?}");
        drop(f.put(&name, b"old")?);
        let opened = f.open(&name, mode);
        if mode == OpenMode::CreateNew {
            fails!(opened, AlreadyExists);
        } else {
            opened?;
        }
        let expected: &[u8] = if mode == OpenMode::Truncate { b"" } else { b"old" };
        same!(f.get(&name)?, expected, "{mode:?}");
    }
    Ok(())
}

fn a_directory_is_opened_by_no_mode(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    for mode in MODES {
        let expected = if mode == OpenMode::CreateNew { AlreadyExists } else { IsADirectory };
        fails!(f.open("dir", mode), expected, "{mode:?}");
    }
    Ok(())
}

fn a_missing_parent_is_not_created(f: &Fixture) -> Outcome {
    for mode in MODES {
        fails!(f.open("missing/file", mode), NotFound, "{mode:?}");
    }
    fails!(f.mkdir("missing/dir"), NotFound);
    drop(f.put("file", b"")?);
    fails!(f.rename("file", "missing/file"), NotFound);
    same!(f.names("")?, ["file"]);
    Ok(())
}

fn a_file_has_no_names_in_it(f: &Fixture) -> Outcome {
    drop(f.put("file", b"")?);
    for mode in MODES {
        fails!(f.open("file/inner", mode), NotADirectory, "{mode:?}");
    }
    fails!(f.fs.metadata(&f.path("file/inner")), NotADirectory);
    fails!(f.fs.read_dir(&f.path("file")), NotADirectory);
    fails!(f.fs.sync_dir(&f.path("file")), NotADirectory);
    fails!(f.mkdir("file/inner"), NotADirectory);
    fails!(f.fs.remove_file(&f.path("file/inner")), NotADirectory);
    Ok(())
}

fn a_handle_for_reading_changes_nothing(f: &Fixture) -> Outcome {
    let writer = f.put("file", b"content")?;
    let reader = f.open("file", OpenMode::Read)?;
    fails!(reader.write_at(b"x", 0), PermissionDenied);
    fails!(reader.set_len(0), PermissionDenied);
    fails!(reader.allocate(0, 100), PermissionDenied);
    fails!(reader.map_shared(1), PermissionDenied);
    fails!(writer.copy_to(0, &*reader, 0, 7), PermissionDenied);
    same!(f.get("file")?, b"content");
    Ok(())
}

fn a_name_that_cannot_be_is_refused(f: &Fixture) -> Outcome {
    drop(f.put(&"n".repeat(255), b"")?);
    fails!(f.open(&"n".repeat(256), OpenMode::Create), InvalidFilename);
    fails!(f.open("nul\0byte", OpenMode::Create), InvalidInput);
    fails!(f.fs.metadata(Path::new("")), NotFound);
    fails!(f.fs.open(Path::new(""), OpenMode::Create), NotFound);
    Ok(())
}

fn a_symlink_in_the_last_component_is_opened_by_no_mode(f: &Fixture) -> Outcome {
    drop(f.put("file", b"content")?);
    f.mkdir("dir")?;
    f.symlink("file", "to-file")?;
    f.symlink("dir", "to-dir")?;
    f.symlink("missing", "to-nothing")?;
    for mode in MODES {
        let expected = if mode == OpenMode::CreateNew { AlreadyExists } else { InvalidInput };
        for name in ["to-file", "to-dir", "to-nothing"] {
            fails!(f.open(name, mode), expected, "{name} {mode:?}");
        }
    }
    fails!(f.fs.read_dir(&f.path("to-dir")), NotADirectory);
    fails!(f.fs.sync_dir(&f.path("to-dir")), NotADirectory);
    fails!(f.fs.beneath(&f.path("to-dir/")), NotADirectory);
    fails!(f.fs.metadata(&f.path("missing")), NotFound);
    same!(f.get("file")?, b"content");
    Ok(())
}

fn a_symlink_is_a_name_like_any_other(f: &Fixture) -> Outcome {
    drop(f.put("file", b"content")?);
    f.mkdir("dir")?;
    f.symlink("file", "link")?;
    f.symlink("dir", "to-dir")?;
    drop(f.put("to-dir/through", b"")?);
    same!(f.names("dir")?, ["through"]);
    same!(f.fs.metadata(&f.path("link"))?.kind, FileKind::Symlink);
    fails!(f.mkdir("link"), AlreadyExists);
    f.rename("link", "moved")?;
    same!(f.fs.metadata(&f.path("moved"))?.kind, FileKind::Symlink);
    f.fs.remove_file(&f.path("moved"))?;
    fails!(f.fs.remove_dir(&f.path("to-dir")), NotADirectory);
    f.rename("file", "to-dir")?;
    same!(f.names("")?, ["dir", "to-dir"]);
    same!(f.get("to-dir")?, b"content");
    Ok(())
}
