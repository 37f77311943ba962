//! A recording over a real Prosody: a scripted Jibri in its brewery and in the room, a moderator, and a focus that starts again.

mod focus_world;
mod http;
mod prosody;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prosody::Prosody;
use ringbridge_controlplane::focus::{self, FocusSettings, RecordingSettings};
use ringbridge_controlplane::rest::Process;
use ringbridge_controlplane::xmpp::iq::Request;
use ringbridge_controlplane::xmpp::muc::MucRoom;
use ringbridge_controlplane::xmpp::{self, XmppEvent, XmppSender};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;

const ROOM: &str = "room@conference.meet.test";
const RECORDERS: &str = "jibribrewery@internal.auth.meet.test";
const JIBRI: &str = "http://jitsi.org/protocol/jibri";
const FOCUS: &str = "focus@auth.meet.test/focus";
const WAIT: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], prosody::free_port()))
}

/// Somebody with an account, in one room.
struct Account {
    sender: XmppSender,
    events: mpsc::Receiver<XmppEvent>,
    room: MucRoom,
    /// Presences and IQs that came, in order.
    seen: Vec<Stanza>,
    next: u32,
    _stop: watch::Sender<bool>,
}

impl Account {
    async fn new(server: &Prosody, user: &str, room: &str, nick: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = xmpp::connect(server.account(user, None), stopped);
        let room = MucRoom::new(&room.parse().unwrap(), nick).unwrap();
        let mut account = Self { sender, events, room, seen: Vec::new(), next: 0, _stop: stop };
        while !matches!(account.event().await, XmppEvent::Online { .. }) {}
        account
    }

    async fn event(&mut self) -> XmppEvent {
        timeout(WAIT, self.events.recv()).await.expect("an event in time").expect("a connection")
    }

    async fn step(&mut self) -> &Stanza {
        loop {
            if let XmppEvent::Stanza(stanza) = self.event().await {
                if let Stanza::Presence(presence) = &stanza {
                    self.room.handle(presence);
                }
                self.seen.push(stanza);
                return self.seen.last().unwrap();
            }
        }
    }

    async fn enter(&mut self, payloads: &str) {
        let all: Element = format!("<all xmlns='jabber:client'>{payloads}</all>").parse().unwrap();
        let join = self.room.join(all.children().cloned().collect());
        self.sender.send(join);
        while !self.room.is_joined() {
            self.step().await;
        }
    }

    /// Asks; the answer.
    async fn ask(&mut self, to: &str, payload: &str) -> Iq {
        self.next += 1;
        let id = format!("q{}", self.next);
        let payload = payload.parse().unwrap();
        self.sender.send(Iq::Set { from: None, to: Some(to.parse().unwrap()), id: id.clone(), payload });
        loop {
            if let Stanza::Iq(iq) = self.step().await
                && iq.id() == id
            {
                return iq.clone();
            }
        }
    }

