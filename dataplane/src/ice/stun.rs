//! STUN messages as ICE uses them (RFC 8489, RFC 8445 section 16): a view over a datagram, and a writer.
//!
//! Parsing allocates nothing and stores nothing; [`Message::verify`] is the only way to learn that a message is
//! authentic, and the agent calls it before it looks at any attribute but USERNAME.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ring::hmac;

/// Bytes of a STUN header.
pub const HEADER_LEN: usize = 20;
/// Largest STUN message that is read or written, bytes: what ICE needs with ufrags of 256 characters on both sides. What somebody
/// signed has to be hashed to be refused.
pub const MAX_MESSAGE: usize = 600;
/// The magic cookie of RFC 8489 section 5.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// What FINGERPRINT is XORed with (RFC 8489 section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const TAG_LEN: usize = 20;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Message class (RFC 8489 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A request.
    Request,
    /// An indication: nothing answers it.
    Indication,
    /// A success response.
    Success,
    /// An error response.
    Error,
}

impl Class {
    /// Message type of a Binding of this class.
    const fn binding(self) -> u16 {
        match self {
            Self::Request => 0x0001,
            Self::Indication => 0x0011,
            Self::Success => 0x0101,
            Self::Error => 0x0111,
        }
    }
}

/// Transaction id: 96 bits.
pub type TransactionId = [u8; 12];

/// The datagram is no well-formed STUN Binding message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Shorter than its header or its length field says, longer than [`MAX_MESSAGE`], or not a multiple of four.
    #[error("length")]
    Length,
    /// No magic cookie.
    #[error("no magic cookie")]
    Cookie,
    /// Not a Binding method.
    #[error("not a Binding message")]
    Method,
    /// An attribute is longer than the message or has the wrong size.
    #[error("attribute {0:#06x} does not fit")]
    Attribute(u16),
    /// FINGERPRINT is wrong.
    #[error("wrong fingerprint")]
    Fingerprint,
}

/// A Binding message; borrows the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Request, response, …
    pub class: Class,
    /// Pairs a response with its request.
    pub transaction: TransactionId,
    /// USERNAME, unverified.
    pub username: Option<&'a [u8]>,
    /// PRIORITY: what a peer-reflexive candidate learnt from this request gets.
    pub priority: Option<u32>,
    /// USE-CANDIDATE is present.
    pub use_candidate: bool,
    /// Tie-breaker of a sender that believes it is controlling.
    pub controlling: Option<u64>,
    /// Tie-breaker of a sender that believes it is controlled.
    pub controlled: Option<u64>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// ERROR-CODE, e.g. 487.
    pub error: Option<u16>,
    /// Type of the first comprehension-required attribute that is not known (RFC 8489 section 6.3).
    pub unknown_required: Option<u16>,
    /// Offset of the MESSAGE-INTEGRITY attribute.
    integrity: Option<usize>,
    /// Offset and value of the FINGERPRINT attribute.
    fingerprint: Option<(usize, u32)>,
}

