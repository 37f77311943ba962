//! What the state's bytes look like: magic, version, length and checksum, then the parts, each on its own. It is read as untrusted input.

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use zeroize::Zeroizing;

use super::message::STATE_VERSION;

/// Most bytes of a state: some 60 KiB for each of 4,096 endpoints.
pub const MAX_STATE: u64 = 256 * 1024 * 1024;
/// Most parts: the workers', and a few of the control plane.
const MAX_PARTS: usize = 256;
const MAGIC: [u8; 8] = *b"rbstate\n";
/// Magic, version, number of parts, bytes of the body, checksum of the body.
const HEAD: usize = MAGIC.len() + 2 + 2 + 8 + SHA256_OUTPUT_LEN;
/// Name, number, bytes.
const PART_HEAD: usize = 2 + 2 + 8;

/// Whose state a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum PartName {
    /// A media worker's; its number is the worker's.
    Worker = 1,
    /// The control plane's.
    Control = 2,
    /// An XMPP connection's; its number is the connection's.
    Xmpp = 3,
    /// Which descriptor is what.
    Descriptors = 4,
    /// That of what goes [beside](super::Beside) the bridge: the focus.
    Focus = 5,
}

impl PartName {
    fn from_code(code: u16) -> Option<Self> {
        [Self::Worker, Self::Control, Self::Xmpp, Self::Descriptors, Self::Focus]
            .into_iter()
            .find(|name| *name as u16 == code)
    }
}

/// Why a state cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is something else.
    #[error("this is no state of a ringbridge")]
    Magic,
    /// Of another version.
    #[error("the state has version {0}, this release reads version {STATE_VERSION}")]
    Version(u16),
    /// It ends too early, or goes on after its end.
    #[error("the state is {0} bytes, which is not what it says of itself")]
    Length(usize),
    /// It was altered.
    #[error("the state's checksum is wrong")]
    Checksum,
    /// A part has a name or a number that it cannot have, or is there twice.
    #[error("part {name} {number} of the state is unknown or there twice")]
    Part {
        /// Its name's code.
        name: u16,
        /// Its number.
        number: u16,
    },
    /// Too large to be sent.
    #[error("the state is {0} bytes in parts; at most {MAX_STATE} bytes in {MAX_PARTS} parts can be handed over")]
    TooLarge(u64),
}

/// The parts of a state. They hold keys, and are wiped when dropped.
#[derive(Default)]
pub struct StateParts(Vec<(PartName, u16, Zeroizing<Vec<u8>>)>);

impl std::fmt::Debug for StateParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, number, bytes)| (name, number, bytes.len()))).finish()
    }
}

impl StateParts {
    /// Adds one.
    pub fn insert(&mut self, name: PartName, number: u16, bytes: Zeroizing<Vec<u8>>) {
        self.0.push((name, number, bytes));
    }

