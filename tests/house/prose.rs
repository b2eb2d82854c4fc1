//! Rules about everything that is read by people.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use recoverylog::ErrorKind;

use super::{assert_none, files_named, read, root, written_files};

#[test]
fn everything_written_is_ascii_without_trailing_blanks_or_notes_to_self() {
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut broken = Vec::new();
    for path in written_files() {
        let file = path.display();
        for (at, line) in read(&path).lines().enumerate() {
            let at = at + 1;
            if let Some(other) = line.chars().find(|c| !c.is_ascii() || (c.is_ascii_control() && *c != '\t'))
            {
                broken.push(format!("{file}:{at}: {other:?} is not plain ASCII"));
            }
            if line.ends_with([' ', '\t']) {
                broken.push(format!("{file}:{at}: ends in a blank"));
            }
            for note in notes.iter().filter(|note| line.contains(**note)) {
                broken.push(format!("{file}:{at}: {note}"));
            }
        }
    }
    assert_none(&broken);
}

/// Returns the anchor that a heading of a page is reached by.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let heading = |line: &str| line.starts_with('#').then(|| anchor(line.trim_start_matches('#')));
    page.lines().filter_map(heading).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for (file, page) in files_named("md") {
        let here = Path::new(&file).parent().unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { root().join(&file) } else { root().join(here).join(path) };
            if !target.exists() {
                broken.push(format!("{file}: no file at {link}"));
            } else if !wanted.is_empty() && !anchors(&read(&target)).contains(wanted) {
                broken.push(format!("{file}: no heading for {link}"));
            }
        }
    }
    assert_none(&broken);
}

/// Returns the commands in the `sh` blocks of a page, with continued lines joined and comments cut.
fn commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.replace("\\\n", " ").lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside && !command.is_empty() && !command.starts_with('#') => {
                let command = command.split(" # ").next().unwrap_or_default();
                found.push(command.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            _ => {}
        }
    }
    found
}

/// Returns the words of a section of Cargo.toml that stand before `=`.
pub(crate) fn keys_of(section: &str) -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let body = manifest.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_default();
    let lines = body.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| Some(line.split_once('=')?.0.trim().to_owned())).collect()
}

#[test]
fn commands_of_the_pages_name_what_there_is() {
    let features = keys_of("features");
    let mut broken = Vec::new();
    for (file, page) in files_named("md") {
        for command in commands(&page).iter().filter(|command| command.starts_with("cargo ")) {
            let words: Vec<&str> = command.split(' ').collect();
            for pair in words.windows(2) {
                let missing = match pair[0] {
                    "--example" => !root().join(format!("examples/{}.rs", pair[1])).exists(),
                    "--test" => ["tests/{}.rs", "tests/{}/main.rs"]
                        .iter()
                        .all(|form| !root().join(form.replace("{}", pair[1])).exists()),
                    "--bench" => !root().join(format!("benches/{}.rs", pair[1])).exists(),
                    "--features" => pair[1].split(',').any(|feature| !features.contains(feature)),
                    _ => false,
                };
                if missing {
                    broken.push(format!("{file}: there is no {} {}: {command}", pair[0], pair[1]));
                }
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn the_table_of_layers_names_each_test_and_bench_once() {
    let table = read("docs/TESTING.md");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    let mut broken = Vec::new();
    for folder in ["tests", "benches"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_target = path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").exists();
            let cell = format!("| `{folder}/{}` |", path.file_name().unwrap().display());
            let times = rows.iter().filter(|row| row.contains(&cell)).count();
            if is_target && times != 1 {
                broken.push(format!("docs/TESTING.md has {times} rows with {cell}"));
            }
        }
    }
    assert_none(&broken);
}

/// Returns the words that the pages give to the tool, by page.
fn calls_of_the_tool() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (file, page) in files_named("md") {
        for command in commands(&page) {
            let call = match command.split_once(" -- ") {
                Some(("cargo run --features cli", call)) => Some(call),
                _ => command.strip_prefix("recoverylog "),
            };
            found.extend(call.map(|call| (file.clone(), call.split(' ').map(str::to_owned).collect())));
        }
    }
    found
}

#[test]
fn calls_of_the_tool_use_what_it_has() {
    let calls = calls_of_the_tool();
    assert!(calls.len() > 3, "the pages show how to call the tool");
    // Without the feature the tool is not built; its path is told all the same.
    if !cfg!(feature = "cli") {
        return;
    }
    let tool = env!("CARGO_BIN_EXE_recoverylog");
    let mut broken = Vec::new();
    for (file, call) in calls {
        let asked = Command::new(tool).args([call[0].as_str(), "--help"]).output().unwrap();
        let help = String::from_utf8(asked.stdout).unwrap();
        let known = |flag: &str| help.split([' ', ',', '\n']).any(|word| word == flag);
        let unknown = call.iter().filter(|word| word.starts_with("--") && !known(word));
        broken.extend(unknown.map(|flag| format!("{file}: `recoverylog {}` has no {flag}", call[0])));
        if !asked.status.success() {
            broken.push(format!("{file}: there is no `recoverylog {}`", call[0]));
        }
    }
    assert_none(&broken);
}

#[test]
fn contributing_lists_what_ci_runs() {
    let listed = commands(&read("CONTRIBUTING.md"));
    let script = read(".ci/run");
    let run: Vec<&str> = script
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let line = line.trim_start_matches("exec ");
            let begin =
                if line.starts_with("cargo ") { 0 } else { line.find("step ").and(line.find(" cargo "))? };
            Some(line[begin..].trim())
        })
        .collect();
    assert!(run.len() > 5, "the commands of .ci/run were not found: {run:?}");
    let lacking = run.iter().filter(|command| !listed.iter().any(|listed| listed.ends_with(*command)));
    assert_none(
        &lacking.map(|command| format!("CONTRIBUTING.md does not list `{command}`")).collect::<Vec<_>>(),
    );
}

