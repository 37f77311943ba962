//! A recording of a real Jicofo (`../shared/fixtures/*/xmpp.xml`), as seen at its own connection.

use std::path::Path;

use serde_json::Value;
use tokio_xmpp::minidom::Element;

/// One stanza.
pub struct Line {
    /// Seconds from the start.
    pub at: f64,
    /// Whether Jicofo sent it.
    pub sent: bool,
    pub stanza: Element,
}

/// What the driver of the recording did, in words, and when.
pub struct Act {
    pub at: f64,
    pub what: String,
}

pub struct Recording {
    pub lines: Vec<Line>,
    pub acts: Vec<Act>,
    /// What Jicofo's `/stats` said, by the names of the moments, in their order.
    pub stats: Vec<(String, Value)>,
}

impl Recording {
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("xmpp.xml")).expect("a recording");
        let lines = text
            .split_inclusive("</x>\n")
            .filter_map(|chunk| chunk.find("<x t=").map(|start| &chunk[start..]))
            .filter(|chunk| chunk.contains("peer=\"focus\""))
            .map(|chunk| {
                let xml = chunk.replacen("<x ", "<x xmlns='jabber:client' ", 1);
                let element: Element = xml.trim().parse().unwrap_or_else(|error| panic!("{error}: {xml}"));
                let at = element.attr("t").and_then(|t| t.parse().ok()).expect("a time");
                let sent = element.attr("via") == Some("recv");
                Line { at, sent, stanza: element.children().next().expect("a stanza").clone() }
            })
            .collect();
        let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
        let acts: Vec<Act> = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["by"] == "driver")
            .filter_map(|event| Some(Act { at: event["t"].as_f64()?, what: event["what"].as_str()?.to_owned() }))
            .collect();
        let snapshot = |act: &Act| act.what.strip_prefix("snapshot").map(|name| name.trim().to_owned());
        let stats = acts
            .iter()
            .filter_map(snapshot)
            .filter_map(|name| {
                let file =
                    if name.is_empty() { "jicofo-stats.json".to_owned() } else { format!("{name}-jicofo-stats.json") };
                let json = std::fs::read_to_string(folder.join(file)).ok()?;
                Some((name, serde_json::from_str(&json).ok()?))
            })
            .collect();
        Self { lines, acts, stats }
    }

    /// The answer to a request of Jicofo's.
    pub fn answer(&self, id: &str) -> Option<&Line> {
        self.lines.iter().find(|line| !line.sent && is_answer(&line.stanza) && line.stanza.attr("id") == Some(id))
    }
}

/// Whether a stanza answers another.
pub fn is_answer(stanza: &Element) -> bool {
    stanza.name() == "iq" && matches!(stanza.attr("type"), Some("result" | "error"))
}

/// Whether a stanza wants an answer.
pub fn is_request(stanza: &Element) -> bool {
    stanza.name() == "iq" && !is_answer(stanza)
}

/// What an IQ or a presence carries, without what says how it went.
pub fn payload(stanza: &Element) -> Option<&Element> {
    stanza.children().find(|child| child.name() != "error")
}
