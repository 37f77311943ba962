//! The packet path of ringbridge, a selective forwarding unit (SFU) for WebRTC: it authenticates, decrypts, chooses, rewrites,
//! encrypts and sends. No tokio, no XMPP; serde only for state that passes to another process ([`carry`]); signalling and DTLS handshakes are its caller's.
//!
//! # Three ways in
//!
//! - [`Dataplane`] is the whole: threads pinned to cores, sockets that share a port, io_uring or `recvmmsg`. Each worker is
//!   reached over a [`link::WorkerLink`]: commands in, events out. ringbridge's control plane uses this.
//! - [`Engine`] is one worker without threads, sockets and clock: ICE, demultiplexing and forwarding as a state machine. Commands,
//!   datagrams and the time go in; datagrams, events and errors come out. Build a bridge of your own around it.
//! - [`conference::Forwarder`] is forwarding alone, for whoever has ICE already.
//!
//! All three share one vocabulary: [`messages::Command`] and [`messages::Event`], with [`media`] for what was negotiated,
//! [`srtp::SrtpKeys`] for what DTLS agreed on, and [`datagram::PacketSink`] for what is to be sent.
//!
//! # An example
//!
//! One endpoint, created and asked for its first connectivity check:
//!
//! ```
//! use std::time::Instant;
//! use ringbridge_dataplane::datagram::{MAX_DATAGRAM, PacketSink, Path};
//! use ringbridge_dataplane::ice::{IceCredentials, RemoteCandidate};
//! use ringbridge_dataplane::ids::{ConferenceId, EndpointId, Ssrc};
//! use ringbridge_dataplane::messages::{Command, FeedbackSsrcs, NewEndpoint};
//! use ringbridge_dataplane::{Engine, EngineConfig};
//!
//! /// What the engine wants sent.
//! struct Sent([u8; MAX_DATAGRAM], Vec<(Path, usize)>);
//!
//! impl PacketSink for Sent {
//!     fn slot(&mut self) -> Option<&mut [u8]> {
//!         Some(&mut self.0)
//!     }
//!     fn commit(&mut self, len: usize, path: Path) {
//!         self.1.push((path, len));
//!     }
//! }
//!
//! let mut engine = Engine::new(EngineConfig::new(["192.0.2.1:10000".parse()?]), Default::default());
//! let (mut sent, now) = (Sent([0; MAX_DATAGRAM], Vec::new()), Instant::now());
//! let (conference, endpoint) = (ConferenceId(1), EndpointId(1));
//! let feedback = FeedbackSsrcs { audio: Ssrc::new(1), video: Ssrc::new(2) };
//! engine.handle_command(now, Command::CreateConference { conference, feedback }, &mut sent)?;
//! // The ufrag begins with `demux::ufrag_prefix(0)`: of several workers, this one owns the endpoint.
//! let ice = IceCredentials { ufrag: "0ours".into(), pwd: "our password, 22 letters".into() };
//! let new = NewEndpoint { conference, endpoint, label: "alice".into(), ice, controlling: true };
//! engine.handle_command(now, Command::CreateEndpoint(Box::new(new)), &mut sent)?;
//! let theirs = IceCredentials { ufrag: "theirs".into(), pwd: "their password".into() };
//! let candidate = RemoteCandidate { addr: "198.51.100.7:4000".parse()?, priority: 1, relayed: false };
//! let command = Command::SetRemoteIce { endpoint, credentials: Some(theirs), candidates: vec![candidate] };
//! engine.handle_command(now, command, &mut sent)?;
//! assert_eq!(sent.1[0].0.remote, candidate.addr);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to go next
//!
//! - `examples/two_endpoints.rs` forwards packets in memory; `examples/udp_sfu.rs` is an SFU over one socket in 180 lines.
//! - [`Engine`] and [`conference`] show a packet's way; [`congestion`] decides how much of it a receiver gets.
//! - [`stats::Counter`] lists everything that is counted, and so every reason why a packet may be dropped.
//! - [`io`] has the two I/O backends, and the crate's only `unsafe` code.
//! - `docs/architecture.md` has the rules that keep it fast, `docs/decisions.md` the reasons.

#![deny(unsafe_code)]

pub mod carry;
pub mod clock;
pub mod conference;
pub mod congestion;
pub mod datagram;
pub mod demux;
pub mod handover;
pub mod ice;
pub mod ids;
#[allow(unsafe_code)]
pub mod io;
pub mod link;
pub mod media;
pub mod messages;
pub mod rtcp;
pub mod rtp;
pub mod srtp;
pub mod stats;

mod budget;
mod coalescing;
mod dataplane;
mod deadlines;
mod engine;
mod limits;
mod negotiation;
mod peers;
mod slab;
mod worker;

pub use dataplane::{Capacity, Dataplane, DataplaneConfig, DataplaneHealth, StartError};
pub use engine::{CommandError, Engine, EngineConfig, EngineState, ImportError};
