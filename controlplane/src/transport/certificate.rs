//! The process's certificate, and the check of the peer's against what signalling said.

use dimpl::DtlsCertificate;
use rand::RngCore;
use ring::digest;
use serde::{Deserialize, Serialize};
use x509_cert::der::Decode;

use zeroize::{Zeroize, Zeroizing};

use super::error::DtlsError;

/// Our self-signed certificate: ECDSA P-256, one per process.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) der: DtlsCertificate,
    fingerprint: String,
}

impl Certificate {
    /// Makes a new one.
    pub fn generate() -> Result<Self, DtlsError> {
        let failed = |error: rcgen::Error| DtlsError::Certificate(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "ringbridge");
        // Firefox refuses two certificates of one issuer with the same serial number.
        let mut serial = [0u8; 16];
        rand::rng().fill_bytes(&mut serial);
        serial[0] &= 0x7f;
        parameters.serial_number = Some(serial.to_vec().into());
        let certificate = parameters.self_signed(&key).map_err(failed)?.der().to_vec();
        let fingerprint = hex(digest::digest(&digest::SHA256, &certificate).as_ref());
        Ok(Self { der: DtlsCertificate { certificate, private_key: key.serialize_der() }, fingerprint })
    }

    /// The same certificate for another process.
    pub fn carried(&self) -> CarriedCertificate {
        let Self { der: DtlsCertificate { certificate, private_key }, fingerprint: _ } = self;
        CarriedCertificate { certificate: certificate.clone(), private_key: Zeroizing::new(private_key.clone()) }
    }

    /// That of another process; an error when it is none, or the key is not its own.
    pub fn from_carried(carried: CarriedCertificate) -> Result<Self, DtlsError> {
        let CarriedCertificate { certificate, private_key } = carried;
        let wrong = |what: &str| DtlsError::Certificate(format!("carried from another process: {what}"));
        let key = rcgen::KeyPair::try_from(private_key.as_slice()).map_err(|error| wrong(&error.to_string()))?;
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(wrong("the key is none of P-256"));
        }
        let parsed = x509_cert::Certificate::from_der(&certificate).map_err(|error| wrong(&error.to_string()))?;
        let public = &parsed.tbs_certificate().subject_public_key_info().subject_public_key;
        if public.as_bytes() != Some(key.public_key_raw()) {
            return Err(wrong("the key belongs to another certificate"));
        }
        let fingerprint = hex(digest::digest(&digest::SHA256, &certificate).as_ref());
        Ok(Self { der: DtlsCertificate { certificate, private_key: private_key.to_vec() }, fingerprint })
    }

    /// SHA-256 of the certificate as signalling writes it: upper-case hex with colons.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.der.private_key.zeroize();
    }
}

/// A certificate with its key, as another process gets it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedCertificate {
    certificate: Vec<u8>,
    #[serde(with = "crate::carried::secret")]
    private_key: Zeroizing<Vec<u8>>,
}

/// Without the key.
impl std::fmt::Debug for CarriedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CarriedCertificate").finish_non_exhaustive()
    }
}

/// A fingerprint that signalling gave for the peer (RFC 8122).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Hash function, e.g. `sha-256`.
    pub hash: String,
    /// Upper-case hex with colons.
    pub value: String,
}

/// Hash functions that a certificate is checked by. Not SHA-1 and MD5: another certificate with the same digest can be
/// made (RFC 8122 section 5 forbids MD5 and MD2).
const STRONGEST_FIRST: [(&str, &digest::Algorithm); 3] =
    [("sha-512", &digest::SHA512), ("sha-384", &digest::SHA384), ("sha-256", &digest::SHA256)];

impl Fingerprint {
    /// Whether it is of a hash function that is taken.
    pub fn is_strong(&self) -> bool {
        STRONGEST_FIRST.iter().any(|(name, _)| self.hash.eq_ignore_ascii_case(name))
    }
}

/// Checks a certificate against the signalled fingerprints of the strongest hash function among them
/// (docs/protocol/bridge.md 4.5).
pub(super) fn verify(certificate: &[u8], signalled: &[Fingerprint]) -> Result<(), DtlsError> {
    for (name, algorithm) in STRONGEST_FIRST {
        let mut values = signalled.iter().filter(|fingerprint| fingerprint.hash.eq_ignore_ascii_case(name)).peekable();
        if values.peek().is_none() {
            continue;
        }
        let actual = hex(digest::digest(algorithm, certificate).as_ref());
        return match values.any(|fingerprint| fingerprint.value.trim().eq_ignore_ascii_case(&actual)) {
            true => Ok(()),
            false => Err(DtlsError::FingerprintMismatch { hash: name, actual }),
        };
    }
    Err(DtlsError::NoUsableFingerprint)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_has_the_same_certificate() {
        let (one, other) = (Certificate::generate().expect("one"), Certificate::generate().expect("another"));
        let carried = one.carried();
        let read = Certificate::from_carried(carried.clone()).expect("the same");
        assert_eq!((read.fingerprint(), read.carried()), (one.fingerprint(), carried.clone()));
        let empty = Zeroizing::new(Vec::new());
        for wrong in [
            CarriedCertificate { private_key: other.carried().private_key, ..carried.clone() },
            CarriedCertificate { certificate: b"not really a certificate".to_vec(), ..carried.clone() },
            CarriedCertificate { private_key: empty, ..carried },
        ] {
            assert!(Certificate::from_carried(wrong).is_err());
        }
    }

    #[test]
    fn the_strongest_signalled_hash_decides() {
        let certificate = b"not really a certificate";
        let print = |hash: &str, algorithm| Fingerprint {
            hash: hash.into(),
            value: hex(digest::digest(algorithm, certificate).as_ref()),
        };
        let good = print("sha-256", &digest::SHA256);
        let wrong = Fingerprint { hash: "SHA-512".into(), value: "00:11".into() };
        assert!(verify(certificate, std::slice::from_ref(&good)).is_ok());
        assert!(verify(certificate, &[wrong.clone(), print("sha-512", &digest::SHA512)]).is_ok(), "any of them");
        let mismatch = verify(certificate, &[good, wrong]);
        assert!(matches!(mismatch, Err(DtlsError::FingerprintMismatch { hash: "sha-512", .. })), "{mismatch:?}");
        assert!(matches!(verify(certificate, &[]), Err(DtlsError::NoUsableFingerprint)));
        // Right, but anybody could have made a certificate that has it.
        let weak = print("SHA-1", &digest::SHA1_FOR_LEGACY_USE_ONLY);
        let unknown = Fingerprint { hash: "md5".into(), value: "00".into() };
        let useless = verify(certificate, &[weak.clone(), unknown]);
        assert!(matches!(useless, Err(DtlsError::NoUsableFingerprint)), "{useless:?}");
        assert!(!weak.is_strong());
        // Beside a strong one a weak one says nothing, neither for nor against.
        let wrong = Fingerprint { hash: "sha-256".into(), value: "00:11".into() };
        let mismatch = verify(certificate, &[weak.clone(), wrong]);
        assert!(matches!(mismatch, Err(DtlsError::FingerprintMismatch { hash: "sha-256", .. })), "{mismatch:?}");
        let other = Fingerprint { hash: "sha-1".into(), value: "00".into() };
        assert!(verify(certificate, &[other, print("sha-256", &digest::SHA256)]).is_ok());
    }
}
