//! Every timeline under `tests/scenarios`: its expectations are asserted and its trace is a reviewed snapshot.

use std::path::PathBuf;

use crate::story::{Story, play};

/// Timelines are told by so many threads at once.
const WORKERS: usize = 4;

#[test]
fn every_timeline_ends_as_expected() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let only = std::env::var("SCENARIO").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| path.file_stem().unwrap().to_string_lossy().contains(&only))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no timeline matches {only:?}");
    let workers: Vec<_> = files.chunks(files.len().div_ceil(WORKERS)).map(<[PathBuf]>::to_vec).collect();
    let workers: Vec<_> = workers.into_iter().map(|files| std::thread::spawn(move || tell_all(&files))).collect();
    let failed: Vec<String> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    assert!(failed.is_empty(), "timelines that did not end as expected (SCENARIO=name runs one): {failed:#?}");
}

/// The names of those that failed.
fn tell_all(files: &[PathBuf]) -> Vec<String> {
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        if std::panic::catch_unwind(|| tell(&name, &std::fs::read_to_string(file).unwrap())).is_err() {
            failed.push(name);
        }
    }
    failed
}

fn tell(name: &str, text: &str) {
    let story: Story = serde_yaml::from_str(text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    let outturn = play(&story);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../scenarios/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(format!("{}\n{}", story.title, story.telling.trim()));
    let report = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| outturn.check(&story.expect)));
    if let Err(problem) = report {
        eprintln!("--- {name}: what happened\n{}\n", outturn.trace);
        std::panic::resume_unwind(problem);
    }
    settings.bind(|| insta::assert_snapshot!(name, outturn.trace));
}
