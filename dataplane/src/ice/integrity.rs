//! The key of MESSAGE-INTEGRITY, and the password that it is made of.

use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::stun::integrity_key;

/// A password and its key.
pub(super) struct IntegrityKey {
    key: hmac::Key,
    /// To make the key again elsewhere.
    pwd: String,
}

impl IntegrityKey {
    /// The key of a password.
    pub fn new(pwd: String) -> Self {
        Self { key: integrity_key(&pwd), pwd }
    }

    /// The key.
    pub fn get(&self) -> &hmac::Key {
        &self.key
    }
}

impl Serialize for IntegrityKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.pwd.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IntegrityKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}