    /// Takes one out.
    pub fn remove(&mut self, name: PartName, number: u16) -> Option<Zeroizing<Vec<u8>>> {
        let at = self.0.iter().position(|part| (part.0, part.1) == (name, number))?;
        Some(self.0.swap_remove(at).2)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes of these parts.
pub fn seal(parts: &StateParts) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let length = parts.0.iter().map(|(_, _, bytes)| PART_HEAD + bytes.len()).sum::<usize>();
    let whole = (HEAD + length) as u64;
    if whole > MAX_STATE || parts.len() > MAX_PARTS {
        return Err(EnvelopeError::TooLarge(whole));
    }
    // Of its final size from the start: what moves leaves copies of keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(HEAD + length));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&STATE_VERSION.to_le_bytes());
    out.extend_from_slice(&(parts.len() as u16).to_le_bytes());
    out.extend_from_slice(&(length as u64).to_le_bytes());
    out.extend_from_slice(&[0; SHA256_OUTPUT_LEN]);
    for (name, number, bytes) in &parts.0 {
        out.extend_from_slice(&(*name as u16).to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    let checksum = digest(&SHA256, &out[HEAD..]);
    out[HEAD - SHA256_OUTPUT_LEN..HEAD].copy_from_slice(checksum.as_ref());
    Ok(out)
}

/// The parts in these bytes.
pub fn open(bytes: &[u8]) -> Result<StateParts, EnvelopeError> {
    let wrong_length = EnvelopeError::Length(bytes.len());
    let mut head = Reader(bytes);
    if head.take(MAGIC.len()) != Some(&MAGIC) {
        return Err(EnvelopeError::Magic);
    }
    let version = head.number().ok_or(wrong_length)?;
    if version != STATE_VERSION {
        return Err(EnvelopeError::Version(version));
    }
    let count = usize::from(head.number().ok_or(wrong_length)?);
    let length = head.length().ok_or(wrong_length)?;
    let checksum = head.take(SHA256_OUTPUT_LEN).ok_or(wrong_length)?;
    let mut body = head;
    if body.0.len() != length || bytes.len() as u64 > MAX_STATE || count > MAX_PARTS {
        return Err(wrong_length);
    }
    if digest(&SHA256, body.0).as_ref() != checksum {
        return Err(EnvelopeError::Checksum);
    }
    let mut parts = StateParts::default();
    for _ in 0..count {
        let (code, number) = (body.number().ok_or(wrong_length)?, body.number().ok_or(wrong_length)?);
        let length = body.length().ok_or(wrong_length)?;
        let bytes = body.take(length).ok_or(wrong_length)?;
        let unknown = EnvelopeError::Part { name: code, number };
        let name = PartName::from_code(code).ok_or(unknown)?;
        if parts.0.iter().any(|part| (part.0, part.1) == (name, number)) {
            return Err(unknown);
        }
        parts.insert(name, number, Zeroizing::new(bytes.to_vec()));
    }
    if body.0.is_empty() { Ok(parts) } else { Err(wrong_length) }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        let length = self.take(8)?.try_into().ok().map(u64::from_le_bytes)?;
        usize::try_from(length).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> StateParts {
        let mut parts = StateParts::default();
        parts.insert(PartName::Worker, 0, Zeroizing::new(b"first".to_vec()));
        parts.insert(PartName::Worker, 1, Zeroizing::new(Vec::new()));
        parts.insert(PartName::Control, 0, Zeroizing::new(vec![7; 1000]));
        parts
    }

    /// The head made good again after the body was changed.
    fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
        let length = (bytes.len() - HEAD) as u64;
        bytes[12..20].copy_from_slice(&length.to_le_bytes());
        let checksum = digest(&SHA256, &bytes[HEAD..]);
        bytes[20..HEAD].copy_from_slice(checksum.as_ref());
        bytes
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
        let sealed = seal(&some()).expect("small");
        let mut opened = open(&sealed).expect("whole");
        assert_eq!(opened.len(), 3);
        assert_eq!(opened.remove(PartName::Worker, 0).expect("there").as_slice(), b"first");
        assert_eq!(opened.remove(PartName::Control, 0).expect("there").len(), 1000);
        assert!(opened.remove(PartName::Control, 0).is_none() && opened.remove(PartName::Xmpp, 0).is_none());
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        let sealed = seal(&some()).expect("small").to_vec();
        assert_eq!(open(b"GET / HTTP/1.1").unwrap_err(), EnvelopeError::Magic);
        let mut other = sealed.clone();
        other[8] = 0x7f;
        assert_eq!(open(&other).unwrap_err(), EnvelopeError::Version(u16::from_le_bytes([0x7f, sealed[9]])));
        for cut in MAGIC.len()..sealed.len() {
            assert!(matches!(open(&sealed[..cut]).unwrap_err(), EnvelopeError::Length(n) if n == cut));
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(open(&longer).unwrap_err(), EnvelopeError::Length(longer.len()));
        for at in 20..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(open(&altered).unwrap_err(), EnvelopeError::Checksum, "byte {at}");
        }
    }

    #[test]
    fn parts_that_cannot_be_are_refused_though_the_checksum_is_right() {
        let sealed = seal(&some()).expect("small").to_vec();
        let mut unknown = sealed.clone();
        unknown[HEAD] = 99;
        assert_eq!(open(&checked(unknown)).unwrap_err(), EnvelopeError::Part { name: 99, number: 0 });
        let mut twice = sealed.clone();
        let second = HEAD + PART_HEAD + b"first".len();
        twice[second + 2] = 0;
        assert_eq!(open(&checked(twice)).unwrap_err(), EnvelopeError::Part { name: 1, number: 0 });
        let mut endless = sealed.clone();
        endless[HEAD + 4..HEAD + 12].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(open(&checked(endless)).unwrap_err(), EnvelopeError::Length(_)));
        let mut more = sealed;
        more[10] = 2;
        assert!(matches!(open(&more).unwrap_err(), EnvelopeError::Length(_)), "a part that is not counted");
    }

    #[test]
    fn too_many_parts_are_not_sealed() {
        let mut parts = StateParts::default();
        for number in 0..=MAX_PARTS as u16 {
            parts.insert(PartName::Worker, number, Zeroizing::new(Vec::new()));
        }
        assert!(matches!(seal(&parts), Err(EnvelopeError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200), count in 0u16..6) {
            let mut bytes = seal(&StateParts::default()).expect("empty").to_vec();
            bytes[10..12].copy_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&body);
            let _ = open(&checked(bytes));
            let _ = open(&body);
        }
    }
}
