//! A received packet: looked into once, for all receivers, and kept until its batch goes to them.
//!
//! [`payload`] reads the codec's descriptor into a [`frame`] and a [`picture`], in terms that all codecs share; with the place
//! in its stream that is the packet's [`info`], by which receivers decide. It waits in the [`batch`].

pub mod batch;
pub mod frame;
pub mod info;
pub mod payload;
pub mod picture;
