//! No client, clock, logger, disk or chance can enter the modules that decide.
//!
//! What counts is every path that a file names: in `use`, in full, in a macro's tokens, in an attribute. Names that the
//! file renamed are followed to what they stand for. Code that is compiled for tests only is free.

mod names;

use std::path::{Component, Path};

use names::Names;

use crate::code::{files, read};

/// The pure modules of the crate, each a file or a folder.
const PURE: [&str; 9] =
    ["api", "calendar", "canonical", "decide", "declaration", "observation", "release", "report", "violation"];

/// Crates that every pure module may use, beside a part of `std`.
const CRATES: [&str; 8] = ["alloc", "core", "std", "serde", "serde_json", "serde_json_canonicalizer", "jiff", "sha2"];

/// Crates that one pure module may use in addition.
const SPECIAL: [(&str, &str); 7] = [
    ("api", "kube"),
    ("api", "k8s_openapi"),
    ("api", "schemars"),
    ("calendar", "croner"),
    ("declaration", "promql_parser"),
    ("report", "kube"),
    ("report", "k8s_openapi"),
];

/// What `std`, `core` and `alloc` may be used for.
const STD: [&str; 34] = [
    "any",
    "array",
    "ascii",
    "borrow",
    "boxed",
    "cell",
    "char",
    "clone",
    "cmp",
    "collections",
    "convert",
    "default",
    "error",
    "f32",
    "f64",
    "fmt",
    "hash",
    "i32",
    "i64",
    "iter",
    "marker",
    "matches",
    "mem",
    "num",
    "ops",
    "option",
    "panic",
    "rc",
    "result",
    "slice",
    "str",
    "string",
    "u64",
    "vec",
];

/// What `kube` may be used for: types and derives, never its client or runtime.
const KUBE: [&str; 6] = ["CustomResource", "CustomResourceExt", "KubeSchema", "Resource", "ResourceExt", "core"];

/// Parts of names that read a clock, the environment or the disk, or that iterate by chance.
const FORBIDDEN: [&str; 12] = [
    "jiff::tz::db",
    "TimeZone::get",
    "TimeZone::system",
    "TimeZone::try_system",
    "TimeZoneDatabase::from_env",
    "TimeZoneDatabase::from_dir",
    "TimeZoneDatabase::from_concatenated_path",
    "collections::HashMap",
    "collections::HashSet",
    "collections::hash_map",
    "collections::hash_set",
    "hash::RandomState",
];

/// Macros of `std` that print, panic on purpose, or read files and the environment.
const MACROS: [&str; 13] = [
    "println",
    "print",
    "eprintln",
    "eprint",
    "dbg",
    "env",
    "option_env",
    "include",
    "include_str",
    "include_bytes",
    "thread_local",
    "todo",
    "unimplemented",
];

/// What a file may not name, with the line.
fn impurities(file: &str, text: &str) -> Vec<String> {
    let names = Names::of(text);
    let module: Vec<String> = module_path(Path::new(file));
    let mut found: Vec<String> = names.forbidden_syntax;
    for (line, path) in names.paths {
        if let Some(why) = objection(&module, &path) {
            found.push(format!("{line}: {}: {why}", path.join("::")));
        }
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|finding| format!("{file}:{finding}")).collect()
}

/// `src/decide/judge.rs` is the module `decide::judge`.
fn module_path(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let parts = parts.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    });
    parts.filter(|part| part != "src" && part != "mod").collect()
}

fn objection(module: &[String], path: &[String]) -> Option<&'static str> {
    let (first, rest) = path.split_first()?;
    let own = module.first()?.as_str();
    let second = rest.first().map(String::as_str);
    match first.as_str() {
        "crate" | "pilotguard" => second.is_some_and(|name| !PURE.contains(&name)).then_some("is no pure module"),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            let target = path.get(ups).map(String::as_str);
            (ups >= module.len() && target.is_some_and(|name| !PURE.contains(&name))).then_some("is no pure module")
        }
        _ if forbidden(path) => Some("reads a clock, the environment or the disk, or depends on chance"),
        "std" | "core" | "alloc" => (!allowed_std(path)).then_some("is not among what pure modules use of std"),
        "kube" if SPECIAL.contains(&(own, "kube")) => second
            .is_none_or(|name| !KUBE.contains(&name))
            .then_some("is client or runtime; only kube's types are pure"),
        name if CRATES.contains(&name) || SPECIAL.contains(&(own, name)) => None,
        name if is_dependency(name) => Some("is a crate that this module may not use"),
        _ => None,
    }
}

fn allowed_std(path: &[String]) -> bool {
    match path.get(1).map(String::as_str) {
        Some("sync") => path.get(2).is_some_and(|name| name == "Arc"),
        Some(name) => STD.contains(&name),
        None => false,
    }
}

