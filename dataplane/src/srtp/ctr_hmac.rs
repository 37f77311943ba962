//! AES_CM_128_HMAC_SHA1_80 (RFC 3711) with the AES key schedule and the HMAC state kept.

use crate::ids::Ssrc;
use std::ops::Range;

use aes::Aes128;
use aes::cipher::{InnerIvInit, Key, KeyInit, StreamCipher};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use zeroize::{Zeroize, Zeroizing};

use super::kdf::{Label, derive};
use super::keys::{MasterKey, Origin, SrtpProfile};

/// Length of the tag in bytes.
pub const TAG: usize = 10;

/// Keys of one direction.
pub struct CtrHmac {
    rtp: Half,
    rtcp: Half,
    /// Last, since no packet needs it.
    origin: Origin,
}

struct Half {
    cipher: Aes128,
    salt: [u8; 14],
    authentication: Hmac<Sha1>,
}

impl Drop for Half {
    fn drop(&mut self) {
        // The cipher overwrites itself; `hmac` does not, so that the state of no key takes its place.
        self.authentication = <Hmac<Sha1> as KeyInit>::new(Key::<Hmac<Sha1>>::from_slice(&[0; 64]));
        self.salt.zeroize();
        std::hint::black_box(&*self);
    }
}

impl Half {
    fn new(master: &MasterKey, encryption: Label, authentication: Label, salt: Label) -> Self {
        let profile = SrtpProfile::Aes128CmHmacSha1_80;
        // RFC 2104 pads keys that are shorter than a block with zeros.
        let mut key = Zeroizing::new([0u8; 64]);
        key[..20].copy_from_slice(&*derive::<20>(master, profile, authentication));
        Self {
            cipher: Aes128::new(Key::<Aes128>::from_slice(&*derive::<16>(master, profile, encryption))),
            salt: *derive(master, profile, salt),
            authentication: <Hmac<Sha1> as KeyInit>::new(Key::<Hmac<Sha1>>::from_slice(&*key)),
        }
    }

    /// RFC 3711 section 4.1.1: encryption and decryption are the same.
    fn apply(&self, body: &mut [u8], ssrc: Ssrc, index: u64) {
        let mut iv = [0u8; 16];
        iv[..14].copy_from_slice(&self.salt);
        for (byte, ssrc) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= ssrc;
        }
        for (byte, index) in iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
            *byte ^= index;
        }
        let core = CtrCore::inner_iv_init(self.cipher.clone(), &iv.into());
        Ctr128BE::<Aes128>::from_core(core).apply_keystream(body);
    }

    fn tag(&self, parts: [&[u8]; 2]) -> [u8; TAG] {
        let mut context = self.authentication.clone();
        parts.iter().for_each(|part| context.update(part));
        let mut tag = [0u8; TAG];
        tag.copy_from_slice(&context.finalize().into_bytes()[..TAG]);
        tag
    }

    fn verify(&self, parts: [&[u8]; 2], tag: &[u8]) -> bool {
        let expected = self.tag(parts);
        // Constant time: every byte is looked at, whatever the first difference.
        tag.len() == TAG && expected.iter().zip(tag).fold(0u8, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl CtrHmac {
    /// Derives the session keys.
    pub fn new(master: &MasterKey) -> Self {
        Self {
            rtp: Half::new(master, Label::RtpEncryption, Label::RtpAuthentication, Label::RtpSalt),
            rtcp: Half::new(master, Label::RtcpEncryption, Label::RtcpAuthentication, Label::RtcpSalt),
            origin: Origin { master: master.clone(), profile: SrtpProfile::Aes128CmHmacSha1_80 },
        }
    }

    /// What it was made of.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Verifies the tag at the end and decrypts `packet[header_len..]` in place.
    pub fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: Ssrc, roc: u32, sequence: u16) -> bool {
        let (body, tag) = packet.split_at_mut(packet.len() - TAG);
        if !self.rtp.verify([body, &roc.to_be_bytes()], tag) {
            return false;
        }
        self.rtp.apply(&mut body[header_len..], ssrc, u64::from(roc) << 16 | u64::from(sequence));
        true
    }

    /// Encrypts `buffer[body]`, what follows the header, and writes the tag behind it.
    pub fn seal_rtp(&self, buffer: &mut [u8], body: Range<usize>, ssrc: Ssrc, roc: u32, sequence: u16) {
        let (packet, rest) = buffer.split_at_mut(body.end);
        self.rtp.apply(&mut packet[body.start..], ssrc, u64::from(roc) << 16 | u64::from(sequence));
        rest[..TAG].copy_from_slice(&self.rtp.tag([packet, &roc.to_be_bytes()]));
    }

    /// Verifies and decrypts an SRTCP packet: header, body, trailer word, tag.
    pub fn open_rtcp(&self, packet: &mut [u8], ssrc: Ssrc, trailer: u32) -> bool {
        let (authenticated, tag) = packet.split_at_mut(packet.len() - TAG);
        if !self.rtcp.verify([authenticated, &[]], tag) {
            return false;
        }
        if trailer & 0x8000_0000 != 0 {
            let end = authenticated.len() - 4;
            self.rtcp.apply(&mut authenticated[8..end], ssrc, u64::from(trailer & 0x7fff_ffff));
        }
        true
    }

    /// Encrypts `buffer[8..len]`, writes trailer and tag behind it.
    pub fn seal_rtcp(&self, buffer: &mut [u8], len: usize, ssrc: Ssrc, index: u32) {
        let (packet, rest) = buffer.split_at_mut(len);
        self.rtcp.apply(&mut packet[8..], ssrc, u64::from(index));
        let trailer = (index | 0x8000_0000).to_be_bytes();
        rest[..4].copy_from_slice(&trailer);
        let tag = self.rtcp.tag([packet, &trailer]);
        rest[4..4 + TAG].copy_from_slice(&tag);
    }
}
