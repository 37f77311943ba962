//! STUN messages, and which endpoint a datagram belongs to.
//!
//! Fed: a byte that says what, then a datagram, the attributes of a message that is then signed, or changes of the table
//! of addresses.
//! Held: nothing panics; nothing verifies under a key that did not sign it; a signed message verifies and is read as an
//! independent reader reads it; the table never outgrows its bound, and a proven path is not taken by a mere request.

use std::collections::HashMap;
use std::net::SocketAddr;

use ring::hmac;
use ringbridge_dataplane::demux::{AddressTable, MAX_WORKERS, Owner, Protocol, ufrag_prefix, worker_of_ufrag};
use ringbridge_dataplane::ice::stun::{Class, HEADER_LEN, MAX_MESSAGE, Message, Writer, integrity_key};
use ringbridge_dataplane::ice::transaction_owner;
use ringbridge_dataplane::io::Path;

use crate::input::Input;
use ringbridge_dataplane::ids::WorkerId;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 4 {
        0 => datagram(data),
        1 => signed(data),
        2 => written(data),
        _ => table(data),
    }
}

fn datagram(data: &[u8]) {
    if let Some(protocol) = Protocol::of(data) {
        assert!(matches!(data[0], 0..=3 | 20..=63 | 128..=191));
        assert!((protocol == Protocol::Rtcp) == (data[0] >= 128 && (192..=223).contains(&data[1])));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(worker) = worker_of_ufrag(text)
    {
        assert!(worker.index() < MAX_WORKERS && text.starts_with(ufrag_prefix(worker)));
    }
    let Ok(message) = Message::parse(data) else { return };
    assert_eq!(Protocol::of(data), Some(Protocol::Stun));
    assert!(!message.verify(&integrity_key("a password that signed nothing")));
    if let Some((ours, theirs)) = message.ufrags() {
        assert_eq!(ours.len() + theirs.len() + 1, message.username().map_or(0, <[u8]>::len));
    }
    let _ = transaction_owner(&message.transaction());
}

/// CRC-32 as FINGERPRINT wants it, without a table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

/// Signs what is there as RFC 8489 sections 14.5 and 14.7 say.
pub fn sign(kind: u16, transaction: [u8; 12], attributes: &[u8], password: &str) -> Vec<u8> {
    let mut message = kind.to_be_bytes().to_vec();
    message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
    message.extend(transaction);
    message.extend(attributes);
    message.resize(message.len().next_multiple_of(4), 0);
    let set_length = |message: &mut Vec<u8>, more: usize| {
        let length = (message.len() + more - HEADER_LEN) as u16;
        message[2..4].copy_from_slice(&length.to_be_bytes());
    };
    set_length(&mut message, 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    message.extend([0, 8, 0, 20]);
    message.extend(tag.as_ref());
    set_length(&mut message, 8);
    let crc = crc32(&message) ^ 0x5354_554e;
    message.extend([0x80, 0x28, 0, 4]);
    message.extend(crc.to_be_bytes());
    message
}

/// Whether the last attribute ends where the list does.
fn ends_whole(attributes: &[u8]) -> bool {
    let mut rest = attributes;
    while let [_, _, high, low, ..] = *rest {
        let len = usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4);
        let Some(after) = rest.get(4 + len..) else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn signed(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.pick(&[0x0001, 0x0011, 0x0101, 0x0111]);
    let transaction: [u8; 12] = std::array::from_fn(|_| input.u8());
    let attributes = input.rest();
    let bytes = sign(kind, transaction, attributes, "secret");
    let Ok(message) = Message::parse(&bytes) else { return };
    assert!(bytes.len() <= MAX_MESSAGE);
    // Attributes that hold an integrity of their own sign less, and one that is cut off swallows ours.
    let inner = &bytes[HEADER_LEN..bytes.len() - 32];
    let whole = ends_whole(inner) && !inner.windows(2).any(|pair| pair == [0, 8]);
    if whole {
        assert!(message.verify(&integrity_key("secret")), "a signed message is authentic");
    }
    assert!(!message.verify(&integrity_key("other")));
    if let Ok(theirs) = is::stun::StunMessage::parse(&bytes)
        && let (Some(ours), Some(theirs)) = (message.priority(), theirs.prio())
        && whole
    {
        // Of several, the one reader takes the first and the other the last.
        let several = bytes.windows(2).filter(|pair| *pair == [0, 0x24]).count() > 1;
        assert!(ours == theirs || several);
    }
}

fn written(data: &[u8]) {
    let mut input = Input::new(data);
    let transaction: [u8; 12] = std::array::from_fn(|_| input.u8());
    let (priority, tie, controlling, nominate) = (input.u32(), input.u64(), input.flag(), input.flag());
    let (code, room, kind) = (300 + input.u16() % 400, usize::from(input.u16() % 1_400), input.u16() & 0x7fff);
    let address: SocketAddr = match input.flag() {
        true => (std::array::from_fn::<u16, 8, _>(|_| input.u16()), input.u16()).into(),
        false => (std::array::from_fn::<u8, 4, _>(|_| input.u8()), input.u16()).into(),
    };
    let username = input.rest();
    let key = integrity_key("secret");
    let mut buffer = vec![0; room];
    let writer = Writer::new(&mut buffer, Class::Success, &transaction)
        .username(username)
        .priority(priority)
        .role(controlling, tie)
        .use_candidate(nominate)
        .mapped(address)
        .error(code, "why")
        .unknown(kind);
    let Some(len) = writer.finish(&key) else { return };
    let message = Message::parse(&buffer[..len]).expect("what was written is read");
    assert!(message.verify(&key));
    assert_eq!((message.username(), message.priority()), (Some(username), Some(priority)));
    assert_eq!((message.mapped(), message.error()), (Some(address), Some(code)));
    assert_eq!(
        (message.controlling(), message.controlled()),
        (controlling.then_some(tie), (!controlling).then_some(tie))
    );
    assert_eq!((message.use_candidate(), message.transaction()), (nominate, transaction));
    // Nothing of it may be another.
    let flip = usize::from(input_byte(data)) % len;
    let mut forged = buffer[..len].to_vec();
    forged[flip] ^= 1 << (flip % 8);
    if let Ok(forged) = Message::parse(&forged) {
        assert!(!forged.verify(&key) || flip >= len - 8, "a changed message is not authentic");
    }
}

fn input_byte(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte))
}

fn table(data: &[u8]) {
    const CAPACITY: usize = 16;
    let mut input = Input::new(data);
    let mut table = AddressTable::new(CAPACITY);
    let mut model: HashMap<Path, (Owner, bool)> = HashMap::new();
    while !input.is_empty() {
        let (step, port, who) = (input.u8(), input.u8() % 40, input.u8());
        let path = Path { local: u16::from(step >> 7), remote: ([127, 0, 0, 1], u16::from(port)).into() };
        let owner = if who & 1 == 0 {
            Owner::Endpoint(u32::from(who >> 1) % 5)
        } else {
            Owner::Worker(WorkerId::new((who >> 1) % 3))
        };
        match step % 3 {
            0 => {
                let had = model.get(&path).is_some_and(|(known, _)| *known == owner);
                assert_eq!(table.forget(&path, owner).is_some(), had);
                if had {
                    model.remove(&path);
                }
            }
            1 => table.note_steered(&path, WorkerId::new(who)),
            _ => {
                let proven = step & 0x40 != 0;
                let known = model.get(&path).copied();
                let learnt = table.learn(path, owner, proven);
                match known {
                    None if model.len() == CAPACITY => assert!(learnt.is_err()),
                    Some((other, true)) if other != owner && !proven => assert_eq!(learnt, Ok(false)),
                    Some((other, round_trip)) if other == owner => {
                        assert_eq!(learnt, Ok(true));
                        model.insert(path, (owner, round_trip | proven));
                    }
                    _ => {
                        assert_eq!(learnt, Ok(true));
                        model.insert(path, (owner, proven));
                    }
                }
            }
        }
        assert_eq!(table.len(), model.len());
        assert_eq!(table.get(&path), model.get(&path).map(|(owner, _)| *owner));
    }
}