fn forbidden(path: &[String]) -> bool {
    let reads_clock = path.len() > 1 && path.last().is_some_and(|name| name == "now");
    let contains = |name: &&str| {
        let name: Vec<&str> = name.split("::").collect();
        path.windows(name.len()).any(|part| part == name)
    };
    reads_clock || FORBIDDEN.iter().any(contains)
}

/// Whether a name is a crate that this package depends on, so that it can be named without `use`.
fn is_dependency(name: &str) -> bool {
    let manifest = read(Path::new("Cargo.toml"));
    let sections = manifest.split("\n[").filter(|section| section.starts_with("dependencies]"));
    let mut lines = sections.flat_map(str::lines).filter_map(|line| line.split(['.', ' ', '=']).next());
    lines.any(|dependency| dependency.replace('-', "_") == name)
}

#[test]
fn pure_modules_are_pure() {
    let is_pure = |file: &Path| module_path(file).first().is_some_and(|module| PURE.contains(&module.as_str()));
    let pure: Vec<_> = files("src").into_iter().filter(|file| is_pure(file)).collect();
    for module in ["api", "calendar", "decide", "declaration", "observation", "release"] {
        assert!(pure.iter().any(|file| module_path(file)[0] == module), "no file of module {module} was found");
    }
    let found: Vec<_> = pure.iter().flat_map(|file| impurities(&file.display().to_string(), &read(file))).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn pure_code_passes() {
    let sources = [
        "use std::collections::BTreeMap; use std::{fmt, sync::Arc}; use crate::api::pilot::Pilot;",
        "use super::Case; fn f(case: &Case) -> bool { let now = case.now; now > case.until }",
        "fn f(zones: &jiff::tz::TimeZoneDatabase) { zones.get(\"UTC\"); }",
        "use super::super::calendar::Calendar;",
        "#[cfg(test)] mod tests { fn f() { println!(\"{}\", std::env::temp_dir().display()); } }",
        "/// Never asks `std::time::Instant::now`.\nfn f() {}",
    ];
    for source in sources {
        assert_eq!(impurities("src/decide/pilot.rs", source), [""; 0], "{source}");
    }
    assert_eq!(
        impurities("src/api/pilot.rs", "use kube::{CustomResource, KubeSchema}; use schemars::JsonSchema;"),
        [""; 0]
    );
}

#[test]
fn each_way_to_impurity_is_found() {
    let sources = [
        "use std::time::Instant;",
        "use std as plain; fn f() { plain::fs::read(\"x\"); }",
        "use std::*;",
        "use ::std::{fmt, net::TcpStream};",
        "fn f() { std::env::var(\"X\"); }",
        "fn f() { let read: fn() -> jiff::Timestamp = jiff::Timestamp::now; }",
        "use jiff::Timestamp as T; fn f() { T::now(); }",
        "fn f(clock: &impl Clock) { clock.now(); }",
        "fn f() { vec![jiff::Timestamp::now()]; }",
        "fn f() { assert!(clock.now() > start); }",
        "use jiff::tz::TimeZone as Z; fn f() { Z::get(\"UTC\"); }",
        "fn f() { jiff::tz::db(); }",
        "use std::collections::{BTreeMap, HashMap};",
        "use std::sync::Mutex;",
        "extern crate tokio;",
        "extern crate std as other; use other::process::Command;",
        "fn f() { ::tokio::spawn(x); }",
        "fn f() { tracing::info!(\"x\"); }",
        "use tracing::info;",
        "fn f() { println!(\"x\"); }",
        "fn f() { std::eprintln!(\"x\"); }",
        "const X: &str = include_str!(\"x\");",
        "const X: &str = env!(\"HOME\");",
        "fn f() { vec![reqwest::get(\"x\")]; }",
        "macro_rules! m { () => { std::thread::sleep(x) }; }",
        "#[derive(tracing::Value)] struct S;",
        "async fn f() {}",
        "fn f() { async {}; }",
        "fn f() { async || 1; }",
        "fn f() { m!(x.await); }",
        "trait T { async fn f(); }",
        "use kube::Client;",
        "type K = k8s_openapi::api::apps::v1::Deployment;",
        "use promql_parser::parser;",
        "use crate::act::perform;",
        "use super::super::act;",
        "use crate::{api, act::perform};",
        "fn f() { pilotguard::cli::crds::run(); }",
        "fn f<T: tokio::io::AsyncRead>(x: T) {}",
        "static mut COUNT: u8 = 0;",
    ];
    for source in sources {
        assert_ne!(impurities("src/decide/pilot.rs", source), [""; 0], "not found: {source}");
    }
    for source in
        ["use kube::Client;", "use kube::runtime::Controller;", "use kube::{KubeSchema, Api};", "use kube::*;"]
    {
        assert_ne!(impurities("src/api/pilot.rs", source), [""; 0], "not found: {source}");
    }
    assert_eq!(
        impurities("src/decide/pilot.rs", "fn f() {}\nuse std::time::Instant;"),
        ["src/decide/pilot.rs:2: std::time::Instant: is not among what pure modules use of std"]
    );
}
