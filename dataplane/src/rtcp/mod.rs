//! RTCP: reading compound packets leniently, writing the few packets that a bridge sends.

pub mod build;
pub mod compound;
pub mod nack;
mod transport_feedback;
mod twcc;

pub use compound::{Block, Compound, ReportBlock, SenderInfo};
pub use transport_feedback::Feedback;
pub use twcc::TwccRecorder;

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
pub mod packet_type {
    /// Sender report.
    pub const SR: u8 = 200;
    /// Receiver report.
    pub const RR: u8 = 201;
    /// Source description.
    pub const SDES: u8 = 202;
    /// Goodbye.
    pub const BYE: u8 = 203;
    /// Transport-layer feedback.
    pub const RTPFB: u8 = 205;
    /// Payload-specific feedback.
    pub const PSFB: u8 = 206;
}
