//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714) on `ring`.

use crate::ids::Ssrc;
use std::ops::Range;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::kdf::{Label, derive};
use super::keys::{MasterKey, Origin, SrtpProfile};

/// Length of the tag in bytes.
pub const TAG: usize = 16;

/// Keys of one direction.
pub struct Aead {
    rtp: Option<LessSafeKey>,
    rtp_salt: [u8; 12],
    rtcp: Option<LessSafeKey>,
    rtcp_salt: [u8; 12],
    /// Last, since no packet needs it.
    origin: Origin,
}

impl Drop for Aead {
    fn drop(&mut self) {
        self.rtp_salt.zeroize();
        self.rtcp_salt.zeroize();
        // `ring` does not overwrite its keys, and has no way in: keys of nothing take their places.
        let of_nothing = || UnboundKey::new(&AES_128_GCM, &[0; 16]).ok().map(LessSafeKey::new);
        (self.rtp, self.rtcp) = (of_nothing(), of_nothing());
        std::hint::black_box(&*self);
    }
}

impl Aead {
    /// Derives the session keys.
    pub fn new(master: &MasterKey, profile: SrtpProfile) -> Self {
        let key = |label| {
            let unbound = match profile {
                SrtpProfile::AeadAes256Gcm => UnboundKey::new(&AES_256_GCM, &*derive::<32>(master, profile, label)),
                _ => UnboundKey::new(&AES_128_GCM, &*derive::<16>(master, profile, label)),
            };
            unbound.ok().map(LessSafeKey::new)
        };
        Self {
            rtp: key(Label::RtpEncryption),
            rtp_salt: *derive(master, profile, Label::RtpSalt),
            rtcp: key(Label::RtcpEncryption),
            rtcp_salt: *derive(master, profile, Label::RtcpSalt),
            origin: Origin { master: master.clone(), profile },
        }
    }

    /// What it was made of.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Opens `packet[header_len..]` in place, its tag at the end; true when it verified.
    pub fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: Ssrc, roc: u32, sequence: u16) -> bool {
        let (header, body) = packet.split_at_mut(header_len);
        let nonce = Nonce::assume_unique_for_key(rtp_iv(&self.rtp_salt, ssrc, roc, sequence));
        self.rtp.as_ref().is_some_and(|key| key.open_in_place(nonce, Aad::from(&*header), body).is_ok())
    }

    /// Seals `buffer[body]`, what follows the header, in place and writes the tag behind it.
    #[inline]
    pub fn seal_rtp(&self, buffer: &mut [u8], body: Range<usize>, ssrc: Ssrc, roc: u32, sequence: u16) -> bool {
        let nonce = Nonce::assume_unique_for_key(rtp_iv(&self.rtp_salt, ssrc, roc, sequence));
        let (packet, rest) = buffer.split_at_mut(body.end);
        let (header, body) = packet.split_at_mut(body.start);
        seal(self.rtp.as_ref(), nonce, header, body, rest)
    }

    /// Opens an SRTCP packet: 8 bytes of header, body, tag, E bit and index. `trailer` is the last word.
    pub fn open_rtcp(&self, packet: &mut [u8], ssrc: Ssrc, trailer: u32) -> bool {
        let Some(key) = &self.rtcp else { return false };
        let index = trailer & 0x7fff_ffff;
        let nonce = Nonce::assume_unique_for_key(rtcp_iv(&self.rtcp_salt, ssrc, index));
        let end = packet.len() - 4;
        let mut associated = [0u8; 12];
        associated[8..].copy_from_slice(&trailer.to_be_bytes());
        if trailer & 0x8000_0000 == 0 {
            // Unencrypted but authenticated SRTCP (RFC 7714 section 9.3); browsers never send it.
            return false;
        }
        let (header, body) = packet[..end].split_at_mut(8);
        associated[..8].copy_from_slice(header);
        key.open_in_place(nonce, Aad::from(&associated), body).is_ok()
    }

    /// Seals `buffer[8..len]`, writes the tag and the trailer behind it.
    pub fn seal_rtcp(&self, buffer: &mut [u8], len: usize, ssrc: Ssrc, index: u32) -> bool {
        let trailer = (index | 0x8000_0000).to_be_bytes();
        let nonce = Nonce::assume_unique_for_key(rtcp_iv(&self.rtcp_salt, ssrc, index));
        let mut associated = [0u8; 12];
        associated[..8].copy_from_slice(&buffer[..8]);
        associated[8..].copy_from_slice(&trailer);
        let (packet, rest) = buffer.split_at_mut(len);
        if !seal(self.rtcp.as_ref(), nonce, &associated, &mut packet[8..], rest) {
            return false;
        }
        rest[TAG..TAG + 4].copy_from_slice(&trailer);
        true
    }
}

fn seal(key: Option<&LessSafeKey>, nonce: Nonce, associated: &[u8], body: &mut [u8], rest: &mut [u8]) -> bool {
    let Some(key) = key else { return false };
    match key.seal_in_place_separate_tag(nonce, Aad::from(associated), body) {
        Ok(tag) => {
            rest[..TAG].copy_from_slice(tag.as_ref());
            true
        }
        Err(_) => false,
    }
}

/// RFC 7714 section 8.1.
fn rtp_iv(salt: &[u8; 12], ssrc: Ssrc, roc: u32, sequence: u16) -> [u8; 12] {
    let mut iv = [0u8; 12];
    iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
    iv[6..10].copy_from_slice(&roc.to_be_bytes());
    iv[10..].copy_from_slice(&sequence.to_be_bytes());
    xor(iv, salt)
}

/// RFC 7714 section 9.1.
fn rtcp_iv(salt: &[u8; 12], ssrc: Ssrc, index: u32) -> [u8; 12] {
    let mut iv = [0u8; 12];
    iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
    iv[8..].copy_from_slice(&index.to_be_bytes());
    xor(iv, salt)
}

fn xor(mut iv: [u8; 12], salt: &[u8; 12]) -> [u8; 12] {
    for (byte, salt) in iv.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    iv
}
