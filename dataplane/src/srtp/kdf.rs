//! Key derivation (RFC 3711 section 4.3, with the salts of RFC 7714 section 11 for AEAD).

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use zeroize::{Zeroize, Zeroizing};

use super::keys::{MasterKey, SrtpProfile};

/// What a derived key is for (RFC 3711 section 4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Label {
    /// Encryption of RTP.
    RtpEncryption = 0,
    /// Authentication of RTP.
    RtpAuthentication = 1,
    /// Salt of RTP.
    RtpSalt = 2,
    /// Encryption of RTCP.
    RtcpEncryption = 3,
    /// Authentication of RTCP.
    RtcpAuthentication = 4,
    /// Salt of RTCP.
    RtcpSalt = 5,
}

/// Derives up to 32 bytes; the key derivation rate is zero, as DTLS-SRTP has it. A 256-bit master key drives AES-256
/// (RFC 6188). The bytes are overwritten when they are dropped.
pub fn derive<const N: usize>(master: &MasterKey, profile: SrtpProfile, label: Label) -> Zeroizing<[u8; N]> {
    // A 12-byte AEAD salt is used as if followed by two zero bytes (RFC 7714 section 11), which is how it is stored.
    let mut salt = [0u8; 14];
    salt[..profile.salt_len()].copy_from_slice(&master.salt[..profile.salt_len()]);
    let mut block = [0u8; 16];
    block[..14].copy_from_slice(&salt);
    block[7] ^= label as u8;
    let (aes128, aes256);
    let encrypt: &dyn Fn(&mut aes::Block) = if profile.key_len() == 32 {
        aes256 = Aes256::new(aes::cipher::Key::<Aes256>::from_slice(&master.key));
        &|block| aes256.encrypt_block(block)
    } else {
        aes128 = Aes128::new(aes::cipher::Key::<Aes128>::from_slice(&master.key[..16]));
        &|block| aes128.encrypt_block(block)
    };
    let mut out = Zeroizing::new([0u8; N]);
    for (index, chunk) in out.chunks_mut(16).enumerate() {
        let mut keystream = block;
        keystream[14..].copy_from_slice(&(index as u16).to_be_bytes());
        let keystream = aes::Block::from_mut_slice(&mut keystream);
        encrypt(keystream);
        chunk.copy_from_slice(&keystream[..chunk.len()]);
        keystream.as_mut_slice().zeroize();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 appendix B.3.
    #[test]
    fn rfc_3711_vectors() {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&[
            0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39,
        ]);
        let master = MasterKey {
            key,
            salt: [0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6],
        };
        let profile = SrtpProfile::Aes128CmHmacSha1_80;
        assert_eq!(
            *derive::<16>(&master, profile, Label::RtpEncryption),
            [0xc6, 0x1e, 0x7a, 0x93, 0x74, 0x4f, 0x39, 0xee, 0x10, 0x73, 0x4a, 0xfe, 0x3f, 0xf7, 0xa0, 0x87]
        );
        assert_eq!(
            *derive::<14>(&master, profile, Label::RtpSalt),
            [0x30, 0xcb, 0xbc, 0x08, 0x86, 0x3d, 0x8c, 0x85, 0xd4, 0x9d, 0xb3, 0x4a, 0x9a, 0xe1]
        );
        assert_eq!(
            *derive::<20>(&master, profile, Label::RtpAuthentication),
            [
                0xce, 0xbe, 0x32, 0x1f, 0x6f, 0xf7, 0x71, 0x6b, 0x6f, 0xd4, 0xab, 0x49, 0xaf, 0x25, 0x6a, 0x15, 0x6d,
                0x38, 0xba, 0xa4
            ]
        );
    }
}
