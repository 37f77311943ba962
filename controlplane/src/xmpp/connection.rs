//! The task behind [`super::connect`]: opens streams, moves stanzas, pings, and starts over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ping::Ping;
use xmpp_parsers::stanza_error::DefinedCondition;
use xmpp_parsers::{ns, sm};

use super::counters::{Left, XmppCounters};
use super::element_stream::{ElementStream, SendError};
use super::event::XmppEvent;
use super::handover::{self, Control, Keeping};
use super::limits::Unfit;
use super::open_error::OpenError;
use super::reader::{Item, is_stanza};
use super::session::{AfterSend, MAX_UNACKED, Session};
use super::session_file::SessionFile;
use super::settings::XmppSettings;
use super::stream::{self, Opened};
use super::wire;
use crate::pace::Quiet;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A stream that lived so long is no sign of a fault that comes back at once.
const STEADY: Duration = Duration::from_secs(30);
/// Pause after another process replaced the connection, doubled each time: two that replace each other serve nobody.
const CONFLICT_FIRST: Duration = Duration::from_secs(120);
const CONFLICT_MAX: Duration = Duration::from_secs(3_600);
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const PING_INTERVAL: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(3);
/// At most one log line about unreadable stanzas in so long.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// How serving a stream ended.
enum Ended {
    /// The stream broke: open another.
    Broken(String),
    /// Another process logged in with the same account and resource.
    Conflict,
    /// Nobody wants the connection any more.
    Done,
    /// Another process goes on with the session: not a word to the server.
    Abandoned,
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// One account's connection over its streams.
struct Connection {
    settings: XmppSettings,
    session: Session,
    events: mpsc::Sender<XmppEvent>,
    counters: Arc<XmppCounters>,
    /// Lines of the log about unreadable stanzas.
    skips: Quiet,
    /// Whoever waits for the server to keep the session.
    keeping: Option<oneshot::Sender<Keeping>>,
    /// Where the session is kept for the next process.
    file: Option<SessionFile>,
}

/// What a connection is given to do.
pub(super) struct Inputs {
    pub shutdown: watch::Receiver<bool>,
    /// Stanzas to be sent.
    pub outgoing: mpsc::Receiver<Stanza>,
    pub control: mpsc::Receiver<Control>,
}

/// Pauses between streams.
struct Pauses {
    backoff: Duration,
    conflict: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { backoff: BACKOFF_FIRST, conflict: CONFLICT_FIRST }
    }
}

impl Pauses {
    /// A stream ended, or was not to be opened (`lived` is zero then); how long to wait before the next.
    fn after(&mut self, lived: Duration, conflict: bool) -> Duration {
        if lived >= STEADY {
            self.backoff = BACKOFF_FIRST;
        }
        if lived >= CONFLICT_MAX {
            self.conflict = CONFLICT_FIRST;
        }
        let (pause, most) =
            if conflict { (&mut self.conflict, CONFLICT_MAX) } else { (&mut self.backoff, BACKOFF_MAX) };
        let now = *pause;
        *pause = (*pause * 2).min(most);
        now
    }
}

