//! colibri2: its elements and the conference state machine (docs/protocol/bridge.md 3).

pub mod bridge;
mod changes;
mod conference;
mod config;
mod context;
pub mod convert;
mod current;
pub mod debug;
pub mod elements;
mod endpoint;
mod endpoints;
pub mod identity;
pub mod limits;
pub mod names;
mod output;
mod placement;
mod published;
pub mod refusal;
mod relay;
mod relays;
pub mod restart;
pub mod state;
pub mod totals;
pub mod transport;
mod validation;
