//! Packets from another bridge that has keys and is faulty.
//!
//! Fed: a byte for an SSRC (of this bridge's clients, of those behind the relay, of nobody), one for a step (RTP, NACK, PLI, FIR,
//! SR, any RTCP, raw bytes, sources and demands as signalled, other keys and numbers, time, what the honest send), and its details.
//! Held: what `dataplane/tests/faulty_relay` says, whose world this is.

/// Runs one input.
pub fn run(data: &[u8]) {
    crate::faulty_relay::run(data);
}
