//! DTLS sessions against each other and against `dtls` (webrtc-rs), an independent implementation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::config::{ClientAuthType, Config, ExtendedMasterSecretType};
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate as PeerCertificate;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use proptest::prelude::*;
use ringbridge_controlplane::transport::{Certificate, DtlsError, DtlsOutput, DtlsRole, DtlsSession, Fingerprint};
use ringbridge_dataplane::ring::{SrtpKeys, SrtpProfile};
use webrtc_util::KeyingMaterialExporter;
use webrtc_util::conn::Conn;

fn fingerprint_of(certificate: &Certificate) -> Vec<Fingerprint> {
    vec![Fingerprint { hash: "sha-256".into(), value: certificate.fingerprint().to_owned() }]
}

struct Pair {
    now: Instant,
    sides: [DtlsSession; 2],
    keys: [Option<SrtpKeys>; 2],
    errors: [Option<DtlsError>; 2],
}

impl Pair {
    fn new(server_expects: impl Fn(&Certificate) -> Vec<Fingerprint>) -> Self {
        let now = Instant::now();
        let (a, b) = (Certificate::generate().expect("a"), Certificate::generate().expect("b"));
        let client = DtlsSession::new(now, &a, DtlsRole::Client, fingerprint_of(&b)).expect("client");
        let server = DtlsSession::new(now, &b, DtlsRole::Server, server_expects(&a)).expect("server");
        Self { now, sides: [client, server], keys: [None, None], errors: [None, None] }
    }

    /// Runs in virtual time until both are done; `lost` decides over each datagram.
    fn run(&mut self, mut lost: impl FnMut() -> bool) {
        let end = self.now + Duration::from_secs(31);
        while self.now < end {
            loop {
                let mut moved = false;
                for side in 0..2 {
                    while let Some(output) = self.sides[side].poll_output() {
                        moved = true;
                        match output {
                            DtlsOutput::Datagram(datagram) => {
                                assert!(datagram.len() <= 1_200, "{} bytes do not fit", datagram.len());
                                if !lost() {
                                    self.sides[1 - side].handle_datagram(self.now, &datagram);
                                }
                            }
                            DtlsOutput::Connected(keys) => self.keys[side] = Some(keys),
                            DtlsOutput::Failed(error) => self.errors[side] = Some(error),
                            DtlsOutput::ApplicationData(_) => {}
                        }
                    }
                }
                if !moved {
                    break;
                }
            }
            if self.keys.iter().all(Option::is_some) {
                return;
            }
            let Some(next) = self.sides.iter().filter_map(DtlsSession::poll_timeout).min() else { return };
            self.now = next.max(self.now + Duration::from_millis(1));
            self.sides.iter_mut().for_each(|side| side.handle_timeout(self.now));
        }
    }
}

#[test]
fn both_sides_get_the_same_keys_crosswise() {
    let mut pair = Pair::new(fingerprint_of);
    pair.run(|| false);
    let (client, server) = (pair.keys[0].expect("client"), pair.keys[1].expect("server"));
    assert_eq!(client.inbound, server.outbound);
    assert_eq!(client.outbound, server.inbound);
    assert_ne!(client.inbound, client.outbound);
}

#[test]
fn a_wrong_fingerprint_gives_no_keys() {
    let mut pair = Pair::new(|_| vec![Fingerprint { hash: "sha-256".into(), value: "00:11:22".into() }]);
    pair.run(|| false);
    assert!(matches!(pair.errors[1], Some(DtlsError::FingerprintMismatch { .. })), "{:?}", pair.errors);
    assert_eq!(pair.keys[1], None);
}

#[test]
fn silence_ends_after_thirty_seconds() {
    let mut pair = Pair::new(fingerprint_of);
    pair.run(|| true);
    assert_eq!(pair.errors[1], Some(DtlsError::Timeout));
    assert_eq!(pair.keys, [None, None]);
}

#[test]
fn twenty_percent_loss_is_survived() {
    let mut slowest = Duration::ZERO;
    for seed in 0..40u64 {
        let mut pair = Pair::new(fingerprint_of);
        let start = pair.now;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        pair.run(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 5 == 0
        });
        assert!(pair.keys.iter().all(Option::is_some), "seed {seed}: {:?}", pair.errors);
        slowest = slowest.max(pair.now - start);
    }
    println!("slowest of 40 handshakes with 20 % loss: {slowest:?} of virtual time");
}

