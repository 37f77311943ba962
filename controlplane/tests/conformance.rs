//! A scripted Jicofo: replays the recorded colibri2 requests and REST calls of `../shared/fixtures` against ringbridge's
//! bridge over a real Prosody, and compares the answers with the recorded ones. `tools/conformance` runs it alone.
//! Nobody recorded two bridges: what is asked about relays, and the answers, are composed (`relay_requests`).
//!
//! What differs from one run to the next by nature (ids, ports, keys, addresses) is made equal before. A difference that
//! is meant has its explanation in [`EXPLAINED`]; any other one fails the run.

mod http;
mod prosody;
mod recordings;
mod relay_requests;

use ringbridge_dataplane::ids::WorkerId;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prosody::Prosody;
use recordings::{Arguments, name};
use relay_requests::Exchange;
use ringbridge_controlplane::bridge::run_on;
use ringbridge_controlplane::colibri::bridge::RelaySettings;
use ringbridge_controlplane::xmpp::muc::{MucChange, MucRoom};
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use ringbridge_dataplane::link::links;
use ringbridge_dataplane::stats::{Counter, WorkerStats};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

/// Parts of differing lines, and why they may differ.
const EXPLAINED: &[(&str, &str)] = &[];

const COLIBRI2: &str = "jitsi:colibri2";
const NICK: &str = "jvb1";
const WAIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments = match Arguments::read("conformance") {
        Ok(arguments) => arguments,
        Err(end) => return end,
    };
    let wanted: Vec<_> = recordings::folders().into_iter().filter(|folder| arguments.wants(&name(folder))).collect();
    let mut composed = relay_requests::scenarios();
    composed.retain(|(name, _)| arguments.wants(name));
    if wanted.is_empty() && composed.is_empty() {
        println!("skipped: no recordings in {}", recordings::fixtures().display());
        return arguments.nothing_ran();
    }
    if recordings::folders().is_empty() {
        println!("skipped in part: no recordings in {}", recordings::fixtures().display());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut reports = Vec::new();
    for folder in &wanted {
        let Some(report) = runtime.block_on(scenario(folder, &name(folder))) else {
            return ExitCode::SUCCESS;
        };
        if !arguments.as_json {
            report.print();
        }
        reports.push(report);
    }
    for (name, exchanges) in composed {
        let Some(report) = runtime.block_on(composed_scenario(name, exchanges)) else {
            return ExitCode::SUCCESS;
        };
        if !arguments.as_json {
            report.print();
        }
        reports.push(report);
    }
    let passed = reports.iter().filter(|report| report.is_ok()).count();
    let ok = passed == reports.len();
    if arguments.as_json {
        let scenarios: Vec<Value> = reports.iter().map(Report::to_json).collect();
        println!("{}", json!({ "scenarios": scenarios, "ok": ok }));
    } else {
        print_totals(passed, reports.len() - passed);
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line as that of cargo's own test runner, for whoever adds up the lines of all tests.
fn print_totals(passed: usize, failed: usize) {
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
}

/// What one scenario gave.
struct Report {
    name: String,
    /// Answers compared.
    compared: usize,
    /// Answers that are equal.
    equal: usize,
    /// Requests that the recording has no answer to: its bridge was dead.
    unanswered: usize,
    differences: Vec<Difference>,
}

struct Difference {
    /// Which request.
    request: String,
    /// Lines that only the recording has, and only ours.
    recorded: Vec<String>,
    ours: Vec<String>,
    explanation: Option<&'static str>,
}

impl Report {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), compared: 0, equal: 0, unanswered: 0, differences: Vec::new() }
    }

    fn is_ok(&self) -> bool {
        self.compared > 0 && self.differences.iter().all(|difference| difference.explanation.is_some())
    }

    fn compare(&mut self, request: &str, recorded: BTreeSet<String>, ours: BTreeSet<String>) {
        self.compared += 1;
        let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
        let (recorded, ours) = (only(&recorded, &ours), only(&ours, &recorded));
        if recorded.is_empty() && ours.is_empty() {
            self.equal += 1;
            return;
        }
        let explains = |part: &str| recorded.iter().chain(&ours).all(|line| line.contains(part));
        let explanation = EXPLAINED.iter().find(|(part, _)| explains(part)).map(|(_, why)| *why);
        self.differences.push(Difference { request: request.to_owned(), recorded, ours, explanation });
    }

    fn print(&self) {
        let Self { name, compared, equal, unanswered, .. } = self;
        println!(
            "{name}: {equal} of {compared} answers equal, {unanswered} requests that the recorded bridge never answered"
        );
        for difference in &self.differences {
            println!("  {}: {}", difference.request, difference.explanation.unwrap_or("NOT EXPLAINED"));
            difference.recorded.iter().for_each(|line| println!("    recorded  {line}"));
            difference.ours.iter().for_each(|line| println!("    ours      {line}"));
        }
    }

    fn to_json(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|d| json!({ "request": d.request, "recorded": d.recorded, "ours": d.ours, "explanation": d.explanation }))
            .collect();
        json!({
            "scenario": self.name,
            "answers": self.compared,
            "equal": self.equal,
            "unanswered_in_recording": self.unanswered,
            "differences": differences,
            "ok": self.is_ok(),
        })
    }
}

