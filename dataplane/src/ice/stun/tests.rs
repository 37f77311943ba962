//! Messages of RFC 5769, of our own writer, and damaged ones.

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
        assert_eq!(Writer::new(&mut buf, Class::Request, &[1; 12]).username(b"abcd:efgh").finish(&key), None, "{room}");
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
