//! Rules about Rust sources.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, paths_at, tokens};
use super::{assert_none, files_named, read};

const GROUND: &[&str] = &["ids", "error", "prng", "conformance", "planted"];
const CORE: &[&str] = &["op", "segment", "hints", "fsm", "wire"];
const DOORS: &[&str] = &["clock", "sync", "completion", "entropy"];
const SEAMS: &[&str] = &["vfs", "journal", "hint_store"];

/// What each module of the library may import: only modules that stand above it in this table.
///
/// A new module is entered here, at its place, before it can be used. Tests inside a module are free.
const MAY_IMPORT: &[(&str, &[&[&str]])] = &[
    // The ground: vocabulary. `prng` serves doubles and tests, and is seeded by its caller; `conformance` serves
    // the suites of the seams, `planted` the tests of tests.
    ("ids", &[]),
    ("error", &[&["ids"]]),
    ("prng", &[]),
    ("conformance", &[]),
    ("planted", &[]),
    // The pure core.
    ("op", &[&["ids"]]),
    ("segment", &[&["ids", "error"]]),
    ("hints", &[&["ids", "error", "op", "segment"]]),
    ("fsm", &[&["ids", "error", "planted", "op", "segment", "hints"]]),
    ("wire", &[&["ids", "error", "op", "segment", "hints"]]),
    // The doors of time, locks and randomness, and how one waits.
    ("clock", &[]),
    ("sync", &[]),
    ("entropy", &[&["ids", "error"]]),
    ("completion", &[&["clock", "sync"]]),
    // The seams: a journal knows neither operations nor hints.
    ("vfs", &[GROUND, DOORS]),
    ("journal", &[GROUND, DOORS, &["vfs"]]),
    ("hint_store", &[GROUND, DOORS, &["vfs", "segment", "hints", "wire"]]),
    // The drivers.
    ("scan", &[GROUND, CORE, DOORS, SEAMS]),
    ("recorder", &[GROUND, CORE, DOORS, SEAMS]),
    ("tracker", &[GROUND, CORE, DOORS, SEAMS, &["recorder"]]),
    ("recorded_fs", &[GROUND, CORE, DOORS, SEAMS, &["recorder", "tracker"]]),
    ("player", &[GROUND, CORE, DOORS, SEAMS, &["scan"]]),
    ("replica", &[GROUND, CORE, DOORS, SEAMS, &["recorder", "tracker", "recorded_fs", "player"]]),
    // The edges: adapters see the face that users see.
    ("engine", &[GROUND, CORE, DOORS, SEAMS, &["recorder", "tracker", "recorded_fs", "replica"]]),
];

/// Modules without I/O, clock, randomness or async.
const PURE: &[&str] = &["ids", "error", "op", "segment", "hints", "fsm", "wire"];
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "getrandom",
    "rustix",
];

/// The only files that touch local files, and that may hold `unsafe` code.
const USES_STD_FS: &[&str] = &["src/vfs/os.rs", "src/vfs/os/"];
const USES_UNSAFE: &[&str] = &["src/vfs/os/map.rs"];

/// What a test has to be able to replace, or it could not draw who goes first.
const LOCKS: &[&str] =
    &["std::sync::Mutex", "std::sync::MutexGuard", "std::sync::RwLock", "std::sync::Condvar"];

const LINES_MAX: usize = 800;

/// The library's sources: everything under src but the tool.
fn library() -> Vec<(String, String)> {
    files_named("rs")
        .into_iter()
        .filter(|(f, _)| f.starts_with("src/") && !f.starts_with("src/bin/"))
        .collect()
}

/// Tests, and the parts of a conformance suite: they check modules and are none themselves.
fn is_test_file(file: &str) -> bool {
    let parts = ["/tests/", "/conformance/"];
    file.ends_with("/tests.rs") || file.starts_with("tests/") || parts.iter().any(|part| file.contains(part))
}

/// Returns the module path of a source: `src/journal/file.rs` is `["journal", "file"]`.
fn module_path(file: &str) -> Vec<&str> {
    file.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect()
}

