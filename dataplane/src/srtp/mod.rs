//! SRTP and SRTCP (RFC 3711, RFC 7714) over packets in place.
//!
//! An [`Opener`] holds what an endpoint sends: replay windows and rollover counters per SSRC. A [`Sealer`] holds what
//! the bridge sends: it is stateless for RTP, since the forwarder already tracks the 48-bit index of every outgoing
//! SSRC, and counts SRTCP packets itself.

mod aead;
mod ctr_hmac;
mod kdf;
mod keys;
mod replay;
mod session;

pub use keys::{MasterKey, SrtpKeys, SrtpProfile};
pub use replay::ReplayWindow;
pub use session::{Opened, Opener, Sealer};

/// Bytes that sealing may add: the AEAD tag and the SRTCP index.
pub const MAX_OVERHEAD: usize = 16 + 4;

/// A packet that did not open. Nothing was learnt from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The authentication tag does not verify.
    #[error("the authentication tag does not verify: drop the packet")]
    Auth,
    /// Seen before, or older than the replay window.
    #[error("the packet was seen before or is older than the replay window: drop it")]
    Replay,
    /// Shorter than its header and tag.
    #[error("the packet is shorter than its header and tag: drop it")]
    TooShort,
    /// Of one more SSRC than replay windows are kept for under one key.
    #[error("the peer used more SSRCs than replay windows are kept for: drop it, until the keys change")]
    TooManySsrcs,
}

/// A packet that cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The buffer has no room for the tag.
    #[error("the buffer of {have} bytes has no room for {need}: pass a larger one")]
    NoRoom {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The packet is shorter than its header.
    #[error("the packet is shorter than its header: a bug in the caller")]
    TooShort,
    /// 2^31 SRTCP packets were sealed with one key (RFC 3711 section 9.2).
    #[error("the SRTCP key is used up after 2^31 packets: a new DTLS handshake is due")]
    KeyUsedUp,
}
