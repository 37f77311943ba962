//! What DTLS computes with: key exchange and signatures by `ring`, which a handshake spends nearly all of its time on, everything
//! else by RustCrypto. docs/decisions.md has what each costs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use dimpl::crypto::{
    ActiveKeyExchange, Buf, CryptoProvider, HashAlgorithm, KeyProvider, NamedGroup, SignatureAlgorithm,
    SignatureVerifier, SigningKey, SupportedKxGroup, cert_named_group, check_verify_scheme, rust_crypto,
};
use dimpl::{CryptoError, CryptoOperation};
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, VerificationAlgorithm};
use x509_cert::der::Decode;

/// The provider of every session.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: GROUPS,
        key_provider: &KEYS,
        signature_verification: &Verifier,
        ..rust_crypto::default_provider()
    }
}

/// In the order in which they are preferred; all that RustCrypto's provider has.
static GROUPS: &[&dyn SupportedKxGroup] = &[
    &Group { name: NamedGroup::X25519, algorithm: &agreement::X25519 },
    &Group { name: NamedGroup::Secp256r1, algorithm: &agreement::ECDH_P256 },
    &Group { name: NamedGroup::Secp384r1, algorithm: &agreement::ECDH_P384 },
];

static KEYS: Keys = Keys(Mutex::new(None));

#[derive(Debug, Clone, Copy)]
struct Group {
    name: NamedGroup,
    algorithm: &'static agreement::Algorithm,
}

/// Our side of one key exchange.
struct Exchange {
    group: Group,
    secret: EphemeralPrivateKey,
    public: Buf,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchange").field("group", &self.group.name).finish_non_exhaustive()
    }
}

impl SupportedKxGroup for Group {
    fn name(&self) -> NamedGroup {
        self.name
    }

    fn start_exchange(&self, mut public: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let no_random = |_| CryptoError::OperationFailed(CryptoOperation::FillRandom);
        let secret = EphemeralPrivateKey::generate(self.algorithm, &SystemRandom::new()).map_err(no_random)?;
        let own = secret.compute_public_key().map_err(no_random)?;
        public.clear();
        public.extend_from_slice(own.as_ref());
        Ok(Box::new(Exchange { group: *self, secret, public }))
    }
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn complete(self: Box<Self>, peer_pub: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let peer = UnparsedPublicKey::new(self.group.algorithm, peer_pub);
        let name = self.group.name;
        // It refuses points off the curve, and X25519 results of all zeros (RFC 7748 section 6.1).
        agreement::agree_ephemeral(self.secret, &peer, |secret| {
            out.clear();
            out.extend_from_slice(secret);
        })
        .map_err(|_| CryptoError::InvalidPublicKey(name))
    }

    fn group(&self) -> NamedGroup {
        self.group.name
    }
}

/// Parses each private key once: a process has one, and every session asks for it.
#[derive(Debug)]
struct Keys(Mutex<Option<Parsed>>);

struct Parsed {
    /// As it was given. The certificate, which lives as long, has the same bytes.
    pkcs8: Vec<u8>,
    key: Arc<EcdsaKeyPair>,
}

impl fmt::Debug for Parsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parsed").finish_non_exhaustive()
    }
}

impl Drop for Parsed {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.pkcs8);
    }
}

impl KeyProvider for Keys {
    fn load_private_key(&self, pkcs8: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        // A thread that panicked here left either key, whole.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match &*known {
            Some(parsed) if parsed.pkcs8 == pkcs8 => Arc::clone(&parsed.key),
            _ => {
                let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
                let Ok(key) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()) else {
                    return rust_crypto::default_provider().key_provider.load_private_key(pkcs8);
                };
                let key = Arc::new(key);
                *known = Some(Parsed { pkcs8: pkcs8.to_vec(), key: Arc::clone(&key) });
                key
            }
        };
        Ok(Box::new(P256Key(key)))
    }
}

/// A P-256 key; `ring` signs SHA-256 with it, which all WebRTC peers verify (RFC 8827 section 6.5).
#[derive(Debug)]
struct P256Key(Arc<EcdsaKeyPair>);

