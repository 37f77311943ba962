//! Requests for a conference over HTTP as the requests that they stand for, and their answers back (docs/protocol/focus.md 2.4).

use std::collections::BTreeMap;

use jid::{BareJid, Jid, ResourcePart};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::stanza_error::DefinedCondition;

use super::limits::{MAX_TOKEN, Refused};
use super::xml::{build, escaped};
use crate::jingle::ns;
use crate::rest::{ConferenceReply, ConferenceRequest};
use crate::xmpp::iq::Request;

/// Requests come from addresses of this host, which is nobody's (RFC 6761): one for each client.
pub(super) const HOST: &str = "http.invalid";
/// Requests that wait; a web server may pass on many at once.
const MAX_WAITING: usize = 2_000;
/// Properties of a request, and bytes of a text.
const MAX_PROPERTIES: usize = 50;
const MAX_TEXT: usize = 1_000;

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(super) struct HttpClients {
    waiting: BTreeMap<String, oneshot::Sender<ConferenceReply>>,
    next: u64,
}

impl HttpClients {
    /// Nobody yet; another process had so many requests, whose ids are not used again.
    pub fn after(requests: u64) -> Self {
        Self { waiting: BTreeMap::new(), next: requests }
    }

    /// How many requests there were.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// Whether nobody waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.values().all(oneshot::Sender::is_closed)
    }

    /// Has all of them come again.
    pub fn put_off(&mut self) {
        self.waiting.clear();
    }

    /// The request that one over HTTP stands for; an error when it was answered at once.
    pub fn begin(&mut self, request: ConferenceRequest) -> Result<Request, Refused> {
        // Who hung up waits no more.
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        let payload = match conference(&request.body, request.token.as_deref()) {
            Ok(payload) if self.waiting.len() < MAX_WAITING => payload,
            Ok(_) => return Err(answer(request.reply, ConferenceReply::TooMany, Refused::Waiting)),
            Err(text) => {
                let bad = ConferenceReply::Bad(text.to_owned());
                return Err(answer(request.reply, bad, Refused::HttpRequest));
            }
        };
        self.next += 1;
        let id = format!("http-{}", self.next);
        self.waiting.insert(id.clone(), request.reply);
        // Where no web server names the client, all are one.
        let from = sender(request.client.as_deref().unwrap_or("unknown"));
        Ok(Request { from, to: None, id, payload, set: true })
    }

    /// Takes what is for somebody here, and gives back what is for the server.
    pub fn deliver(&mut self, stanza: Stanza) -> Option<Stanza> {
        let Stanza::Iq(iq) = stanza else { return Some(stanza) };
        if iq.to().is_none_or(|to| to.domain().as_str() != HOST) {
            return Some(iq.into());
        }
        if let Some(reply) = self.waiting.remove(iq.id()) {
            let _ = reply.send(reply_of(iq));
        }
        None
    }
}

fn answer(reply: oneshot::Sender<ConferenceReply>, with: ConferenceReply, refused: Refused) -> Refused {
    let _ = reply.send(with);
    refused
}

fn sender(client: &str) -> Option<Jid> {
    let host: BareJid = HOST.parse().ok()?;
    Some(host.with_resource(&ResourcePart::new(client).ok()?).into())
}

/// The element that a JSON object stands for. What is not known is ignored.
fn conference(body: &Value, token: Option<&str>) -> Result<Element, &'static str> {
    let Value::Object(body) = body else { return Err("the body has to be a JSON object") };
    let text = |name: &str| match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.as_str())),
        Some(_) => Err("room, machineUid and sessionId have to be short texts"),
    };
    let room = text("room")?.ok_or("the room is missing")?;
    let mut attributes = format!(" room='{}'", escaped(room));
    for (name, attribute) in [("machineUid", "machine-uid"), ("sessionId", "session-id")] {
        if let Some(text) = text(name)? {
            attributes += &format!(" {attribute}='{}'", escaped(text));
        }
    }
    if let Some(token) = token.filter(|token| token.len() <= MAX_TOKEN) {
        attributes += &format!(" token='{}'", escaped(token));
    }
    let empty = Map::new();
    let properties = match body.get("properties") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(properties)) if properties.len() <= MAX_PROPERTIES => properties,
        Some(_) => return Err("properties have to be a small object"),
    };
    let property = |(name, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let short = name.len() <= MAX_TEXT && value.len() <= MAX_TEXT;
        short.then(|| format!("<property name='{}' value='{}'/>", escaped(name), escaped(&value)))
    };
    let properties: String = properties.iter().filter_map(property).collect();
    build(&format!("<conference xmlns='{}'{attributes}>{properties}</conference>", ns::FOCUS)).ok_or("not readable")
}

fn reply_of(iq: Iq) -> ConferenceReply {
    match iq {
        Iq::Result { payload: Some(conference), .. } => ConferenceReply::Conference(json(&conference)),
        Iq::Error { error, .. } => match error.defined_condition {
            DefinedCondition::NotAuthorized => ConferenceReply::Forbidden,
            DefinedCondition::NotAcceptable => ConferenceReply::InvalidSession,
            condition => {
                let text = error.texts.into_values().next().unwrap_or_default();
                ConferenceReply::Bad(format!("{condition:?}: {text}"))
            }
        },
        _ => ConferenceReply::Bad("no answer to a request for a conference".to_owned()),
    }
}

