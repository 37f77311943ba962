//! The `<jibri/>` element (docs/protocol/focus.md 8.7).

use tokio_xmpp::minidom::Element;

use crate::focus::xml::{build, escaped};

/// Namespace of requests, answers and of a recording's state in presence.
pub(in crate::focus) const JIBRI: &str = "http://jitsi.org/protocol/jibri";
/// Namespace of a SIP call's state in presence.
const CALL_STATE: &str = "http://jitsi.org/protocol/jibri/call_state";
/// Namespace of a Jibri's health in its presence.
const HEALTH: &str = "http://jitsi.org/protocol/health";

/// Bytes of an address, a name or a key that a client gives.
const MAX_TEXT: usize = 1_000;
/// Bytes of what the client's application says to the recorder, e.g. where to store the file.
const MAX_APP_DATA: usize = 16_384;

/// Whether something is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    On,
    Off,
    Pending,
}

/// Why a Jibri does not record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Busy,
    Error,
}

/// What a Jibri says of itself and its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub status: Status,
    pub failure: Option<Failure>,
    /// Whether another Jibri may succeed.
    pub retry: bool,
}

impl Report {
    /// Nothing is known of the Jibri any more.
    pub const LOST: Self = Self { status: Status::Off, failure: Some(Failure::Error), retry: true };

    /// The report in an element; `None` when it says nothing that we know.
    pub fn read(element: &Element) -> Option<Self> {
        if !element.is("jibri", JIBRI) {
            return None;
        }
        let status = match element.attr("status")? {
            "on" => Status::On,
            "off" => Status::Off,
            "pending" => Status::Pending,
            _ => return None,
        };
        let failure = element.attr("failure_reason").filter(|reason| !reason.is_empty() && *reason != "undefined");
        let failure = failure.map(|reason| if reason == "busy" { Failure::Busy } else { Failure::Error });
        Some(Self { status, failure, retry: element.attr("should_retry") == Some("true") })
    }
}

/// What is recorded, and where to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Task {
    /// Into a file.
    File,
    /// To a streaming service.
    Stream { key: Secret, broadcast: Option<String> },
    /// The conference is brought into a SIP call.
    Sip { address: String },
}

impl Task {
    /// As `recording_mode` names it; a SIP call has none.
    pub fn mode(&self) -> Option<&'static str> {
        match self {
            Self::File => Some("file"),
            Self::Stream { .. } => Some("stream"),
            Self::Sip { .. } => None,
        }
    }
}

/// A key of a streaming service: whoever has it can stream in its owner's name, so it is in no log line.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Secret(String);

impl Secret {
    /// Of a task that nobody is to begin again.
    pub fn none() -> Self {
        Self(String::new())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a client asks to be done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    pub task: Task,
    pub display_name: Option<String>,
    pub app_data: Option<Secret>,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Start(Order),
    /// The SIP address of the call, or nothing for a recording or a stream.
    Stop(Option<String>),
}

impl Ask {
    /// Reads what a client asks; an error is the text of the refusal.
    pub fn read(element: &Element) -> Result<Self, &'static str> {
        let owned = |name: &str| element.attr(name).filter(|text| !text.trim().is_empty()).map(str::to_owned);
        let too_long = |name: &str, most: usize| element.attr(name).is_some_and(|text| text.len() > most);
        let long = ["streamid", "you_tube_broadcast_id", "displayname", "sipaddress"];
        if long.iter().any(|name| too_long(name, MAX_TEXT)) || too_long("app_data", MAX_APP_DATA) {
            return Err("an attribute is too long");
        }
        let address = owned("sipaddress");
        match element.attr("action") {
            Some("stop") => return Ok(Self::Stop(address)),
            Some("start") => {}
            _ => return Err("the action has to be start or stop"),
        }
        let file = element.attr("recording_mode") == Some("file");
        let task = match (address, owned("streamid")) {
            (Some(address), _) => Task::Sip { address },
            (None, None) if file => Task::File,
            (None, None) => return Err("Stream ID is empty or undefined"),
            (None, Some(_)) if file => return Err("Stream ID is provided for a FILE recording."),
            (None, Some(key)) => Task::Stream { key: Secret(key), broadcast: owned("you_tube_broadcast_id") },
        };
        Ok(Self::Start(Order { task, display_name: owned("displayname"), app_data: owned("app_data").map(Secret) }))
    }
}

fn attribute(name: &str, value: Option<&str>) -> String {
    value.map(|value| format!(" {name}='{}'", escaped(value))).unwrap_or_default()
}