pub(super) async fn run(
    settings: XmppSettings,
    session: Session,
    file: Option<SessionFile>,
    mut inputs: Inputs,
    events: mpsc::Sender<XmppEvent>,
    counters: Arc<XmppCounters>,
) {
    let mut pauses = Pauses::default();
    let skips = Quiet::new(LOG_EVERY);
    let offline = (events.clone(), Arc::clone(&counters));
    let mut connection = Connection { settings, session, events, counters, skips, keeping: None, file };
    loop {
        let opened = {
            let attempt = timeout(OPEN_TIMEOUT, stream::open(&connection.settings, &mut connection.session));
            match drop_while(attempt, &mut inputs, &offline).await {
                Some(Ok(result)) => result,
                Some(Err(_)) => Err(OpenError::Ended(format!("no answer within {} s", OPEN_TIMEOUT.as_secs()))),
                None => return,
            }
        };
        let account = connection.settings.jid.clone();
        let pause = match opened {
            Ok(opened) => {
                let began = Instant::now();
                let (pause, reason) = match connection.serve(opened, &mut inputs).await {
                    Ended::Done | Ended::Abandoned => return,
                    Ended::Broken(reason) => {
                        let pause = pauses.after(began.elapsed(), false);
                        tracing::warn!(%account, %reason, retry_in = ?pause, "XMPP connection lost; reconnecting");
                        (pause, reason)
                    }
                    Ended::Conflict => {
                        let pause = pauses.after(began.elapsed(), true);
                        tracing::error!(%account, resource = ?connection.settings.resource, retry_in = ?pause,
                            "another process logged in with this account and resource and replaced this connection; stop one of the two, or give each a nickname (bridge) or account (focus) of its own");
                        (pause, "another process uses this account and resource".to_owned())
                    }
                };
                if connection.events.send(XmppEvent::Offline { reason }).await.is_err() {
                    return;
                }
                pause
            }
            Err(error) => {
                let pause = pauses.after(Duration::ZERO, false);
                if matches!(error, OpenError::Password { .. }) {
                    tracing::error!(%account, %error, retry_in = ?pause, "XMPP login refused");
                } else {
                    tracing::warn!(%account, %error, retry_in = ?pause, "XMPP connection failed");
                }
                pause
            }
        };
        if drop_while(tokio::time::sleep(pause), &mut inputs, &offline).await.is_none() {
            return;
        }
    }
}

/// Waits for `future` and drops what callers send meanwhile; `None` when the connection is no longer wanted.
async fn drop_while<F: Future>(
    future: F,
    inputs: &mut Inputs,
    (events, counters): &(mpsc::Sender<XmppEvent>, Arc<XmppCounters>),
) -> Option<F::Output> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut inputs.shutdown) => return None,
            Some(asked) = inputs.control.recv() => match asked {
                Control::Keep { reply } | Control::WouldKeep { reply } => drop(reply.send(Keeping::Offline)),
                Control::Export { reply } => drop(reply.send(None)),
                Control::Park => {
                    events.send(XmppEvent::Parked).await.ok()?;
                    if !handover::hold(&mut inputs.control).await {
                        return None;
                    }
                }
                Control::Resume => {}
                Control::Abandon => return None,
            },
            output = &mut future => return Some(output),
            stanza = inputs.outgoing.recv() => {
                stanza.as_ref()?;
                counters.count(Left::Offline);
                tracing::debug!("XMPP stanza dropped: offline");
            }
        }
    }
}

/// Completes once shutdown is asked for, or its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn close(mut stream: ElementStream) {
    let _ = timeout(Duration::from_secs(1), stream.close()).await;
}

impl Connection {
    async fn serve(&mut self, opened: Opened, inputs: &mut Inputs) -> Ended {
        let Opened { mut stream, jid, resumed, manageable, early } = opened;
        tracing::info!(%jid, resumed, host = %self.settings.host, "XMPP connected");
        let received = self.session.received();
        self.save();
        if self.events.send(XmppEvent::Online { jid, resumed }).await.is_err() {
            return Ended::Done;
        }
        let ended = match self.carry(&mut stream, early, manageable, inputs).await {
            // The next process goes on with it.
            Ok(()) if self.file.is_some() && self.session.resumable().is_some() => Ended::Done,
            Ok(()) => {
                close(stream).await;
                Ended::Done
            }
            Err(ended) => ended,
        };
        self.session.served(resumed, received);
        self.keeping = None;
        // Another process may have written it already.
        if !matches!(ended, Ended::Abandoned) {
            self.save();
        }
        ended
    }

    /// Keeps the session for the next process.
    fn save(&mut self) {
        if let Some(file) = &mut self.file {
            file.store(&self.session);
        }
    }