impl SigningKey for P256Key {
    fn sign(&mut self, data: &[u8], hash_alg: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        if hash_alg != HashAlgorithm::SHA256 {
            return Err(CryptoError::SigningKeyUnsupportedHash { group: NamedGroup::Secp256r1, hash: hash_alg });
        }
        let failed = |_| CryptoError::OperationFailed(CryptoOperation::Sign);
        let signature = self.0.sign(&SystemRandom::new(), data).map_err(failed)?;
        out.clear();
        out.extend_from_slice(signature.as_ref());
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

#[derive(Debug)]
struct Verifier;

impl SignatureVerifier for Verifier {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash_alg: HashAlgorithm,
        sig_alg: SignatureAlgorithm,
    ) -> Result<(), CryptoError> {
        let group = cert_named_group(cert_der).map_err(|_| CryptoError::UnsupportedEcCurve)?;
        check_verify_scheme(sig_alg, hash_alg, group)?;
        let algorithm: &'static dyn VerificationAlgorithm = match (group, hash_alg) {
            (NamedGroup::Secp256r1, HashAlgorithm::SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (NamedGroup::Secp256r1, HashAlgorithm::SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            (NamedGroup::Secp384r1, HashAlgorithm::SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (NamedGroup::Secp384r1, HashAlgorithm::SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            _ => return Err(CryptoError::UnsupportedEcCurve),
        };
        let certificate =
            x509_cert::Certificate::from_der(cert_der).map_err(|_| CryptoError::CertificateParseFailed)?;
        let key = &certificate.tbs_certificate().subject_public_key_info().subject_public_key;
        let key = key.as_bytes().ok_or(CryptoError::InvalidSubjectPublicKey)?;
        let failed = |_| CryptoError::SignatureVerificationFailed { signature: sig_alg, hash: hash_alg, group };
        signature::UnparsedPublicKey::new(algorithm, key).verify(data, signature).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Certificate;

    fn own() -> dimpl::DtlsCertificate {
        Certificate::generate().unwrap().der.clone()
    }

    /// What RustCrypto's provider does is the oracle: either side of every exchange may be it.
    #[test]
    fn agrees_with_rustcrypto_on_every_group() {
        let other = rust_crypto::default_provider();
        assert_eq!(GROUPS.len(), other.kx_groups.len());
        for (ours, theirs) in GROUPS.iter().zip(other.kx_groups) {
            assert_eq!(ours.name(), theirs.name(), "the same order of preference");
            let (a, b) = (ours.start_exchange(Buf::new()).unwrap(), theirs.start_exchange(Buf::new()).unwrap());
            assert_eq!((a.group(), a.pub_key().len()), (b.group(), b.pub_key().len()));
            let (to_a, to_b) = (b.pub_key().to_vec(), a.pub_key().to_vec());
            let (mut of_a, mut of_b) = (Buf::new(), Buf::new());
            a.complete(&to_a, &mut of_a).unwrap();
            b.complete(&to_b, &mut of_b).unwrap();
            assert_eq!(&of_a[..], &of_b[..], "{:?}", ours.name());
        }
    }

    #[test]
    fn refuses_public_keys_that_are_none() {
        for group in GROUPS {
            let len = group.start_exchange(Buf::new()).unwrap().pub_key().len();
            // Of X25519 the point of order two; of the others no point at all.
            for wrong in [vec![0; len], vec![0; len - 1], vec![4; len + 1], Vec::new()] {
                let refused = group.start_exchange(Buf::new()).unwrap().complete(&wrong, &mut Buf::new());
                assert_eq!(refused, Err(CryptoError::InvalidPublicKey(group.name())), "{wrong:?}");
            }
        }
    }

    #[test]
    fn signatures_are_those_of_rustcrypto() {
        let (ours, theirs) = (provider(), rust_crypto::default_provider());
        let p256 = own();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let p384 = dimpl::DtlsCertificate {
            certificate: parameters.self_signed(&key).unwrap().der().to_vec(),
            private_key: key.serialize_der(),
        };
        let text = b"what both sides said";
        for certificate in [&p256, &p384, &p256] {
            for (signer, verifier) in [(&ours, &theirs), (&theirs, &ours), (&ours, &ours)] {
                let mut key = signer.key_provider.load_private_key(&certificate.private_key).unwrap();
                for hash in key.supported_hash_algorithms().to_vec() {
                    let mut signature = Buf::new();
                    key.sign(text, hash, &mut signature).unwrap();
                    let verify = |cert: &[u8], text: &[u8], signature: &[u8]| {
                        let verification = verifier.signature_verification;
                        verification.verify_signature(cert, text, signature, hash, SignatureAlgorithm::ECDSA)
                    };
                    assert_eq!(verify(&certificate.certificate, text, &signature), Ok(()), "{hash:?}");
                    assert!(verify(&certificate.certificate, b"something else", &signature).is_err());
                    let (other, last) = (own(), signature.len() - 1);
                    assert!(verify(&other.certificate, text, &signature).is_err(), "another's certificate");
                    assert!(verify(&certificate.certificate[1..], text, &signature).is_err(), "no certificate");
                    for cut in [0, 1, last] {
                        assert!(verify(&certificate.certificate, text, &signature[..cut]).is_err(), "cut to {cut}");
                    }
                    signature[last] ^= 1;
                    assert!(verify(&certificate.certificate, text, &signature).is_err());
                }
            }
        }
        assert!(KEYS.load_private_key(b"no key").is_err());
    }

    #[test]
    fn keys_that_were_parsed_before_are_not_mistaken_for_others() {
        let (one, two) = (own(), own());
        for certificate in [&one, &two, &two, &one] {
            let mut signature = Buf::new();
            let mut key = KEYS.load_private_key(&certificate.private_key).unwrap();
            key.sign(b"text", HashAlgorithm::SHA256, &mut signature).unwrap();
            let (hash, algorithm) = (key.hash_algorithm(), key.algorithm());
            Verifier.verify_signature(&certificate.certificate, b"text", &signature, hash, algorithm).unwrap();
        }
    }
}
