//! The control plane of ringbridge: XMPP, colibri2, the focus, DTLS handshakes and the bridge channel.
//! It never touches a media packet.

#![forbid(unsafe_code)]
#![recursion_limit = "256"]

pub mod brewery;
pub mod bridge;
pub mod channel;
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
pub mod xmpp;