/// The JSON object that an element stands for.
fn json(conference: &Element) -> Value {
    let mut object = Map::new();
    for (attribute, name) in [
        ("room", "room"),
        ("focusjid", "focusJid"),
        ("session-id", "sessionId"),
        ("identity", "identity"),
        ("vnode", "vnode"),
    ] {
        if let Some(text) = conference.attr(attribute) {
            object.insert(name.to_owned(), text.into());
        }
    }
    object.insert("ready".to_owned(), (conference.attr("ready") == Some("true")).into());
    let pair = |property: &Element| Some((property.attr("name")?.to_owned(), property.attr("value")?.into()));
    let properties: Map<String, Value> = conference.children().filter_map(pair).collect();
    object.insert("properties".to_owned(), properties.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn begin(clients: &mut HttpClients, body: Value) -> (Result<Request, Refused>, oneshot::Receiver<ConferenceReply>) {
        let (reply, answer) = oneshot::channel();
        let client = Some("203.0.113.7".to_owned());
        let token = Some("a.'b.c".to_owned());
        (clients.begin(ConferenceRequest { body, client, token, reply }), answer)
    }

    #[test]
    fn a_request_and_its_answer() {
        let mut clients = HttpClients::default();
        let body = json!({ "room": "r'<@c.x", "machineUid": "m", "sessionId": "s", "more": [1],
            "properties": { "startAudioMuted": 9, "visitors-version": "1", "rtcstatsEnabled": false } });
        let (request, mut answer) = begin(&mut clients, body);
        let request = request.expect("a request");
        assert_eq!(request.payload.attr("room"), Some("r'<@c.x"));
        assert_eq!(request.payload.attr("token"), Some("a.'b.c"));
        assert_eq!((request.payload.attr("machine-uid"), request.payload.attr("session-id")), (Some("m"), Some("s")));
        let values: Vec<_> = request.payload.children().map(|property| property.attr("value").unwrap()).collect();
        assert_eq!(values, ["false", "9", "1"]);
        let xml = "<conference xmlns='http://jitsi.org/protocol/focus' room='r@c.x' ready='true' focusjid='f@x' vnode='v1'>\
                   <property name='authentication' value='false'/></conference>";
        assert!(clients.deliver(request.result(xml.parse().ok()).into()).is_none());
        let expected = json!({ "room": "r@c.x", "ready": true, "focusJid": "f@x", "vnode": "v1", "properties": { "authentication": "false" } });
        assert_eq!(answer.try_recv(), Ok(ConferenceReply::Conference(expected)));
        assert!(clients.waiting.is_empty());
        // What is for the server goes there.
        let other = Request { from: "a@b/c".parse().ok(), ..request };
        assert!(clients.deliver(other.result(None).into()).is_some());
    }

    #[test]
    fn errors_as_clients_know_them() {
        let mut clients = HttpClients::default();
        for (condition, expected) in [
            (DefinedCondition::NotAuthorized, ConferenceReply::Forbidden),
            (DefinedCondition::NotAcceptable, ConferenceReply::InvalidSession),
            (DefinedCondition::NotAllowed, ConferenceReply::Bad("NotAllowed: why".to_owned())),
        ] {
            let (request, mut answer) = begin(&mut clients, json!({ "room": "r@c.x" }));
            clients.deliver(request.expect("a request").refuse(condition, "why").into());
            assert_eq!(answer.try_recv(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_request_is_answered_at_once() {
        let mut clients = HttpClients::default();
        let many: Map<String, Value> = (0..=MAX_PROPERTIES).map(|n| (n.to_string(), n.into())).collect();
        for wrong in [
            json!(null),
            json!([]),
            json!({}),
            json!({ "room": 1 }),
            json!({ "room": "r@c.x", "sessionId": {} }),
            json!({ "room": "r".repeat(MAX_TEXT + 1) }),
            json!({ "room": "r@c.x", "properties": [] }),
            json!({ "room": "r@c.x", "properties": many }),
            json!({ "room": "r\u{0}@c.x" }),
        ] {
            let (request, mut answer) = begin(&mut clients, wrong.clone());
            assert_eq!(request, Err(Refused::HttpRequest), "{wrong}");
            assert!(matches!(answer.try_recv(), Ok(ConferenceReply::Bad(_))), "{wrong}");
        }
    }

    #[test]
    fn those_who_wait_are_bounded_and_those_who_left_are_forgotten() {
        let mut clients = HttpClients::default();
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| begin(&mut clients, json!({ "room": "r@c.x" }))).collect();
        assert_eq!(begin(&mut clients, json!({ "room": "r@c.x" })).1.try_recv(), Ok(ConferenceReply::TooMany));
        drop(waiting);
        assert!(begin(&mut clients, json!({ "room": "r@c.x" })).0.is_ok());
        assert_eq!(clients.waiting.len(), 1);
    }
}