#[test]
fn the_changelog_is_kept() {
    const SECTIONS: [&str; 6] = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    let changelog = read("CHANGELOG.md");
    assert!(changelog.starts_with("# Changelog\n") && changelog.contains("keepachangelog.com"));
    let releases: Vec<&str> = changelog.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(releases.first(), Some(&"[Unreleased]"));
    for release in &releases[1..] {
        let (version, date) = release.split_once(" - ").unwrap_or((release, ""));
        assert!(version.starts_with('[') && version.ends_with(']'), "release {release}");
        let digits: Vec<usize> = date.split('-').map(str::len).collect();
        assert!(
            digits == [4, 2, 2] && date.chars().all(|c| c.is_ascii_digit() || c == '-'),
            "date of {release}"
        );
    }
    for section in changelog.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(SECTIONS.contains(&section), "section {section}");
    }
}

#[test]
fn the_table_of_errors_is_that_of_the_code() {
    use ErrorKind::{Corrupt, DataLoss, Diverged, Fenced, Invalid, InvalidHints, Io, Unavailable, Wedged};
    let kinds = [Fenced, DataLoss, Corrupt, Diverged, InvalidHints, Invalid, Wedged, Unavailable, Io];
    let page = read("docs/OPERATIONS.md");
    let table = page.split("\n## Errors\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<(&str, &str)> = rows
        .map(|row| {
            (row.split('`').next().unwrap(), row.trim_end_matches([' ', '|']).rsplit(' ').next().unwrap())
        })
        .collect();
    let coded: Vec<(String, String)> =
        kinds.iter().map(|kind| (format!("{kind:?}"), kind.exit_code().to_string())).collect();
    assert_eq!(told, coded.iter().map(|(kind, code)| (kind.as_str(), code.as_str())).collect::<Vec<_>>());
}

#[test]
fn the_example_of_the_readme_is_part_of_one_that_runs() {
    let (readme, example) = (read("README.md"), read("examples/takeover.rs"));
    let block = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let runs: BTreeSet<&str> = example.lines().map(str::trim).collect();
    let lacking = block.lines().filter(|line| !line.is_empty() && !runs.contains(line.trim()));
    assert_none(&lacking.map(|line| format!("not in the example: {line}")).collect::<Vec<_>>());
}

/// Returns a section of docs/TESTING.md.
fn section_on_tests(heading: &str) -> String {
    let page = read("docs/TESTING.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    section.split("\n## ").next().unwrap().to_owned()
}

/// Returns what is wrong with the tests that a text names as `module::beginning_of_its_name`, or `::beginning` of one
/// in the same module; `files` are those in which a module can be.
fn tests_that_are_not_there(text: &str, files: impl Fn(&str) -> Vec<String>) -> (usize, Vec<String>) {
    let (mut module, mut named, mut broken) = (String::new(), 0, Vec::new());
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, test)) = quoted.split_once("::") else { continue };
        if !file.is_empty() {
            file.clone_into(&mut module);
        }
        named += 1;
        let files = files(&module);
        let form = format!("fn {test}");
        let has = |file: &&String| root().join(file).exists() && read(file).contains(&form);
        if !files.iter().any(|file| has(&file)) {
            broken.push(format!("docs/TESTING.md: there is no test {test} in {}", files.join(" or ")));
        }
    }
    (named, broken)
}

#[test]
fn the_tables_of_bad_input_and_of_bugs_name_tests_that_there_are() {
    let bad_input = |module: &str| vec![format!("tests/{}.rs", module.replace("b/", "bad_input/"))];
    let (named, broken) = tests_that_are_not_there(&section_on_tests("Bad input"), bad_input);
    assert!(named > 50, "{named}");
    assert_none(&broken);

    let bugs = |module: &str| vec![format!("src/{module}.rs"), format!("tests/{module}.rs")];
    let (named, broken) = tests_that_are_not_there(&section_on_tests("Bugs that this found"), bugs);
    assert!(named > 20, "{named}");
    assert_none(&broken);
}