/// What happens in a scenario, in order.
#[allow(clippy::large_enum_variant)] // Some dozens of them.
enum Step {
    /// Jicofo asks; the answer as it reached it.
    Request { id: String, set: bool, payload: Element, answer: Option<Element> },
    /// The bridge starts again.
    Restart,
    /// A call of the REST interface.
    Rest { method: String, path: String, body: String, status: u16, answer: String },
}

fn attribute<'a>(element: &'a Element, name: &'a str) -> &'a str {
    element.attr(name).unwrap_or_default()
}

/// Reads a recording.
fn steps(folder: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(folder.join("xmpp.xml")).expect("a recording");
    let lines: Vec<Element> = text
        .lines()
        .filter(|line| line.starts_with("<x "))
        .filter_map(|line| line.replacen("<x ", "<x xmlns='jabber:client' ", 1).parse().ok())
        .collect();
    let mut answers = HashMap::new();
    for line in &lines {
        let Some(stanza) = line.children().next() else { continue };
        if (attribute(line, "via"), attribute(line, "peer"), stanza.name()) == ("send", "focus", "iq")
            && ["result", "error"].contains(&attribute(stanza, "type"))
        {
            answers.insert(attribute(stanza, "id").to_owned(), stanza.clone());
        }
    }
    let mut steps: Vec<(f64, Step)> = Vec::new();
    let mut session = None;
    for line in &lines {
        let Some(stanza) = line.children().next() else { continue };
        if attribute(line, "via") != "recv" {
            continue;
        }
        let at: f64 = attribute(line, "t").parse().expect("a time");
        if attribute(line, "peer") == "bridge" {
            let now = attribute(line, "session").to_owned();
            if session.replace(now.clone()).is_some_and(|before| before != now) {
                steps.push((at, Step::Restart));
            }
        }
        let request = stanza.children().find(|child| child.is("conference-modify", COLIBRI2));
        if let (Some(payload), "focus") = (request, attribute(line, "peer")) {
            let id = attribute(stanza, "id").to_owned();
            let answer = answers.remove(&id);
            let set = attribute(stanza, "type") == "set";
            steps.push((at, Step::Request { id, set, payload: payload.clone(), answer }));
        }
    }
    let events = std::fs::read_to_string(folder.join("events.jsonl")).unwrap_or_default();
    for event in events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let what = event["what"].as_str().unwrap_or_default();
        let (Some((method, path)), Some(status), Some(at)) =
            (what.split_once(' '), event["status"].as_u64(), event["t"].as_f64())
        else {
            continue;
        };
        if ["GET", "POST"].contains(&method) && path.starts_with('/') {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let step = Step::Rest {
                method: method.to_owned(),
                path: path.to_owned(),
                body: text("request"),
                status: u16::try_from(status).expect("a status"),
                answer: text("body"),
            };
            steps.push((at, step));
        }
    }
    // Stable: equal times keep their order.
    steps.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    steps.into_iter().map(|(_, step)| step).collect()
}