impl<'a> Message<'a> {
    /// Reads a datagram. Attributes after MESSAGE-INTEGRITY are ignored, except FINGERPRINT, which is checked.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, StunError> {
        let message = Self::read_unchecked(bytes)?;
        if message.is_intact() { Ok(message) } else { Err(StunError::Fingerprint) }
    }

    /// Whether FINGERPRINT, if there is one, is right.
    pub fn is_intact(&self) -> bool {
        self.fingerprint.is_none_or(|(at, value)| {
            self.bytes.get(..at).is_some_and(|covered| value == crc32(covered) ^ FINGERPRINT_XOR)
        })
    }

    /// The same as [`Self::parse`] without a look at the value of FINGERPRINT, which costs more than all the rest: see
    /// [`Self::is_intact`].
    pub fn read_unchecked(bytes: &'a [u8]) -> Result<Self, StunError> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(StunError::Length)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if bytes.len() > MAX_MESSAGE || length % 4 != 0 || HEADER_LEN + length != bytes.len() {
            return Err(StunError::Length);
        }
        if header[4..8] != COOKIE {
            return Err(StunError::Cookie);
        }
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error]
            .into_iter()
            .find(|class| class.binding() == kind)
            .ok_or(StunError::Method)?;
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let mut message = Self {
            bytes,
            class,
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            controlling: None,
            controlled: None,
            mapped: None,
            error: None,
            unknown_required: None,
            integrity: None,
            fingerprint: None,
        };
        let mut at = HEADER_LEN;
        while at < bytes.len() {
            let (kind, value) = attribute(bytes, at).ok_or(StunError::Attribute(0))?;
            let next = at + 4 + value.len().next_multiple_of(4);
            if next > bytes.len() {
                return Err(StunError::Attribute(kind));
            }
            if kind == FINGERPRINT {
                let value = fixed::<4>(kind, value).map(u32::from_be_bytes)?;
                if next != bytes.len() {
                    return Err(StunError::Fingerprint);
                }
                message.fingerprint = Some((at, value));
            } else if message.integrity.is_none() {
                message.read(kind, value, at)?;
            }
            at = next;
        }
        Ok(message)
    }

    fn read(&mut self, kind: u16, value: &'a [u8], at: usize) -> Result<(), StunError> {
        match kind {
            USERNAME => self.username = self.username.or(Some(value)),
            PRIORITY => self.priority = Some(u32::from_be_bytes(fixed(kind, value)?)),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING => self.controlling = Some(u64::from_be_bytes(fixed(kind, value)?)),
            ICE_CONTROLLED => self.controlled = Some(u64::from_be_bytes(fixed(kind, value)?)),
            XOR_MAPPED_ADDRESS => {
                self.mapped = Some(xor_address(value, &self.transaction).ok_or(StunError::Attribute(kind))?)
            }
            ERROR_CODE => {
                let code: &[u8; 4] = value.first_chunk().ok_or(StunError::Attribute(kind))?;
                self.error = Some(u16::from(code[2] & 7) * 100 + u16::from(code[3]));
            }
            MESSAGE_INTEGRITY => {
                fixed::<TAG_LEN>(kind, value)?;
                self.integrity = Some(at);
            }
            unknown if unknown < 0x8000 && self.unknown_required.is_none() => self.unknown_required = Some(unknown),
            _ => {}
        }
        Ok(())
    }

    /// The parts of USERNAME before and after the colon: for a request to us, our ufrag and the sender's.
    pub fn ufrags(&self) -> Option<(&'a [u8], &'a [u8])> {
        let username = self.username?;
        let colon = username.iter().position(|byte| *byte == b':')?;
        Some((&username[..colon], &username[colon + 1..]))
    }

    /// Whether MESSAGE-INTEGRITY is present and right under `key` (RFC 8489 section 14.5); constant-time compare.
    pub fn verify(&self, key: &hmac::Key) -> bool {
        let Some(at) = self.integrity else { return false };
        let mut signed = [0; MAX_MESSAGE];
        let (Some(signed), Some(covered)) = (signed.get_mut(..at), self.bytes.get(..at)) else { return false };
        let Some(tag) = self.bytes.get(at + 4..at + 4 + TAG_LEN) else { return false };
        signed.copy_from_slice(covered);
        // The length that counts ends with MESSAGE-INTEGRITY, whatever follows it.
        signed[2..4].copy_from_slice(&((at + 4 + TAG_LEN - HEADER_LEN) as u16).to_be_bytes());
        hmac::verify(key, signed, tag).is_ok()
    }
}

/// The key of MESSAGE-INTEGRITY for a short-term password (RFC 8489 section 9.1.1).
pub fn integrity_key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

fn attribute(bytes: &[u8], at: usize) -> Option<(u16, &[u8])> {
    let head: &[u8; 4] = bytes.get(at..)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    Some((u16::from_be_bytes([head[0], head[1]]), bytes.get(at + 4..at + 4 + length)?))
}

fn fixed<const N: usize>(kind: u16, value: &[u8]) -> Result<[u8; N], StunError> {
    value.try_into().map_err(|_| StunError::Attribute(kind))
}