/// A real `dtls` connection over loopback UDP against our session; returns both sides' keys.
async fn against_oracle(
    role: DtlsRole,
    profiles: Vec<SrtpProtectionProfile>,
    with_certificate: bool,
) -> (Result<SrtpKeys, DtlsError>, Option<Vec<u8>>) {
    let ours = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("socket"));
    let theirs = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("socket");
    ours.connect(theirs.local_addr().expect("address")).await.expect("connect");
    theirs.connect(ours.local_addr().expect("address")).await.expect("connect");
    let peer = PeerCertificate::generate_self_signed(vec!["peer".to_owned()]).expect("certificate");
    let fingerprint = {
        use ring::digest;
        let digest = digest::digest(&digest::SHA256, &peer.certificate[0]);
        digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    };
    let config = Config {
        certificates: if with_certificate { vec![peer] } else { vec![] },
        srtp_protection_profiles: profiles,
        insecure_skip_verify: true,
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        ..Default::default()
    };
    let client = role == DtlsRole::Server;
    let theirs: Arc<dyn Conn + Send + Sync> = Arc::new(theirs);
    let peer = tokio::spawn(async move {
        let conn = DTLSConn::new(theirs, config, client, None).await.ok()?;
        let state = conn.connection_state().await;
        let len = match conn.selected_srtpprotection_profile() {
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => 60,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => 56,
            _ => 88,
        };
        let exported = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], len).await.ok();
        // Our side may still need its last flight answered.
        tokio::time::sleep(Duration::from_millis(200)).await;
        exported
    });
    let certificate = Certificate::generate().expect("certificate");
    let fingerprints = vec![Fingerprint { hash: "sha-256".into(), value: fingerprint }];
    let mut session = DtlsSession::new(Instant::now(), &certificate, role, fingerprints).expect("session");
    let mut buffer = [0; 2_048];
    let result = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            while let Some(output) = session.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => drop(ours.send(&datagram).await),
                    DtlsOutput::Connected(keys) => return Ok(keys),
                    DtlsOutput::Failed(error) => return Err(error),
                    DtlsOutput::ApplicationData(_) => {}
                }
            }
            let wait = session.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                received = ours.recv(&mut buffer) => match received {
                    Ok(len) => session.handle_datagram(Instant::now(), &buffer[..len]),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                () = tokio::time::sleep_until(wait.into()) => session.handle_timeout(Instant::now()),
            }
        }
    })
    .await
    .unwrap_or(Err(DtlsError::Timeout));
    if result.is_err() {
        peer.abort();
    }
    (result, peer.await.ok().flatten())
}

#[tokio::test]
async fn the_oracle_agrees_in_both_roles_and_with_both_profiles() {
    let cases = [
        (SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProfile::AeadAes128Gcm),
        (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProfile::Aes128CmHmacSha1_80),
    ];
    for role in [DtlsRole::Server, DtlsRole::Client] {
        for (offered, expected) in cases {
            let (keys, exported) = against_oracle(role, vec![offered], true).await;
            let keys = keys.unwrap_or_else(|error| panic!("{role:?} {expected:?}: {error}"));
            let exported = exported.expect("the oracle connected");
            assert_eq!(keys.profile, expected);
            let len = expected.key_len();
            let (client, server) = match role {
                DtlsRole::Server => (keys.inbound, keys.outbound),
                DtlsRole::Client => (keys.outbound, keys.inbound),
            };
            assert_eq!(client.key[..len], exported[..len], "{role:?} {expected:?}");
            assert_eq!(server.key[..len], exported[len..2 * len], "{role:?} {expected:?}");
            let salt = expected.salt_len();
            assert_eq!(client.salt[..salt], exported[2 * len..2 * len + salt]);
        }
    }
}

#[tokio::test]
async fn a_client_without_certificate_gets_no_keys() {
    let (result, _) = against_oracle(DtlsRole::Server, vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm], false).await;
    assert!(result.is_err(), "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_never_panics_and_gives_no_keys(datagrams in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let now = Instant::now();
        let certificate = Certificate::generate().expect("certificate");
        let mut session = DtlsSession::new(now, &certificate, DtlsRole::Server, fingerprint_of(&certificate)).expect("session");
        for mut datagram in datagrams {
            if let Some(first) = datagram.first_mut() {
                *first = 20 + *first % 44;
            }
            session.handle_datagram(now, &datagram);
        }
        while let Some(output) = session.poll_output() {
            prop_assert!(!matches!(output, DtlsOutput::Connected(_)));
        }
    }
}
