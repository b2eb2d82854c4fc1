//! Rules about Rust sources.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, paths_at, tokens};
use super::{assert_none, files_named, read};

const GROUND: &[&str] = &["ids", "error", "prng", "conformance", "planted"];
const CORE: &[&str] = &["op", "segment", "hints", "live", "fsm", "wire"];
const DOORS: &[&str] = &["clock", "sync", "completion", "entropy", "remote"];
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
    ("live", &[&["ids", "planted", "op", "segment", "hints"]]),
    ("fsm", &[&["ids", "error", "planted", "op", "segment", "hints", "live"]]),
    ("wire", &[&["ids", "error", "op", "segment", "hints"]]),
    // The doors of time, locks and randomness, and how one waits.
    ("clock", &[]),
    ("sync", &[]),
    ("entropy", &[&["ids", "error"]]),
    ("completion", &[&["clock", "sync"]]),
    ("remote", &[&["ids", "error", "clock", "sync", "completion", "entropy"]]),
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
    ("prune", &[GROUND, CORE, DOORS, SEAMS]),
    ("replica", &[GROUND, CORE, DOORS, SEAMS, &["recorder", "tracker", "recorded_fs", "player"]]),
    // The edges: adapters see the face that users see.
    ("engine", &[GROUND, CORE, DOORS, SEAMS, &["recorder", "tracker", "recorded_fs", "replica"]]),
];

/// Modules without I/O, clock, randomness or async.
const PURE: &[&str] = &["ids", "error", "op", "segment", "hints", "live", "fsm", "wire"];
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
    "std::hash::RandomState",
    // Their order differs from run to run.
    "std::collections::HashMap",
    "std::collections::HashSet",
    "getrandom",
    "rustix",
];

/// The only files that touch local files, and that may hold `unsafe` code.
const USES_STD_FS: &[&str] = &["src/vfs/os.rs", "src/vfs/os/"];
const USES_UNSAFE: &[&str] = &["src/vfs/os/map.rs", "src/engine/rocksdb/ffi.rs", "tests/rocksdb/sums.rs"];

/// What a test has to be able to replace, or it could not draw who goes first.
const LOCKS: &[&str] =
    &["std::sync::Mutex", "std::sync::MutexGuard", "std::sync::RwLock", "std::sync::Condvar"];

/// The only files that turn numbers into bytes or back: each layout has one owner.
const USES_BYTES: &[&str] = &[
    "src/wire/",
    "src/journal/file/layout.rs",
    // Words that processes share, and the double of a mapping: in the byte order of the machine.
    "src/journal/file/head.rs",
    "src/vfs/memory/node.rs",
    // The state file of a directory: the messages in it, and their frame. Only this crate reads it.
    "src/live/saved.rs",
    "src/fsm/saved.rs",
    "src/player/kept.rs",
    // The messages of brokers: generated, and what they mean.
    "src/journal/gazette/proto.rs",
    // An identity that is made of a number: nobody reads it back.
    "src/vfs/memory.rs",
];

const LINES_MAX: usize = 800;

/// The library's sources: everything under src but the tool.
fn library() -> Vec<(String, String)> {
    files_named("rs")
        .into_iter()
        .filter(|(f, _)| f.starts_with("src/") && !f.starts_with("src/bin/"))
        .collect()
}

/// Tests: they check modules and are none themselves. [`tests_are_built_for_tests_only`] holds that they are.
fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.starts_with("tests/") || file.contains("/tests/")
}

/// Returns the module path of a source: `src/journal/file.rs` is `["journal", "file"]`.
fn module_path(file: &str) -> Vec<&str> {
    file.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect()
}