    /// Moves stanzas both ways until the stream breaks, or nobody wants it any more.
    async fn carry(
        &mut self,
        stream: &mut ElementStream,
        early: Vec<Item>,
        manageable: bool,
        inputs: &mut Inputs,
    ) -> Result<(), Ended> {
        // The server does not count what it sent before it agreed to acknowledge (XEP-0198 section 4).
        for item in early {
            self.handle(item, stream).await?;
        }
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Pings since the last sign of life.
        let mut unanswered = 0;
        let mut pings = 0u64;
        let mut goodbye: Option<Instant> = None;
        loop {
            // In no fixed order: who floods us with stanzas must not keep ours from being sent.
            tokio::select! {
                () = stopped(&mut inputs.shutdown), if goodbye.is_none() => goodbye = Some(Instant::now() + GOODBYE),
                () = async { if let Some(at) = goodbye { tokio::time::sleep_until(at).await } }, if goodbye.is_some() => {
                    return Ok(());
                }
                item = stream.next() => {
                    unanswered = 0;
                    let item = item.map_err(|error| Ended::Broken(format!("connection lost: {error}")))?;
                    self.take(item, stream).await?;
                }
                Some(asked) = inputs.control.recv() => match asked {
                    Control::Keep { reply } => self.keep(stream, manageable, reply).await?,
                    Control::WouldKeep { reply } => {
                        let kept = self.session.resumable().is_some() || (manageable && !self.session.is_managed());
                        let _ = reply.send(if kept { Keeping::Kept } else { Keeping::Unsupported });
                    }
                    Control::Park => self.park(stream, inputs).await?,
                    Control::Export { reply } => drop(reply.send(None)),
                    Control::Resume => {}
                    Control::Abandon => return Err(Ended::Abandoned),
                },
                stanza = inputs.outgoing.recv() => match stanza {
                    Some(stanza) => self.send(stream, stanza).await?,
                    None => return Ok(()),
                },
                _ = ping.tick() => {
                    if unanswered >= 2 {
                        return Err(Ended::Broken("two pings without an answer".to_owned()));
                    }
                    unanswered += 1;
                    pings += 1;
                    self.send(stream, Iq::from_get(format!("{}{pings}", wire::PING_ID), Ping).into()).await?;
                }
            }
        }
    }

    /// Has the server keep the session; it answers with a stanza of its own.
    async fn keep(
        &mut self,
        stream: &mut ElementStream,
        manageable: bool,
        reply: oneshot::Sender<Keeping>,
    ) -> Result<(), Ended> {
        if self.session.resumable().is_some() {
            let _ = reply.send(Keeping::Kept);
        } else if self.keeping.is_some() {
            // The answer is on its way.
            self.keeping = Some(reply);
        } else if manageable && !self.session.is_managed() {
            stream.send_nonza(&sm::Enable::new().with_resume()).await?;
            self.session.ask();
            self.keeping = Some(reply);
        } else {
            let _ = reply.send(Keeping::Unsupported);
        }
        Ok(())
    }

    /// The server said whether it keeps the session.
    fn kept(&mut self, answer: &Element) {
        let Some(reply) = self.keeping.take() else { return };
        let kept = match answer.name() {
            "enabled" => {
                let resumes = matches!(answer.attr("resume"), Some("true" | "1"));
                self.session.agreed(answer.attr("id").filter(|_| resumes).map(str::to_owned));
                self.session.resumable().is_some()
            }
            _ => {
                self.session.declined();
                false
            }
        };
        let _ = reply.send(if kept { Keeping::Kept } else { Keeping::Unsupported });
    }

    /// Reads nothing until whoever asked for it says so; what it has to say meanwhile is sent.
    async fn park(&mut self, stream: &mut ElementStream, inputs: &mut Inputs) -> Result<(), Ended> {
        self.events.send(XmppEvent::Parked).await.map_err(|_| Ended::Done)?;
        loop {
            tokio::select! {
                biased;
                stanza = inputs.outgoing.recv() => match stanza {
                    Some(stanza) => self.send(stream, stanza).await?,
                    // Nobody is left; whether a goodbye is due was said before.
                    None if handover::hold(&mut inputs.control).await => return Ok(()),
                    None => return Err(Ended::Abandoned),
                },
                asked = inputs.control.recv() => match asked {
                    // What was to be sent came first.
                    Some(Control::Export { reply }) => drop(reply.send(self.session.carried())),
                    Some(Control::Keep { reply } | Control::WouldKeep { reply }) => {
                        drop(reply.send(Keeping::Offline));
                    }
                    Some(Control::Park) => {}
                    Some(Control::Resume) => return Ok(()),
                    Some(Control::Abandon) | None => return Err(Ended::Abandoned),
                },
            }
        }
    }

