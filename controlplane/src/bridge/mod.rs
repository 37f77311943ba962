//! The bridge as an actor: one XMPP connection, the colibri2 state machine, DTLS sessions, bridge channels, and
//! the rings of the data plane.

mod report;
mod requests;
mod wishes;
mod workers;

use std::net::{IpAddr, SocketAddr};

use jid::BareJid;

use crate::xmpp::XmppSettings;

/// What the bridge runs with.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// Its account.
    pub xmpp: XmppSettings,
    /// The brewery room, e.g. `jvbbrewery@internal.auth.example.net`.
    pub brewery: BareJid,
    /// Nickname in the brewery; unique among its bridges.
    pub nickname: String,
    /// Local addresses to bind and to advertise as host candidates.
    pub local_addresses: Vec<IpAddr>,
    /// Public addresses behind a 1:1 NAT, advertised as server-reflexive candidates.
    pub public_addresses: Vec<IpAddr>,
    /// The media port.
    pub port: u16,
    /// Number of workers.
    pub workers: usize,
    /// Cores to pin them to, one each in order; empty lets the kernel choose.
    pub cores: Vec<usize>,
    /// Which I/O backend.
    pub io: ringbridge_dataplane::io::IoChoice,
    /// Where the colibri WebSocket listens.
    pub websocket_listen: SocketAddr,
    /// Base of the URLs given to clients, e.g. `wss://meet.example.net`; the path `/colibri-ws/...` is appended.
    pub websocket_base_url: String,
    /// First path component of those URLs.
    pub websocket_server_id: String,
    /// Where health, statistics and metrics are served.
    pub rest_listen: SocketAddr,
    /// Region published in presence.
    pub region: Option<String>,
    /// Test only: forward with the sender's payload types and header-extension ids.
    pub disable_rewriting: bool,
}
