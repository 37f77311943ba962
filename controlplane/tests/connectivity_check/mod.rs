//! The connectivity check of an endpoint's client, as it goes over the wire.

use ringbridge_dataplane::ice::stun::{Class, TransactionId, Writer, integrity_key};

/// A check to the bridge's side with these credentials.
pub fn request(ufrag: &str, pwd: &str, transaction: &TransactionId) -> Vec<u8> {
    let mut buffer = [0; 600];
    let length = Writer::new(&mut buffer, Class::Request, transaction)
        .username(format!("{ufrag}:client").as_bytes())
        .priority(1)
        .role(false, 7)
        .finish(&integrity_key(pwd))
        .expect("room");
    buffer[..length].to_vec()
}
