//! Cases about names: rename, link, unlink, directories.

use std::io::ErrorKind::{
    AlreadyExists, DirectoryNotEmpty, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
};
use std::path::Path;

use super::{Case, Fixture, Outcome, whole};
use crate::vfs::{DirEntry, FileKind, create_dir_all_synced};

pub(super) const CASES: &[Case] = cases! {
    Nothing: rename_over_an_open_file_leaves_the_handle_its_content
        rename_onto_itself_changes_nothing
        rename_of_what_is_missing_is_refused
        rename_between_files_and_directories_is_refused
        rename_of_a_directory_takes_its_content_along
        rename_over_a_directory_needs_it_empty
        rename_of_a_directory_into_itself_is_refused
        rename_without_replacing_moves_to_a_free_name
        rename_without_replacing_never_replaces
        an_unlinked_file_lives_as_long_as_its_handle
        removing_is_by_kind
        directories_are_made_one_at_a_time
        a_directory_is_removed_only_when_empty
        names_are_listed_in_order_with_their_kind
        missing_parents_are_created_on_request;
    HardLinks: links_share_content_and_identity
        rename_between_links_of_one_file_changes_nothing
        a_link_is_never_made_over_a_name_nor_to_a_directory;
};

fn rename_over_an_open_file_leaves_the_handle_its_content(f: &Fixture) -> Outcome {
    let old = f.put("target", b"old")?;
    let new = f.put("source", b"new")?;
    f.rename("source", "target")?;
    same!(whole(&*old)?, b"old");
    same!(old.metadata()?.links, 0);
    same!(f.get("target")?, b"new");
    same!(f.fs.metadata(&f.path("target"))?.inode, new.metadata()?.inode);
    old.write_all_at(b"OLD", 0)?;
    new.write_all_at(b"NEW", 0)?;
    same!(whole(&*old)?, b"OLD");
    same!(f.get("target")?, b"NEW");
    same!(f.names("")?, ["target"]);
    Ok(())
}

fn rename_onto_itself_changes_nothing(f: &Fixture) -> Outcome {
    let file = f.put("file", b"content")?;
    f.mkdir("dir")?;
    drop(f.put("dir/inner", b"")?);
    f.rename("file", "file")?;
    f.rename("dir", "dir")?;
    same!(f.names("")?, ["dir", "file"]);
    same!(file.metadata()?.links, 1);
    let rename_no_replace = |name| f.fs.rename_no_replace(&f.path(name), &f.path(name));
    fails!(rename_no_replace("file"), AlreadyExists);
    fails!(rename_no_replace("dir"), AlreadyExists);
    Ok(())
}

fn rename_of_what_is_missing_is_refused(f: &Fixture) -> Outcome {
    drop(f.put("file", b"content")?);
    fails!(f.rename("missing", "file"), NotFound);
    fails!(f.rename("missing", "other"), NotFound);
    fails!(f.rename("missing", "missing"), NotFound);
    fails!(f.fs.rename_no_replace(&f.path("missing"), &f.path("other")), NotFound);
    same!(f.get("file")?, b"content");
    Ok(())
}

fn rename_between_files_and_directories_is_refused(f: &Fixture) -> Outcome {
    drop(f.put("file", b"content")?);
    f.mkdir("dir")?;
    fails!(f.rename("file", "dir"), IsADirectory);
    fails!(f.rename("dir", "file"), NotADirectory);
    same!(f.names("")?, ["dir", "file"]);
    Ok(())
}

fn rename_of_a_directory_takes_its_content_along(f: &Fixture) -> Outcome {
    f.mkdir("a")?;
    f.mkdir("b")?;
    let file = f.put("a/file", b"content")?;
    f.rename("a", "b/c")?;
    same!(f.names("")?, ["b"]);
    same!(f.get("b/c/file")?, b"content");
    file.write_all_at(b"CONTENT", 0)?;
    same!(f.get("b/c/file")?, b"CONTENT");
    Ok(())
}

