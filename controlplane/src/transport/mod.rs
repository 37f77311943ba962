//! DTLS handshakes (RFC 6347, RFC 5764) over the rings: the worker relays datagrams, this side holds the sessions.

mod certificate;
mod crypto;
mod error;
mod session;

pub use certificate::{CarriedCertificate, Certificate, Fingerprint};
pub use error::DtlsError;
pub use session::{DtlsOutput, DtlsRole, DtlsSession};
