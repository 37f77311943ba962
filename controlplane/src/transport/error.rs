//! Why a DTLS session has no keys.

/// Why there will be no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DtlsError {
    /// Our certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// The library does not take our configuration.
    #[error("cannot configure DTLS: {0}")]
    Configuration(String),
    /// The peer's certificate is not the signalled one.
    #[error(
        "the peer's certificate has {hash} fingerprint {actual}, which was not signalled: possible man in the middle, or stale signaling"
    )]
    FingerprintMismatch {
        /// Hash function that was compared.
        hash: &'static str,
        /// The certificate's digest.
        actual: String,
    },
    /// Signalling gave no fingerprint that can be checked.
    #[error(
        "no signalled fingerprint uses sha-512, sha-384 or sha-256, and weaker ones do not count: the session cannot be \
         authenticated"
    )]
    NoUsableFingerprint,
    /// The peer showed no certificate.
    #[error("the peer showed no certificate: the session cannot be authenticated")]
    NoPeerCertificate,
    /// The peer said goodbye (`close_notify`), as a page does that leaves.
    #[error("the peer closed the session")]
    Closed,
    /// The peer negotiated no SRTP profile of ours.
    #[error("the peer negotiated no SRTP profile of ours")]
    NoSrtpProfile,
    /// The handshake did not end in time.
    #[error("the handshake did not end within 30 s: look for a firewall that drops large datagrams")]
    Timeout,
    /// The protocol failed.
    #[error("the handshake failed: {0}")]
    Protocol(String),
}
