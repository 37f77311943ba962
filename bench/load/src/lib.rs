//! Traffic for tests of ringbridge, in three commands of `ringbridge-load`:
//!
//! - [`participants`] fill a room over real signalling, send media, and report what they received;
//! - [`impair`] is a UDP relay in front of a bridge that behaves like a bad network;
//! - [`attack`] is a media peer with real keys that sends whatever it is told.
//!
//! Nothing here measures what forwarding costs: that is `ringbridge-load`.

#![forbid(unsafe_code)]

pub mod attack;
pub mod impair;
pub mod participants;