fn xor_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let head: &[u8; 4] = value.first_chunk()?;
    let port = u16::from_be_bytes([head[2] ^ COOKIE[0], head[3] ^ COOKIE[1]]);
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&COOKIE);
    mask[4..].copy_from_slice(transaction);
    let ip: IpAddr = match (head[1], value.len()) {
        (1, 8) => {
            let mut octets: [u8; 4] = value[4..].try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            Ipv4Addr::from(octets).into()
        }
        (2, 20) => {
            let mut octets: [u8; 16] = value[4..].try_into().ok()?;
            octets.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes one message into a buffer. Running out of room shows in [`Writer::finish`], not before.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    transaction: TransactionId,
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    /// Starts a Binding message.
    pub fn new(buf: &'a mut [u8], class: Class, transaction: &TransactionId) -> Self {
        let mut writer = Self { buf, transaction: *transaction, len: 0, overflow: false };
        writer.put(&class.binding().to_be_bytes());
        writer.put(&[0, 0]);
        writer.put(&COOKIE);
        writer.put(transaction);
        writer
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(&kind.to_be_bytes());
        self.put(&(value.len() as u16).to_be_bytes());
        self.put(value);
        self.put(&[0; 3][..value.len().next_multiple_of(4) - value.len()]);
        self
    }

    /// Adds USERNAME.
    pub fn username(self, username: &[u8]) -> Self {
        self.attribute(USERNAME, username)
    }

    /// Adds PRIORITY.
    pub fn priority(self, priority: u32) -> Self {
        self.attribute(PRIORITY, &priority.to_be_bytes())
    }

    /// Adds ICE-CONTROLLING or ICE-CONTROLLED.
    pub fn role(self, controlling: bool, tie_breaker: u64) -> Self {
        self.attribute(if controlling { ICE_CONTROLLING } else { ICE_CONTROLLED }, &tie_breaker.to_be_bytes())
    }

    /// Adds USE-CANDIDATE when `yes`.
    pub fn use_candidate(self, yes: bool) -> Self {
        if yes { self.attribute(USE_CANDIDATE, &[]) } else { self }
    }

    /// Adds XOR-MAPPED-ADDRESS.
    pub fn mapped(self, address: SocketAddr) -> Self {
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        let len = match address.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..20].copy_from_slice(&ip.octets());
                20
            }
        };
        value[2] ^= COOKIE[0];
        value[3] ^= COOKIE[1];
        let mask = COOKIE.into_iter().chain(self.transaction);
        value[4..len].iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
        self.attribute(XOR_MAPPED_ADDRESS, &value[..len])
    }

    /// Adds ERROR-CODE with a reason phrase.
    pub fn error(self, code: u16, reason: &str) -> Self {
        let mut value = [0; 36];
        let reason = &reason.as_bytes()[..reason.len().min(32)];
        value[2] = (code / 100) as u8;
        value[3] = (code % 100) as u8;
        value[4..4 + reason.len()].copy_from_slice(reason);
        self.attribute(ERROR_CODE, &value[..4 + reason.len()])
    }

    /// Adds UNKNOWN-ATTRIBUTES with one type; goes with error 420.
    pub fn unknown(self, kind: u16) -> Self {
        self.attribute(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes())
    }

    /// Adds MESSAGE-INTEGRITY and FINGERPRINT; the length of the message, or `None` when the buffer is too small.
    pub fn finish(mut self, key: &hmac::Key) -> Option<usize> {
        self.set_length(4 + TAG_LEN);
        let tag = hmac::sign(key, self.buf.get(..self.len)?);
        self = self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_length(8);
        let crc = crc32(self.buf.get(..self.len)?) ^ FINGERPRINT_XOR;
        self = self.attribute(FINGERPRINT, &crc.to_be_bytes());
        (!self.overflow && self.len <= MAX_MESSAGE).then_some(self.len)
    }

    /// Adds FINGERPRINT alone, for a request without credentials; the length of the message, or `None` when the buffer is
    /// too small.
    pub fn finish_unsigned(mut self) -> Option<usize> {
        self.set_length(8);
        let crc = crc32(self.buf.get(..self.len)?) ^ FINGERPRINT_XOR;
        self = self.attribute(FINGERPRINT, &crc.to_be_bytes());
        (!self.overflow && self.len <= MAX_MESSAGE).then_some(self.len)
    }

    fn set_length(&mut self, more: usize) {
        let length = (self.len + more - HEADER_LEN.min(self.len)) as u16;
        if let Some(field) = self.buf.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// CRC-32 of ISO 3309, the one of FINGERPRINT; four bytes at a time.
fn crc32(bytes: &[u8]) -> u32 {
    /// Row `n` takes a byte that `n` others follow.
    const TABLES: [[u32; 256]; 4] = {
        let mut tables = [[0; 256]; 4];
        let mut i = 0;
        while i < 256 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
                bit += 1;
            }
            tables[0][i] = value;
            i += 1;
        }
        let mut i = 0;
        while i < 256 {
            let mut row = 1;
            while row < 4 {
                let before: u32 = tables[row - 1][i];
                tables[row][i] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
                row += 1;
            }
            i += 1;
        }
        tables
    };
    let (words, rest) = bytes.as_chunks::<4>();
    let of_words = words.iter().fold(!0u32, |crc, word| {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes(*word)).to_le_bytes().map(usize::from);
        TABLES[3][a] ^ TABLES[2][b] ^ TABLES[1][c] ^ TABLES[0][d]
    });
    !rest.iter().fold(of_words, |crc, byte| TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_of_any_length() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }

    #[test]
    fn a_wrong_fingerprint_shows_when_it_is_looked_at() {
        let mut request = SAMPLE_REQUEST.to_vec();
        assert!(Message::parse(&request).is_ok());
        *request.last_mut().unwrap() ^= 1;
        assert_eq!(Message::parse(&request), Err(StunError::Fingerprint));
        assert!(!Message::read_unchecked(&request).unwrap().is_intact());
    }

    #[test]
    fn usernames_of_the_longest_ufrags_fit_and_nothing_longer_is_read() {
        let mut buffer = [0; MAX_MESSAGE];
        let username = [b'x'; 513];
        let writer = Writer::new(&mut buffer, Class::Request, &[7; 12]).username(&username);
        let len = writer.priority(1).role(true, 5).finish(&integrity_key("p")).unwrap();
        assert!(Message::parse(&buffer[..len]).is_ok());
        let mut longer = vec![0; 604];
        longer[..8].copy_from_slice(&[0, 1, 2, 72, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(Message::parse(&longer), Err(StunError::Length));
    }

    /// The sample request of RFC 5769 section 2.1.
    const SAMPLE_REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\
        \x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    /// The sample IPv4 response of RFC 5769 section 2.2.
    const SAMPLE_RESPONSE: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0btest vector\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\x00\x08\x00\x14\x2b\x91\xf5\x99\
        \xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\x80\x28\x00\x04\xc0\x7d\x4c\x96";
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn reads_the_vectors_of_rfc_5769() {
        let key = integrity_key(PASSWORD);
        let request = Message::parse(SAMPLE_REQUEST).unwrap();
        assert_eq!(request.class, Class::Request);
        assert_eq!(request.ufrags(), Some((&b"evtj"[..], &b"h6vY"[..])));
        assert_eq!(request.priority, Some(0x6e00_01ff));
        assert_eq!(request.controlled, Some(0x932f_f9b1_5126_3b36));
        assert!(request.verify(&key));
        assert!(!request.verify(&integrity_key("VOkJxbRl1RmTxUk/WvJxBu")));

        let response = Message::parse(SAMPLE_RESPONSE).unwrap();
        assert_eq!(response.mapped, Some("192.0.2.1:32853".parse().unwrap()));
        assert!(response.verify(&key));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() {
        let key = integrity_key(PASSWORD);
        for len in 0..SAMPLE_REQUEST.len() {
            assert!(Message::parse(&SAMPLE_REQUEST[..len]).is_err(), "{len} bytes");
        }
        // Up to FINGERPRINT, which stands outside of what MESSAGE-INTEGRITY covers.
        for bit in 0..(SAMPLE_REQUEST.len() - 8) * 8 {
            let mut bytes = SAMPLE_REQUEST.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Message::parse(&bytes).map_or(true, |message| !message.verify(&key)), "bit {bit}");
        }
    }

    #[test]
    fn attributes_behind_the_integrity_do_not_count() {
        let key = integrity_key(PASSWORD);
        let mut buf = [0; 256];
        let mut writer = Writer::new(&mut buf, Class::Request, &[7; 12]).username(b"a:b");
        writer.set_length(4 + TAG_LEN);
        let tag = hmac::sign(&key, &writer.buf[..writer.len]);
        writer = writer.attribute(MESSAGE_INTEGRITY, tag.as_ref()).use_candidate(true).priority(1);
        writer.set_length(0);
        let len = writer.len;
        let message = Message::parse(&buf[..len]).unwrap();
        assert!(message.verify(&key) && !message.use_candidate && message.priority.is_none());
    }

    #[test]
    fn a_message_without_integrity_never_verifies() {
        let mut buf = [0; 64];
        let mut writer = Writer::new(&mut buf, Class::Request, &[7; 12]).username(b"a:b");
        writer.set_length(0);
        let len = writer.len;
        let message = Message::parse(&buf[..len]).unwrap();
        assert!(!message.verify(&integrity_key("")));
    }

    #[test]
    fn a_request_without_credentials_has_a_fingerprint_alone() {
        let mut buf = [0; 28];
        assert_eq!(Writer::new(&mut buf, Class::Request, &[7; 12]).finish_unsigned(), Some(28));
        let message = Message::parse(&buf).unwrap();
        assert_eq!((message.class, message.transaction, message.integrity), (Class::Request, [7; 12], None));
        for room in 0..28 {
            let mut buf = vec![0; room];
            assert_eq!(Writer::new(&mut buf, Class::Request, &[7; 12]).finish_unsigned(), None, "{room}");
        }
    }

    #[test]
    fn a_small_buffer_is_refused() {
        let key = integrity_key("x");
        for room in 0..68 {
            let mut buf = vec![0; room];
            assert_eq!(
                Writer::new(&mut buf, Class::Request, &[1; 12]).username(b"abcd:efgh").finish(&key),
                None,
                "{room}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), fix in any::<bool>()) {
            if fix && bytes.len() >= HEADER_LEN {
                bytes.truncate(bytes.len() & !3);
                let length = (bytes.len() - HEADER_LEN) as u16;
                bytes[..2].copy_from_slice(&[0, 1]);
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..8].copy_from_slice(&COOKIE);
            }
            if let Ok(message) = Message::parse(&bytes) {
                let _ = message.ufrags();
                prop_assert!(!message.verify(&integrity_key("k")));
            }
        }

        #[test]
        fn what_is_written_is_read(
            username in prop::collection::vec(any::<u8>(), 0..100), priority: u32, tie: u64, controlling: bool, nominate: bool,
            transaction: [u8; 12], ip: [u8; 16], v6: bool, port: u16, code in 300..700u16,
        ) {
            let key = integrity_key("secret");
            let address = match v6 {
                true => SocketAddr::new(Ipv6Addr::from(ip).into(), port),
                false => SocketAddr::new(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).into(), port),
            };
            let mut buf = [0; 400];
            let len = Writer::new(&mut buf, Class::Success, &transaction)
                .username(&username).priority(priority).role(controlling, tie).use_candidate(nominate)
                .mapped(address).error(code, "why").finish(&key).unwrap();
            let message = Message::parse(&buf[..len]).unwrap();
            prop_assert!(message.verify(&key));
            prop_assert_eq!(message.username, Some(&username[..]));
            prop_assert_eq!(message.priority, Some(priority));
            prop_assert_eq!(message.controlling, controlling.then_some(tie));
            prop_assert_eq!(message.controlled, (!controlling).then_some(tie));
            prop_assert_eq!(message.use_candidate, nominate);
            prop_assert_eq!(message.mapped, Some(address));
            prop_assert_eq!(message.error, Some(code));
            prop_assert_eq!(message.transaction, transaction);
            // An independent reader agrees.
            let theirs = is::stun::StunMessage::parse(&buf[..len]);
            if let Ok(theirs) = theirs {
                prop_assert_eq!(theirs.prio(), Some(priority));
            }
        }
    }
}
