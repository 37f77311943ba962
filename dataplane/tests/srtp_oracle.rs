//! Our SRTP against webrtc-srtp, an independent implementation, in both directions.

use bytes::Bytes;
use proptest::prelude::*;
use ringbridge_dataplane::srtp::{MasterKey, SrtpProfile};
use ringbridge_dataplane::srtp::{OpenError, Opener, Sealer};
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const PROFILES: [SrtpProfile; 3] =
    [SrtpProfile::AeadAes256Gcm, SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

fn master(profile: SrtpProfile, seed: u8) -> MasterKey {
    let mut salt = [0u8; 14];
    for (index, byte) in salt[..profile.salt_len()].iter_mut().enumerate() {
        *byte = seed.wrapping_mul(31).wrapping_add(index as u8);
    }
    let mut key = [0u8; 32];
    for (index, byte) in key[..profile.key_len()].iter_mut().enumerate() {
        *byte = seed.wrapping_add(index as u8 * 7);
    }
    MasterKey { key, salt }
}

fn oracle(profile: SrtpProfile, master: &MasterKey) -> Context {
    let name = match profile {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    Context::new(&master.key[..profile.key_len()], &master.salt[..profile.salt_len()], name, None, None)
        .expect("valid key lengths")
}

/// An RTP packet with one contributing source and a one-byte header extension.
fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> (Vec<u8>, usize) {
    let mut packet = vec![0x91, 100];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 3_000).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&7u32.to_be_bytes());
    packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x51, 1, 2, 0]);
    let header_len = packet.len();
    packet.extend_from_slice(payload);
    (packet, header_len)
}

fn receiver_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0x81, 206, 0, 2]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&99u32.to_be_bytes());
    packet
}

#[test]
fn rtp_across_the_rollover_with_reordering_in_both_directions() {
    for profile in PROFILES {
        let key = master(profile, 3);
        let (sealer, mut opener) = (Sealer::new(&key, profile), Opener::new(&key, profile));
        let (mut oracle_in, mut oracle_out) = (oracle(profile, &key), oracle(profile, &key));
        let order = [65_530u64, 65_532, 65_531, 65_535, 65_537, 65_536, 65_534, 65_540];
        for index in order {
            let payload: Vec<u8> = (0..200u64).map(|i| (i + index) as u8).collect();
            let (plain, header_len) = rtp(index as u16, 0xdead_beef, &payload);
            let mut buffer = plain.clone();
            buffer.resize(plain.len() + 20, 0);
            let len = sealer.seal_rtp(&mut buffer, header_len, plain.len(), (index >> 16) as u32).expect("room");
            let opened = oracle_in.decrypt_rtp(&buffer[..len]).expect("the oracle opens ours");
            assert_eq!(opened, Bytes::from(plain.clone()), "{profile:?} {index}");
            let mut sealed = oracle_out.encrypt_rtp(&plain).expect("the oracle seals").to_vec();
            let opened = opener.open_rtp(&mut sealed, header_len).expect("we open the oracle's");
            assert_eq!(&sealed[..opened.len], plain.as_slice(), "{profile:?} {index}");
            assert_eq!(opened.index, index);
        }
    }
}

#[test]
fn rtcp_in_both_directions_and_replayed() {
    for profile in PROFILES {
        let key = master(profile, 9);
        let (mut sealer, mut opener) = (Sealer::new(&key, profile), Opener::new(&key, profile));
        let (mut oracle_in, mut oracle_out) = (oracle(profile, &key), oracle(profile, &key));
        for _ in 0..5 {
            let plain = receiver_report(42);
            let mut buffer = plain.clone();
            buffer.resize(plain.len() + 20, 0);
            let len = sealer.seal_rtcp(&mut buffer, plain.len()).expect("room");
            assert_eq!(oracle_in.decrypt_rtcp(&buffer[..len]).expect("opens"), Bytes::from(plain.clone()));
            let sealed = oracle_out.encrypt_rtcp(&plain).expect("seals").to_vec();
            let mut first = sealed.clone();
            let len = opener.open_rtcp(&mut first).expect("opens");
            assert_eq!(&first[..len], plain.as_slice());
            assert_eq!(opener.open_rtcp(&mut sealed.clone()), Err(OpenError::Replay));
        }
    }
}

#[test]
fn tampering_is_noticed_and_changes_nothing() {
    for profile in PROFILES {
        let key = master(profile, 5);
        let (sealer, mut opener) = (Sealer::new(&key, profile), Opener::new(&key, profile));
        let (plain, header_len) = rtp(1_000, 1, b"a payload");
        let mut sealed = plain.clone();
        sealed.resize(plain.len() + 20, 0);
        let len = sealer.seal_rtp(&mut sealed, header_len, plain.len(), 0).expect("room");
        sealed.truncate(len);
        // Any byte but the low ones of the SSRC and sequence number, which select the key stream anyway.
        for at in 0..len {
            let mut tampered = sealed.clone();
            tampered[at] ^= 0x40;
            assert_eq!(opener.open_rtp(&mut tampered, header_len), Err(OpenError::Auth), "{profile:?} byte {at}");
        }
        assert!(opener.open_rtp(&mut sealed.clone(), header_len).is_ok());
        assert_eq!(opener.open_rtp(&mut sealed.clone(), header_len), Err(OpenError::Replay));
        for cut in 0..header_len + 9 {
            assert_eq!(opener.open_rtp(&mut sealed[..cut].to_vec(), header_len), Err(OpenError::TooShort), "{cut}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_open(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), header in 0usize..64) {
        for profile in PROFILES {
            let mut opener = Opener::new(&master(profile, 1), profile);
            prop_assert!(opener.open_rtp(&mut bytes, header).is_err());
            prop_assert!(opener.open_rtcp(&mut bytes).is_err());
        }
    }
}
