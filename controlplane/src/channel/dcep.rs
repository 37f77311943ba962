//! The Data Channel Establishment Protocol (RFC 8832): who opens a channel, and with what reliability.

use sctp_proto::ReliabilityType;

/// Message type of DATA_CHANNEL_OPEN (section 8.2.1).
const OPEN: u8 = 0x03;
/// DATA_CHANNEL_ACK, the whole message (section 5.2).
pub const ACK: &[u8] = &[0x02];
/// Length of DATA_CHANNEL_OPEN before label and protocol, bytes.
const FIXED: usize = 12;

/// DATA_CHANNEL_OPEN (section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Whether messages may overtake each other.
    pub unordered: bool,
    /// 0 reliable, 1 a number of retransmissions, 2 a lifetime; the low bits of the channel type.
    pub reliability: u8,
    /// Retransmissions, or milliseconds.
    pub parameter: u32,
    /// What the client calls it.
    pub label: String,
    /// What it says it will speak.
    pub protocol: String,
}

impl Open {
    /// Reads the message; `None` for any other one, and for one that is cut off.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let (fixed, rest) = message.split_at_checked(FIXED)?;
        let &[OPEN, channel_type, _, _, p0, p1, p2, p3, l0, l1, r0, r1] = fixed else { return None };
        let (label, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        let (protocol, _) = rest.split_at_checked(usize::from(u16::from_be_bytes([r0, r1])))?;
        Some(Self {
            unordered: channel_type & 0x80 != 0,
            reliability: channel_type & 0x7f,
            parameter: u32::from_be_bytes([p0, p1, p2, p3]),
            label: String::from_utf8_lossy(label).into_owned(),
            protocol: String::from_utf8_lossy(protocol).into_owned(),
        })
    }

    /// The channel between two bridges (docs/protocol/bridge.md 10).
    pub fn of_relay() -> Self {
        let (label, protocol) = ("default".to_owned(), "http://jitsi.org/protocols/colibri".to_owned());
        Self { unordered: false, reliability: 0, parameter: 0, label, protocol }
    }

    /// The message; label and protocol are cut where they are longer than their lengths can say.
    pub fn write(&self) -> Vec<u8> {
        let cut = |text: &str| text.as_bytes()[..text.len().min(usize::from(u16::MAX))].to_vec();
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        let (label, protocol) = (cut(&self.label), cut(&self.protocol));
        // Priority 0.
        let mut message = vec![OPEN, u8::from(self.unordered) << 7 | self.reliability, 0, 0];
        message.extend_from_slice(&self.parameter.to_be_bytes());
        message.extend_from_slice(&length(&label));
        message.extend_from_slice(&length(&protocol));
        message.extend_from_slice(&label);
        message.extend_from_slice(&protocol);
        message
    }

    /// How SCTP shall deliver what we send; an unknown type is reliable.
    pub fn reliability(&self) -> ReliabilityType {
        ReliabilityType::from(self.reliability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Chromium 156 sends it for the channel of the client library.
    fn recorded() -> Vec<u8> {
        let (label, protocol) = ("JVB data channel", "http://jitsi.org/protocols/colibri");
        let mut message = vec![OPEN, 0, 1, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, protocol.len() as u8];
        message.extend_from_slice(label.as_bytes());
        message.extend_from_slice(protocol.as_bytes());
        message
    }

    #[test]
    fn an_open_is_read() {
        let open = Open::parse(&recorded()).expect("complete");
        assert_eq!((open.label.as_str(), open.unordered), ("JVB data channel", false));
        assert_eq!(open.protocol, "http://jitsi.org/protocols/colibri");
        assert_eq!(open.reliability(), ReliabilityType::Reliable);
        let mut lossy = recorded();
        lossy[1] = 0x81;
        lossy[7] = 3;
        let open = Open::parse(&lossy).expect("complete");
        assert_eq!((open.unordered, open.reliability(), open.parameter), (true, ReliabilityType::Rexmit, 3));
    }

    #[test]
    fn what_is_written_is_read() {
        let open = Open::of_relay();
        assert_eq!(Open::parse(&open.write()), Some(open.clone()));
        assert_eq!(
            (open.unordered, open.reliability(), open.label.as_str()),
            (false, ReliabilityType::Reliable, "default")
        );
        let lossy = Open { unordered: true, reliability: 1, parameter: 70_000, ..open };
        assert_eq!(Open::parse(&lossy.write()), Some(lossy));
    }

    #[test]
    fn what_is_cut_off_is_no_open() {
        let whole = recorded();
        for length in 0..whole.len() {
            assert_eq!(Open::parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(Open::parse(ACK), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Open::parse(&bytes);
        }
    }
}
