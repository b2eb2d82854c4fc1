//! Rules about the manifest, and about what the crate depends on.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::prose::keys_of;
use super::{assert_none, read};

/// Returns a version as numbers: `1.88` and `1.88.0` are equal.
fn version(text: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = text.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.resize(3, 0);
    numbers
}

/// Returns what the lock file says that is built, for every target and feature, tests included.
fn packages() -> Vec<Value> {
    let cargo = env!("CARGO");
    let asked = ["metadata", "--format-version", "1", "--all-features", "--locked", "--offline"];
    let told = Command::new(cargo).args(asked).current_dir(super::root()).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let mut told: Value = serde_json::from_slice(&told.stdout).unwrap();
    serde_json::from_value(told["packages"].take()).unwrap()
}

/// Returns the packages that ask for a newer Rust than `ours`.
fn too_new(packages: &[Value], ours: &str) -> Vec<String> {
    let asks = |package: &Value| Some(version(package["rust_version"].as_str()?));
    let is_newer = |package: &&Value| asks(package).is_some_and(|asked| asked > version(ours));
    let named = |package: &Value| format!("{} needs Rust {}", package["id"], package["rust_version"]);
    packages.iter().filter(is_newer).map(named).collect()
}

/// The oldest Rust cannot be had everywhere; what the dependencies say of themselves can be read everywhere.
#[test]
fn no_dependency_needs_a_newer_rust_than_we_say() {
    let packages = packages();
    let ours = packages.iter().find(|package| package["name"] == "recoverylog").unwrap();
    assert!(packages.len() > 50, "{}", packages.len());
    assert_none(&too_new(&packages, ours["rust_version"].as_str().unwrap()));
}

#[test]
fn a_dependency_that_is_too_new_is_seen() {
    let package = |rust: Option<&str>| serde_json::json!({ "id": "a", "rust_version": rust });
    for (asked, ours, is_newer) in [
        (Some("1.89"), "1.88", true),
        (Some("1.88.1"), "1.88", true),
        (Some("1.88.0"), "1.88", false),
        (Some("1.9"), "1.88", false),
        (None, "1.88", false),
    ] {
        assert_eq!(!too_new(&[package(asked)], ours).is_empty(), is_newer, "{asked:?}");
    }
}

/// Tells whether a licence expression (SPDX, or `A/B`) can be satisfied with the licences in `allowed`.
fn is_satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut found = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        found |= all_of(words, at, allowed);
    }
    found
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut found = one_of(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        found &= one_of(words, at, allowed);
    }
    found
}

fn one_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word == "(" {
        let found = any_of(words, at, allowed);
        let is_closed = words.get(*at) == Some(&")");
        *at += 1;
        return found && is_closed;
    }
    if words.get(*at) == Some(&"WITH") {
        // An exception only adds to what is granted.
        *at += 2;
    }
    allowed.contains(word)
}

/// What `cargo deny check licenses sources` says, on a machine that does not have it.
#[test]
fn dependencies_come_from_the_registry_under_licences_that_we_allow() {
    let deny = read("deny.toml");
    let list = deny.split("\nallow = [").nth(1).unwrap().split(']').next().unwrap();
    let allowed: BTreeSet<&str> = list.split(',').map(|name| name.trim().trim_matches('"')).collect();
    assert!(allowed.contains("MIT") && allowed.len() > 3, "{allowed:?}");
    let mut broken = Vec::new();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_satisfied(licence, &allowed) {
            broken.push(format!("{} is under {licence:?}", package["id"]));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| source != "registry+https://github.com/rust-lang/crates.io-index") {
            broken.push(format!("{} comes from elsewhere", package["id"]));
        }
    }
    assert_none(&broken);
}

#[test]
fn a_licence_that_is_not_allowed_is_seen() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("GPL-3.0 OR MIT", true),
        ("Unlicense/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("MIT AND GPL-3.0 OR Apache-2.0", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
        ("MIT) OR (MIT", false),
        ("(MIT", false),
    ] {
        assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
    }
}

#[test]
fn ci_tries_each_feature_alone() {
    let script = read(".ci/run");
    let tried = script.split("for feature in ").nth(1).unwrap().split(';').next().unwrap();
    let mut tried: BTreeSet<&str> = tried.split(' ').collect();
    assert!(tried.insert("default"));
    let there = keys_of("features");
    assert_eq!(tried, there.iter().map(String::as_str).filter(|key| !key.starts_with('#')).collect());
}
