//! What the bridge knows of its endpoints beyond signalling: DTLS, the bridge channel, what they receive and send.
//! A state machine: events of the workers and of channels in, [`Action`]s out.

mod action;
mod bandwidth;
mod carrier;
mod channel;
mod client;
mod conference;
mod counters;
mod debug;
mod kept;
mod mappings;
mod paths;
mod redial;
mod relay;
mod relay_channel;
mod relay_websocket;
mod relays;
mod signalled;
mod source_maps;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod websocket;

pub(super) use action::Action;
pub(super) use carrier::Carrier;
pub(super) use paths::Paths;
pub(super) use state::ClientsState;
pub(super) use table::Clients;