/// Tells whether `path` begins with one of `prefixes`, segment by segment. What holds a prefix counts too, where all
/// of it is imported: `use std::time;` and `use std::*;` reach `std::time::Instant`.
fn reaches<'a>(path: &[String], prefixes: &'a [&'a str]) -> Option<&'a str> {
    let (stem, is_whole) = match path {
        [stem @ .., last] if last == "*" => (stem, true),
        _ => (path, path.len() > 1),
    };
    let hits = |prefix: &&&str| {
        let prefix: Vec<&str> = prefix.split("::").collect();
        let shared = stem.iter().zip(&prefix).take_while(|(a, b)| a == *b).count();
        shared == prefix.len() || (is_whole && shared == stem.len())
    };
    prefixes.iter().find(hits).copied()
}

/// A path in a source that leaves its module: the file's own words, and where.
struct Reach {
    path: Vec<String>,
    line: usize,
    in_tests: bool,
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

/// Returns the attributes of the item whose keyword is `tokens[at]`, each with blanks between its tokens.
fn attributes_before(tokens: &[Token], at: usize) -> Vec<String> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    let mut end = at;
    loop {
        // Visibility stands between the attributes and the keyword.
        if end >= 1 && text(end - 1) == "pub" {
            end -= 1;
        } else if end >= 4 && text(end - 1) == ")" && text(end - 4) == "pub" {
            end -= 4;
        }
        let mut depth = 0;
        let begin = (0..end).rev().take_while(|k| !matches!(text(*k), ";" | "}" | "{")).find(|k| {
            depth += usize::from(text(*k) == "]");
            depth -= usize::from(text(*k) == "[" && depth > 0);
            depth == 0
        });
        match begin {
            Some(open) if end >= 1 && text(end - 1) == "]" && open >= 1 && text(open - 1) == "#" => {
                let words: Vec<&str> = (open - 1..end).map(text).collect();
                found.push(words.join(" "));
                end = open - 1;
            }
            _ => return found,
        }
    }
}

/// Words that stand before a path and are no part of it.
const PATH_FOLLOWS: &[&str] = &[
    "use", "as", "dyn", "impl", "for", "in", "return", "match", "if", "while", "else", "mut", "const",
    "where",
];

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
                    let is_test = attributes_before(tokens, at - 2).contains(&CFG_TEST.join(" "));
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
        // `::std::fs` begins at `std`, and `a::<T>::b` does not begin at `T`.
        let is_path = |text: &str| {
            text.starts_with(|c: char| c.is_alphanumeric() || "_>*".contains(c))
                && !PATH_FOLLOWS.contains(&text)
        };
        let follows = at > 0 && text(at - 1) == "::" && (at >= 2 && is_path(text(at - 2)));
        if token.text == "::" || text(at + 1) != "::" || follows {
            continue;
        }
        let in_tests = is_test_file(file) || inline.iter().any(|(_, _, is_test)| *is_test);
        for path in paths_at(tokens, at) {
            let path: Vec<String> = match path.as_slice() {
                [here, up, ..] if here == "self" && up == "super" => path.into_iter().skip(1).collect(),
                _ => path,
            };
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

/// Runs a rule over sources.
fn broken_by(rule: fn(&str, &str, &mut Vec<String>), sources: Vec<(String, String)>) -> Vec<String> {
    let mut broken = Vec::new();
    for (file, source) in sources {
        rule(&file, &source, &mut broken);
    }
    broken
}

/// Modules of the library import what the table allows.
pub(crate) fn imports(file: &str, source: &str, broken: &mut Vec<String>) {
    let table: BTreeMap<&str, &[&[&str]]> = MAY_IMPORT.iter().copied().collect();
    let owners = owners();
    let module = module_path(file)[0].to_owned();
    if module == "lib" {
        return;
    }
    let Some(allowed) = table.get(module.as_str()) else {
        broken.push(format!("{file}: enter the module `{module}` in the table of imports"));
        return;
    };
    let source = tokens(source);
    for Reach { path, line, in_tests } in reaches_of(file, &source) {
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

/// What the rules about paths do not see: roots under another name, and files that lie elsewhere.
pub(crate) fn disguises(file: &str, source: &str, broken: &mut Vec<String>) {
    let source = tokens(source);
    let texts: Vec<&str> = source.iter().map(|token| token.text.as_str()).collect();
    for (at, token) in source.iter().enumerate() {
        let what = match &texts[at..] {
            ["crate" | "std" | "core" | "alloc" | "super", "as", ..] => "a root under another name",
            ["extern", "crate", ..] => "a crate under another name",
            ["#", "[", "path", ..] => "a module that lies elsewhere",
            _ => continue,
        };
        broken.push(format!("{file}:{}: {what}", token.line));
    }
}

/// Modules of tests and suites are not part of what users get.
pub(crate) fn tests_only(file: &str, source: &str, broken: &mut Vec<String>) {
    let source = tokens(source);
    for (at, token) in source.iter().enumerate().filter(|(_, token)| token.text == "mod") {
        let name = source.get(at + 1).map_or("", |token| token.text.as_str());
        let wanted: &[&str] = match name {
            "tests" => &["# [ cfg ( test ) ]", "# [ cfg ( all ( test ,"],
            "conformance" => &["# [ cfg ( any ( test , feature = ) ) ]"],
            _ => continue,
        };
        let is_wanted = |found: &String| wanted.iter().any(|wanted| found.starts_with(wanted));
        if !attributes_before(&source, at).iter().any(is_wanted) {
            broken.push(format!("{file}:{}: `mod {name}` needs {}", token.line, wanted[0]));
        }
    }
}

/// The core has no I/O, clock, randomness or async.
pub(crate) fn purity(file: &str, source: &str, broken: &mut Vec<String>) {
    if !PURE.contains(&module_path(file)[0]) {
        return;
    }
    let source = tokens(source);
    for Reach { path, line, in_tests } in reaches_of(file, &source) {
        if let Some(impure) = reaches(&path, IMPURE).filter(|_| !in_tests) {
            broken.push(format!("{file}:{line}: the core reaches {impure}"));
        }
    }
    for token in source.iter().filter(|token| matches!(token.text.as_str(), "async" | "await")) {
        broken.push(format!("{file}:{}: the core has no async", token.line));
    }
}

/// Local files, time, randomness and locks have one door each; the environment, standard streams and exit have none.
pub(crate) fn doors(file: &str, source: &str, broken: &mut Vec<String>) {
    const NONE: &[&str] = &[
        "std::env",
        "std::io::stdin",
        "std::io::stdout",
        "std::io::stderr",
        "std::process::exit",
        "std::process::abort",
        "std::process::Command",
    ];
    for Reach { path, line, in_tests } in reaches_of(file, &tokens(source)) {
        let files = reaches(&path, &["std::fs"])
            .filter(|_| !USES_STD_FS.iter().any(|allowed| file.starts_with(allowed)));
        let time = reaches(&path, &["std::time::Instant", "std::time::SystemTime"])
            .filter(|_| file != "src/clock.rs");
        let random = reaches(&path, &["getrandom"]).filter(|_| file != "src/entropy.rs");
        // A suite runs on the threads of the system.
        let locks =
            reaches(&path, LOCKS).filter(|_| file != "src/sync.rs" && !file.contains("/conformance/"));
        // What is used by its name alone, after `use std::io;`, is caught where it is called.
        let none = reaches(&path, NONE).filter(|_| path.as_slice() != ["std", "io"]);
        let called = match path.as_slice() {
            [io, name, ..] if io == "io" && name.starts_with("std") => Some("a standard stream"),
            _ => None,
        };
        if let Some(what) = files.or(time).or(random).or(locks).or(none).or(called).filter(|_| !in_tests) {
            broken.push(format!("{file}:{line}: {what} belongs behind its own door"));
        }
    }
}

/// Numbers become bytes, and bytes numbers, where the layout is owned.
pub(crate) fn bytes_have_owners(file: &str, source: &str, broken: &mut Vec<String>) {
    const CODES: [&str; 6] =
        ["to_le_bytes", "to_be_bytes", "to_ne_bytes", "from_le_bytes", "from_be_bytes", "from_ne_bytes"];
    const CODECS: &[&str] = &["prost", "serde", "serde_json"];
    let is_suite = file.contains("/conformance");
    if is_test_file(file) || is_suite || USES_BYTES.iter().any(|owner| file.starts_with(owner)) {
        return;
    }
    // Modules of tests stand at the end of a file.
    let source = tokens(source);
    let is_tests = |at: &usize| attributes_before(&source, *at).contains(&CFG_TEST.join(" "));
    let end = (0..source.len()).filter(|at| source[*at].text == "mod").find(is_tests).unwrap_or(source.len());
    let coded = source[..end].iter().filter(|token| CODES.contains(&token.text.as_str()));
    broken.extend(coded.map(|token| format!("{file}:{}: {} outside of a layout", token.line, token.text)));
    for Reach { path, line, in_tests } in reaches_of(file, &source) {
        if let Some(codec) = reaches(&path, CODECS).filter(|_| !in_tests) {
            broken.push(format!("{file}:{line}: {codec} outside of `wire`"));
        }
    }
}

/// Unsafe code lives in the listed files.
pub(crate) fn unsafety(file: &str, source: &str, broken: &mut Vec<String>) {
    if !USES_UNSAFE.contains(&file) {
        let found = tokens(source).into_iter().filter(|token| token.text == "unsafe");
        broken.extend(found.map(|token| format!("{file}:{}: unsafe code", token.line)));
    }
}

/// Nothing is unfinished, ignored without a reason, or allowed.
pub(crate) fn finished(file: &str, source: &str, broken: &mut Vec<String>) {
    let source = tokens(source);
    let texts: Vec<&str> = source.iter().map(|token| token.text.as_str()).collect();
    for (at, token) in source.iter().enumerate() {
        let what = match &texts[at..] {
            ["todo" | "unimplemented", "!", ..] => "unfinished code",
            // A reason is a literal, which leaves `=` behind.
            ["#", "[", "ignore", "]", ..] | ["," | "(", "ignore", ")", ..] => {
                "an ignored test without a reason"
            }
            ["[" | ",", "allow" | "warn", "(", ..] => "`allow` in place of `expect`",
            ["clippy", "::", "too_many_lines", ..] => "a function that is too long",
            ["fn", name, ..] if name.starts_with("test_") => "a test's name is a claim, without `test_`",
            _ => continue,
        };
        broken.push(format!("{file}:{}: {what}", token.line));
    }
}

/// Every source begins with what it is.
pub(crate) fn headers(file: &str, source: &str, broken: &mut Vec<String>) {
    let header: Vec<&str> = source.lines().take_while(|line| line.starts_with("//!")).collect();
    if header.first().is_none_or(|first| first.trim_start_matches("//!").trim().is_empty()) {
        broken.push(format!("{file}: no `//!` header"));
    }
    // The crate's tour is a page of its own; the tool and tests promise nothing to other modules, nor do the parts of a
    // suite.
    let is_module = file.starts_with("src/") && file != "src/lib.rs" && !file.starts_with("src/bin/");
    if is_module && !is_test_file(file) && !file.contains("/conformance/") {
        let header = header.join("\n");
        for part in ["*Invariants", "*Does not*"] {
            if !header.contains(part) {
                broken.push(format!("{file}: the header does not say {part}"));
            }
        }
    }
}

/// Sources are short, and lie where they are looked for.
pub(crate) fn sizes(file: &str, source: &str, broken: &mut Vec<String>) {
    let lines = source.lines().count();
    if lines > LINES_MAX {
        broken.push(format!("{file}: {lines} lines, {LINES_MAX} are the limit"));
    }
    if file.ends_with("/mod.rs") {
        broken.push(format!("{file}: a module lies in x.rs, its parts in x/"));
    }
}

#[test]
fn modules_import_what_the_table_allows() {
    assert_none(&broken_by(imports, library()));
    assert_none(&broken_by(disguises, library()));
}

#[test]
fn tests_are_built_for_tests_only() {
    assert_none(&broken_by(tests_only, library()));
}

#[test]
fn the_core_has_no_io_clock_randomness_or_async() {
    assert_none(&broken_by(purity, library()));
}

#[test]
fn local_files_time_randomness_and_locks_have_one_door_each_and_the_environment_none() {
    assert_none(&broken_by(doors, library()));
}

#[test]
fn bytes_have_one_owner() {
    assert_none(&broken_by(bytes_have_owners, library()));
}

#[test]
fn unsafe_code_lives_in_the_listed_files() {
    assert_none(&broken_by(unsafety, files_named("rs")));
}

#[test]
fn nothing_is_unfinished_ignored_without_a_reason_or_allowed_for_a_whole_crate() {
    assert_none(&broken_by(finished, files_named("rs")));
}

#[test]
fn every_source_begins_with_what_it_is() {
    assert_none(&broken_by(headers, files_named("rs")));
}

#[test]
fn sources_are_short_and_lie_where_they_are_looked_for() {
    assert_none(&broken_by(sizes, files_named("rs")));
}

/// Functions are kept short by clippy: this holds that it is asked to.
#[test]
fn clippy_counts_the_lines_of_functions() {
    assert!(read("clippy.toml").contains("\ntoo-many-lines-threshold = 70\n"));
    assert!(read("Cargo.toml").contains("\npedantic = { level = \"warn\", priority = -1 }\n"));
    assert!(!read("Cargo.toml").contains("\ntoo_many_lines"));
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
