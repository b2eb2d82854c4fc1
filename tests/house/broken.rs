//! Each rule about sources fails on a source that breaks it, and only there.

use super::code::{
    bytes_have_owners, disguises, doors, finished, headers, imports, purity, sizes, tests_only, unsafety,
};

type Rule = fn(&str, &str, &mut Vec<String>);

/// Checks that every snippet breaks the rule once, where it is said to lie.
#[track_caller]
fn breaks(rule: Rule, file: &str, snippets: &[&str]) {
    for snippet in snippets {
        let mut broken = Vec::new();
        rule(file, snippet, &mut broken);
        assert_eq!(broken.len(), 1, "{snippet}: {broken:?}");
        assert!(broken[0].starts_with(file), "{broken:?}");
    }
}

#[track_caller]
fn keeps(rule: Rule, file: &str, snippets: &[&str]) {
    for snippet in snippets {
        let mut broken = Vec::new();
        rule(file, snippet, &mut broken);
        assert!(broken.is_empty(), "{snippet}: {broken:?}");
    }
}

#[test]
fn an_import_from_below_is_seen_however_it_is_written() {
    breaks(
        imports,
        "src/journal/memory.rs",
        &[
            "use crate::player::Player;",
            "use crate::{ids::Offset, player::Player};",
            "use super::super::player;",
            "use self::super::super::player;",
            "use crate::Recorder;",
            "use crate::*;",
            "fn f() { crate::player::play(); }",
            "fn f(p: Vec<crate::player::Player>) {}",
            "fn f() { <T as crate::player::P>::g(); }",
            "mod inner { use super::super::super::player; }",
            "pub(crate) use crate::player as p;",
            // What is for tests only before an item does not make a test of the item.
            "#[cfg(test)] use x; mod real { use crate::player::P; }",
            "#[cfg(not(test))] mod tests { use crate::player::P; }",
            "#[cfg(any(test, feature = \"x\"))] mod tests { use crate::player::P; }",
            "#[cfg(test)] mod tests {} use crate::player::P;",
        ],
    );
    breaks(imports, "src/vfs/conformance/names.rs", &["use crate::journal::Journal;"]);
    breaks(imports, "src/newcomer.rs", &["fn f() {}"]);
    keeps(
        imports,
        "src/journal/memory.rs",
        &[
            "use crate::vfs::File; use crate::Offset; use super::Append; use std::player::Player;",
            "// crate::player::Player\nconst A: &str = \"crate::player::Player\";",
            "#[cfg(test)] mod tests { use crate::player::P; }",
            "#[cfg(test)] #[cfg(unix)] pub(crate) mod tests { mod a { use crate::player::P; } }",
        ],
    );
    keeps(imports, "src/journal/tests.rs", &["use crate::player::P;"]);
}

#[test]
fn a_root_under_another_name_is_seen() {
    breaks(
        disguises,
        "src/journal.rs",
        &[
            "use crate as x;",
            "use std as x;",
            "extern crate alloc;",
            "#[path = \"x.rs\"] mod x;",
            "use {core as c};",
        ],
    );
    keeps(disguises, "src/journal.rs", &["use crate::ids as i;", "let a = self.a as u64;", "mod x;"]);
}

#[test]
fn tests_and_suites_that_users_would_get_are_seen() {
    breaks(
        tests_only,
        "src/journal.rs",
        &[
            "mod tests;",
            "#[cfg(unix)] mod tests {}",
            "pub mod conformance;",
            "#[cfg(test)] use a; mod tests {}",
        ],
    );
    keeps(
        tests_only,
        "src/journal.rs",
        &[
            "#[cfg(test)] pub(crate) mod tests {}",
            "#[cfg(test)] #[cfg(unix)] mod tests;",
            "#[cfg(any(test, feature = \"conformance\"))] pub mod conformance;",
        ],
    );
}

#[test]
fn what_is_impure_is_seen_in_the_core_however_it_is_written() {
    breaks(
        purity,
        "src/fsm.rs",
        &[
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::time;",
            "use std::time::*;",
            "use ::std::fs;",
            "fn f() { ::std::fs::read(p); }",
            "use std::collections::HashMap;",
            "use std::thread as t;",
            "async fn f() {}",
            "fn f() { a.await; }",
            "use rustix::fs;",
        ],
    );
    // One line for all that it reaches.
    breaks(purity, "src/fsm/nodes.rs", &["use std::*;"]);
    keeps(
        purity,
        "src/fsm.rs",
        &["use std::time::Duration; use std::{fmt, io::Read}; use std::collections::BTreeMap;"],
    );
    keeps(purity, "src/fsm.rs", &["#[cfg(test)] mod tests { use std::fs; }"]);
    keeps(purity, "src/vfs/os.rs", &["use std::fs;"]);
}