fn rename_over_a_directory_needs_it_empty(f: &Fixture) -> Outcome {
    f.mkdir("from")?;
    drop(f.put("from/file", b"")?);
    f.mkdir("empty")?;
    f.mkdir("full")?;
    drop(f.put("full/file", b"")?);
    fails!(f.rename("from", "full"), DirectoryNotEmpty);
    f.rename("from", "empty")?;
    same!(f.names("")?, ["empty", "full"]);
    same!(f.names("empty")?, ["file"]);
    Ok(())
}

fn rename_of_a_directory_into_itself_is_refused(f: &Fixture) -> Outcome {
    f.mkdir("a")?;
    f.mkdir("a/b")?;
    fails!(f.rename("a", "a/c"), InvalidInput);
    fails!(f.rename("a", "a/b/c"), InvalidInput);
    fails!(f.rename("a", "a/b"), InvalidInput);
    fails!(f.fs.rename_no_replace(&f.path("a"), &f.path("a/c")), InvalidInput);
    fails!(f.rename("a/b", "a"), DirectoryNotEmpty);
    same!(f.names("a")?, ["b"]);
    Ok(())
}

fn rename_without_replacing_moves_to_a_free_name(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    f.mkdir("other")?;
    let file = f.put("dir/file", b"content")?;
    f.fs.rename_no_replace(&f.path("dir/file"), &f.path("other/moved"))?;
    same!(f.names("dir")?, [""; 0]);
    same!(f.get("other/moved")?, b"content");
    same!(file.metadata()?.links, 1);
    f.fs.rename_no_replace(&f.path("other"), &f.path("dir/inner"))?;
    same!(f.get("dir/inner/moved")?, b"content");
    same!(f.names("")?, ["dir"]);
    Ok(())
}

fn rename_without_replacing_never_replaces(f: &Fixture) -> Outcome {
    drop(f.put("file", b"content")?);
    drop(f.put("taken", b"taken")?);
    f.mkdir("dir")?;
    f.mkdir("empty")?;
    for from in ["file", "dir"] {
        for to in ["taken", "empty"] {
            fails!(f.fs.rename_no_replace(&f.path(from), &f.path(to)), AlreadyExists, "{from} to {to}");
        }
    }
    same!(f.names("")?, ["dir", "empty", "file", "taken"]);
    same!(f.get("taken")?, b"taken");
    Ok(())
}

fn an_unlinked_file_lives_as_long_as_its_handle(f: &Fixture) -> Outcome {
    let file = f.put("file", b"content")?;
    f.fs.remove_file(&f.path("file"))?;
    same!(f.names("")?, [""; 0]);
    same!(file.metadata()?.links, 0);
    file.write_all_at(b"more", 7)?;
    same!(whole(&*file)?, b"contentmore");
    let other = f.put("file", b"other")?;
    same!(other.metadata()?.inode == file.metadata()?.inode, false);
    same!(whole(&*file)?, b"contentmore");
    Ok(())
}

fn removing_is_by_kind(f: &Fixture) -> Outcome {
    drop(f.put("file", b"")?);
    f.mkdir("dir")?;
    fails!(f.fs.remove_dir(&f.path("file")), NotADirectory);
    // POSIX leaves the system a choice.
    let kind = f.fs.remove_file(&f.path("dir")).map_err(|error| error.kind());
    same!(matches!(kind, Err(IsADirectory | PermissionDenied)), true, "{kind:?}");
    fails!(f.fs.remove_file(&f.path("missing")), NotFound);
    fails!(f.fs.remove_dir(&f.path("missing")), NotFound);
    same!(f.names("")?, ["dir", "file"]);
    f.fs.remove_file(&f.path("file"))?;
    f.fs.remove_dir(&f.path("dir"))?;
    same!(f.names("")?, [""; 0]);
    Ok(())
}

fn directories_are_made_one_at_a_time(f: &Fixture) -> Outcome {
    fails!(f.mkdir("a/b"), NotFound);
    f.mkdir("a")?;
    f.mkdir("a/b")?;
    fails!(f.mkdir("a"), AlreadyExists);
    drop(f.put("file", b"")?);
    fails!(f.mkdir("file"), AlreadyExists);
    same!(f.fs.metadata(&f.path("a/b"))?.kind, FileKind::Directory);
    fails!(f.fs.metadata(&f.path("missing")), NotFound);
    fails!(f.fs.read_dir(&f.path("missing")), NotFound);
    Ok(())
}