    /// Until the focus is ready for the room.
    async fn ask_for_conference(&mut self) {
        let xml = format!("<conference xmlns='http://jitsi.org/protocol/focus' room='{ROOM}' machine-uid='1'/>");
        loop {
            match self.ask(FOCUS, &xml).await {
                Iq::Result { payload: Some(conference), .. } if conference.attr("ready") == Some("true") => return,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The next `<jibri/>` request of an action, which is answered as a Jibri does.
    async fn ordered(&mut self, action: &str) -> Request {
        loop {
            if let Stanza::Iq(iq) = self.step().await
                && let Ok(request) = Request::from_iq(iq.clone())
                && request.payload.attr("action") == Some(action)
            {
                let status = if action == "start" { "pending" } else { "off" };
                let answer = format!("<jibri xmlns='{JIBRI}' status='{status}'/>").parse().ok();
                self.sender.send(request.result(answer));
                return request;
            }
        }
    }

    /// Until the focus says in the room that a recording is so; what it said before counts once.
    async fn until_recording_is(&mut self, status: &str) -> Element {
        let said = |stanza: &Stanza| match stanza {
            Stanza::Presence(presence) => {
                presence.payloads.iter().find(|p| p.name() == "jibri-recording-status").cloned()
            }
            _ => None,
        };
        loop {
            let found =
                std::mem::take(&mut self.seen).iter().filter_map(said).find(|s| s.attr("status") == Some(status));
            if let Some(found) = found {
                return found;
            }
            self.step().await;
        }
    }
}

/// A focus that ends like a killed process when this is dropped: nothing is sent, its connection just breaks.
struct Running(Option<tokio::runtime::Runtime>, #[allow(dead_code)] watch::Sender<bool>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn start(server: &Prosody, rest: SocketAddr) -> Running {
    let (stop, stopped) = watch::channel(false);
    let settings = FocusSettings {
        xmpp: server.account("focus", Some("focus")),
        brewery: prosody::BREWERY.parse().unwrap(),
        rest_listen: rest,
        recording: RecordingSettings { brewery: RECORDERS.parse().ok(), ..RecordingSettings::default() },
        ..focus_world::settings()
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.spawn(async move { focus::run(settings, Process::default(), stopped).await.expect("the focus runs") });
    Running(Some(runtime), stop)
}

async fn until_stats(rest: SocketAddr, expected: &str) {
    for _ in 0..300 {
        if tokio::net::TcpStream::connect(rest).await.is_ok() && http::get(rest, "/stats").await.contains(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("/stats never said {expected}");
}

#[tokio::test]
async fn a_recording_over_a_real_server_and_over_the_end_of_its_focus() {
    let Some(server) = Prosody::start() else { return };
    let rest = loopback();
    let first = start(&server, rest);
    let mut jibri = Account::new(&server, "jvb", RECORDERS, "jibri-1").await;
    let status = |busy: &str| {
        format!(
            "<jibri-status xmlns='{JIBRI}'><busy-status xmlns='{JIBRI}' status='{busy}'/>\
             <health-status xmlns='http://jitsi.org/protocol/health' status='healthy'/></jibri-status>"
        )
    };
    jibri.enter(&status("idle")).await;
    until_stats(rest, "\"available\":1").await;

    let mut alice = Account::new(&server, "jvb2", ROOM, "alice").await;
    alice.ask_for_conference().await;
    alice.enter("").await;
    while !alice.room.occupants().contains_key("focus") {
        alice.step().await;
    }
    let focus = format!("{ROOM}/focus");
    let begin = format!("<jibri xmlns='{JIBRI}' action='start' recording_mode='file'/>");
    // Until the server has made her a moderator.
    let (id, order) = loop {
        let (answer, order) =
            tokio::join!(alice.ask(&focus, &begin), timeout(Duration::from_secs(2), jibri.ordered("start")));
        match (answer, order) {
            (Iq::Result { payload: Some(jibri), .. }, Ok(order)) => {
                break (jibri.attr("session_id").unwrap().to_owned(), order);
            }
            (answer, _) => println!("not yet: {answer:?}"),
        }
    };
    assert_eq!(order.payload.attr("session_id"), Some(id.as_str()));
    assert_eq!(order.from.as_ref().map(ToString::to_string), Some(format!("{RECORDERS}/focus")));
    let on = format!("<jibri xmlns='{JIBRI}' status='on'/>");
    assert!(matches!(jibri.ask(&format!("{RECORDERS}/focus"), &on).await, Iq::Result { .. }));
    let said = alice.until_recording_is("on").await;
    assert_eq!(said.attr("session_id"), Some(id.as_str()));
    assert_eq!(said.attr("initiator"), Some(format!("{ROOM}/alice").as_str()));
    let mut recorder = Account::new(&server, "jvb", ROOM, "recorder").await;
    let features =
        format!("<features><feature var='{JIBRI}'/></features><session_id>{id}</session_id><mode>FILE</mode>");
    recorder.enter(&features).await;

    // The focus is killed; the next one finds what is recorded.
    drop(first);
    let again = loopback();
    let _second = start(&server, again);
    until_stats(again, "\"available\":1").await;
    alice.seen.clear();
    let back = Instant::now();
    alice.ask_for_conference().await;
    let said = alice.until_recording_is("on").await;
    let took = back.elapsed();
    println!("the recording is shown {took:?} after the focus started");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(said.attr("session_id"), Some(id.as_str()));
    // Its moderator can still end it.
    let end = format!("<jibri xmlns='{JIBRI}' action='stop' recording_mode='file'/>");
    let answer = alice.ask(&focus, &end).await;
    assert!(matches!(answer, Iq::Result { .. }), "{answer:?}");
    alice.until_recording_is("off").await;
    while recorder.room.is_joined() {
        recorder.step().await;
    }
}