/// Tells whether `path` begins with one of `prefixes`, segment by segment. A bare parent counts too: `use
/// std::time;` reaches `std::time::Instant`.
fn reaches<'a>(path: &[String], prefixes: &'a [&'a str]) -> Option<&'a str> {
    let hits = |prefix: &&&str| {
        let prefix: Vec<&str> = prefix.split("::").collect();
        let shared = path.iter().zip(&prefix).take_while(|(a, b)| a == *b).count();
        shared == prefix.len() || (path.len() > 1 && shared == path.len())
    };
    prefixes.iter().find(hits).copied()
}

/// A path in a source that leaves its module: the file's own words, and where.
struct Reach {
    path: Vec<String>,
    line: usize,
    in_tests: bool,
}

/// Returns the paths of a source. `super` is resolved, so that a path into this crate begins with `crate`.
fn reaches_of(file: &str, tokens: &[Token]) -> Vec<Reach> {
    let module: Vec<String> = module_path(file).into_iter().map(str::to_owned).collect();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    // The inline modules around the present token: name, brace depth, whether a test module.
    let mut inline: Vec<(String, usize, bool)> = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    let is_test = at >= 7
                        && (at.saturating_sub(9)..at)
                            .any(|k| text(k) == "cfg" && text(k + 1) == "(" && text(k + 2) == "test");
                    inline.push((text(at - 1).to_owned(), depth, is_test));
                }
            }
            "}" => {
                if inline.last().is_some_and(|(_, opened, _)| *opened == depth) {
                    inline.pop();
                }
                depth -= 1;
            }
            _ => {}
        }
        let begins = text(at + 1) == "::" && (at == 0 || text(at - 1) != "::");
        if !begins {
            continue;
        }
        let in_tests = is_test_file(file) || inline.iter().any(|(_, _, is_test)| *is_test);
        for path in paths_at(tokens, at) {
            let ups = path.iter().take_while(|word| *word == "super").count();
            let path = if ups == 0 {
                path
            } else {
                let here: Vec<&String> =
                    module.iter().chain(inline.iter().map(|(name, _, _)| name)).collect();
                let kept = here.len().saturating_sub(ups);
                let stem = here.into_iter().take(kept).cloned();
                std::iter::once("crate".to_owned()).chain(stem).chain(path.into_iter().skip(ups)).collect()
            };
            found.push(Reach { path, line: token.line, in_tests });
        }
    }
    found
}

/// Maps the names that lib.rs re-exports to the module that owns each.
fn owners() -> BTreeMap<String, String> {
    let source = tokens(&read("src/lib.rs"));
    let mut owners = BTreeMap::new();
    for (at, token) in source.iter().enumerate() {
        if token.text == "use" {
            for path in paths_at(&source, at + 1) {
                if let [module, .., name] = path.as_slice() {
                    owners.insert(name.clone(), module.clone());
                }
            }
        }
    }
    owners
}

#[test]
fn the_table_of_imports_points_upward() {
    let mut above = BTreeSet::new();
    for (module, imports) in MAY_IMPORT {
        for import in imports.iter().copied().flatten() {
            assert!(above.contains(import), "{module} may not import {import}, which stands below it");
        }
        assert!(above.insert(*module), "{module} stands in the table twice");
    }
}

