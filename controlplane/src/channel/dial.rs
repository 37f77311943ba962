//! Opens the WebSocket of another bridge, which signalling names (docs/protocol/bridge.md 10).

use std::sync::{Arc, OnceLock};

use axum::http::Uri;
use axum::http::uri::Scheme;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http};

use super::counters::ChannelCounters;
use super::events::ChannelEvent;
use super::registry::Admission;
use super::socket::{MAX_READ, SOCKET_BUFFER, Socket, Stream, Timing, Wiring, carry, next_connection};

/// Longest address taken, bytes.
pub const MAX_URL: usize = 2_048;

/// Where a WebSocket can be opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

/// Without the password, which is in the query.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.uri.path())
    }
}

impl Address {
    /// All of it, with the password.
    pub fn url(&self) -> String {
        self.uri.to_string()
    }

    /// An address `ws://…` or `wss://…`.
    ///
    /// # Errors
    /// Says what is wrong with it, without repeating it: it has a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if url.len() > MAX_URL {
            return Err(format!("it has {} bytes, more than {MAX_URL}", url.len()));
        }
        let uri: Uri = url.parse().map_err(|error| format!("it is not a URL: {error}"))?;
        let tls = match uri.scheme().map(Scheme::as_str) {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err("it is neither ws:// nor wss://".to_owned()),
        };
        let host = uri.host().unwrap_or_default();
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if !authority.ends_with(host) && uri.port_u16().is_none() {
            return Err("its port is not a number".to_owned());
        }
        // An IPv6 address stands in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        if host.is_empty() {
            return Err("it has no host".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }
}

/// Opens WebSockets.
#[derive(Clone)]
pub struct Dialler {
    wiring: Wiring,
    /// Read when the first address with TLS is dialled.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialler").finish_non_exhaustive()
    }
}

impl Dialler {
    /// One that trusts the system's authorities, and reports to `events`.
    pub fn new(events: mpsc::Sender<ChannelEvent>, counters: Arc<ChannelCounters>) -> Self {
        let wiring = Wiring { events, counters, timing: Timing::default() };
        Self { wiring, tls: Arc::default() }
    }

    /// [`Self::new`] with other authorities and another patience, for tests.
    #[doc(hidden)]
    pub fn with(
        events: mpsc::Sender<ChannelEvent>,
        counters: Arc<ChannelCounters>,
        roots: RootCertStore,
        timing: Timing,
    ) -> Self {
        let tls = OnceLock::new();
        let _ = configuration(roots).map(|configuration| tls.set(configuration));
        Self { wiring: Wiring { events, counters, timing }, tls: Arc::new(tls) }
    }

    /// Opens the WebSocket of the bridge that `admission` is about. What becomes of it is reported as an event, under the
    /// number of the connection.
    pub fn dial(&self, admission: &Admission, address: Address) -> Dial {
        let (connection, peer) = (next_connection(), admission.peer());
        let Self { wiring, tls } = self.clone();
        let task = tokio::spawn(async move {
            match timeout(wiring.timing.open, open(address, tls)).await {
                Ok(Ok(socket)) => carry(socket, peer, connection, wiring).await,
                failed => {
                    let reason =
                        failed.map_or("no answer in time".to_owned(), |opened| opened.err().unwrap_or_default());
                    let _ = wiring.events.send(ChannelEvent::NotOpened { relay: peer.id, connection, reason }).await;
                }
            }
        });
        Dial { connection, task: Some(task.abort_handle()) }
    }
}

/// An attempt to open a WebSocket; it is given up when this is dropped.
#[derive(Debug)]
pub struct Dial {
    connection: u64,
    task: Option<AbortHandle>,
}

impl Dial {
    /// One that nobody works on.
    #[cfg(test)]
    pub(crate) fn idle(connection: u64) -> Self {
        Self { connection, task: None }
    }

    /// The number of the connection that it will be.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// It has become a connection, which ends with its outbox.
    pub fn release(mut self) {
        self.task = None;
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Opens a WebSocket. The error is for the log.
async fn open(address: Address, tls: Arc<OnceLock<Arc<ClientConfig>>>) -> Result<Socket, String> {
    let Address { uri, host, port, tls: secure } = address;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("no connection: {error}"))?;
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = if secure {
        let name = ServerName::try_from(host).map_err(|error| format!("no name for a certificate: {error}"))?;
        let connector = TlsConnector::from(authorities(tls).await?);
        Box::new(connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?)
    } else {
        Box::new(stream)
    };
    let request = uri.into_client_request().map_err(|error| describe(&error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_READ))
        .max_frame_size(Some(MAX_READ))
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER);
    let opened = client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = opened.map_err(|error| describe(&error))?;
    Ok(Socket::Opened(socket))
}

fn describe(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(answer) if answer.status() == http::StatusCode::FORBIDDEN => {
            "the other bridge knows no such relay (403)".to_owned()
        }
        tungstenite::Error::Http(answer) => format!("the answer is {}", answer.status()),
        other => other.to_string(),
    }
}

/// What TLS trusts; reading the system's authorities takes a moment.
async fn authorities(tls: Arc<OnceLock<Arc<ClientConfig>>>) -> Result<Arc<ClientConfig>, String> {
    if let Some(known) = tls.get() {
        return Ok(Arc::clone(known));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        configuration(roots)
    });
    let configuration = read.await.map_err(|error| error.to_string())??;
    Ok(Arc::clone(tls.get_or_init(|| configuration)))
}

fn configuration(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_can_be_opened() {
        for (url, shown) in [
            ("ws://127.0.0.1:9090/colibri-relay-ws/a/b/c?pwd=secret", "ws://127.0.0.1:9090/colibri-relay-ws/a/b/c"),
            ("wss://jvb.example.net/x?pwd=secret", "wss://jvb.example.net:443/x"),
            ("WS://jvb.example.net/x", "ws://jvb.example.net:80/x"),
            ("wss://[2001:db8::1]:8443/x", "wss://2001:db8::1:8443/x"),
        ] {
            let address = Address::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((address.to_string(), format!("{address:?}")), (shown.to_owned(), shown.to_owned()));
        }
        let long = format!("ws://a/{}", "x".repeat(MAX_URL));
        for url in ["", "x", "https://a/b", "ws:///b", "/b", "ws://a b/", "ws://a:99999/b", &long, "file:///etc/passwd"]
        {
            assert!(Address::parse(url).is_err(), "{url:?}");
        }
    }
}