fn a_directory_is_removed_only_when_empty(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    drop(f.put("dir/file", b"")?);
    fails!(f.fs.remove_dir(&f.path("dir")), DirectoryNotEmpty);
    f.fs.remove_file(&f.path("dir/file"))?;
    f.fs.remove_dir(&f.path("dir"))?;
    fails!(f.open("dir/file", crate::vfs::OpenMode::Create), NotFound);
    Ok(())
}

fn names_are_listed_in_order_with_their_kind(f: &Fixture) -> Outcome {
    for name in ["b", "a", "B", "a.b", "10", "9"] {
        drop(f.put(name, b"")?);
    }
    f.mkdir("c")?;
    drop(f.put("c/inner", b"")?);
    same!(f.names("")?, ["10", "9", "B", "a", "a.b", "b", "c"]);
    let last = f.fs.read_dir(&f.root)?.pop();
    same!(last, Some(DirEntry { name: "c".into(), kind: FileKind::Directory }));
    Ok(())
}

fn missing_parents_are_created_on_request(f: &Fixture) -> Outcome {
    create_dir_all_synced(&*f.fs, &f.path("a/b/c"))?;
    create_dir_all_synced(&*f.fs, &f.path("a/b"))?;
    same!(f.names("a/b")?, ["c"]);
    drop(f.put("file", b"")?);
    fails!(create_dir_all_synced(&*f.fs, &f.path("file")), NotADirectory);
    fails!(create_dir_all_synced(&*f.fs, &f.path("file/a")), NotADirectory);
    let inside = f.fs.beneath(&f.path("a"))?;
    create_dir_all_synced(&*inside, Path::new("x/y"))?;
    same!(f.names("a")?, ["b", "x"]);
    same!(f.names("a/x")?, ["y"]);
    Ok(())
}

fn links_share_content_and_identity(f: &Fixture) -> Outcome {
    let file = f.put("one", b"content")?;
    f.mkdir("dir")?;
    f.fs.hard_link(&f.path("one"), &f.path("dir/two"))?;
    same!(f.fs.metadata(&f.path("dir/two"))?, f.fs.metadata(&f.path("one"))?);
    same!(file.metadata()?.links, 2);
    file.write_all_at(b"CONTENT", 0)?;
    same!(f.get("dir/two")?, b"CONTENT");
    f.fs.remove_file(&f.path("one"))?;
    same!(file.metadata()?.links, 1);
    same!(f.get("dir/two")?, b"CONTENT");
    f.fs.remove_file(&f.path("dir/two"))?;
    same!(file.metadata()?.links, 0);
    Ok(())
}

fn rename_between_links_of_one_file_changes_nothing(f: &Fixture) -> Outcome {
    let file = f.put("one", b"content")?;
    f.fs.hard_link(&f.path("one"), &f.path("two"))?;
    f.rename("one", "two")?;
    same!(f.names("")?, ["one", "two"]);
    same!(file.metadata()?.links, 2);
    fails!(f.fs.rename_no_replace(&f.path("one"), &f.path("two")), AlreadyExists);
    drop(f.put("three", b"")?);
    f.rename("three", "two")?;
    same!(file.metadata()?.links, 1);
    Ok(())
}

fn a_link_is_never_made_over_a_name_nor_to_a_directory(f: &Fixture) -> Outcome {
    drop(f.put("file", b"")?);
    drop(f.put("taken", b"taken")?);
    f.mkdir("dir")?;
    let link = |from: &str, to: &str| f.fs.hard_link(&f.path(from), &f.path(to));
    fails!(link("file", "taken"), AlreadyExists);
    fails!(link("file", "file"), AlreadyExists);
    fails!(link("file", "dir"), AlreadyExists);
    fails!(link("missing", "new"), NotFound);
    fails!(link("file", "missing/new"), NotFound);
    fails!(link("dir", "new"), PermissionDenied);
    same!(f.names("")?, ["dir", "file", "taken"]);
    Ok(())
}
