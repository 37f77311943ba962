//! Our focus in the place of a real Jicofo: the recordings of `../shared/fixtures` are played to it, and what it says to clients,
//! rooms and bridges is compared with what Jicofo said; then requests of our own making, with the answers that Jicofo gives
//! (docs/protocol/focus.md 2, 3.5, 5, 7.6 and 8). `tools/focus-conformance` runs it alone.
//!
//! What differs from run to run by nature is made equal before (`normal`). A difference that is meant stands with its reason in
//! `focus_conformance/differences.txt`; any other one fails the run, and so does a line of that file that explains nothing.

#[path = "focus_conformance/composed.rs"]
mod composed;
#[path = "focus_conformance/differences.rs"]
mod differences;
mod focus_world;
#[path = "focus_conformance/normal.rs"]
mod normal;
#[path = "focus_conformance/recording.rs"]
mod recording;
#[path = "focus_conformance/replay.rs"]
mod replay;
#[path = "focus_conformance/report.rs"]
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use differences::Differences;
use recording::Recording;
use replay::Features;
use report::Report;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut wanted, mut as_json) = (None, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--scenario" => wanted = arguments.next(),
            "--json" => as_json = true,
            // What cargo's own test runner understands.
            "--nocapture" | "--show-output" | "--quiet" | "-q" | "--include-ignored" => {}
            "--list" => return ExitCode::SUCCESS,
            // A filter of test names: ours is one test.
            other if !other.starts_with('-') => {}
            other => {
                eprintln!("focus-conformance: unknown argument {other:?}; use --scenario NAME and --json");
                return ExitCode::from(2);
            }
        }
    }
    let mut differences = Differences::read();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let mut reports: Vec<Report> = composed::scenarios()
        .into_iter()
        .filter(|scenario| is_wanted(scenario.name))
        .map(|s| s.run(&mut differences))
        .collect();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let all = recordings(&fixtures);
    if all.is_empty() {
        println!(
            "{}: no recordings in {}",
            if reports.is_empty() { "skipped" } else { "skipped in part" },
            fixtures.display()
        );
    }
    let features = features(&all);
    for folder in all.iter().filter(|folder| is_wanted(&name(folder))) {
        let recording = Recording::read(folder);
        let outcome = replay::play(&recording, &features);
        reports.push(Report::of_recording(&name(folder), &recording, outcome, &mut differences));
    }
    if reports.is_empty() {
        // Whoever names a scenario wants it.
        return if wanted.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // What explains nothing any more is taken out; that shows only where everything was played.
    let idle = if wanted.is_none() && !all.is_empty() { differences.idle() } else { Vec::new() };
    let passed = reports.iter().filter(|report| report.is_ok()).count();
    let failed = reports.len() - passed + usize::from(!idle.is_empty());
    if as_json {
        let scenarios: Vec<Value> = reports.iter().map(Report::to_json).collect();
        println!("{}", json!({ "scenarios": scenarios, "idle_explanations": idle, "ok": failed == 0 }));
    } else {
        reports.iter().for_each(Report::print);
        idle.iter().for_each(|line| println!("differences.txt: this explains nothing: {line}"));
        // As cargo's own test runner, for whoever adds up the lines of all tests.
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn recordings(fixtures: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("xmpp.xml").is_file()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Jicofo remembered features from one recording to the next.
fn features(folders: &[PathBuf]) -> Features {
    let mut features = Features::new();
    for folder in folders {
        for line in Recording::read(folder).lines.iter().filter(|line| !line.sent) {
            let Some(query) = recording::payload(&line.stanza).filter(|p| p.ns().ends_with("disco#info")) else {
                continue;
            };
            let Some((_, ver)) = query.attr("node").and_then(|node| node.rsplit_once('#')) else { continue };
            features.insert(ver.to_owned(), query.clone());
        }
    }
    features
}
