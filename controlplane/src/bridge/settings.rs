//! What a bridge runs with.

use std::net::{IpAddr, SocketAddr};

use ringbridge_dataplane::Capacity;
use ringbridge_dataplane::conference::LoudestOnly;
use ringbridge_dataplane::ids::WorkerId;
use ringbridge_dataplane::io::{IoChoice, IoExtras};

use super::lifecycle::ShutdownSettings;
use super::xmpp_connections::XmppConnectionSettings;
use crate::colibri::bridge::{ColibriConfig, RelaySettings};
use crate::colibri::transport::LocalTransport;
use crate::host::AddressFilter;
use crate::public_address::{DiscoverySettings, PublicAddress};

/// What the bridge runs with.
#[derive(Debug, Clone)]
pub struct BridgeSettings {
    /// Its XMPP connections, at least one.
    pub connections: Vec<XmppConnectionSettings>,
    /// Local addresses to bind and to advertise as host candidates.
    pub local_addresses: Vec<IpAddr>,
    /// What they were chosen by among those of this host; none when the operator named them.
    pub chosen_by: Option<AddressFilter>,
    /// Public addresses of a NAT, advertised as server-reflexive candidates.
    pub public_addresses: Vec<PublicAddress>,
    /// How others are found.
    pub discovery: DiscoverySettings,
    /// Whether private addresses are advertised to everybody.
    pub advertise_private: bool,
    /// The media port.
    pub port: u16,
    /// Number of workers.
    pub workers: usize,
    /// Endpoints of one conference on one worker before new ones go to another.
    pub spill_endpoints: usize,
    /// SSRCs on which a client with SSRC rewriting gets all audio.
    pub audio_ssrcs: usize,
    /// Pairs of SSRCs on which it gets all video.
    pub video_ssrcs: usize,
    /// Limits what a receiver is sent to the estimated bandwidth of its path.
    pub congestion_control: bool,
    /// Initial bandwidth estimate of a path, bits per second.
    pub start_bitrate: u64,
    /// Forwards the audio of the loudest of a conference alone; `None` forwards everybody's.
    pub loudest_only: Option<LoudestOnly>,
    /// Cores to pin them to, one each in order; empty lets the kernel choose.
    pub cores: Vec<usize>,
    /// Which I/O backend.
    pub io: IoChoice,
    /// Optional kernel and NIC features.
    pub io_options: IoExtras,
    /// Where the colibri WebSocket listens, if it is served.
    pub websocket_listen: Option<SocketAddr>,
    /// Base of the URLs given to clients, e.g. `wss://meet.example.net`; the path `/colibri-ws/...` is appended. Without it
    /// clients are given none.
    pub websocket_base_url: String,
    /// Base of the URLs given to other bridges; the path `/colibri-relay-ws/...` is appended. Without it there are no relays
    /// over WebSockets.
    pub relay_websocket_base_url: String,
    /// First path component of those URLs.
    pub websocket_server_id: String,
    /// Where health, statistics and metrics are served.
    pub rest_listen: SocketAddr,
    /// Whether clients may use an SCTP data channel as bridge channel.
    pub sctp: bool,
    /// Whether ICE is restarted in place.
    pub ice_restart: bool,
    /// Region published in presence.
    pub region: Option<String>,
    /// Relays to other bridges, if they are served.
    pub relay: Option<RelaySettings>,
    /// Whether it drains from the start.
    pub drain: bool,
    /// How long a shutdown waits.
    pub shutdown: ShutdownSettings,
    /// Whether `POST /colibri/shutdown` is served.
    pub shutdown_over_rest: bool,
    /// Whether occupants of the brewery may ask for a shutdown.
    pub shutdown_over_xmpp: bool,
    /// Test only: forward with the sender's payload types and header-extension ids.
    pub disable_rewriting: bool,
}

impl BridgeSettings {
    /// What the colibri2 state machine is made with.
    pub(super) fn colibri(&self, transport: LocalTransport, workers: usize, capacity: Capacity) -> ColibriConfig {
        ColibriConfig {
            transport,
            workers,
            spill_endpoints: self.spill_endpoints,
            capacity,
            sctp: self.sctp,
            relay: self.relay.clone(),
            ice_restart: self.ice_restart,
            audio_ssrcs: self.audio_ssrcs,
            video_ssrcs: self.video_ssrcs,
            ufrag_prefix: |worker| ringbridge_dataplane::demux::ufrag_prefix(WorkerId::from_index(worker)).to_string(),
        }
    }
}