/// Replays one scenario; `None` without a Prosody.
async fn scenario(folder: &Path, name: &str) -> Option<Report> {
    let server = Prosody::start()?;
    let mut bridge = Bridge::start(&server, None);
    let mut jicofo = Jicofo::start(&server).await;
    jicofo.bridge_arrives().await;
    let mut report = Report::new(name);
    for step in steps(folder) {
        match step {
            Step::Restart => {
                bridge.stop().await;
                jicofo.bridge_leaves().await;
                bridge = Bridge::start(&server, None);
                jicofo.bridge_arrives().await;
            }
            Step::Request { answer: None, .. } => report.unanswered += 1,
            Step::Request { answer: Some(answer), .. } if is_of_the_server(&answer) => report.unanswered += 1,
            Step::Request { id, set, payload, answer: Some(answer) } => {
                let ours = jicofo.ask(&id, set, payload).await;
                report.compare(&id, canonical(&answer), canonical(&ours));
            }
            Step::Rest { method, path, body, status, answer } => {
                let length = body.len();
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                let ours = http::send(bridge.rest, request).await;
                let (head, body) = ours.split_once("\r\n\r\n").expect("a head and a body");
                let status_of = |head: &str| head.split(' ').nth(1).unwrap_or_default().to_owned();
                let lines =
                    |status: String, body: &str| BTreeSet::from([format!("status {status}"), format!("body {body}")]);
                report.compare(
                    &format!("{method} {path}"),
                    lines(status.to_string(), &answer),
                    lines(status_of(head), body),
                );
            }
        }
    }
    bridge.stop().await;
    Some(report)
}

/// Plays one composed scenario to a bridge with relays; `None` without a Prosody.
async fn composed_scenario(name: &str, exchanges: Vec<Exchange>) -> Option<Report> {
    let server = Prosody::start()?;
    let bridge = Bridge::start(&server, Some(RelaySettings { id: NICK.to_owned(), ports: None }));
    let mut jicofo = Jicofo::start(&server).await;
    jicofo.bridge_arrives().await;
    let mut report = Report::new(name);
    for (n, Exchange { what, payload, answer, text_counts }) in exchanges.into_iter().enumerate() {
        let ours = jicofo.ask(&format!("{name}-{n}"), true, payload).await;
        let lines = |answer: &Element| {
            let mut lines = canonical(answer);
            lines.retain(|line| text_counts || !line.starts_with("iq/error/text"));
            lines
        };
        report.compare(what, lines(&answer), lines(&ours));
    }
    bridge.stop().await;
    Some(report)
}

/// Whether the XMPP server answered in the place of a bridge that was dead: the error names the room, or the session.
fn is_of_the_server(answer: &Element) -> bool {
    answer.children().filter(|child| child.name() == "error").any(|error| {
        error.attr("by").is_some() || error.children().any(|condition| condition.name() == "recipient-unavailable")
    })
}

/// The bridge under test; its worker only beats.
struct Bridge {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    rest: SocketAddr,
    heart: tokio::task::JoinHandle<()>,
}

