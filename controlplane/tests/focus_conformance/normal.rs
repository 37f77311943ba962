//! What a focus says, in lines that are equal where it means the same: ids and versions that differ by nature are named
//! alike, and what has no order is sorted.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_xmpp::minidom::Element;

use super::recording::{is_answer, payload};

/// One line: for whom (a client, the room, the bridge), and what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Said {
    pub to: String,
    pub what: String,
}

/// The part of an occupant's address that names it.
pub fn nick(address: &str) -> &str {
    address.split_once('/').map_or(address, |(_, nick)| nick)
}

/// What stands below these has no order.
const UNORDERED: &[&str] = &[
    "conference-modify",
    "endpoint",
    "sources",
    "media-source",
    "conference",
    "conference-properties",
    "transport",
    "ssrc-group",
    "payload-type",
];

/// Attributes that say nothing when they are `false`: Jicofo's library writes them always.
const OFF_BY_DEFAULT: &[&str] = &["cryptex", "required"];

/// Attributes that differ from run to run.
const RANDOM: &[&str] = &["sid", "meeting-id", "initiator"];

/// An element with its attributes sorted, and its children where they have no order.
pub fn canonical(element: &Element) -> String {
    let mut attributes: Vec<String> = element
        .attrs()
        .iter()
        .filter(|((_, name), value)| {
            name.as_str() != "lang" && !(OFF_BY_DEFAULT.contains(&name.as_str()) && value.as_str() == "false")
        })
        .map(|((_, name), value)| {
            let name = name.as_str();
            let random = RANDOM.contains(&name) || (element.name() == "bridge-session" && name == "id");
            format!(" {name}={}", if random { "*" } else { value.as_str() })
        })
        .collect();
    attributes.sort();
    let mut children: Vec<String> = element.children().map(canonical).collect();
    if UNORDERED.contains(&element.name()) {
        children.sort();
    }
    let text = element.text();
    format!("<{}{}>{}{}", element.name(), attributes.concat(), text.trim(), children.concat())
}

/// Everything that a stanza of the focus says.
pub fn said(stanza: &Element, asked: &BTreeMap<String, String>) -> Vec<Said> {
    let to = stanza.attr("to").unwrap_or_default();
    let one = |to: &str, what: String| vec![Said { to: to.to_owned(), what }];
    if stanza.name() == "presence" {
        return match stanza.attr("type") {
            Some("unavailable") => one("room", "leaves".to_owned()),
            _ => one("room", presence(stanza)),
        };
    }
    if stanza.name() != "iq" {
        return one(nick(to), canonical(stanza));
    }
    if is_answer(stanza) {
        let about = asked.get(stanza.attr("id").unwrap_or_default()).map_or("?", String::as_str);
        let error = stanza.children().find(|child| child.name() == "error");
        let condition = error.and_then(|error| error.children().find(|c| c.name() != "text")).map(Element::name);
        let body = payload(stanza).filter(|_| error.is_none()).map(canonical).unwrap_or_default();
        let answer = condition.map_or_else(|| "result".to_owned(), |condition| format!("error {condition}"));
        return one(nick(to), format!("{about}: {answer} {body}").trim_end().to_owned());
    }
    let Some(payload) = payload(stanza) else { return Vec::new() };
    match payload.name() {
        "jingle" => jingle(nick(to), payload),
        "conference-modify" => modify(payload),
        // What the focus asks for its own sake is seen by nobody in the room.
        "healthcheck" | "ping" => Vec::new(),
        "query" if payload.ns().ends_with("#info") => Vec::new(),
        "query" if payload.ns().ends_with("#owner") => match payload.children().next() {
            None => Vec::new(),
            Some(form) => one("room", format!("form {}", form_value(form, "muc#roomconfig_whois"))),
        },
        "query" if payload.ns().ends_with("#admin") => {
            let item = payload.children().next();
            let attribute = |name| item.and_then(|item| item.attr(name)).unwrap_or_default();
            one("room", format!("{} becomes {}", attribute("jid"), attribute("affiliation")))
        }
        _ => one(nick(to), canonical(payload)),
    }
}

fn form_value(form: &Element, wanted: &str) -> String {
    let field = form.children().find(|field| field.attr("var") == Some(wanted));
    format!("{wanted}={}", field.and_then(|field| field.children().next()).map(Element::text).unwrap_or_default())
}

fn presence(stanza: &Element) -> String {
    let parts = stanza.children().filter(|child| !matches!(child.name(), "c" | "priority" | "x"));
    let mut parts: Vec<String> = parts
        .map(|child| match child.name() {
            // Whose version it is differs by nature.
            "versions" => "<versions>".to_owned(),
            _ => canonical(child),
        })
        .collect();
    parts.sort();
    if parts.is_empty() { "bare presence".to_owned() } else { format!("presence {}", parts.concat()) }
}

/// An offer in its parts, and sources by their owners, however many were signalled at once.
fn jingle(to: &str, jingle: &Element) -> Vec<Said> {
    let action = jingle.attr("action").unwrap_or_default();
    let line = |what: String| Said { to: to.to_owned(), what: format!("{action}: {what}") };
    let mut lines = Vec::new();
    for child in jingle.children() {
        match child.name() {
            "content" if action == "session-initiate" => {
                let name = child.attr("name").unwrap_or_default();
                lines.push(line(format!("content {name} {}", child.attr("senders").unwrap_or_default())));
                lines.extend(child.children().map(|part| line(format!("content {name} {}", canonical(part)))));
            }
            "json-message" => lines.extend(sources(&child.text()).into_iter().map(line)),
            _ => lines.push(line(canonical(child))),
        }
    }
    if lines.is_empty() {
        lines.push(line(String::new()));
    }
    lines
}

/// One line per owner.
fn sources(json: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(json).expect("JSON");
    let owners = json["sources"].as_object().expect("sources");
    let list = |list: &Value| {
        let mut items: Vec<String> = list.as_array().into_iter().flatten().map(ToString::to_string).collect();
        items.sort();
        format!("[{}]", items.join(","))
    };
    let of = |lists: &Value| {
        let mut lists: Vec<String> = lists.as_array().into_iter().flatten().map(list).collect();
        while lists.last().is_some_and(|list| list == "[]") {
            lists.pop();
        }
        lists.concat()
    };
    owners.iter().map(|(owner, lists)| format!("sources of {owner} {}", of(lists))).collect()
}

/// A request to the bridge, endpoint by endpoint.
fn modify(request: &Element) -> Vec<Said> {
    let line = |what: String| Said { to: "bridge".to_owned(), what };
    let mut lines: Vec<Said> = Vec::new();
    let root = |name: &str| request.attr(name) == Some("true");
    if root("expire") {
        lines.push(line("expires the conference".to_owned()));
    }
    if root("create") {
        lines.push(line(format!("creates {}", request.attr("name").unwrap_or_default())));
    }
    for endpoint in request.children().filter(|child| child.name() == "endpoint") {
        // Bridges always multiplex RTP and RTCP, and none reads this; it is as the client's answer had it.
        lines.push(line(canonical(endpoint).replace("<rtcp-mux>", "")));
    }
    lines
}
