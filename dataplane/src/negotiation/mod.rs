//! What endpoints negotiated, compiled for look-up: payload types in [`formats`], header extensions in [`extensions`].
//!
//! Every endpoint has numbers of its own. [`negotiated`] translates them into identities ([`ids`]) that two endpoints share
//! when they mean the same: fixed ones for what is [`well_known`], and ones of the conference, its [`vocabulary`], for the rest.
//! A packet then goes from the sender's numbers to an identity once, and from there to each receiver's numbers.

pub mod extensions;
pub mod formats;
pub mod ids;
pub mod negotiated;
pub mod vocabulary;
mod well_known;
