//! What of a capture is not played, and why.

use std::collections::BTreeMap;
use std::fmt;

/// Why a packet is not played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The file ends within it.
    CutRecord,
    /// A length in the file cannot be right: nothing behind it is read.
    Damaged,
    /// Less was captured than was sent.
    SnapLength,
    /// A fragment of an IP packet.
    Fragment,
    /// A link type of pcap that is not read.
    LinkType(u32),
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP, but not UDP.
    NotUdp,
    /// Its lengths do not fit each other.
    Malformed,
    /// UDP, but not RTP.
    NotRtp,
    /// RTCP.
    Rtcp,
    /// RTP without a payload: padding alone.
    Empty,
    /// A payload type whose codec was not named.
    PayloadType(u8),
    /// The copy of one that is played: captured on two interfaces, or sent again.
    Repeated,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutRecord => f.write_str("cut by the end of the file"),
            Self::Damaged => f.write_str("damaged, with all that follows it"),
            Self::SnapLength => f.write_str("cut by the snap length (capture with -s 0)"),
            Self::Fragment => f.write_str("fragments of IP packets"),
            Self::LinkType(link) => write!(f, "of link type {link}, which is not read"),
            Self::NotIp => f.write_str("not IP"),
            Self::NotUdp => f.write_str("not UDP"),
            Self::Malformed => f.write_str("with lengths that do not fit each other"),
            Self::NotRtp => f.write_str("not RTP"),
            Self::Rtcp => f.write_str("RTCP"),
            Self::Empty => f.write_str("RTP without payload"),
            Self::PayloadType(number) => write!(f, "of payload type {number}"),
            Self::Repeated => f.write_str("captured or sent twice"),
        }
    }
}

/// Packets by the reason why they are not played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut(BTreeMap<Reason, usize>);

impl LeftOut {
    pub(super) fn note(&mut self, reason: Reason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Whether everything is played.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Packets that are left out for this reason.
    pub fn count(&self, reason: Reason) -> usize {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Whether a payload type without a codec is the reason of any.
    fn has_unknown_payload_type(&self) -> bool {
        self.0.keys().any(|reason| matches!(reason, Reason::PayloadType(_)))
    }

    /// What to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        if self.has_unknown_payload_type() { "; name payload types with --payload-types 96=vp8,111=opus" } else { "" }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("it is empty");
        }
        for (at, (reason, count)) in self.0.iter().enumerate() {
            write!(f, "{}{count} {reason}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
