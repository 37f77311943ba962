//! Traffic for tests of ringbridge, in four commands of `ringbridge-load`:
//!
//! - [`participants`] fill a room over real signalling, send media, and report what they received;
//! - [`joins`] let many join one room, without media, and count what that costs the site;
//! - [`impair`] is a UDP relay in front of a bridge that behaves like a bad network;
//! - [`attack`] is a media peer with real keys that sends whatever it is ordered to.
//!
//! Nothing here measures what forwarding costs: that is `ringbridge-bench`.

#![forbid(unsafe_code)]

pub mod attack;
pub mod impair;
pub mod joins;
pub mod participants;
pub mod site;
