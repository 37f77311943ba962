//! One XML stream over TCP or TLS: SASL, then resource binding or resumption (RFC 6120, XEP-0198).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;

use jid::FullJid;
use sasl::common::Credentials;
use tokio_xmpp::error::AuthError;
use tokio_xmpp::minidom::Element;
use tokio_xmpp::xmlstream::StreamHeader;
use xmpp_parsers::bind::{BindQuery, BindResponse};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::{ns, sm};

use super::element_stream::ElementStream;
use super::open_error::OpenError;
use super::reader::Item;
use super::settings::XmppSettings;
use super::tls;

/// State that outlives a broken stream (XEP-0198).
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Id for resumption; `None` when the server does not resume.
    pub resume_id: Option<String>,
    /// Whether acknowledgements are on.
    pub managed: bool,
    /// Stanzas that we received.
    pub received: u32,
    /// Stanzas that the server acknowledged.
    pub acked: u32,
    /// Stanzas sent and not acknowledged.
    pub unacked: VecDeque<Element>,
    /// Our address.
    pub jid: Option<FullJid>,
    /// Resumptions in a row after which no stanza was received.
    pub vain: u32,
}

impl Session {
    /// Handles the counter of an `<a/>` or `<resumed/>`.
    pub fn acknowledge(&mut self, h: u32) {
        let n = (h.wrapping_sub(self.acked) as usize).min(self.unacked.len());
        self.unacked.drain(..n);
        self.acked = h;
    }

    /// A stream has ended that began when `received` stanzas had been received. What ends streams at the same place again and
    /// again must not be resumed for ever.
    pub fn served(&mut self, resumed: bool, received: u32) {
        self.vain = if resumed && self.received == received { self.vain + 1 } else { 0 };
        if self.vain >= MAX_VAIN_RESUMPTIONS {
            tracing::warn!("resuming the XMPP session fails again and again; starting a new one");
            *self = Self::default();
        }
    }
}

/// An open stream.
pub(super) struct Opened {
    pub stream: ElementStream,
    pub jid: FullJid,
    pub resumed: bool,
    /// What came in while the stream was set up.
    pub early: Vec<Item>,
}

/// Resumptions in a row that brought no stanza before the session is given up for a new one.
const MAX_VAIN_RESUMPTIONS: u32 = 2;

/// Stanzas that may come before the answers that set a stream up.
const MAX_EARLY: usize = 4096;

/// Opens a stream, resuming `session` where both sides can.
pub(super) async fn open(settings: &XmppSettings, session: &mut Session) -> Result<Opened, OpenError> {
    let host = settings.host.clone();
    let addresses = tokio::net::lookup_host((host.as_str(), settings.port))
        .await
        .map_err(|error| OpenError::Resolve { host: host.clone(), error })?;
    let mut last = OpenError::Resolve { host: host.clone(), error: std::io::ErrorKind::NotFound.into() };
    for address in addresses {
        match open_at(address, settings, session).await {
            // Another address of the same host may answer; nothing else gets better by trying it.
            Err(error @ OpenError::Connect { .. }) => last = error,
            other => return other,
        }
    }
    Err(last)
}

async fn open_at(address: SocketAddr, settings: &XmppSettings, session: &mut Session) -> Result<Opened, OpenError> {
    let account = settings.jid.clone();
    let Some(user) = account.node() else { return Err(OpenError::NoUser { account }) };
    let (pending, binding) = tls::connect(settings, address).await?;
    let login_error = |error: tokio_xmpp::Error| OpenError::Login { account: account.clone(), error };
    let (features, stream) = pending.recv_features().await.map_err(|e| login_error(e.into()))?;
    let credentials = Credentials::default()
        .with_username(user.as_str())
        .with_password(settings.password.as_str())
        .with_channel_binding(binding);
    let stream =
        tokio_xmpp::client_login(stream, features.sasl_mechanisms, credentials).await.map_err(|e| match e {
            tokio_xmpp::Error::Auth(AuthError::Fail(_)) => OpenError::Password { account: account.clone() },
            e => login_error(e),
        })?;
    let header = StreamHeader { to: Some(Cow::Borrowed(account.domain().as_str())), from: None, id: None };
    let pending = stream.send_header(header).await.map_err(|e| login_error(e.into()))?;
    let (features, stream) = pending.recv_features::<Element>().await.map_err(|e| login_error(e.into()))?;
    // From here on strangers decide what is in the stream, so our own reader takes over.
    let mut stream = ElementStream::new(stream.into_inner());
    let mut early = Vec::new();

    if let (Some(id), Some(jid)) = (session.resume_id.clone(), session.jid.clone()) {
        stream.send_nonza(&sm::Resume { h: session.received, previd: sm::StreamId(id) }).await?;
        let answer = next_of(&mut stream, &mut early, |e| e.has_ns(ns::SM)).await?;
        if answer.is("resumed", ns::SM) {
            session.acknowledge(counter(&answer));
            stream.send(&session.unacked).await?;
            return Ok(Opened { stream, jid, resumed: true, early });
        }
    }

    *session = Session::default();
    let bind: Element = Iq::from_set("bind", BindQuery::new(settings.resource.clone())).into();
    stream.send([&bind]).await?;
    let answer = next_of(&mut stream, &mut early, |e| e.name() == "iq" && e.attr("id") == Some("bind")).await?;
    let jid = answer
        .get_child("bind", ns::BIND)
        .and_then(|bind| BindResponse::try_from(bind.clone()).ok())
        .map(FullJid::from)
        .ok_or_else(|| OpenError::Bind { account: account.clone(), reason: String::from(&answer) })?;
    session.jid = Some(jid.clone());

    if settings.resumption && features.stream_management.is_some() {
        stream.send_nonza(&sm::Enable::new().with_resume()).await?;
        let answer = next_of(&mut stream, &mut early, |e| e.has_ns(ns::SM)).await?;
        if answer.is("enabled", ns::SM) {
            session.managed = true;
            if matches!(answer.attr("resume"), Some("true" | "1")) {
                session.resume_id = answer.attr("id").map(str::to_owned);
            }
        }
    }
    Ok(Opened { stream, jid, resumed: false, early })
}

/// Value of `h`; a missing or malformed one acknowledges nothing.
pub(super) fn counter(element: &Element) -> u32 {
    element.attr("h").and_then(|h| h.parse().ok()).unwrap_or(0)
}

async fn next_of(
    stream: &mut ElementStream,
    early: &mut Vec<Item>,
    wanted: impl Fn(&Element) -> bool,
) -> Result<Element, OpenError> {
    loop {
        match stream.next().await.map_err(|error| OpenError::Ended(error.to_string()))? {
            Item::Element(element) if wanted(&element) => return Ok(element),
            Item::Element(element) if element.has_ns(ns::STREAM) => {
                return Err(OpenError::Ended(String::from(&element)));
            }
            Item::End => return Err(OpenError::Ended("closed by the server".to_owned())),
            item if early.len() < MAX_EARLY => early.push(item),
            _ => return Err(OpenError::Ended(format!("no answer among {MAX_EARLY} stanzas"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumptions_that_bring_nothing_give_way_to_a_new_session() {
        let mut session = Session { resume_id: Some("id".to_owned()), received: 7, ..Session::default() };
        session.served(true, 7);
        assert!(session.resume_id.is_some(), "once may be a bad network");
        session.served(true, 6);
        session.served(true, 7);
        assert!(session.resume_id.is_some(), "one in between brought something");
        session.served(true, 7);
        assert_eq!((session.resume_id, session.received), (None, 0));
    }
}
