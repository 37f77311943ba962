//! Addresses under which a NAT shows this host: those that the operator names, and those that are found, by STUN and by the
//! metadata service of AWS.

mod address;
pub mod aws;
mod failure;
mod finding;
pub mod look_up;
mod server;
mod settings;
pub mod stun;
mod survey;
mod unused;
mod usable;

pub use address::{PublicAddress, merge};
pub use failure::{Failure, Failures};
pub use finding::Finding;
pub use server::StunServer;
pub use settings::DiscoverySettings;
pub use survey::survey;
