//! The control plane of ringbridge: everything about a Jitsi conference but its media packets, which
//! [`ringbridge_dataplane`] forwards.
//!
//! Two services live here, each in a process of its own or both in one:
//!
//! - [`bridge`] is the media bridge. A focus, Jicofo or ours, asks it over XMPP in colibri2 ([`colibri`]) for endpoints. It answers
//!   with ICE credentials and candidates ([`public_address`] finds those behind a NAT), runs the DTLS handshakes ([`transport`]),
//!   and serves the bridge channel ([`channel`]), over which clients say what they want to receive.
//! - [`focus`] joins the rooms of conferences, selects a bridge for each, and invites participants with Jingle ([`jingle`]).
//!
//! Both connect with [`xmpp`], meet in the [`brewery`] room, and serve health, statistics and [`metrics`] with [`rest`] behind a
//! bounded HTTP listener ([`door`]). [`config`] makes their settings from a file, the environment and flags ([`cli`]); nothing below
//! it knows where a setting came from.
//!
//! [`upgrade`] is how one process hands over to another one, which no command starts yet.
//!
//! # State machines
//!
//! Protocols are state machines without I/O: inputs and the time go in, outputs are polled. [`colibri::bridge::ColibriBridge`],
//! [`focus::Focus`], [`transport::DtlsSession`] and [`channel::DataChannel`] are tested without sockets and without sleeping.
//! Sockets, timers and tasks stand at the edges: [`bridge::run`], [`focus::run`], [`xmpp::connect`].
//!
//! # An example
//!
//! The state machine of colibri2, asked for an endpoint as Jicofo asks. It answers with a transport, and has commands for a worker:
//!
//! ```
//! use std::time::Instant;
//! use minidom::Element;
//! use ringbridge_controlplane::colibri::bridge::{ColibriBridge, ColibriConfig, Output};
//! use ringbridge_controlplane::colibri::elements::ConferenceModify;
//! use ringbridge_controlplane::colibri::transport::LocalTransport;
//! use ringbridge_dataplane::messages::Command;
//!
//! let transport = LocalTransport {
//!     local_addresses: vec!["192.0.2.1".parse()?],
//!     public_addresses: Vec::new(),
//!     advertise_private: true,
//!     port: 10_000,
//!     fingerprint: "AB:CD".into(),
//!     websocket_base_url: "wss://bridge.example.net".into(),
//!     relay_websocket_base_url: String::new(),
//!     websocket_server_id: "jvb1".into(),
//! };
//! let config = ColibriConfig {
//!     transport,
//!     workers: 1,
//!     spill_endpoints: 50,
//!     capacity: Default::default(),
//!     sctp: true,
//!     audio_ssrcs: 50,
//!     video_ssrcs: 50,
//!     relay: None,
//!     ice_restart: true,
//!     ufrag_prefix: |worker| worker.to_string(),
//! };
//! let (now, mut commands) = (Instant::now(), Vec::new());
//! let mut bridge = ColibriBridge::new(now, config);
//! let request: Element = "<conference-modify xmlns='jitsi:colibri2' meeting-id='m' name='room@conference.example.net' create='true'>
//!     <endpoint id='alice' create='true'><transport ice-controlling='true'/><capability name='source-names'/></endpoint>
//! </conference-modify>".parse()?;
//! let answer = bridge.handle(now, &ConferenceModify::try_from(request)?).expect("there is room");
//! assert!(answer.endpoints[0].transport.is_some());
//! while let Some(output) = bridge.poll_output() {
//!     if let Output::Command { command, .. } = output {
//!         commands.push(command);
//!     }
//! }
//! assert!(matches!(commands[..2], [Command::CreateConference { .. }, Command::CreateEndpoint(_)]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The data plane
//!
//! It is reached by [`Command`](ringbridge_dataplane::messages::Command)s and
//! [`Event`](ringbridge_dataplane::messages::Event)s alone, one ring each way per worker. No media packet passes through here, and
//! nothing here can keep a worker waiting.

#![forbid(unsafe_code)]
#![recursion_limit = "256"]

pub mod brewery;
pub mod bridge;
pub mod carried;
pub mod channel;
mod civil;
pub mod cli;
pub mod colibri;
pub mod config;
pub mod door;
pub mod focus;
pub mod host;
pub mod jingle;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod pace;
pub mod public_address;
pub mod rest;
pub mod top;
pub mod transport;
pub mod upgrade;
pub mod xmpp;