    async fn send(&mut self, stream: &mut ElementStream, stanza: Stanza) -> Result<(), Ended> {
        let sent = match wire::to_element(&stanza) {
            Ok(element) => stream.send([&element]).await.map(|()| element),
            Err(error) => Err(SendError::Unwritable(error.to_string())),
        };
        let element = match sent {
            Ok(element) => element,
            Err(SendError::Unwritable(error)) => {
                self.counters.count(Left::Unwritable);
                tracing::error!(%error, "XMPP stanza dropped: it cannot be written as XML");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.counters.count_sent();
        match self.session.sent(element) {
            AfterSend::Nothing => {}
            AfterSend::AskForAck => stream.send_nonza(&sm::R).await?,
            AfterSend::GiveUp => {
                return Err(Ended::Broken(format!("the server acknowledged none of {MAX_UNACKED} stanzas")));
            }
        }
        Ok(())
    }

    /// Counts what the server sent, so that it is acknowledged and not delivered again, whether it can be read or not; and handles it.
    async fn take(&mut self, item: Item, stream: &mut ElementStream) -> Result<(), Ended> {
        if item.is_stanza() {
            self.session.count_received();
        }
        self.handle(item, stream).await
    }

    async fn handle(&mut self, item: Item, stream: &mut ElementStream) -> Result<(), Ended> {
        match item {
            Item::Element(element) => self.handle_element(element, stream).await,
            Item::Unreadable { head, unfit, .. } => self.skip(head, unfit, stream).await,
            Item::End => {
                self.session.abandon();
                Err(Ended::Broken("closed by the server".to_owned()))
            }
        }
    }

    async fn handle_element(&mut self, element: Element, stream: &mut ElementStream) -> Result<(), Ended> {
        if element.has_ns(ns::SM) {
            match element.name() {
                "r" => {
                    self.save();
                    stream.send_nonza(&sm::A::new(self.session.received())).await?;
                }
                "a" => self.session.acknowledge(stream::counter(&element)),
                "enabled" | "failed" => self.kept(&element),
                _ => {}
            }
            return Ok(());
        }
        if element.has_ns(ns::STREAM) {
            // A stream error ends the session: nothing is left to resume.
            self.session.abandon();
            if element.has_child("conflict", ns::XMPP_STREAMS) {
                return Err(Ended::Conflict);
            }
            return Err(Ended::Broken(format!("stream error: {}", String::from(&element))));
        }
        if !is_stanza(&element) {
            return Ok(());
        }
        self.counters.count_received();
        match wire::from_element(element) {
            wire::Incoming::Stanza(stanza) => {
                self.events.send(XmppEvent::Stanza(stanza)).await.map_err(|_| Ended::Done)
            }
            wire::Incoming::Answer(iq) => {
                self.counters.count(Left::Untyped);
                self.send(stream, iq.into()).await
            }
            wire::Incoming::Malformed => {
                self.counters.count(Left::Untyped);
                Ok(())
            }
            wire::Incoming::Pong => Ok(()),
        }
    }

    /// Reports what cannot be read, and answers it if it is a request.
    async fn skip(&mut self, head: Option<Element>, unfit: Unfit, stream: &mut ElementStream) -> Result<(), Ended> {
        self.counters.count(Left::Unreadable(unfit));
        if let Some(silenced) = self.skips.speak(std::time::Instant::now()) {
            let from = head.as_ref().and_then(|head| head.attr("from"));
            tracing::warn!(from, reason = unfit.reason(), stanzas = silenced + 1, "XMPP stanzas skipped: {unfit}");
        }
        match head.and_then(|head| wire::refusal(&head, DefinedCondition::NotAcceptable, &unfit.to_string())) {
            Some(iq) => self.send(stream, iq.into()).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_forgotten() {
        let mut pauses = Pauses::default();
        let at_once = |pauses: &mut Pauses, conflict| pauses.after(Duration::ZERO, conflict).as_secs();
        assert_eq!([(); 6].map(|()| at_once(&mut pauses, false)), [1, 2, 4, 8, 10, 10]);
        assert_eq!(
            pauses.after(Duration::from_secs(5), false).as_secs(),
            10,
            "a stream that breaks soon is no recovery"
        );
        assert_eq!(pauses.after(STEADY, false).as_secs(), 1);
        assert_eq!([(); 7].map(|()| at_once(&mut pauses, true)), [120, 240, 480, 960, 1_920, 3_600, 3_600]);
        assert_eq!(pauses.after(CONFLICT_MAX, true).as_secs(), 120);
    }
}
