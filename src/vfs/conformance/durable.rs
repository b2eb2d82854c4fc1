//! Cases about what a power loss leaves: everything that was synced.

use std::sync::Arc;

use super::{Case, Fixture, Mismatch, Outcome, whole};
use crate::vfs::{FileSystem, OpenMode};

pub(super) const CASES: &[Case] = cases! {
    PowerLoss: content_that_was_synced_survives_a_power_loss
        a_length_that_was_synced_survives_a_power_loss
        names_of_a_synced_directory_survive_a_power_loss
        a_replaced_name_is_the_old_file_or_the_new_after_a_power_loss
        a_synced_tree_survives_a_power_loss;
};

impl Fixture {
    /// Returns what is left when the power fails now.
    fn after_power_loss(&self) -> Result<Self, Mismatch> {
        let lose = self.power_loss.as_ref().ok_or_else(|| Mismatch::new("the fixture has no power loss"))?;
        Ok(Self::new(lose(), &self.root))
    }
}

fn content_that_was_synced_survives_a_power_loss(f: &Fixture) -> Outcome {
    for (name, all) in [("data", false), ("all", true)] {
        let file = f.put(name, b"first")?;
        file.write_all_at(&[7; 10_000], 5)?;
        (if all { file.sync_all() } else { file.sync_data() })?;
        file.write_all_at(b"FIRST", 0)?;
        f.fs.sync_dir(&f.root)?;
        let left = f.after_power_loss()?.get(name)?;
        same!(left.len(), 10_005, "{name}");
        same!(left.get(5..) == Some(&[7; 10_000][..]), true, "{name}");
    }
    Ok(())
}

fn a_length_that_was_synced_survives_a_power_loss(f: &Fixture) -> Outcome {
    let (longer, shorter) = (f.put("longer", b"content")?, f.put("shorter", b"content")?);
    longer.set_len(9000)?;
    shorter.sync_data()?;
    shorter.set_len(3)?;
    longer.sync_data()?;
    shorter.sync_data()?;
    f.fs.sync_dir(&f.root)?;
    let left = f.after_power_loss()?;
    same!(left.get("longer")?.len(), 9000);
    same!(left.get("shorter")?, b"con");
    Ok(())
}

fn names_of_a_synced_directory_survive_a_power_loss(f: &Fixture) -> Outcome {
    f.mkdir("dir")?;
    for name in ["dir/kept", "dir/renamed", "dir/removed"] {
        f.put(name, name.as_bytes())?.sync_all()?;
    }
    f.fs.sync_dir(&f.path("dir"))?;
    f.fs.sync_dir(&f.root)?;
    same!(f.after_power_loss()?.names("dir")?, ["kept", "removed", "renamed"]);
    f.rename("dir/renamed", "dir/new")?;
    f.fs.remove_file(&f.path("dir/removed"))?;
    f.fs.sync_dir(&f.path("dir"))?;
    let left = f.after_power_loss()?;
    same!(left.names("dir")?, ["kept", "new"]);
    same!(left.get("dir/new")?, b"dir/renamed");
    Ok(())
}

fn a_replaced_name_is_the_old_file_or_the_new_after_a_power_loss(f: &Fixture) -> Outcome {
    f.put("current", b"old")?.sync_all()?;
    f.fs.sync_dir(&f.root)?;
    f.put("next", b"new")?.sync_all()?;
    f.rename("next", "current")?;
    let left = f.after_power_loss()?.get("current")?;
    same!(left == b"old" || left == b"new", true, "{left:?}");
    f.fs.sync_dir(&f.root)?;
    let left = f.after_power_loss()?;
    same!(left.names("")?, ["current"]);
    same!(left.get("current")?, b"new");
    Ok(())
}

fn a_synced_tree_survives_a_power_loss(f: &Fixture) -> Outcome {
    for dir in ["tree", "tree/a", "tree/a/b"] {
        f.mkdir(dir)?;
        drop(f.put(&format!("{dir}/file"), dir.as_bytes())?);
    }
    f.fs.sync_tree(&f.path("tree"))?;
    f.fs.sync_dir(&f.root)?;
    let left = f.after_power_loss()?;
    for dir in ["tree", "tree/a", "tree/a/b"] {
        same!(left.get(&format!("{dir}/file"))?, dir.as_bytes());
    }
    // What is left is a file system like any other.
    let left: Arc<dyn FileSystem> = left.fs;
    same!(whole(&*left.open(&f.path("tree/file"), OpenMode::Read)?)?, b"tree");
    Ok(())
}