#[test]
fn what_goes_past_its_door_is_seen() {
    breaks(
        doors,
        "src/player.rs",
        &[
            "use std::fs;",
            "fn f() { std::fs::read(p); }",
            "fn f() { ::std::fs::read(p); }",
            "use std::*;",
            "use std::time::Instant;",
            "use std::time;",
            "use getrandom::fill;",
            "use std::sync::Mutex;",
            "use std::{fmt, sync::{Arc, Condvar}};",
            "fn f() { std::env::var(a); }",
            "fn f() { std::io::stdout().write(b); }",
            "fn f() { io::stderr().write(b); }",
            "fn f() { std::process::exit(1); }",
        ],
    );
    keeps(doors, "src/player.rs", &["use std::io; use std::time::Duration; fn f() { io::Error::other(a); }"]);
    keeps(doors, "src/clock.rs", &["use std::time::Instant;"]);
    keeps(doors, "src/player.rs", &["use std::sync::{Arc, PoisonError};"]);
    keeps(doors, "src/vfs/os/dir.rs", &["use std::fs;"]);
}

#[test]
fn bytes_that_another_module_makes_are_seen() {
    breaks(
        bytes_have_owners,
        "src/player.rs",
        &["fn f() { 1_u32.to_le_bytes(); }", "fn f() { u64::from_be_bytes(b); }", "use prost::Message;"],
    );
    breaks(bytes_have_owners, "src/hints.rs", &["fn f() { serde_json::from_slice(b); }"]);
    keeps(bytes_have_owners, "src/wire/op.rs", &["use prost::Message; fn f() { 1_u32.to_le_bytes(); }"]);
    keeps(
        bytes_have_owners,
        "src/player.rs",
        &["#[cfg(test)] mod tests { fn f() { 1_u32.to_le_bytes(); } }"],
    );
}

#[test]
fn unsafe_code_is_seen() {
    breaks(unsafety, "src/player.rs", &["fn f() { unsafe { g() } }", "unsafe impl Send for A {}"]);
    keeps(unsafety, "src/player.rs", &["// unsafe\n#![deny(unsafe_code)]", "const A: &str = \"unsafe\";"]);
    keeps(unsafety, "src/vfs/os/map.rs", &["unsafe impl Send for A {}"]);
}

#[test]
fn what_is_unfinished_or_allowed_is_seen() {
    let macros = [concat!("fn f() { to", "do!() }"), concat!("fn f() { unimpl", "emented!(\"a\") }")];
    breaks(finished, "src/player.rs", &macros);
    breaks(
        finished,
        "tests/wire.rs",
        &[
            "#[test] #[ignore] fn f() {}",
            "#[cfg_attr(miri, ignore)] fn f() {}",
            "#![allow(dead_code)]",
            "#[allow(dead_code)] fn f() {}",
            "#[cfg_attr(test, allow(dead_code))] fn f() {}",
            "#[warn(dead_code)] fn f() {}",
            "#[expect(clippy::too_many_lines, reason = \"a\")] fn f() {}",
            "#[test] fn test_it() {}",
        ],
    );
    keeps(
        finished,
        "tests/wire.rs",
        &[
            "#[ignore = \"takes an hour\"] fn f() { self.allow(1); allow(2) }",
            "#[expect(dead_code, reason = \"a\")]",
        ],
    );
}

#[test]
fn a_source_that_does_not_say_what_it_is_is_seen() {
    let whole = "//! A thing.\n//!\n//! *Invariants.* None.\n//!\n//! *Does not* do more.\n";
    for file in ["src/a.rs", "src/a/b.rs"] {
        breaks(
            headers,
            file,
            &[&whole.replace("*Invariants.*", "Invariants."), &whole.replace("*Does not*", "No")],
        );
        keeps(headers, file, &[whole]);
    }
    breaks(headers, "tests/a.rs", &["fn f() {}", "\n//! Late.", "//!\n", "/// Of an item."]);
    keeps(headers, "tests/a.rs", &["//! A test."]);
}

#[test]
fn a_source_that_is_too_long_or_lies_elsewhere_is_seen() {
    breaks(sizes, "src/a.rs", &[&"\n".repeat(801)]);
    keeps(sizes, "src/a.rs", &[&"\n".repeat(800)]);
    breaks(sizes, "src/a/mod.rs", &["\n"]);
}
