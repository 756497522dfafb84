//! Each file is part of the program, and says what it is for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::Item;

use crate::code::{files, read, root};

/// The files at which the compiler begins.
fn roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "tests/rig/src", "tests/rig/tests", "tests/demo/src"] {
        for file in files(folder) {
            let depth = file.components().count() - Path::new(folder).components().count();
            let is_target = depth == 1 && (!folder.ends_with("src") || ["main", "lib"].contains(&stem(&file)));
            let is_folder_target = depth == 2 && stem(&file) == "main" && !folder.ends_with("src");
            if is_target || is_folder_target {
                roots.push(file);
            }
        }
    }
    roots
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// The files that `file` declares as modules, and those that these declare.
fn declared(file: &Path, is_root: bool, found: &mut BTreeSet<PathBuf>) {
    found.insert(file.to_owned());
    let items = syn::parse_file(&read(file)).unwrap().items;
    let parent = file.parent().unwrap();
    let folder = if is_root || stem(file) == "mod" { parent.to_owned() } else { parent.join(stem(file)) };
    declared_in(&items, &folder, found);
}

fn declared_in(items: &[Item], folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for item in items {
        let Item::Mod(module) = item else { continue };
        assert!(
            !module.attrs.iter().any(|attribute| attribute.path().is_ident("path")),
            "module {} is moved by #[path]: put its file where its name says",
            module.ident
        );
        let name = module.ident.to_string();
        if let Some((_, items)) = &module.content {
            declared_in(items, &folder.join(&name), found);
            continue;
        }
        let candidates = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
        let file = candidates.iter().find(|path| root().join(path).is_file());
        declared(file.unwrap_or_else(|| panic!("no file for module {name} in {}", folder.display())), false, found);
    }
}

#[test]
fn every_file_is_declared_by_a_module() {
    let mut found = BTreeSet::new();
    for root in roots() {
        declared(&root, true, &mut found);
    }
    let all = ["src", "tests", "benches", "examples"].iter().flat_map(|folder| files(folder));
    let orphans: Vec<_> = all.filter(|file| !found.contains(file)).collect();
    assert!(found.len() > 20, "only {} files were found", found.len());
    assert!(orphans.is_empty(), "declared by no `mod`, so never compiled: {orphans:#?}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<_> = ["src", "tests", "benches"]
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|file| !read(file).starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "these files do not begin with `//! `: {silent:#?}");
}