/// What is asked of a Jibri that is to begin.
pub(super) fn start(room: &str, session: &str, order: &Order) -> Option<Element> {
    let (key, broadcast, address) = match &order.task {
        Task::File => (None, None, None),
        Task::Stream { key, broadcast } => (Some(key.0.as_str()), broadcast.as_deref(), None),
        Task::Sip { address } => (None, None, Some(address.as_str())),
    };
    // A Jibri recognises SIP calls by their address; like Jicofo, we name a mode all the same.
    let mode = order.task.mode().unwrap_or("file");
    let attributes = [
        attribute("room", Some(room)),
        attribute("session_id", Some(session)),
        attribute("streamid", key),
        attribute("you_tube_broadcast_id", broadcast),
        attribute("sipaddress", address),
        attribute("displayname", order.display_name.as_deref()),
        attribute("app_data", order.app_data.as_ref().map(|data| data.0.as_str())),
    ];
    build(&format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='{mode}'{}/>", attributes.concat()))
}

/// What is asked of a Jibri that is to end.
pub(super) fn stop(session: &str) -> Option<Element> {
    build(&format!("<jibri xmlns='{JIBRI}' action='stop'{}/>", attribute("session_id", Some(session))))
}

/// What a client is answered whose recording begins.
pub(super) fn begun(session: &str) -> Option<Element> {
    build(&format!("<jibri xmlns='{JIBRI}'{}/>", attribute("session_id", Some(session))))
}

/// The state of a task as our presence in the room says it.
pub(super) fn state(session: &str, task: &Task, report: Report, who: Option<&str>) -> Option<Element> {
    let status = match report.status {
        Status::On => "on",
        Status::Off => "off",
        Status::Pending => "pending",
    };
    let failure = report.failure.map(|failure| match failure {
        Failure::Busy => "busy",
        Failure::Error => "error",
    });
    let rest = attribute("session_id", Some(session)) + &attribute("failure_reason", failure);
    build(&match task {
        Task::Sip { address } => {
            let address = attribute("sipaddress", Some(address));
            format!("<jibri-sip-call-state xmlns='{CALL_STATE}' state='{status}'{address}{rest}/>")
        }
        _ => {
            let (mode, who) = (attribute("recording_mode", task.mode()), attribute("initiator", who));
            format!("<jibri-recording-status xmlns='{JIBRI}' status='{status}'{mode}{who}{rest}/>")
        }
    })
}

/// Whether a Jibri's presence says that it is healthy and idle.
pub(super) fn is_available(status: &Element) -> bool {
    let is = |name: &str, namespace: &str, value: &str| {
        status.get_child(name, namespace).and_then(|child| child.attr("status")) == Some(value)
    };
    is("busy-status", JIBRI, "idle") && is("health-status", HEALTH, "healthy")
}

/// A recording that a participant says it makes: session and mode.
pub(super) fn of_participant<'a>(payloads: impl Iterator<Item = &'a Element>) -> Option<(String, Task)> {
    let (mut session, mut task) = (None, Task::File);
    for payload in payloads {
        match payload.name() {
            "session_id" => session = Some(payload.text()).filter(|id| !id.is_empty() && id.len() <= MAX_TEXT),
            "mode" if payload.text().eq_ignore_ascii_case("stream") => {
                task = Task::Stream { key: Secret::none(), broadcast: None };
            }
            _ => {}
        }
    }
    Some((session?, task))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(attributes: &str) -> Result<Ask, &'static str> {
        Ask::read(&format!("<jibri xmlns='{JIBRI}' {attributes}/>").parse().unwrap())
    }

    #[test]
    fn what_clients_ask() {
        let order = |task| Ok(Ask::Start(Order { task, display_name: None, app_data: None }));
        assert_eq!(ask("action='start' recording_mode='file'"), order(Task::File));
        let stream = Task::Stream { key: Secret("k".into()), broadcast: Some("b".into()) };
        assert_eq!(ask("action='start' recording_mode='stream' streamid='k' you_tube_broadcast_id='b'"), order(stream));
        assert_eq!(ask("action='start' sipaddress='a@b'"), order(Task::Sip { address: "a@b".into() }));
        assert_eq!(ask("action='stop' recording_mode='file'"), Ok(Ask::Stop(None)));
        assert_eq!(ask("action='stop' sipaddress='a@b'"), Ok(Ask::Stop(Some("a@b".into()))));
        let long = format!("action='start' recording_mode='stream' streamid='{}'", "k".repeat(MAX_TEXT + 1));
        for wrong in [
            "",
            "action='pause'",
            "action='start'",
            "action='start' recording_mode='stream' streamid='  '",
            "action='start' recording_mode='file' streamid='k'",
            "status='on'",
            &long,
        ] {
            assert!(ask(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_in_no_log_line() {
        let asked =
            ask("action='start' recording_mode='stream' streamid='topsecret' app_data='{\"token\":\"topsecret\"}'");
        assert!(!format!("{asked:?}").contains("topsecret"));
    }

    #[test]
    fn what_jibris_report() {
        let read = |attributes: &str| Report::read(&format!("<jibri xmlns='{JIBRI}' {attributes}/>").parse().unwrap());
        let off = Report { status: Status::Off, failure: None, retry: false };
        assert_eq!(read("status='off'"), Some(off));
        assert_eq!(read("status='off' failure_reason='error' should_retry='true'"), Some(Report::LOST));
        assert_eq!(read("status='off' failure_reason='busy'").unwrap().failure, Some(Failure::Busy));
        assert_eq!(read("status='undefined'"), None);
        assert_eq!(read("action='start'"), None);
    }

    #[test]
    fn availability_needs_both_words() {
        let available = |busy: &str, health: &str| {
            let xml = format!(
                "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='{busy}'/>\
                 <health-status xmlns='{HEALTH}' status='{health}'/></jibri-status>"
            );
            is_available(&xml.parse().unwrap())
        };
        assert!(available("idle", "healthy"));
        assert!(!available("busy", "healthy") && !available("idle", "unhealthy") && !available("", ""));
        assert!(!is_available(&format!("<jibri-status xmlns='{JIBRI}'/>").parse().unwrap()));
    }
}
