//! Goal: the rules of the house hold in every file, whoever wrote it.
//!
//! Method: read the repository's own files as text. Rust sources are reduced to their tokens (no comments, no
//! literals), so that a rule about code never trips over prose; rules about prose read the file as it is.
//! What rustfmt and clippy check is not checked again here.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that reads the repository's own files"
)]

mod broken;
mod code;
mod manifest;
mod prose;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold what people write. Golden data, corpora and build output are not among them.
const FOLDERS: [&str; 7] = ["src", "tests", "examples", "benches", "fuzz/fuzz_targets", "docs", "proto"];
const DATA: [&str; 2] = ["tests/golden", "fuzz/corpus"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the files that people wrote, with paths relative to the root, sorted.
fn written_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    while let Some(folder) = folders.pop() {
        if DATA.iter().any(|data| folder == Path::new(data)) {
            continue;
        }
        let Ok(entries) = fs::read_dir(root().join(&folder)) else { continue };
        for entry in entries {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let extension = Path::new(&entry.file_name()).extension().map(|e| e.to_string_lossy().into_owned());
        if matches!(extension.as_deref(), Some("rs" | "md" | "toml")) {
            found.push(entry.file_name().into());
        }
    }
    found.extend(
        [".ci/run", "fuzz/Cargo.toml"].map(PathBuf::from).into_iter().filter(|f| root().join(f).exists()),
    );
    found.sort();
    found
}

fn files_named(extension: &str) -> Vec<(String, String)> {
    let named = |path: &PathBuf| path.extension().is_some_and(|found| found == extension);
    written_files().into_iter().filter(named).map(|path| (path.display().to_string(), read(&path))).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with every line of `broken`, so that one run shows all there is to mend.
#[track_caller]
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}
