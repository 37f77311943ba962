//! One XML stream over TCP or TLS: SASL, then resource binding or resumption (RFC 6120, XEP-0198).

use std::borrow::Cow;
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
use super::session::Session;
use super::settings::XmppSettings;
use super::tls;

/// An open stream.
pub(super) struct Opened {
    pub stream: ElementStream,
    pub jid: FullJid,
    pub resumed: bool,
    /// Whether the server has stream management.
    pub manageable: bool,
    /// What came in while the stream was set up.
    pub early: Vec<Item>,
}

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

    if let Some((id, jid)) = session.resumable().map(|(id, jid)| (id.to_owned(), jid.clone())) {
        stream.send_nonza(&sm::Resume { h: session.received(), previd: sm::StreamId(id) }).await?;
        let answer = next_of(&mut stream, &mut early, |e| e.has_ns(ns::SM)).await?;
        if answer.is("resumed", ns::SM) {
            session.acknowledge(counter(&answer));
            stream.send(session.unacked()).await?;
            return Ok(Opened { stream, jid, resumed: true, manageable: true, early });
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
    *session = Session::new(jid.clone());

    if settings.resumption && features.stream_management.is_some() {
        stream.send_nonza(&sm::Enable::new().with_resume()).await?;
        let answer = next_of(&mut stream, &mut early, |e| e.has_ns(ns::SM)).await?;
        if answer.is("enabled", ns::SM) {
            let resumes = matches!(answer.attr("resume"), Some("true" | "1"));
            session.manage(answer.attr("id").filter(|_| resumes).map(str::to_owned));
        }
    }
    Ok(Opened { stream, jid, resumed: false, manageable: features.stream_management.is_some(), early })
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