#[test]
fn modules_import_what_the_table_allows() {
    let table: BTreeMap<&str, &[&[&str]]> = MAY_IMPORT.iter().copied().collect();
    let owners = owners();
    let mut broken = Vec::new();
    for (file, source) in library() {
        let module = module_path(&file)[0].to_owned();
        if module == "lib" {
            continue;
        }
        let Some(allowed) = table.get(module.as_str()) else {
            broken.push(format!("{file}: enter the module `{module}` in the table of imports"));
            continue;
        };
        for Reach { path, line, in_tests } in reaches_of(&file, &tokens(&source)) {
            let [root, name, ..] = path.as_slice() else { continue };
            if root != "crate" || in_tests {
                continue;
            }
            let target = owners.get(name).unwrap_or(name);
            if *target != module && !allowed.iter().any(|group| group.contains(&target.as_str())) {
                broken.push(format!("{file}:{line}: `{module}` imports `{}`", path.join("::")));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn the_core_has_no_io_clock_randomness_or_async() {
    let mut broken = Vec::new();
    for (file, source) in library().into_iter().filter(|(file, _)| PURE.contains(&module_path(file)[0])) {
        let source = tokens(&source);
        for Reach { path, line, in_tests } in reaches_of(&file, &source) {
            if let Some(impure) = reaches(&path, IMPURE).filter(|_| !in_tests) {
                broken.push(format!("{file}:{line}: the core reaches {impure}"));
            }
        }
        for token in source.iter().filter(|token| matches!(token.text.as_str(), "async" | "await")) {
            broken.push(format!("{file}:{}: the core has no async", token.line));
        }
    }
    assert_none(&broken);
}

#[test]
fn local_files_time_randomness_and_locks_have_one_door_each_and_the_environment_none() {
    let mut broken = Vec::new();
    for (file, source) in library() {
        for Reach { path, line, in_tests } in reaches_of(&file, &tokens(&source)) {
            let files = reaches(&path, &["std::fs"])
                .filter(|_| !USES_STD_FS.iter().any(|allowed| file.starts_with(allowed)));
            let time = reaches(&path, &["std::time::Instant", "std::time::SystemTime"])
                .filter(|_| file != "src/clock.rs");
            let random = reaches(&path, &["getrandom"]).filter(|_| file != "src/entropy.rs");
            let locks = reaches(&path, LOCKS).filter(|_| file != "src/sync.rs");
            let environment = reaches(&path, &["std::env"]);
            let found = files.or(time).or(random).or(locks).or(environment);
            if let Some(what) = found.filter(|_| !in_tests) {
                broken.push(format!("{file}:{line}: {what} belongs behind its own door"));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn unsafe_code_lives_in_the_listed_files() {
    let mut broken = Vec::new();
    for (file, source) in files_named("rs") {
        if !USES_UNSAFE.contains(&file.as_str()) {
            let found = tokens(&source).into_iter().filter(|token| token.text == "unsafe");
            broken.extend(found.map(|token| format!("{file}:{}: unsafe code", token.line)));
        }
    }
    assert_none(&broken);
}

#[test]
fn nothing_is_unfinished_ignored_without_a_reason_or_allowed_for_a_whole_crate() {
    let mut broken = Vec::new();
    for (file, source) in files_named("rs") {
        let source = tokens(&source);
        let texts: Vec<&str> = source.iter().map(|token| token.text.as_str()).collect();
        for (at, token) in source.iter().enumerate() {
            let what = match &texts[at..] {
                ["todo" | "unimplemented", "!", ..] => "unfinished code",
                // A reason is a literal, which leaves `=` behind.
                ["#", "[", "ignore", "]", ..] => "an ignored test without a reason",
                ["#", "!", "[", "allow", ..] | ["#", "[", "allow", ..] => "`allow` in place of `expect`",
                ["fn", name, ..] if name.starts_with("test_") => "a test's name is a claim, without `test_`",
                _ => continue,
            };
            broken.push(format!("{file}:{}: {what}", token.line));
        }
    }
    assert_none(&broken);
}

#[test]
fn every_source_begins_with_what_it_is() {
    let mut broken = Vec::new();
    for (file, source) in files_named("rs") {
        let header: Vec<&str> = source.lines().take_while(|line| line.starts_with("//!")).collect();
        if header.is_empty() {
            broken.push(format!("{file}: no `//!` header"));
        }
        // The crate's tour is a page of its own; the tool and tests promise nothing to other modules.
        let is_module = file.starts_with("src/") && file != "src/lib.rs" && !file.starts_with("src/bin/");
        if is_module && !is_test_file(&file) {
            let header = header.join("\n");
            for part in ["*Invariants", "*Does not*"] {
                if !header.contains(part) {
                    broken.push(format!("{file}: the header does not say {part}"));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn sources_are_short_and_lie_where_they_are_looked_for() {
    let mut broken = Vec::new();
    for (file, source) in files_named("rs") {
        let lines = source.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{file}: {lines} lines, {LINES_MAX} are the limit"));
        }
        if file.ends_with("/mod.rs") {
            broken.push(format!("{file}: a module lies in x.rs, its parts in x/"));
        }
    }
    assert_none(&broken);
}

#[test]
fn a_path_is_resolved_from_where_it_stands() {
    let source = "use super::a; mod inner { use super::super::b; } #[cfg(test)] mod tests { use super::*; }";
    let found = reaches_of("src/journal/file.rs", &tokens(source));
    let found: Vec<_> = found.iter().map(|reach| (reach.path.join("::"), reach.in_tests)).collect();
    let expected =
        [("crate::journal::a", false), ("crate::journal::b", false), ("crate::journal::file::*", true)];
    assert_eq!(found, expected.map(|(path, in_tests)| (path.to_owned(), in_tests)));
}

#[test]
fn a_bare_parent_reaches_what_it_holds() {
    let path = |text: &str| -> Vec<String> { text.split("::").map(str::to_owned).collect() };
    assert_eq!(reaches(&path("std::time"), &["std::time::Instant"]), Some("std::time::Instant"));
    assert_eq!(reaches(&path("std::fs::read"), &["std::fs"]), Some("std::fs"));
    assert_eq!(reaches(&path("std::time::Duration"), &["std::time::Instant"]), None);
    assert_eq!(reaches(&path("std::fmt"), &["std::fs"]), None);
}
