//! The packet path of ringbridge: worker threads pinned to cores that receive, authenticate, open, translate,
//! seal and send media packets. No tokio, no XMPP, no serde.
//!
//! The control plane talks to it only through [`messages::Command`] and [`messages::Event`].

#![deny(unsafe_code)]

pub mod conference;
pub mod congestion;
pub mod datagram;
pub mod demux;
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
pub mod worker;

mod budget;
mod dataplane;
mod deadlines;
mod limits;
mod negotiation;
mod peers;
mod slab;

pub use dataplane::{Capacity, Dataplane, DataplaneConfig, DataplaneHealth, StartError};
