//! What ARCHITECTURE.md names is there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::code::{read, root};

/// Top-level folders: a name that begins with one of them is a path of this repository.
const FOLDERS: [&str; 6] = ["src", "crds", "charts", "tests", "examples", ".ci"];
/// Endings that make a name without a folder a file at the top level.
const ENDINGS: [&str; 3] = [".md", ".toml", ".yaml"];

/// The names between backticks that evaluation like paths of this repository, from its root.
fn named_paths(markdown: &str) -> BTreeSet<String> {
    let spans = markdown.split('`').skip(1).step_by(2);
    spans.filter(|span| is_path(span)).map(|span| span.trim_end_matches('/').to_owned()).collect()
}

fn is_path(name: &str) -> bool {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let first = name.split('/').next().unwrap_or_default();
    let in_folder = FOLDERS.contains(&first) && name.contains('/');
    let at_top = !name.contains('/') && (ENDINGS.iter().any(|ending| name.ends_with(ending)) || name == "Makefile");
    plain && (in_folder || at_top)
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let named = named_paths(&read(Path::new("ARCHITECTURE.md")));
    assert!(named.len() >= 10, "ARCHITECTURE.md names only {} paths: {named:?}", named.len());
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:#?}");
}

#[test]
fn the_questions_have_answers() {
    let named = named_paths(&read(Path::new("tests/tidy/questions.md")));
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(named.len() >= 10 && missing.is_empty(), "{missing:#?}");
}

#[test]
fn paths_are_told_from_other_names() {
    let text = "`src/api/mod.rs`, `tests/`, `Cargo.toml` and `Makefile`, but not `pilotguard.dev/admitted`, `/healthz`, \
        `api`, `apps/v1`, `src/*.rs` or `cargo test`. See src/lib.rs.";
    let expected = ["Cargo.toml", "Makefile", "src/api/mod.rs", "tests"];
    assert_eq!(named_paths(text), expected.map(str::to_owned).into());
}

/// Files that the comments of a YAML text name.
fn named_files(yaml: &str) -> Vec<&str> {
    let comments = yaml.lines().filter_map(|line| line.split_once('#').map(|(_, comment)| comment));
    let words = comments.flat_map(|comment| comment.split(|c: char| c.is_whitespace() || ",;:()".contains(c)));
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| Path::new(word).extension().is_some_and(|extension| extension == "yaml" || extension == "md"))
        .collect()
}

#[test]
fn every_file_that_an_example_names_exists() {
    let mut found = 0;
    for folder in ["examples", "examples/decisions"] {
        for file in std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let text = if file.is_file() { std::fs::read_to_string(&file).unwrap() } else { String::new() };
            for name in named_files(&text) {
                found += 1;
                let is_there = root().join(name).is_file() || file.with_file_name(name).is_file();
                assert!(is_there, "{} names {name}, which is not there", file.display());
            }
        }
    }
    assert!(found >= 3, "only {found} names were found");
}

/// Two operators at once would rewrite each other's webhook configuration.
#[test]
fn the_chart_replaces_the_operator_before_it_starts_another() {
    let deployment = read(Path::new("charts/pilotguard/templates/deployment.yaml"));
    assert!(deployment.contains("strategy: {type: Recreate}"));
}
