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
mod recordings;
#[path = "focus_conformance/replay.rs"]
mod replay;
#[path = "focus_conformance/report.rs"]
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use differences::Differences;
use recording::Recording;
use recordings::{Arguments, name};
use replay::Features;
use report::Report;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let arguments = match Arguments::read("focus-conformance") {
        Ok(arguments) => arguments,
        Err(end) => return end,
    };
    let mut differences = Differences::read();
    let mut reports: Vec<Report> = composed::scenarios()
        .into_iter()
        .filter(|scenario| arguments.wants(scenario.name))
        .map(|s| s.run(&mut differences))
        .collect();
    let all = recordings::folders();
    if all.is_empty() {
        println!(
            "{}: no recordings in {}",
            if reports.is_empty() { "skipped" } else { "skipped in part" },
            recordings::fixtures().display()
        );
    }
    let features = features(&all);
    for folder in all.iter().filter(|folder| arguments.wants(&name(folder))) {
        let recording = Recording::read(folder);
        let outcome = replay::play(&recording, &features);
        reports.push(Report::of_recording(&name(folder), &recording, outcome, &mut differences));
    }
    if reports.is_empty() {
        return arguments.nothing_ran();
    }
    // What explains nothing any more is taken out; that shows only where everything was played.
    let idle = if arguments.scenario.is_none() && !all.is_empty() { differences.idle() } else { Vec::new() };
    let passed = reports.iter().filter(|report| report.is_ok()).count();
    let failed = reports.len() - passed + usize::from(!idle.is_empty());
    if arguments.as_json {
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
