//! The task behind [`super::connect`]: opens streams, moves stanzas, pings, and starts over.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_xmpp::Stanza;
use tokio_xmpp::minidom::Element;
use tokio_xmpp::xmlstream::ReadError;
use xmpp_parsers::iq::Iq;
use xmpp_parsers::ping::Ping;
use xmpp_parsers::{ns, sm};

use super::stream::{self, ElementStream, OpenError, Opened, Session};
use super::{XmppEvent, XmppSettings, wire};

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const PING_INTERVAL: Duration = Duration::from_secs(30);
const GOODBYE: Duration = Duration::from_secs(3);
/// An acknowledgement is asked for after so many unacknowledged stanzas.
const ACK_AFTER: usize = 16;

/// How serving a stream ended.
enum Ended {
    /// The stream broke: open another.
    Broken(String),
    /// Nobody wants the connection any more.
    Done,
}

pub(super) async fn run(
    settings: XmppSettings,
    mut shutdown: watch::Receiver<bool>,
    mut outgoing: mpsc::Receiver<Stanza>,
    events: mpsc::Sender<XmppEvent>,
) {
    let mut session = Session::default();
    let mut backoff = BACKOFF_FIRST;
    loop {
        let opened = {
            let attempt = timeout(OPEN_TIMEOUT, stream::open(&settings, &mut session));
            match drop_while(attempt, &mut shutdown, &mut outgoing).await {
                Some(Ok(result)) => result,
                Some(Err(_)) => Err(OpenError::Ended(format!("no answer within {} s", OPEN_TIMEOUT.as_secs()))),
                None => return,
            }
        };
        match opened {
            Ok(opened) => {
                backoff = BACKOFF_FIRST;
                tracing::info!(jid = %opened.jid, resumed = opened.resumed, host = %settings.host, "XMPP connected");
                let online = XmppEvent::Online { jid: opened.jid.clone(), resumed: opened.resumed };
                if events.send(online).await.is_err() {
                    return;
                }
                match serve(opened, &mut session, &mut shutdown, &mut outgoing, &events).await {
                    Ended::Done => return,
                    Ended::Broken(reason) => {
                        tracing::warn!(account = %settings.jid, %reason, "XMPP connection lost; reconnecting");
                        if events.send(XmppEvent::Offline { reason }).await.is_err() {
                            return;
                        }
                    }
                }
            }
            Err(error @ OpenError::Password { .. }) => {
                tracing::error!(account = %settings.jid, %error, retry_in = ?backoff, "XMPP login refused");
            }
            Err(error) => {
                tracing::warn!(account = %settings.jid, %error, retry_in = ?backoff, "XMPP connection failed");
            }
        }
        if drop_while(tokio::time::sleep(backoff), &mut shutdown, &mut outgoing).await.is_none() {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Waits for `future` and drops what callers send meanwhile; `None` when the connection is no longer wanted.
async fn drop_while<F: Future>(
    future: F,
    shutdown: &mut watch::Receiver<bool>,
    outgoing: &mut mpsc::Receiver<Stanza>,
) -> Option<F::Output> {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            () = stopped(shutdown) => return None,
            output = &mut future => return Some(output),
            stanza = outgoing.recv() => {
                stanza.as_ref()?;
                tracing::debug!("XMPP stanza dropped: offline");
            }
        }
    }
}

/// Completes once shutdown is asked for, or its sender is gone.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn serve(
    opened: Opened,
    session: &mut Session,
    shutdown: &mut watch::Receiver<bool>,
    outgoing: &mut mpsc::Receiver<Stanza>,
    events: &mpsc::Sender<XmppEvent>,
) -> Ended {
    let Opened { mut stream, early, .. } = opened;
    for element in early {
        if let Err(ended) = take(element, &mut stream, session, events).await {
            return ended;
        }
    }
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Pings since the last sign of life.
    let mut unanswered = 0;
    let mut pings = 0u64;
    let mut goodbye: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stopped(shutdown), if goodbye.is_none() => goodbye = Some(Instant::now() + GOODBYE),
            () = async { if let Some(at) = goodbye { tokio::time::sleep_until(at).await } }, if goodbye.is_some() => {
                close(stream).await;
                return Ended::Done;
            }
            item = stream.next() => {
                unanswered = 0;
                match item {
                    Some(Ok(element)) => if let Err(ended) = take(element, &mut stream, session, events).await {
                        return ended;
                    },
                    Some(Err(ReadError::SoftTimeout)) => {}
                    Some(Err(error)) => return Ended::Broken(stream::describe(&error)),
                    None => return Ended::Broken("connection closed".to_owned()),
                }
            }
            stanza = outgoing.recv() => {
                let Some(stanza) = stanza else {
                    close(stream).await;
                    return Ended::Done;
                };
                if let Err(error) = send(&mut stream, session, stanza).await {
                    return Ended::Broken(format!("connection lost: {error}"));
                }
            }
            _ = ping.tick() => {
                if unanswered >= 2 {
                    return Ended::Broken("two pings without an answer".to_owned());
                }
                unanswered += 1;
                pings += 1;
                let iq = Iq::from_get(format!("{}{pings}", wire::PING_ID), Ping);
                if let Err(error) = send(&mut stream, session, iq.into()).await {
                    return Ended::Broken(format!("connection lost: {error}"));
                }
            }
        }
    }
}

async fn close(mut stream: ElementStream) {
    let _ = timeout(Duration::from_secs(1), SinkExt::<&Element>::close(&mut stream)).await;
}

async fn send(stream: &mut ElementStream, session: &mut Session, stanza: Stanza) -> std::io::Result<()> {
    let element = match wire::to_element(&stanza) {
        Ok(element) => element,
        Err(error) => {
            tracing::error!(%error, "XMPP stanza dropped: it cannot be written as XML");
            return Ok(());
        }
    };
    stream.send(&element).await?;
    if session.managed {
        session.unacked.push_back(element);
        if session.unacked.len().is_multiple_of(ACK_AFTER) {
            stream.send(&sm::R).await?;
        }
    }
    Ok(())
}

/// Handles one element from the server.
async fn take(
    element: Element,
    stream: &mut ElementStream,
    session: &mut Session,
    events: &mpsc::Sender<XmppEvent>,
) -> Result<(), Ended> {
    let broken = |error: std::io::Error| Ended::Broken(format!("connection lost: {error}"));
    if element.has_ns(ns::SM) {
        match element.name() {
            "r" => stream.send(&sm::A::new(session.received)).await.map_err(broken)?,
            "a" => session.acknowledge(stream::counter(&element)),
            _ => {}
        }
        return Ok(());
    }
    if element.has_ns(ns::STREAM) {
        // A stream error ends the session: nothing is left to resume.
        session.resume_id = None;
        return Err(Ended::Broken(format!("stream error: {}", String::from(&element))));
    }
    session.received = session.received.wrapping_add(1);
    match wire::from_element(element) {
        wire::Incoming::Stanza(stanza) => events.send(XmppEvent::Stanza(stanza)).await.map_err(|_| Ended::Done),
        wire::Incoming::Answer(iq) => send(stream, session, iq.into()).await.map_err(broken),
        wire::Incoming::Nothing => Ok(()),
    }
}
