//! What a scenario gave.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::differences::Differences;
use super::normal::Said;
use super::recording::Recording;
use super::replay::Outcome;

/// Statistics at a moment, each with those of the first one.
struct Numbers<'a> {
    moment: &'a str,
    theirs: (&'a Value, &'a Value),
    ours: (&'a Value, &'a Value),
}

impl Numbers<'_> {
    /// What counts for ever counts here from the first moment on: Jicofo ran through all recordings.
    fn since_first(&self, path: &str, (now, first): (&Value, &Value)) -> Option<f64> {
        const TOTALS: &[&str] = &[
            "total_",
            "bridge_failures.",
            "participant_notifications.",
            "bridge_selector.lost_bridges",
            "jingle.",
            "jibri.total_",
        ];
        let is_total = TOTALS.iter().any(|total| path.starts_with(total));
        Some(now.as_f64()? - if is_total { first.as_f64().unwrap_or(0.0) } else { 0.0 })
    }
}

struct Difference {
    /// `recorded` or `ours`: who alone says it, or where it is another value.
    side: &'static str,
    line: String,
    reason: Option<&'static str>,
}

pub struct Report {
    name: String,
    /// Lines that Jicofo said.
    compared: usize,
    equal: usize,
    differences: Vec<Difference>,
}

impl Report {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), compared: 0, equal: 0, differences: Vec::new() }
    }

    pub fn of_recording(name: &str, recording: &Recording, outcome: Outcome, differences: &mut Differences) -> Self {
        let mut report = Self::new(name);
        report.compare(lines(&outcome.theirs), lines(&outcome.ours), differences);
        for lost in &outcome.lost {
            report.differ("ours", format!("{lost}: not given, of a session that we did not begin"), differences);
        }
        let ours_at =
            |moment: &str| outcome.stats.iter().find(|(name, _)| name == moment).map_or(&Value::Null, |(_, v)| v);
        let Some((first, their_base)) = recording.stats.first() else { return report };
        let base = (their_base, ours_at(first));
        for (moment, theirs) in &recording.stats {
            let numbers = Numbers { moment, theirs: (theirs, base.0), ours: (ours_at(moment), base.1) };
            report.compare_numbers(&numbers, "", differences);
        }
        report
    }

    /// Takes what both said, in any order.
    pub fn compare(
        &mut self,
        theirs: BTreeMap<String, usize>,
        ours: BTreeMap<String, usize>,
        differences: &mut Differences,
    ) {
        self.compared += theirs.values().sum::<usize>();
        for (line, count) in &theirs {
            let common = ours.get(line).copied().unwrap_or(0).min(*count);
            self.equal += common;
            for _ in common..*count {
                self.differ("recorded", line.clone(), differences);
            }
        }
        for (line, count) in &ours {
            for _ in theirs.get(line).copied().unwrap_or(0)..*count {
                self.differ("ours", line.clone(), differences);
            }
        }
    }

    fn compare_numbers(&mut self, numbers: &Numbers<'_>, path: &str, differences: &mut Differences) {
        let Numbers { moment, theirs, ours } = numbers;
        for name in theirs.0.as_object().into_iter().flatten().map(|(name, _)| name) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let below =
                Numbers { moment, theirs: (&theirs.0[name], &theirs.1[name]), ours: (&ours.0[name], &ours.1[name]) };
            if below.theirs.0.is_object() {
                self.compare_numbers(&below, &path, differences);
                continue;
            }
            self.compared += 1;
            let (theirs, ours) = (below.since_first(&path, below.theirs), below.since_first(&path, below.ours));
            if below.ours.0.is_null() {
                self.differ("recorded", format!("statistics: {path} is not among ours"), differences);
            } else if theirs == ours && theirs.is_some() {
                self.equal += 1;
            } else {
                let line =
                    format!("statistics at {moment:?}: {path} is {} there and {} here", below.theirs.0, below.ours.0);
                self.differ("both", line, differences);
            }
        }
    }

    fn differ(&mut self, side: &'static str, line: String, differences: &mut Differences) {
        let reason = differences.explain(&self.name, &format!("{side} {line}"));
        self.differences.push(Difference { side, line, reason });
    }

    pub fn is_ok(&self) -> bool {
        self.compared > 0 && self.differences.iter().all(|difference| difference.reason.is_some())
    }

    pub fn print(&self) {
        let explained = self.differences.iter().filter(|difference| difference.reason.is_some()).count();
        println!(
            "{}: {} of {} lines equal; {} differences, {explained} explained",
            self.name,
            self.equal,
            self.compared,
            self.differences.len()
        );
        let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
        for difference in &self.differences {
            match difference.reason {
                Some(reason) => *by_reason.entry(reason).or_default() += 1,
                None => println!("  NOT EXPLAINED  {} {}", difference.side, difference.line),
            }
        }
        by_reason.iter().for_each(|(reason, count)| println!("  {count:4}  {reason}"));
    }

    pub fn to_json(&self) -> Value {
        let differences: Vec<Value> =
            self.differences.iter().map(|d| json!({ "side": d.side, "line": d.line, "reason": d.reason })).collect();
        json!({
            "scenario": self.name,
            "lines": self.compared,
            "equal": self.equal,
            "differences": differences,
            "ok": self.is_ok(),
        })
    }
}

fn lines(said: &[Said]) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for Said { to, what } in said {
        *lines.entry(format!("{to}: {what}")).or_default() += 1;
    }
    lines
}