impl Bridge {
    fn start(server: &Prosody, relay: Option<RelaySettings>) -> Self {
        let mut settings = server.bridge(NICK);
        settings.relay = relay;
        settings.connections[0].xmpp.resource = Some(NICK.to_owned());
        settings.websocket_base_url = settings.websocket_listen.map(|listen| format!("ws://{listen}")).expect("served");
        let rest = settings.rest_listen;
        let (link, mut worker) = links(WorkerId::new(0), 4096, 64).expect("a ring");
        let stats = Arc::new(WorkerStats::default());
        let counters = Arc::clone(&stats);
        let heart = tokio::spawn(async move {
            loop {
                counters.count(Counter::LoopTurns);
                while worker.poll_command().is_some() {}
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(async move { run_on(settings, vec![(link, stats)], stopped).await.expect("the bridge runs") });
        Self { stop, task, rest, heart }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(WAIT, self.task).await.expect("the bridge ends").expect("no panic");
        self.heart.abort();
    }
}

struct Jicofo {
    sender: XmppSender,
    events: mpsc::Receiver<XmppEvent>,
    room: MucRoom,
    _stop: watch::Sender<bool>,
}

impl Jicofo {
    async fn start(server: &Prosody) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(server.account("focus", Some("focus")), stopped);
        let room = MucRoom::new(&prosody::BREWERY.parse().expect("a room"), "focus").expect("a nickname");
        let mut jicofo = Self { sender, events, room, _stop: stop };
        while !matches!(jicofo.event().await, XmppEvent::Online { .. }) {}
        let join = jicofo.room.join(Vec::new());
        jicofo.sender.send(join);
        jicofo
    }

    async fn event(&mut self) -> XmppEvent {
        tokio::time::timeout(WAIT, self.events.recv()).await.expect("something in time").expect("a connection")
    }

    async fn until(&mut self, wanted: impl Fn(&MucRoom, Option<&MucChange>) -> bool) {
        while !wanted(&self.room, None) {
            if let XmppEvent::Stanza(Stanza::Presence(presence)) = self.event().await {
                let change = self.room.handle(&presence);
                if wanted(&self.room, change.as_ref()) {
                    return;
                }
            }
        }
    }

    async fn bridge_arrives(&mut self) {
        self.until(|room, _| room.is_joined() && room.occupants().contains_key(NICK)).await;
    }

    async fn bridge_leaves(&mut self) {
        self.until(|room, _| !room.occupants().contains_key(NICK)).await;
    }

    async fn ask(&mut self, id: &str, set: bool, payload: Element) -> Element {
        let to = Some(format!("{}/{NICK}", prosody::BREWERY).parse().expect("an address"));
        let id = id.to_owned();
        let request = if set {
            Iq::Set { from: None, to, id: id.clone(), payload }
        } else {
            Iq::Get { from: None, to, id: id.clone(), payload }
        };
        self.sender.send(request);
        loop {
            match self.event().await {
                XmppEvent::Stanza(Stanza::Iq(iq)) if *iq.id() == id => return Element::from(iq),
                XmppEvent::Stanza(Stanza::Presence(presence)) => drop(self.room.handle(&presence)),
                _ => {}
            }
        }
    }
}

/// A stanza as lines, one per attribute and text, without what differs by nature. The order of children does not count.
fn canonical(stanza: &Element) -> BTreeSet<String> {
    let mut lines = BTreeSet::from([format!("iq@type={}", attribute(stanza, "type"))]);
    for child in stanza.children() {
        describe(child, "iq", &mut lines);
    }
    lines
}

fn describe(element: &Element, parent: &str, lines: &mut BTreeSet<String>) {
    let key = match element.name() {
        "endpoint" | "media-source" | "relay" => format!("[{}]", attribute(element, "id")),
        "candidate" => format!("[{} {}]", attribute(element, "type"), attribute(element, "protocol")),
        _ => String::new(),
    };
    let path = format!("{parent}/{}{key}", element.name());
    lines.insert(format!("{path} xmlns={}", element.ns()));
    for ((_, name), value) in element.attrs() {
        let name = name.to_string();
        let by_nature = matches!(
            (element.name(), name.as_str()),
            ("transport", "ufrag" | "pwd")
                | ("candidate", "id" | "ip" | "port" | "rel-addr" | "rel-port")
                | ("source", "ssrc")
        );
        let value = match (element.name(), name.as_str()) {
            _ if by_nature => "*".to_owned(),
            ("web-socket", "url") => shape_of_url(value),
            _ => value.to_owned(),
        };
        lines.insert(format!("{path}@{name}={value}"));
    }
    let text = element.text();
    if !text.trim().is_empty() {
        // A fingerprint counts by its form.
        let text =
            if element.name() == "fingerprint" { format!("{} bytes", text.trim().split(':').count()) } else { text };
        lines.insert(format!("{path} text={text}"));
    }
    for child in element.children() {
        describe(child, &path, lines);
    }
}

/// `ws://host/colibri-ws/server/conference/endpoint?pwd=secret`, of which scheme, path and endpoint count.
fn shape_of_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let parts: Vec<&str> = rest.split('/').collect();
    match parts.as_slice() {
        [_, path, server, _, last] => {
            let (endpoint, query) = last.split_once('?').unwrap_or((last, ""));
            let password = query.split_once('=').map_or("", |(name, _)| name);
            format!("{scheme}://*/{path}/{server}/*/{endpoint}?{password}=*")
        }
        _ => url.to_owned(),
    }
}
