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
    #[error("the length in the header does not fit the datagram")]
    Length,
    /// No magic cookie.
    #[error("the magic cookie is missing")]
    Cookie,
    /// Not a Binding method.
    #[error("not a Binding message")]
    Method,
    /// An attribute is longer than the message or has the wrong size.
    #[error("attribute {0:#06x} does not fit")]
    Attribute(u16),
    /// FINGERPRINT is wrong.
    #[error("the FINGERPRINT attribute does not match")]
    Fingerprint,
}

/// A Binding message; borrows the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    transaction: TransactionId,
    username: Option<&'a [u8]>,
    priority: Option<u32>,
    use_candidate: bool,
    controlling: Option<u64>,
    controlled: Option<u64>,
    mapped: Option<SocketAddr>,
    error: Option<u16>,
    unknown_required: Option<u16>,
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

    /// Request, response, …
    #[inline]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Pairs a response with its request.
    #[inline]
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// USERNAME, unverified.
    #[inline]
    pub fn username(&self) -> Option<&'a [u8]> {
        self.username
    }

    /// PRIORITY: what a peer-reflexive candidate learnt from this request gets.
    #[inline]
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// USE-CANDIDATE is present.
    #[inline]
    pub fn use_candidate(&self) -> bool {
        self.use_candidate
    }

    /// Tie-breaker of a sender that believes it is controlling.
    #[inline]
    pub fn controlling(&self) -> Option<u64> {
        self.controlling
    }

    /// Tie-breaker of a sender that believes it is controlled.
    #[inline]
    pub fn controlled(&self) -> Option<u64> {
        self.controlled
    }

    /// XOR-MAPPED-ADDRESS.
    #[inline]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// ERROR-CODE, e.g. 487.
    #[inline]
    pub fn error(&self) -> Option<u16> {
        self.error
    }

    /// Type of the first comprehension-required attribute that is not known (RFC 8489 section 6.3).
    #[inline]
    pub fn unknown_required(&self) -> Option<u16> {
        self.unknown_required
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
mod tests;
