//! Keys and profiles, as DTLS-SRTP agrees on them (RFC 5764).

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Protection profile that DTLS-SRTP agreed on (RFC 5764, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_256_GCM`: 32-byte key, 12-byte salt, 16-byte tag.
    AeadAes256Gcm,
    /// `SRTP_AEAD_AES_128_GCM`: 16-byte key, 12-byte salt, 16-byte tag.
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`: 16-byte key, 14-byte salt, 10-byte tag.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// Bytes of the master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm | Self::AeadAes128Gcm => 12,
            Self::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes of the master key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
        }
    }
}

/// Master key and salt of one direction; bytes past [`SrtpProfile::key_len`] and [`SrtpProfile::salt_len`] are zero and
/// unused. Overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKey {
    /// AES master key.
    pub key: [u8; 32],
    /// Master salt.
    pub salt: [u8; 14],
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Keys of one endpoint, exported from its DTLS session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKeys {
    /// The agreed profile.
    pub profile: SrtpProfile,
    /// Opens what the endpoint sends.
    pub inbound: MasterKey,
    /// Seals what the bridge sends.
    pub outbound: MasterKey,
}

/// What a cipher is made of, to make it again elsewhere.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Master key and salt.
    pub master: MasterKey,
    /// How it is used.
    pub profile: SrtpProfile,
}
