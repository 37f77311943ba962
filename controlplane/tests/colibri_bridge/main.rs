//! The colibri2 state machine: every row of docs/protocol/bridge.md 3.5, ordering, transports, expiry.

mod bounds;
mod fixture;
mod handover;
mod lifecycle;
mod refusals;
mod relays;
